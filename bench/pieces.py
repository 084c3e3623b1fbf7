"""Pieces: the whole matrix of compilers, flags and uses, and how fast a scan looks for them.

`python bench/pieces.py [COMPILER...]`. A program for each use and flag is built at two places; the relocated
one must be, byte for byte, the one built there. Beside it: plain replacing, rewriting every run of 8 letters
as it stands, and putting a shorter path with zeros behind it into each C string, as conda does (the NUL
shift; that program is run, on other machines' code by qemu, and must print what it printed before). The
second table scans ELF files of this machine and of the compilers' roots, in which no piece is.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import compilers
import piece_uses as uses
from piece_matrix import judge

from belljar.relocate import scan

LEVELS = ["-O0", "-O1", "-O2", "-O3", "-Os"]
VECTORS = ["-O2 -march=x86-64-v3", "-O2 -march=x86-64-v4", "-O3 -march=x86-64-v4"]
WIDE = [*VECTORS, "-O2 -mgeneral-regs-only", "-O2 -flto", "-O2 -c"]
# Of characters of 16 and 32 bits tcc knows wchar_t only.
TCC = [[use for use in some if 'u"' not in use.lower()] for some in (uses.DESIGN_C, uses.HELD_OUT_C)]
ROWS = [
    ("gcc", [*LEVELS, *WIDE], uses.DESIGN_C, uses.HELD_OUT_C),
    ("gcc-11", [*LEVELS, *VECTORS], uses.DESIGN_C, uses.HELD_OUT_C),
    ("g++", [*LEVELS, *VECTORS], uses.DESIGN_CPP, uses.HELD_OUT_CPP),
    ("gcc -m32", LEVELS, uses.DESIGN_C, uses.HELD_OUT_C),
    ("gcc aarch64", LEVELS, uses.DESIGN_C, uses.HELD_OUT_C),
    ("g++ aarch64", LEVELS, uses.DESIGN_CPP, uses.HELD_OUT_CPP),
    ("gcc arm", LEVELS, uses.DESIGN_C, uses.HELD_OUT_C),
    ("tcc", [""], *TCC),
    ("clang-13", [*LEVELS, *VECTORS], uses.DESIGN_C, uses.HELD_OUT_C),
    ("clang", [*LEVELS, *VECTORS], uses.DESIGN_C, uses.HELD_OUT_C),
    ("clang-19", [*LEVELS, *VECTORS], uses.DESIGN_C, uses.HELD_OUT_C),
    ("clang++", [*LEVELS, *VECTORS], uses.DESIGN_CPP, uses.HELD_OUT_CPP),
    ("rustc", ["-O", "-C opt-level=0", "-C opt-level=s"], uses.DESIGN_RUST, uses.HELD_OUT_RUST),
    ("go", ["-gcflags=-N", "-gcflags=-l"], uses.DESIGN_GO, uses.HELD_OUT_GO),
    ("go 386", ["-gcflags=-N", "-gcflags=-l"], uses.DESIGN_GO, uses.HELD_OUT_GO),
    ("go arm64", ["-gcflags=-l"], uses.DESIGN_GO, uses.HELD_OUT_GO),
]
LIMIT = 2 << 30
ROUNDS = 3


def main(argv: list[str]) -> int:
    """Print the two tables, or of the first the rows of the compilers that are named."""
    with tempfile.TemporaryDirectory(prefix="belljar-bench") as place:
        matrix(Path(place), argv)
        if argv:
            return 0
        speed(Path(place) / "elf")
    return 0


def matrix(place: Path, wanted: list[str]) -> None:
    """Print how many programs of each compiler each way gets wrong."""
    print("  compiler     uses      programs  wrong  reported | plain wrong  runs wrong  NUL shift wrong")
    for number, (kind, flags, design, held_out) in enumerate(ROWS):
        if wanted and kind not in wanted:
            continue
        for name, some in (("design", design), ("held out", held_out)):
            found = judge(kind, flags, [[use] for use in some], place / f"{number}-{name[0]}")
            wrong = sum(bool(item.wrong) and not item.reported for item in found)
            reported = sum(bool(item.reported) for item in found)
            plain = sum(item.plain_is_wrong for item in found)
            runs = sum(item.runs_are_wrong for item in found)
            shift = sum(item.shift_is_wrong is True for item in found)
            ran = sum(item.shift_is_wrong is not None for item in found)
            counts = (
                f"{len(found):>8}  {wrong:>5}  {reported:>8} | {plain:>11}  {runs:>10}  {shift:>5} of {ran}"
            )
            print(f"  {kind:<12} {name:<9} {counts}", flush=True)


def speed(tree: Path) -> None:
    """Print how fast ELF files are read, and scanned, in seconds of this process."""
    tree.mkdir()
    size = number = 0
    for root in (Path("/usr/lib"), *(compilers.environment(name).path for name in ("gcc", "clang"))):
        for top, _, names in os.walk(root):
            for path in (Path(top, name) for name in names):
                if size < LIMIT and not path.is_symlink() and path.is_file() and is_elf(path):
                    (tree / str(number)).write_bytes(path.read_bytes())
                    size, number = size + path.stat().st_size, number + 1
    reading = timed(lambda: [path.read_bytes() for path in tree.iterdir()])
    found = scan(tree)
    scanning = timed(lambda: scan(tree))
    print(f"\n  {number} ELF files, {size / 1e6:,.0f} MB: {len(found.table)} references,", end=" ")
    print(f"{len(found.unsupported)} reports (none is right)")
    print(f"  read {size / 1e6 / reading:,.0f} MB/s, scan (it reads too) {size / 1e6 / scanning:,.0f} MB/s")


def is_elf(path: Path) -> bool:
    """Whether a file that can be read begins as ELF files do."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def timed(work: Callable[[], object]) -> float:
    """Return the median of the seconds of processor time that it takes."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
