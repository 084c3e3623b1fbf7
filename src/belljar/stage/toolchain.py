"""A toolchain: what compiles for one glibc on one architecture, as wrappers by name.

zig brings headers, start files and stub libraries of every glibc since 2.17, and libc++ to link statically:
nothing of the host is used, and any architecture will do. The host's compiler (`cc`) brings its own code
generator and takes everything of libc from a sysroot; C++ then needs a libstdc++ that was built for that
glibc, in the sysroot: the host's own would raise the floor. It is linked statically.
"""

import enum
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from belljar.stage import scripts
from belljar.stage.compiler import Compiler
from belljar.stage.sysroot import Sysroot, triple
from belljar.types import Arch


class Kind(enum.StrEnum):
    """Who compiles."""

    ZIG = "zig"
    CC = "cc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """`wrappers` gives their texts by name for a prefix and its library directories; `cxx`: it can do C++."""

    kind: Kind
    arch: Arch
    glibc: str
    version: str
    sysroot: Path | None
    cxx: bool
    wrappers: Callable[[str, tuple[str, ...]], dict[str, str]]

    @property
    def triple(self) -> str:
        """Its target, as GNU build systems write it."""
        return triple(self.arch)


def of_zig(zig: Path, glibc: str, arch: Arch, *, version: str, cache: str) -> Toolchain:
    """Return zig's toolchain; `cache` is text for a shell that names zig's cache."""

    def wrappers(prefix: str, libraries: tuple[str, ...]) -> dict[str, str]:
        def compiler(program: str, language: str, first: str = "") -> str:
            head = scripts.zig_head(zig, cache, triple(arch), language)
            # Without optimisation zig lets undefined behaviour trap, which no other compiler does.
            flags = ("-target", f"{triple(arch)}.{glibc}", "-fno-sanitize=undefined")
            words = (str(zig), program, *flags)
            return scripts.compiler(words, prefix, libraries, first=first, head=head)

        return {
            "cc": compiler("cc", "c"),
            "c++": compiler("c++", "c++"),
            "cpp": compiler("cc", "c", "-E"),
            **{
                name: scripts.plain([str(zig), word], scripts.zig_cache(cache))
                for name, word in {"ar": "ar", "ranlib": "ranlib", "ld": "ld.lld"}.items()
            },
        }

    return Toolchain(
        kind=Kind.ZIG,
        arch=arch,
        glibc=glibc,
        version=version,
        sysroot=None,
        cxx=True,
        wrappers=wrappers,
    )


def of_cc(compiler: Compiler, sysroot: Sysroot) -> Toolchain:
    """Return the toolchain of a compiler of this machine with a sysroot."""

    def wrappers(prefix: str, libraries: tuple[str, ...]) -> dict[str, str]:
        places = _starts(compiler, sysroot)
        words = (f"--sysroot={sysroot.path}", "-nostdinc", *(f"-B{place}" for place in places))
        link = tuple(f"-L{place}" for place in places)
        own = [*compiler.includes, *sysroot.includes]
        cc = (str(compiler.cc), *words)
        return {
            "cc": scripts.compiler(cc, prefix, libraries, tail=_system(own), link=link),
            "c++": _cxx(compiler, sysroot, (words, link), prefix, libraries),
            "cpp": scripts.compiler(cc, prefix, libraries, first="-E", tail=_system(own)),
            "ar": scripts.plain([str(compiler.ar)]),
            "ranlib": scripts.plain([str(compiler.ranlib)]),
        }

    return Toolchain(
        kind=Kind.CC,
        arch=sysroot.arch,
        glibc=sysroot.glibc,
        version=compiler.version,
        sysroot=sysroot.path,
        cxx=bool(sysroot.cxx) and compiler.cxx is not None,
        wrappers=wrappers,
    )


def _starts(compiler: Compiler, sysroot: Sysroot) -> tuple[Path, ...]:
    """Return where start files and libgcc are looked for: the sysroot's, then the compiler's own."""
    return (*([sysroot.gcc] if sysroot.gcc else []), *sysroot.libraries, compiler.runtime)


def _system(places: list[Path]) -> tuple[str, ...]:
    return tuple(word for place in places for word in ("-isystem", str(place)))


def _cxx(
    compiler: Compiler,
    sysroot: Sysroot,
    words: tuple[tuple[str, ...], tuple[str, ...]],
    prefix: str,
    libraries: tuple[str, ...],
) -> str:
    if not sysroot.cxx:
        return scripts.refusal(
            f"{shlex.quote(str(sysroot.path))} has no libstdc++ for glibc {sysroot.glibc};"
            " --toolchain zig has a C++ library for every glibc"
        )
    if compiler.cxx is None:
        return scripts.refusal(f"{compiler.cc} has no C++ compiler beside it")
    both, link = words
    system = _system([*sysroot.cxx, *compiler.includes, *sysroot.includes])
    return scripts.compiler(
        (str(compiler.cxx), *both, "-nostdinc++"),
        prefix,
        libraries,
        tail=system,
        link=("-static-libstdc++", "-static-libgcc", *link),
    )
