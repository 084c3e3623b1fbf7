"""What one ELF file needs of the machine that runs it.

The floor is the highest glibc release among the versions that the file needs. A need marked weak
(VER_FLG_WEAK) sets no floor by itself: the loader only warns when it is missing (glibc's
elf/dl-version.c). But a symbol that is not weak and bound to such a version fails to resolve there,
so with one the need counts in full. A need that is not marked counts even where all its symbols are
weak: the loader refuses the file before it looks at symbols.

Packed relative relocations (DT_RELR) need a loader of 2.36; ld says so by a version, lld and mold
not always: an older loader would skip them and the program crash. They count with or without.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from belljar.audit.glibc import RELR_MARKER, GlibcVersion, release_of
from belljar.audit.leaks import Leak, find_leaks
from belljar.audit.machines import arch_of
from belljar.elf import Elf, Symbol
from belljar.elf.const import HIDDEN, Binding, Flag1, Tag, Type


class Kind(enum.StrEnum):
    """What sort of ELF file."""

    EXECUTABLE = "executable"
    STATIC = "static"
    SHARED = "shared"
    OBJECT = "object"
    CORE = "core"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionUse:
    """A version that a file needs of a library, and the symbols that are bound to it.

    `required` says whether the file fails without it. `library` is empty for what the loader itself
    must understand.
    """

    library: str
    version: str
    weak: bool
    required: bool
    symbols: tuple[str, ...]

    @property
    def glibc(self) -> GlibcVersion | None:
        """The first glibc with that version; None for other libraries' versions."""
        return release_of(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One file: its path as given, what it is, and all that it asks for."""

    path: str
    kind: Kind
    arch: str
    interpreter: str | None
    needed: tuple[str, ...]
    soname: str | None
    rpath: str | None
    runpath: str | None
    versions: tuple[VersionUse, ...]
    defines_glibc: bool
    kernel: str | None
    build_id: str | None
    leaks: tuple[Leak, ...]

    @property
    def floor(self) -> GlibcVersion | None:
        """The oldest glibc on which the file loads; None when it needs none."""
        return max((use.glibc for use in self.versions if use.glibc and use.required), default=None)

    @property
    def causes(self) -> tuple[VersionUse, ...]:
        """The needs that set the floor."""
        floor = self.floor
        return tuple(use for use in self.versions if floor and use.required and use.glibc == floor)


def facts_of(path: str, data: bytes, elf: Elf, *, build_paths: Iterable[str] = ()) -> FileFacts:
    """Return what the file at `path`, with these bytes, asks for."""
    dynamic = elf.dynamic
    return FileFacts(
        path=path,
        kind=kind_of(elf),
        arch=arch_of(elf.header),
        interpreter=elf.interpreter,
        needed=dynamic.needed if dynamic else (),
        soname=dynamic.soname if dynamic else None,
        rpath=dynamic.rpath if dynamic else None,
        runpath=dynamic.runpath if dynamic else None,
        versions=_uses(elf),
        defines_glibc=any(release_of(item.name) for item in elf.definitions),
        kernel=".".join(map(str, elf.kernel)) if elf.kernel else None,
        build_id=elf.build_id,
        leaks=find_leaks(data, elf, build_paths),
    )


def kind_of(elf: Elf) -> Kind:
    """Return what sort of file it is; libraries that can be run (libc.so.6) count as libraries."""
    match elf.header.type:
        case Type.REL:
            return Kind.OBJECT
        case Type.CORE:
            return Kind.CORE
        case Type.EXEC | Type.DYN:
            return _kind_of_program(elf)
        case _:
            return Kind.OTHER


def _kind_of_program(elf: Elf) -> Kind:
    dynamic = elf.dynamic
    is_program = elf.header.type == Type.EXEC or bool(dynamic and dynamic.flags_1 & Flag1.PIE)
    if not is_program and not (elf.interpreter and dynamic and dynamic.soname is None):
        return Kind.SHARED
    is_linked = elf.interpreter is not None or bool(dynamic and dynamic.needed)
    return Kind.EXECUTABLE if is_linked else Kind.STATIC


def _uses(elf: Elf) -> tuple[VersionUse, ...]:
    bound: dict[int, list[Symbol]] = {}
    for symbol in elf.symbols:
        if symbol.library is not None:
            bound.setdefault(symbol.version_index, []).append(symbol)
    uses = []
    # Of two needs with one index the loader lets the last have it, and the symbols.
    for need in reversed(elf.needs):
        symbols = bound.pop(need.index & ~HIDDEN, ())
        is_called = any(symbol.binding != Binding.WEAK for symbol in symbols)
        uses.append(
            VersionUse(
                library=need.library,
                version=need.name,
                weak=need.weak,
                required=not need.weak or is_called,
                symbols=tuple(sorted({symbol.name for symbol in symbols})),
            )
        )
    uses.reverse()
    if _lacks_relr_marker(elf):
        uses.append(VersionUse(library="", version=RELR_MARKER, weak=False, required=True, symbols=()))
    return tuple(uses)


def _lacks_relr_marker(elf: Elf) -> bool:
    """Whether the loader must know DT_RELR without being told; a static program applies it itself."""
    if elf.dynamic is None or elf.dynamic.first(Tag.RELR) is None:
        return False
    names = {need.name for need in elf.needs}
    return RELR_MARKER not in names and any(map(release_of, names))
