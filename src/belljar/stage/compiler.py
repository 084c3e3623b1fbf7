"""The machine's own C compiler: gcc or clang, and where it keeps what is not libc's.

With `-nostdinc` a compiler forgets its own headers (stddef.h, immintrin.h) together with libc's; where they
are it says itself (`-print-file-name=include`). Asked once, when a prefix is staged, so that no call of a
wrapper pays for it. Wrappers of an earlier stage, which stand first on PATH, are passed over.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from belljar import proc
from belljar.errors import HostError, InputError
from belljar.stage.sysroot import triple
from belljar.types import Arch

_NAMES = ("gcc", "clang", "cc")
_OF_CXX = {"gcc": "g++", "clang": "clang++"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A C compiler, its C++ sibling (None: not installed), its header directories, its word for itself.

    `runtime` is GCC's directory of start files and libgcc, which clang uses too.
    """

    cc: Path
    cxx: Path | None
    ar: Path
    ranlib: Path
    includes: tuple[Path, ...]
    runtime: Path
    version: str


def find(name: str | None, arch: Arch, *, avoid: Path) -> Compiler:
    """Return the named compiler, else the first of gcc, clang, cc on PATH; none that lies below `avoid`.

    Raises HostError when there is none or one of its parts is missing, InputError when it does not say
    what it is or is for another architecture.
    """
    cc = _program(name, avoid) if name else _first(_NAMES, avoid)
    if cc is None:
        raise HostError(
            f"{name or 'gcc, clang'}: not found on this machine",
            hint="install gcc or clang, name one with --cc, or use --toolchain zig, which needs neither",
        )
    machine = _answer(cc, "-dumpmachine")
    if machine.split("-")[0] != arch:
        raise InputError(
            f"{cc}: compiles for {machine}, wanted is {arch}",
            hint=f"name a cross compiler (--cc {triple(arch)}-gcc), or use --toolchain zig",
        )
    return Compiler(
        cc=cc,
        cxx=_sibling(cc, avoid),
        ar=_tool("ar", cc, avoid),
        ranlib=_tool("ranlib", cc, avoid),
        includes=_includes(cc),
        runtime=Path(_answer(cc, "-print-file-name=crtbegin.o")).parent.resolve(),
        version=_answer(cc, "--version").splitlines()[0],
    )


def _program(name: str, avoid: Path) -> Path | None:
    """Return the absolute path of a program, by its path or its name on PATH."""
    if "/" in name:
        path = Path(name).absolute()
        return path if os.access(path, os.X_OK) and path.is_file() else None
    places = [Path(place) for place in os.environ.get("PATH", "").split(":") if place.startswith("/")]
    found = (place / name for place in places if avoid not in (place, *place.parents))
    return next((path for path in found if path.is_file() and os.access(path, os.X_OK)), None)


def _first(names: tuple[str, ...], avoid: Path) -> Path | None:
    return next((found for name in names if (found := _program(name, avoid)) is not None), None)


def _sibling(cc: Path, avoid: Path) -> Path | None:
    """Return the C++ compiler that belongs to a C compiler: g++-12 to gcc-12."""
    for name, cxx in _OF_CXX.items():
        if name in cc.name:
            return _program(str(cc.with_name(cc.name.replace(name, cxx))), avoid)
    return _program(str(cc.with_name("c++")), avoid)


def _tool(name: str, cc: Path, avoid: Path) -> Path:
    """Return binutils' program: beside a cross compiler under its prefix, else on PATH."""
    prefix = cc.name.rpartition("gcc")[0] if cc.name.endswith("-gcc") else ""
    found = _program(str(cc.with_name(prefix + name)), avoid) or _program(name, avoid)
    if found is None:
        raise HostError(f"{name}: not found on this machine", hint="install binutils, or use --toolchain zig")
    return found


def _includes(cc: Path) -> tuple[Path, ...]:
    """Return the compiler's own header directories; `include-fixed` holds its limits.h until GCC 12."""
    names = [_answer(cc, f"-print-file-name={name}") for name in ("include", "include-fixed")]
    found = tuple(Path(name).resolve() for name in names if name.startswith("/") and os.path.isdir(name))
    if not found:
        raise InputError(f"{cc}: does not say where its own headers are", hint="is it gcc or clang?")
    return found


def _answer(cc: Path, option: str) -> str:
    ended = proc.run([cc, option], env={**os.environ, "LC_ALL": "C"}, timeout=30)
    if ended.status != 0 or not ended.stdout.strip():
        raise InputError(f"{cc} {option}: {ended.last_words or 'no answer'}", hint="is it gcc or clang?")
    return ended.stdout.strip()
