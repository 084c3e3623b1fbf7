"""Which CPU the ELF files of this machine need: proofs from the load roots, and all code decoded.

Beside them, over the same files in turns: reading the bytes, and reading symbols and relocations, which
is what any audit does. Seconds of CPU on one core. `make bench ARGS=isa` takes the files of /usr/lib, 400 MiB
of them at most; `python bench/isa.py PATH...` others.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from belljar.audit.isa import Effort, IsaFacts, Tier, examine
from belljar.elf import Elf, ElfError, read
from belljar.elf.const import MAGIC, Machine, Type

ROUNDS = 3
TOTAL = 400 << 20
"""How many bytes of files are taken at most."""
LEAST, MOST = 20_000, 60 << 20


def main(argv: list[str]) -> int:
    """Print seconds, ratios, and megabytes of code per second."""
    files = collect([Path(word) for word in argv] or [Path("/usr/lib")])
    if not files:
        print("isa: no ELF files for x86-64 or aarch64 here", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {size / 1e6:.0f} MB; medians of {ROUNDS}, seconds of CPU")
    base = show(
        "reading the bytes", [timed(lambda: [path.read_bytes() for path in files]) for _ in range(ROUNDS)]
    )
    loaded = [(path, data, read(data)) for path, data in ((path, path.read_bytes()) for path in files)]
    reading = show(
        "symbols and versions", [timed(lambda: [read(data) for _, data, _ in loaded]) for _ in range(ROUNDS)]
    )
    proofs = show(
        "proofs from load roots", [timed(lambda: survey(loaded, Effort.LOAD)) for _ in range(ROUNDS)]
    )
    print(f"  proofs: {proofs / reading:.2f} of symbols and versions, {proofs / base:.2f} of the bytes")
    decode(loaded)
    return 0


def collect(places: list[Path]) -> list[Path]:
    """Return the ELF files at some places, up to TOTAL bytes."""
    found, left = [], TOTAL
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_symlink() or not path.is_file() or not LEAST <= path.stat().st_size <= min(MOST, left):
                continue
            if is_wanted(path):
                found.append(path)
                left -= path.stat().st_size
    return found


def is_wanted(path: Path) -> bool:
    """Whether a file holds code that is decoded."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                return False
        header = read(path.read_bytes()).header
    except (OSError, ElfError):
        return False
    return header.machine in (Machine.X86_64, Machine.AARCH64) and header.type in (Type.EXEC, Type.DYN)


def survey(loaded: list[tuple[Path, bytes, Elf]], effort: Effort) -> list[IsaFacts]:
    """Examine every file."""
    return [examine(data, elf, name=str(path), effort=effort) for path, data, elf in loaded]


def decode(loaded: list[tuple[Path, bytes, Elf]]) -> None:
    """Print how fast all code is decoded, for files with and without code above the baseline."""
    kinds: dict[str, list[tuple[int, float]]] = {"nothing above the baseline": [], "code for newer CPUs": []}
    verdicts: dict[str, int] = {}
    for path, data, elf in loaded:
        started = time.process_time()
        facts = examine(data, elf, name=str(path))
        taken = time.process_time() - started
        is_base = facts.tier == Tier.BASELINE
        kinds["nothing above the baseline" if is_base else "code for newer CPUs"].append(
            (facts.coverage.decoded, taken)
        )
        verdicts[facts.tier] = verdicts.get(facts.tier, 0) + 1
    for name, rows in kinds.items():
        size, taken = sum(row[0] for row in rows) / 1e6, sum(row[1] for row in rows)
        print(f"  all code, {name}: {len(rows)} files, {size:.0f} MB of code, {size / (taken or 1):.1f} MB/s")
    print("  " + ", ".join(f"{tier}: {count}" for tier, count in sorted(verdicts.items())))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of CPU that something takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def show(name: str, times: list[float]) -> float:
    """Print the median of some times and return it."""
    middle = statistics.median(times)
    print(f"  {name:<26} {middle:7.2f} s  ({min(times):.2f} to {max(times):.2f})", flush=True)
    return middle


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
