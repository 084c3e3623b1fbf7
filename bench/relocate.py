"""Relocating a tree, in place and on a copy, against `cp -a` and reading: `python bench/relocate.py [MB]`.

The tree is made of this machine's own files, with a path of 96 bytes planted in one of twenty. In place
includes all: checking, the journal, bringing the new files to the disk (`sync -f`), renaming. `cp -a` and
reading do not wait for the disk. Beside it what any program pays that puts a new file in the place of an old
one (relocation_floor.py), on the disk and, for what is not the disk's, in memory. All is measured warm and in
turns.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from relocation import in_turns, make_tree, show
from relocation_floor import compiled, replace

from belljar.fsys import remove_tree
from belljar.placeholder import LENGTH, PLACEHOLDER, location
from belljar.references import Table
from belljar.relocate import copy_tree, moving, scan
from belljar.relocate.change import FileChange, Plan
from belljar.relocate.consistency import check
from belljar.splice import Splice

HERE, THERE = PLACEHOLDER.encode(), location(Path("/srv/bench"))


def main(argv: list[str]) -> int:
    """Print the table; 256 MB unless told otherwise."""
    size = (int(argv[0]) if argv else 256) << 20
    with tempfile.TemporaryDirectory(prefix="belljar-bench") as place:
        tree, copy = Path(place) / "tree", Path(place) / "copy"
        make_tree(tree, size)
        table = scan(tree).table
        hits = sum((tree / path).stat().st_size for path in table.files)
        print(f"references in {len(table.files):,} files of {hits / 1e6:,.0f} MB\n")
        compare_copies(tree, copy, table)
        floor = compiled(Path(place))
        print("on the disk:")
        compare_in_place(tree, copy, table, floor)
        if MEMORY.is_dir():
            with tempfile.TemporaryDirectory(prefix="belljar-bench", dir=MEMORY) as memory:
                few = Path(memory) / "tree"
                few.mkdir()
                subprocess.run(["cp", "-a", "--parents", "-t", few, *table.files], cwd=tree, check=True)
                print("in memory:")
                compare_in_place(few, Path(memory) / "copy", table, floor)
    print(f"largest resident set: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MiB")
    return 0


def compare_copies(tree: Path, copy: Path, table: Table) -> None:
    """Time `cp -a`, a copy by table, and a plan that is carried out on a copy."""
    ways: dict[str, Callable[[], object]] = {
        "cp -a": lambda: subprocess.run(["cp", "-a", tree, copy], check=True),
        "copy by table (install)": lambda: copy_tree(tree, copy, table=table, old=HERE, new=THERE),
        "plan, on a copy": lambda: moving.apply(plan(tree, table), output=copy),
    }
    show(in_turns(ways, lambda: remove_tree(copy)), "cp -a")


def compare_in_place(tree: Path, copy: Path, table: Table, floor: Path) -> None:
    """Time reading the files with references, `cp -a` of them, what new files cost in C, relocating."""
    copying = ["cp", "-a", "--parents", "-t", copy, *table.files]
    offsets = {path: references[0].offset for path, references in table.files.items()}

    def clean() -> None:
        remove_tree(copy)
        copy.mkdir()

    clean()
    base = "read the files with references"
    ways: dict[str, Callable[[], object]] = {
        base: lambda: [read(tree / path) for path in table.files],
        "`cp -a` of those": lambda: subprocess.run(copying, cwd=tree, check=True),
        "new files in C, one thread": lambda: replace(floor, tree, offsets, HERE),
        "in place": lambda: moving.apply(plan(tree, table)),
        "check": lambda: check(tree),
        "undo": lambda: moving.undo(tree),
        **{f"there and back, {count} threads": with_threads(tree, table, count) for count in (1, 8)},
        "there and back, not waiting for the disk": without_flush(tree, table),
    }
    show(in_turns(ways, clean), base)


def plan(tree: Path, table: Table, old: bytes = HERE, new: bytes = THERE) -> Plan:
    """Plan to replace `old` at every reference."""
    changes = []
    for path, references in table.files.items():
        splices = tuple(Splice(offset=one.offset, old=old, new=new) for one in references)
        changes.append(FileChange(path=path, kind="bytes", splices=splices))
    return Plan(tree=tree, moves=((old, new),), changes=changes)


def read(path: Path) -> None:
    """Read a file whole through one buffer."""
    fd = os.open(path, os.O_RDONLY)
    while os.readv(fd, [BUFFER]):
        pass
    os.close(fd)


def with_threads(tree: Path, table: Table, count: int) -> Callable[[], None]:
    """Return there and back with so many threads: twice the work of one way."""

    def both() -> None:
        kept = moving.WORKERS
        moving.WORKERS = count
        try:
            moving.apply(plan(tree, table))
            moving.undo(tree)
        finally:
            moving.WORKERS = kept

    return both


def without_flush(tree: Path, table: Table) -> Callable[[], None]:
    """Return there and back without `sync -f`: twice the work of one way."""

    def both() -> None:
        kept, moving._flush = moving._flush, lambda _root: None  # noqa: SLF001 - to measure it
        try:
            moving.apply(plan(tree, table))
            moving.undo(tree)
        finally:
            moving._flush = kept  # noqa: SLF001 - as above

    return both


BUFFER = bytearray(LENGTH << 12)
MEMORY = Path("/dev/shm")  # a filesystem that has no disk

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
