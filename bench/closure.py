"""The libraries of every program below a directory: belljar against the loader itself and other readers.

    bench/closure.py [DIRECTORY]        default: /usr/bin

`ld.so` is run once per program. `pyelftools` is the simplest walk that one would write with it: needed
names, RPATH, RUNPATH, ld.so.conf's directories; each library is read once. With symbols, it reads the
dynamic symbols and their versions too, which belljar compares. auditwheel's lddtree is installed into
a temporary environment and keeps what it read, as auditwheel does; it looks at no symbols.
"""

import functools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from belljar.elf import ElfError, read
from belljar.elf.const import MAGIC
from belljar.ldso import Cache, resolve

ROUNDS = 3
LDDTREE = """
import sys, time
from pathlib import Path
from auditwheel.lddtree import ldd, load_ld_paths
from auditwheel.libc import Libc
paths, known = load_ld_paths(Libc.GLIBC), {}
files = sys.stdin.read().split("\\0")
started = time.perf_counter()
for file in files:
    try:
        ldd(Path(file), ldpaths=paths, _all_libs=known)
    except Exception as error:
        print(file, error, file=sys.stderr)
print(time.perf_counter() - started)
"""


def programs(top: Path) -> Iterator[tuple[Path, str]]:
    """Yield the ELF programs below `top` that have an interpreter, and that."""
    for directory, _, names in os.walk(top):
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                continue
            with path.open("rb") as file:
                data = file.read() if file.read(4) == MAGIC else b""
            try:
                interpreter = read(MAGIC + data).interpreter if data else None
            except ElfError:
                continue
            if interpreter:
                yield path, interpreter


def ours(found: list[tuple[Path, str]]) -> list[list[str]]:
    """Return the closures as belljar gives them, of one cache."""
    cache = Cache()
    return [[item.path for item in resolve(path, cache=cache).objects[1:]] for path, _ in found]


def loaders(found: list[tuple[Path, str]]) -> list[list[str]]:
    """Return the closures as each program's loader lists them."""
    closures = []
    for path, interpreter in found:
        done = subprocess.run(
            [interpreter, path],
            env={"LD_TRACE_LOADED_OBJECTS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = (re.match(r"\t(?:.* => )?(/.*) \(0x", line) for line in done.stdout.splitlines())
        closures.append([line[1] for line in lines if line])
    return closures


def with_pyelftools(found: list[tuple[Path, str]], *, symbols: bool = False) -> list[list[str]]:
    """Return the closures of a plain walk over what pyelftools reads."""
    configured = [
        line.strip()
        for file in sorted(Path("/etc/ld.so.conf.d").glob("*.conf"))
        for line in file.read_text().splitlines()
        if line.startswith("/")
    ]
    defaults = [*configured, "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
    known: dict[str, tuple[list[str], list[str]]] = {}
    closures = []
    for path, _ in found:
        queue, seen = [str(path)], {str(path)}
        for item in queue:
            needed, directories = known.get(item) or known.setdefault(item, _dynamic(item, symbols=symbols))
            for name in needed:
                places = (f"{directory}/{name}" for directory in directories + defaults)
                place = next((place for place in places if os.path.exists(place)), None)
                if place and place not in seen:
                    seen.add(place)
                    queue.append(place)
        closures.append(queue[1:])
    return closures


def _dynamic(path: str, *, symbols: bool) -> tuple[list[str], list[str]]:
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerSymSection

    needed, directories = [], []
    with open(path, "rb") as file:
        for section in ELFFile(file).iter_sections():
            if symbols and (isinstance(section, GNUVerSymSection) or section.name == ".dynsym"):
                set(section.iter_symbols())
            if not isinstance(section, DynamicSection):
                continue
            for tag in section.iter_tags():
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(tag.needed)
                elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                    text = getattr(tag, "rpath", "") or getattr(tag, "runpath", "")
                    directories += text.replace("$ORIGIN", os.path.dirname(path)).split(":")
    return needed, directories


def lddtree_seconds(found: list[tuple[Path, str]]) -> list[float]:
    """Return how long auditwheel's lddtree takes, some times; nothing where it cannot be installed."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        python = f"{place}/bin/python"
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", "auditwheel"], check=False)
        if done.returncode != 0:
            return []
        files = "\0".join(str(path) for path, _ in found)
        times = []
        for _ in range(ROUNDS):
            done_text = subprocess.run(
                [python, "-c", LDDTREE], input=files, capture_output=True, text=True, check=False
            )
            if done_text.returncode != 0:
                print(f"lddtree: {done_text.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                return []
            times.append(float(done_text.stdout))
        return times


def main(argv: list[str]) -> int:
    """Print seconds and ratios, and how many closures are those of the loader."""
    top = Path(argv[0] if argv else "/usr/bin")
    found = list(programs(top))
    cases: dict[str, Callable[[list[tuple[Path, str]]], list[list[str]]]] = {
        "belljar, with symbols and dlopen": ours,
        "ld.so, one process each": loaders,
        "pyelftools, needed names only": with_pyelftools,
        "pyelftools, with symbols": functools.partial(with_pyelftools, symbols=True),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    closures: dict[str, list[list[str]]] = {}
    # Taken in turns, so that whatever else the machine does meets all of them alike.
    for _ in range(ROUNDS):
        for name, work in cases.items():
            started = time.perf_counter()
            closures[name] = work(found)
            times[name].append(time.perf_counter() - started)
    seconds = {name: statistics.median(taken) for name, taken in times.items()}
    tree = lddtree_seconds(found)
    if tree:
        seconds["auditwheel's lddtree"] = statistics.median(tree)
    base = seconds["belljar, with symbols and dlopen"]
    judge = closures["ld.so, one process each"]
    print(f"{len(found)} programs below {top}, median of {ROUNDS}")
    for name, taken in seconds.items():
        same = (
            sum(ours == theirs for ours, theirs in zip(closures[name], judge, strict=True))
            if name in closures
            else None
        )
        agree = "" if same is None else f"   {same} of {len(found)} as ld.so lists them"
        print(f"  {name:<34} {taken:7.2f} s   {taken / base:5.1f} times{agree}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
