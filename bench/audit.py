"""Auditing every ELF file below a directory, reading its bytes, pyelftools: `python bench/audit.py [DIR]`.

Ratios are of times taken in one run, warm, one process each, in turns: the floors of all files (what
is needed, search paths, versions with their symbols, notes); merely reading the bytes that this needs,
and all bytes; and the same facts through pyelftools, on a sample. Then the closure of every program, the
certain CPU verdict, all code decoded, and what two processes gain. The memory is the highest that a
process of the audit ever held.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import NoteSection, SymbolTableSection

from belljar.audit import Effort, audit, parallel
from belljar.audit.content import content
from belljar.audit.subjects import walk
from belljar.elf.const import MAGIC

ROUNDS = 3
SAMPLE = 12
"""Of how many files pyelftools reads one."""
DECODED = 40
"""Of how many files all code is decoded in one."""


def main(argv: list[str]) -> int:
    """Print the table."""
    root = Path(argv[0] if argv else "/usr")
    files = elf_files(root)
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} ELF files below {root}, {size / 1e9:.2f} GB, {parallel.cpus()} CPUs\n")
    compare_reading(files)
    compare_pyelftools(files[::SAMPLE])
    measure_more(files)
    row("highest memory of the command, floors and CPU verdicts", memory(files), "MB in one process")
    return 0


def memory(files: list[Path]) -> float:
    """Return the most megabytes that a process of the command took for all files."""
    command = [sys.executable, "-m", "belljar", "audit", "--no-ties", "--format", "json", *map(str, files)]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def elf_files(root: Path) -> list[Path]:
    """Return the ELF files of a tree, each once."""
    return [item.place for item in walk([root]) if item.place and item.is_file and item.head[:4] == MAGIC]


def timed(*runs: Callable[[], object]) -> list[float]:
    """Return the median seconds of each run, all taken in turns."""
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, times in zip(runs, taken, strict=True):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
    return [statistics.median(times) for times in taken]


def row(what: str, seconds: float, ratio: str = "") -> None:
    """Print one line of the table."""
    print(f"  {what:<58} {seconds:9.3f}  {ratio}")


def compare_reading(files: list[Path]) -> None:
    """Compare the floors of all files with reading what they stand on."""
    room = bytearray(1 << 20)

    def needed() -> None:
        for path in files:
            with content(path, whole=False):
                pass

    def whole() -> None:
        for path in files:
            with path.open("rb", buffering=0) as file:
                while file.readinto(room):
                    pass

    floors, reading, everything = timed(lambda: audit(files, effort=None, jobs=1), needed, whole)
    row("floors of all files", floors, f"{len(files) / floors:,.0f} files/s")
    row("reading the bytes that they need", reading, f"floors take {floors / reading:.1f} times as long")
    row("reading all bytes", everything, f"floors take {floors / everything:.2f} times as long")
    (two,) = timed(lambda: audit(files, effort=None, jobs=2))
    row("floors in two processes", two, f"{floors / two:.1f} times as fast as in one")


def compare_pyelftools(files: list[Path]) -> None:
    """Compare the floors of a sample with the same facts by pyelftools."""
    ours, theirs = timed(
        lambda: audit(files, effort=None, jobs=1), lambda: [pyelftools(path) for path in files]
    )
    row(f"floors of {len(files)} of them", ours, "s")
    row("the same facts through pyelftools", theirs, f"belljar is {theirs / ours:.1f} times as fast")


def pyelftools(path: Path) -> tuple[object, ...]:
    """Return what facts_of does: needed, search paths, interpreter, versions with their symbols, notes."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        tags = [
            (tag.entry.d_tag, getattr(tag, "needed", "") or getattr(tag, "runpath", ""))
            for segment in elf.iter_segments()
            if isinstance(segment, DynamicSegment)
            for tag in segment.iter_tags()
        ]
        sections = list(elf.iter_sections())
        needs = {
            aux["vna_other"]: (need.name, aux.name, aux["vna_flags"])
            for section in sections
            if isinstance(section, GNUVerNeedSection)
            for need, versions in section.iter_versions()
            for aux in versions
        }
        notes = [list(item.iter_notes()) for item in sections if isinstance(item, NoteSection)]
        return tags, pyelftools_symbols(sections, needs), notes, elf.header["e_machine"]


def pyelftools_symbols(sections: list[object], needs: dict[int, object]) -> list[tuple[str, object]]:
    """Return the undefined dynamic symbols with the version each is bound to."""
    dynsym = next((s for s in sections if isinstance(s, SymbolTableSection) and s.name == ".dynsym"), None)
    versym = next((s for s in sections if isinstance(s, GNUVerSymSection)), None)
    if dynsym is None:
        return []
    return [
        (symbol.name, needs.get(versym.get_symbol(number)["ndx"]) if versym else None)
        for number, symbol in enumerate(dynsym.iter_symbols())
        if symbol["st_shndx"] == "SHN_UNDEF"
    ]


def measure_more(files: list[Path]) -> None:
    """Measure closures, the certain CPU verdict, and the decoding of all code."""
    programs = [path for path in files if path.parent == Path("/usr/bin")] or files
    (closure,) = once(lambda: audit(programs, effort=None, root=Path("/"), jobs=1))
    row(
        f"floors and closures of {len(programs)} programs", closure, f"{len(programs) / closure:,.0f} files/s"
    )
    floors, load = once(
        lambda: audit(files, effort=None, jobs=1), lambda: audit(files, effort=Effort.LOAD, jobs=1)
    )
    row(
        "floors and the certain CPU verdict of all files", load, f"{load / floors:.1f} times the floors alone"
    )
    some = [path for path in files[::DECODED] if path.stat().st_size < 64 << 20]
    full: list[object] = []
    (seconds,) = once(lambda: full.append(audit(some, effort=Effort.FULL, jobs=1)))
    decoded = sum(file.isa.coverage.decoded for file in full[0].files if file.isa)  # type: ignore[attr-defined]
    row(f"all code of {len(some)} files decoded", seconds, f"{decoded / seconds / 1e6:.1f} MB of code/s")


def once(*runs: Callable[[], object]) -> list[float]:
    """Return the seconds of each run."""
    taken = []
    for run in runs:
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    return taken


if __name__ == "__main__":
    os.environ["LC_ALL"] = "C"
    sys.exit(main(sys.argv[1:]))
