"""Scanning and installing a tree of 1 GB against `cp -a` of it: `python bench/relocation.py [MEGABYTES]`.

The tree is made of this machine's own files, with a reference planted in one of twenty. All is
measured warm and in turns, so that whatever else the machine does meets each of them alike. A second
table compares ways to search the same bytes, the reason for the one that was taken. A third says what a
second of processor time scans, pieces and compressed files included, beside reading alone.
"""

import mmap
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from belljar.fsys import remove_tree, walk
from belljar.placeholder import PLACEHOLDER, location
from belljar.relocate import copy_tree, scan

ORIGIN = PLACEHOLDER.encode()
SOURCES = (Path("/usr/share"), Path("/usr/lib"))
PLACES = (Path("/usr/bin"), Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/share"))
LARGEST = 64 << 20
ROUNDS = 3


def main(argv: list[str]) -> int:
    """Print the two tables."""
    size = int(argv[0]) << 20 if argv else 1 << 30
    with tempfile.TemporaryDirectory(prefix="belljar-bench") as place:
        tree = Path(place) / "tree"
        make_tree(tree, size)
        compare_commands(tree, Path(place) / "copy")
        compare_searches([tree / entry.path for entry in walk(tree) if entry.is_file])
    for place in PLACES:
        measure_rate(place)
    return 0


def measure_rate(tree: Path) -> None:
    """Print how many megabytes a second of processor time scans, and reads."""
    sizes = [entry.info.st_size for entry in walk(tree) if entry.is_file]
    files = [tree / entry.path for entry in walk(tree) if entry.is_file]
    total, rates = sum(sizes) / 1e6, []
    for way in (lambda: reading(files, lambda _data, _end: 0), lambda: scan(tree)):
        times = []
        for _ in range(ROUNDS + 1):
            started = time.process_time()
            way()
            times.append(time.process_time() - started)
        rates.append(total / statistics.median(times[1:]))
    found = f"{total:,.0f} MB, {len(files):,} files"
    print(f"  {tree}: {found}: scanned at {rates[1]:,.0f} MB/s, read at {rates[0]:,.0f}")


def make_tree(tree: Path, size: int) -> None:
    """Copy files of this machine until there are `size` bytes; plant a reference in one of twenty."""
    taken = planted = count = 0
    for left, source in zip((2, 1), SOURCES, strict=True):
        limit = taken + (size - taken) // left
        for path, length in regular_files(source):
            if taken + length > limit:
                break
            target = tree / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            taken, count = taken + length, count + 1
            if count % 20 == 0 and length > 2 * len(ORIGIN):
                with target.open("r+b") as file:
                    file.seek(length // 2)
                    file.write(ORIGIN)
                planted += 1
    print(f"a tree of {taken / 1e6:,.0f} MB, {count:,} files, references in {planted:,}")


def regular_files(source: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files below a directory that are regular, readable and not huge, with their sizes."""
    for directory, names, files in os.walk(source):
        names.sort()
        for name in sorted(files):
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                continue
            if path.stat().st_size <= LARGEST:
                yield path, path.stat().st_size


def compare_commands(tree: Path, copy: Path) -> None:
    """Time `cp -a`, a scan and a rewritten copy."""
    table, place = scan(tree).table, location(Path("/srv/bench"))
    ways: dict[str, Callable[[], object]] = {
        "cp -a": lambda: subprocess.run(["cp", "-a", tree, copy], check=True),
        "scan": lambda: scan(tree),
        "install (copy and rewrite)": lambda: copy_tree(tree, copy, table=table, old=ORIGIN, new=place),
    }
    show(in_turns(ways, lambda: remove_tree(copy)), "cp -a")


def compare_searches(files: list[Path]) -> None:
    """Time ways to find the anchors of the placeholder, each reading every file."""
    pair, pair_or_wide = re.compile(b"qz"), re.compile(rb"q\0{0,3}z")
    ways: dict[str, Callable[[], object]] = {
        "read only": lambda: reading(files, lambda _data, _end: 0),
        "re, q\\0{0,3}z (taken)": lambda: reading(files, lambda data, end: count(pair_or_wide, data, end)),
        "re, qz": lambda: reading(files, lambda data, end: count(pair, data, end)),
        "bytes.count, qz": lambda: reading(files, lambda data, end: data.count(b"qz", 0, end)),
        "mmap and re, qz": lambda: mapping(files, pair),
    }
    show(in_turns(ways, lambda: None), "read only")


def count(pattern: re.Pattern[bytes], data: bytearray | mmap.mmap, end: int) -> int:
    """Return how often a pattern occurs in the first `end` bytes."""
    return sum(1 for _ in pattern.finditer(data, 0, end))


def reading(files: list[Path], search: Callable[[bytearray, int], int]) -> int:
    """Search all files through one buffer."""
    buffer, found = bytearray(1 << 18), 0
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        while filled := os.readv(fd, [buffer]):
            found += search(buffer, filled)
        os.close(fd)
    return found


def mapping(files: list[Path], pattern: re.Pattern[bytes]) -> int:
    """Search all files through maps of them."""
    found = 0
    for path in files:
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                found += count(pattern, data, len(data))
    return found


def in_turns(ways: dict[str, Callable[[], object]], clean: Callable[[], None]) -> dict[str, list[float]]:
    """Run each way ROUNDS times, after one that does not count; return the seconds."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            os.sync()
            started = time.perf_counter()
            way()
            if number:
                times[name].append(time.perf_counter() - started)
            clean()
    return times


def show(times: dict[str, list[float]], base: str) -> None:
    """Print medians, the range, and ratios to `base`."""
    unit = statistics.median(times[base])
    for name, found in times.items():
        middle = statistics.median(found)
        span = f"{min(found):.2f} to {max(found):.2f}"
        print(f"  {name:<28} {middle:7.2f} s  ({span:>14})  {middle / unit:5.2f} of `{base}`")
    print()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
