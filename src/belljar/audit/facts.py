"""What one ELF file needs of the machine that runs it.

A need marked weak (VER_FLG_WEAK) sets no floor by itself: the loader only warns when it is missing
(glibc's elf/dl-version.c). But a symbol that is not weak and bound to such a version fails to resolve
there, so with one the need counts in full. A need that is not marked counts even where all its
symbols are weak: the loader refuses the file before it looks at symbols.

What a file does not say by versions belljar knows: packed relative relocations (DT_RELR) need a
loader of 2.36, and an older one skips them and the program crashes; ld says so by a version, lld and
mold not always. A reference without a version, and every one of an object file, needs the release
that first had the symbol.
"""

import enum
import itertools
import mmap
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Self

from belljar.audit.floors.glibc import PRIVATE, RELR_MARKER, GlibcVersion, is_family, release_of
from belljar.audit.floors.kernel import kernel_of
from belljar.audit.floors.musl import hindrances, is_musl_itself
from belljar.audit.floors.series import FLOORS, Number, dotted, split
from belljar.audit.floors.symbols import NONSHARED, first
from belljar.audit.isa import Effort, IsaFacts, examine
from belljar.audit.isa.source import Source, source_of
from belljar.audit.leaks import Leak, find_leaks
from belljar.audit.machines import BASELINES, arch_of, is_musl
from belljar.audit.seals import LIBC, SealFacts, embedded
from belljar.elf import Elf, Symbol, Symbols, object_symbols
from belljar.elf.const import HIDDEN, Binding, Flag1, Tag, Type
from belljar.elf.private import build_of
from belljar.elf.sealed import Seal

Content = bytes | mmap.mmap
"""The bytes of a file, in memory or mapped."""
_COMPILERS = ("libgcc_s.", "libstdc++.")
# Plain numbers: members of enums are slow to come by where there are 100 000 symbols.
_WEAK = int(Binding.WEAK)
_INDEX = 0xFFFF & ~HIDDEN


class Kind(enum.StrEnum):
    """What sort of ELF file."""

    EXECUTABLE = "executable"
    STATIC = "static"
    SHARED = "shared"
    OBJECT = "object"
    CORE = "core"
    OTHER = "other"


class Known(enum.StrEnum):
    """What a need is known by."""

    VERSION = "version"
    """The file names the version."""
    SYMBOL = "symbol"
    """It refers, without version, to a symbol that came with it."""
    RELOCATIONS = "relocations"
    """It has relocations that only newer loaders apply."""


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
    known: Known = Known.VERSION

    @property
    def glibc(self) -> GlibcVersion | None:
        """The first glibc with that version; None for other libraries' versions."""
        return release_of(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One file: its path as given, what it is, and all that it asks for.

    `musl` says what hinders it from running on musl. `unversioned` are its strong references without
    version; `defines`, for objects, the names of glibc's symbols that it brings itself.
    """

    path: str
    kind: Kind
    arch: str
    interpreter: str | None
    needed: tuple[str, ...]
    soname: str | None
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    versions: tuple[VersionUse, ...]
    defines_glibc: bool
    kernel: str | None
    build_id: str | None
    leaks: tuple[Leak, ...]
    musl: tuple[str, ...] = ()
    unversioned: frozenset[str] = frozenset()
    defines: frozenset[str] = frozenset()

    isa: IsaFacts | None = None
    release: GlibcVersion | None = None
    """The newest version that it defines, where it is of a glibc."""
    libc: GlibcVersion | None = None
    """The release of glibc that it is: not every one has a version in libc.so.6 (2.31 has not)."""
    sealed: SealFacts | None = None
    """How it comes to run on a private libc, if it does."""

    @property
    def asks(self) -> tuple[VersionUse, ...]:
        """What it needs of the host: all but what its private libc meets."""
        own = self.sealed.glibc if self.sealed is not None else None
        if own is None:
            return self.versions
        return tuple(
            use for use in self.versions if use.version != PRIVATE and not (use.glibc and use.glibc <= own)
        )

    def without(self, defined: Set[str]) -> Self:
        """Return the same without needs of symbols that something else defines."""
        if self.unversioned.isdisjoint(defined):
            return self
        left = (
            replace(use, symbols=tuple(s for s in use.symbols if s not in defined)) for use in self.versions
        )
        return replace(
            self, versions=tuple(use for use in left if use.symbols), unversioned=self.unversioned - defined
        )

    @property
    def floor(self) -> GlibcVersion | None:
        """The oldest glibc on which the file loads; None when it needs none of the host."""
        return max((use.glibc for use in self.asks if use.glibc and use.required), default=None)

    @property
    def causes(self) -> tuple[VersionUse, ...]:
        """The needs that set the glibc floor."""
        floor = self.floor
        return tuple(use for use in self.asks if floor and use.required and use.glibc == floor)

    @property
    def floors(self) -> "Floors":
        """The oldest releases of everything on which the file loads."""
        found: dict[str, Number] = {}
        for use in self.versions:
            named = split(use.version) if use.required else None
            if named is not None:
                found[named[0]] = max(named[1], found.get(named[0], ()))
        named_floors = {key: dotted(found[series]) for key, series in FLOORS.items() if series in found}
        isa = None
        if self.isa is not None:
            isa = self.isa.needs if self.isa.is_proven else BASELINES.get(self.arch, self.arch)
        return Floors(**named_floors | {"glibc": _text(self.floor)}, kernel=self.kernel, isa=isa)

    @property
    def is_for_musl(self) -> bool:
        """Whether it is linked against musl."""
        return _is_for_musl(self.interpreter, self.needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """The oldest release of each on which something runs, in digits and dots; None: none is needed.

    `gcc` is that of libgcc's symbols, `isa` the CPU level that is certainly or firmly needed.
    """

    glibc: str | None = None
    glibcxx: str | None = None
    cxxabi: str | None = None
    gcc: str | None = None
    kernel: str | None = None
    isa: str | None = None


def facts_of(
    path: str,
    data: Content,
    elf: Elf,
    *,
    build_paths: Iterable[str] = (),
    effort: Effort | None = None,
    code: Source | None = None,
    seal: Seal | None = None,
) -> FileFacts:
    """Return what the file at `path`, with these bytes, asks for; with an effort, of the CPU too.

    With `code`, instructions are read from there. `seal` is what the file is sealed with.
    """
    dynamic = elf.dynamic
    arch = arch_of(elf.header)
    kernel = kernel_of(elf, data)
    common: dict[str, Any] = {
        "path": path,
        "kind": kind_of(elf),
        "arch": arch,
        "interpreter": elf.interpreter,
        "build_id": elf.build_id,
        "kernel": None if kernel is None else dotted(kernel),
        "leaks": find_leaks(data, elf, build_paths) if build_paths else (),
    }
    if elf.header.type == Type.REL:
        return _object_facts(common, object_symbols(memoryview(data)))
    uses, unversioned = _uses(elf, arch)
    needed = dynamic.needed if dynamic else ()
    release = max(filter(None, (release_of(item.name) for item in elf.definitions)), default=None)
    defines_glibc = release is not None
    return FileFacts(
        **common,
        needed=needed,
        soname=dynamic.soname if dynamic else None,
        rpath=_entries(dynamic.rpath if dynamic else None),
        runpath=_entries(dynamic.runpath if dynamic else None),
        versions=uses,
        defines_glibc=defines_glibc,
        musl=() if defines_glibc else _musl(common["kind"], elf.interpreter, needed, uses),
        unversioned=unversioned,
        release=release,
        libc=_libc(data, dynamic.soname if dynamic else None, release),
        sealed=None if seal is None else embedded(seal),
        isa=None if effort is None else examine(code or data, elf, name=path, effort=effort),
    )


def _libc(data: Content, soname: str | None, release: GlibcVersion | None) -> GlibcVersion | None:
    if soname != LIBC or release is None:
        return None
    told = build_of(source_of(data)[:])
    return release if told is None else max(release, GlibcVersion.parse(told.partition(" ")[0]))


def _object_facts(common: dict[str, Any], symbols: Iterable[Symbol]) -> FileFacts:
    arch = common["arch"]
    wanted = {item.name for item in symbols if not item.defined and item.binding != Binding.WEAK}
    return FileFacts(
        **common,
        needed=(),
        soname=None,
        rpath=(),
        runpath=(),
        versions=tuple(_known_uses(wanted - NONSHARED, arch)),
        defines_glibc=False,
        unversioned=frozenset(wanted),
        defines=frozenset(item.name for item in symbols if item.defined and first(item.name, arch)),
    )


def _entries(value: str | None) -> tuple[str, ...]:
    return () if value is None else tuple(value.split(":"))


def _is_for_musl(interpreter: str | None, needed: Iterable[str]) -> bool:
    return is_musl(interpreter or "") or any(
        name == "libc.so" or name.startswith("libc.musl-") for name in needed
    )


def _musl(
    kind: Kind, interpreter: str | None, needed: Sequence[str], uses: Iterable[VersionUse]
) -> tuple[str, ...]:
    """Return what hinders a file that is not glibc's own from running on musl."""
    if kind not in (Kind.EXECUTABLE, Kind.SHARED) or _is_for_musl(interpreter, needed):
        return ()
    bound = [use.symbols for use in uses if use.required and use.glibc]
    return hindrances(
        interpreter=interpreter if kind is Kind.EXECUTABLE else None,
        missing_libraries=[
            name for name in needed if is_family(name) and not is_musl_itself(name) and name[:3] != "ld-"
        ],
        symbols=itertools.chain.from_iterable(bound),
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


def _uses(elf: Elf, arch: str) -> tuple[tuple[VersionUse, ...], frozenset[str]]:
    """Return the versions that a file needs, and its strong references without version."""
    bound, strong, unversioned = _references(elf.symbols)
    uses = []
    # Of two needs with one index the loader lets the last have it, and the symbols.
    for need in reversed(elf.needs):
        index = need.index & ~HIDDEN
        is_called = index in bound and index in strong
        uses.append(
            VersionUse(
                library=need.library,
                version=need.name,
                weak=need.weak,
                required=not need.weak or is_called,
                symbols=tuple(sorted(bound.pop(index, ()))),
            )
        )
    uses.reverse()
    if _lacks_relr_marker(elf):
        uses.append(_marker_use())
    if _refers_to_glibc_alone(elf):
        uses += _known_uses(unversioned, arch)
    return tuple(uses), frozenset(unversioned)


def _references(symbols: Symbols) -> tuple[dict[int, set[str]], set[int], set[str]]:
    """Return the names bound to each needed version, the versions with strong ones, and strong others."""
    bound: dict[int, set[str]] = {
        index: set() for index, (_, library) in symbols.versions.items() if library is not None
    }
    strong, unversioned = set(), set()
    for name, info, section, mark in zip(
        symbols.names, symbols.infos, symbols.sections, symbols.marks, strict=True
    ):
        index = mark & _INDEX
        is_strong = info >> 4 != _WEAK
        if index in bound:
            bound[index].add(name)
            if is_strong:
                strong.add(index)
        elif is_strong and not section:
            unversioned.add(name)
    return bound, strong, unversioned


def _marker_use() -> VersionUse:
    return VersionUse(
        library="", version=RELR_MARKER, weak=False, required=True, symbols=(), known=Known.RELOCATIONS
    )


def _lacks_relr_marker(elf: Elf) -> bool:
    """Whether the loader must know DT_RELR without being told; a static program applies it itself."""
    if elf.dynamic is None or elf.dynamic.first(Tag.RELR) is None:
        return False
    names = {need.name for need in elf.needs}
    return RELR_MARKER not in names and any(map(release_of, names))


def _refers_to_glibc_alone(elf: Elf) -> bool:
    """Whether a name without version that glibc has can mean no other library's."""
    needed = elf.dynamic.needed if elf.dynamic else ()
    is_known = all(is_family(name) or name.startswith(_COMPILERS) for name in needed)
    return is_known and "libc.so.6" in needed


def _known_uses(names: Iterable[str], arch: str) -> Iterator[VersionUse]:
    """Yield, by release, the needs of references without version: what the table says of their names."""
    found: dict[tuple[GlibcVersion, str], list[str]] = {}
    for name in names:
        origin = first(name, arch)
        if origin is not None:
            found.setdefault((origin.release, origin.library), []).append(name)
    for (release, library), symbols in sorted(found.items()):
        yield VersionUse(
            library=library,
            version=f"GLIBC_{release}",
            weak=False,
            required=True,
            symbols=tuple(sorted(symbols)),
            known=Known.SYMBOL,
        )


def _text(version: GlibcVersion | None) -> str | None:
    return None if version is None else str(version)
