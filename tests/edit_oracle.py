"""Who says whether an edited file is whole: this machine's loader, its dlopen, its kernel."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from loader_oracle import own_loader

_DLOPEN = """
import ctypes, os, signal, sys
quiet = os.open(os.devnull, os.O_RDWR)
for line in sys.stdin:
    path = os.fsencode(line.rstrip("\\n"))
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        for fd in (1, 2):
            os.dup2(quiet, fd)
        try:
            ctypes.CDLL(os.fsdecode(path), mode=os.RTLD_NOW)
        except OSError:
            os._exit(1)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def elf_files(*tops: str, largest: int = 16_000_000) -> Iterator[Path]:
    """Programs and libraries below some directories, no links, in byte order."""
    for top in tops:
        for directory, below, names in os.walk(top):
            below.sort()
            for name in sorted(names):
                path = Path(directory, name)
                if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                    continue
                if path.stat().st_size > largest or name.endswith((".debug", ".o", ".ko")):
                    continue
                with path.open("rb") as file:
                    head = file.read(20)
                if head[:5] == b"\x7fELF\2" and head[16] in (2, 3) and head[18] == own_machine():
                    yield path


def own_machine() -> int:
    """The machine number of the interpreter that runs."""
    with open("/proc/self/exe", "rb") as file:
        return file.read(20)[18]


def verdicts(paths: Iterable[Path]) -> dict[Path, tuple[object, ...]]:
    """What the loader, dlopen and exec say of each file; equal words mean that nothing got worse."""
    files = list(paths)
    opened = _dlopen(files)
    return {path: (*_verified(path), opened[path], *_executed(path)) for path in files}


def broken(before: dict[Path, tuple[object, ...]], after: dict[Path, tuple[object, ...]]) -> list[Path]:
    """The files of which `after` says worse than `before`."""
    return [path for path, said in before.items() if any(a > b for a, b in zip(after[path], said))]


def _dlopen(files: list[Path]) -> dict[Path, int]:
    """How dlopen of each file ended in a process of its own: 0 is well, 256 an error, else a signal."""
    done = subprocess.run(
        [sys.executable, "-c", _DLOPEN],
        input="".join(f"{path}\n" for path in files),
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
        cwd="/",
    )
    return dict(zip(files, map(int, done.stdout.split()), strict=True))


def _verified(path: Path) -> tuple[int, int]:
    """Whether `ld.so --verify` fails, and how many libraries `--list` does not find."""
    loader = str(own_loader())
    verify = subprocess.run([loader, "--verify", path], capture_output=True, check=False, timeout=60)
    if verify.returncode not in (0, 2):
        return 1, 0
    listed = subprocess.run([loader, "--list", path], capture_output=True, check=False, timeout=60)
    return 0, listed.stdout.count(b"not found") + 100 * (listed.returncode != 0)


def _executed(path: Path) -> tuple[int, ...]:
    """Whether the kernel and the interpreter that the file names start it, as far as its libraries."""
    with path.open("rb") as file:
        is_program = b"/ld-" in file.read(4096) and os.access(path, os.X_OK)
    if not is_program:
        return (0,)
    environment = os.environ | {"LD_TRACE_LOADED_OBJECTS": "1", "LD_BIND_NOW": "1", "LD_WARN": "1"}
    try:
        done = subprocess.run(
            [path], env=environment, capture_output=True, check=False, timeout=60, stdin=subprocess.DEVNULL
        )
    except OSError:
        return (200,)
    undefined = min(done.stderr.count(b"undefined symbol"), 50)
    return (abs(done.returncode) + undefined,)


def copied(files: Iterable[Path], directory: Path) -> list[Path]:
    """Copies of files, each named after its path."""
    directory.mkdir(parents=True, exist_ok=True)
    found = []
    for path in files:
        copy = directory / str(path).strip("/").replace("/", "%")
        shutil.copyfile(path, copy)
        copy.chmod(0o755)
        found.append(copy)
    return found
