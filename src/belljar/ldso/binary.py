"""What a loader looks at in one file, kept small: a tree has thousands of files.

Symbols become sets of text: `name@version` for what is looked up under a version, `name` for what any
version finds. Which definition meets which use: glibc's elf/dl-lookup.c (check_match).
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from belljar.elf import Elf, Segment, Symbols
from belljar.elf.const import HIDDEN, Binding, SegmentType, Tag
from belljar.elf.sealed import Seal, seal_in, segment_of_seal

_UNVERSIONED = 2
"""Version indices below this are local and global symbols without a version."""
# Plain numbers: members of enums are slow to come by where there are 100 000 symbols.
_LOCAL, _GLOBAL = int(Binding.LOCAL), int(Binding.GLOBAL)
_INDEX = 0xFFFF & ~HIDDEN
_FDO_DLOPEN = 0x407C0C0A
_EXECUTE = 1
_WRITE = 2
_ENDING = re.compile(rb"\.so[.\0]")
_SONAME = re.compile(rb"\0(lib[\w+.-]{1,120}\.so(?:\.[\w.]{1,24})?)(?=\0)")


@dataclass(frozen=True, slots=True, kw_only=True)
class DlopenName:
    """A library that the file may load by itself.

    `source` is `note` (its author says so, with feature and priority) or `string` (a constant that
    looks like a library's name: a guess). Names of one note are alternatives, tried in order.
    """

    source: str
    names: tuple[str, ...]
    priority: str = ""
    feature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exports:
    """What a library defines: `exact` finds uses as they are written, `plain` those of any version too."""

    exact: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A parsed file; `elf` is without its symbols, `imports` are the undefined that must be found.

    `versions` are the names of those that it defines, `seal` what it is sealed with.
    """

    elf: Elf
    versions: frozenset[str] = frozenset()
    exports: Exports = Exports()
    imports: frozenset[str] = frozenset()
    dlopens: tuple[DlopenName, ...] = ()
    seal: Seal | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """The libraries that are loaded with the file, as it names them."""
        return self.elf.dynamic.needed if self.elf.dynamic else ()

    @property
    def soname(self) -> str | None:
        """The name by which the file wants to be known."""
        return self.elf.dynamic.soname if self.elf.dynamic else None

    @property
    def rpath(self) -> str | None:
        """DT_RPATH, whether or not it counts."""
        return self.elf.dynamic.rpath if self.elf.dynamic else None

    @property
    def runpath(self) -> str | None:
        """DT_RUNPATH; an empty one counts too: it puts RPATH out of force."""
        return self.elf.dynamic.runpath if self.elf.dynamic else None


Windows = Callable[[int, int], Iterable[tuple[int, bytes]]]
"""Gives a part of a file, by its start and end, in pieces with their offsets (belljar.ldso.image)."""


def digest(elf: Elf, windows: Windows, *, libraries_only: bool = False) -> Binary:
    """Return what a loader looks at in a file, whose constants are read through `windows`.

    With `libraries_only`, what says which libraries it looks for: neither symbols nor guesses.
    """
    if libraries_only:
        return Binary(
            elf=replace(elf, symbols=Symbols()), dlopens=tuple(_noted(elf)), seal=_sealed(elf, windows)
        )
    return Binary(
        elf=replace(elf, symbols=Symbols()),
        versions=frozenset(item.name for item in elf.definitions),
        exports=_exports(elf),
        imports=frozenset(_imports(elf.symbols)),
        dlopens=(*_noted(elf), *_guessed(elf, windows)),
        seal=_sealed(elf, windows),
    )


def _sealed(elf: Elf, windows: Windows) -> Seal | None:
    segment = segment_of_seal(elf)
    if segment is None:
        return None
    # It is smaller than a window.
    pieces = windows(segment.offset, segment.offset + segment.file_size)
    return next((seal_in(data, segment) for _, data in pieces), None)


def _imports(symbols: Symbols) -> Iterator[str]:
    """Yield what must be found: undefined symbols that are neither weak nor without a name."""
    endings = {index: f"@{name}" for index, (name, library) in symbols.versions.items() if library}
    for name, info, section, mark in _rows(symbols):
        if not section and info >> 4 == _GLOBAL and name:
            yield name + endings.get(mark & _INDEX, "")


def _exports(elf: Elf) -> Exports:
    has_versions = elf.dynamic is not None and elf.dynamic.first(Tag.VERSYM) is not None
    endings = {index: f"@{name}" for index, (name, _) in elf.symbols.versions.items()}
    exact, plain = set(), set()
    for name, info, section, mark in _rows(elf.symbols):
        if not section or info >> 4 == _LOCAL:
            continue
        index = mark & _INDEX
        if not has_versions or index < _UNVERSIONED:
            plain.add(name)
            continue
        exact.add(name + endings.get(index, "@"))
        # The first version that a file defines finds uses without version even where it is hidden.
        if mark < HIDDEN or index == _UNVERSIONED:
            exact.add(name)
    return Exports(exact=frozenset(exact | plain), plain=frozenset(plain))


def _rows(symbols: Symbols) -> Iterator[tuple[str, int, int, int]]:
    return zip(symbols.names, symbols.infos, symbols.sections, symbols.marks, strict=True)


def _noted(elf: Elf) -> Iterator[DlopenName]:
    """Yield what `.note.dlopen` says (systemd's ELF_DLOPEN_METADATA); what is malformed is passed over."""
    for note in elf.notes:
        if note.owner != "FDO" or note.type != _FDO_DLOPEN:
            continue
        try:
            items = json.loads(note.content.rstrip(b"\0"))
        except (ValueError, RecursionError):
            continue
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict) and (names := _names(item.get("soname"))):
                yield DlopenName(
                    source="note",
                    names=names,
                    priority=_text(item.get("priority")) or "recommended",
                    feature=_text(item.get("feature")),
                )


def _names(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    return tuple(name for name in map(_text, names) if name)


def _text(value: Any) -> str:
    """Return text that can stand in a path; empty for anything else."""
    if not isinstance(value, str) or "\0" in value:
        return ""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return ""
    return value


def _guessed(elf: Elf, windows: Windows) -> Iterator[DlopenName]:
    """Yield constants that look like a library's name, which the file does not need or bear."""
    if elf.dynamic is None:
        return
    known = {*elf.dynamic.needed, elf.dynamic.soname}
    strings = elf.dynamic.first(Tag.STRTAB)
    start = elf.offset_of(strings.value) if strings else None
    size = elf.dynamic.first(Tag.STRSZ)
    end = start + size.value if start is not None and size else 0
    for segment in _constant_segments(elf):
        for offset, data in windows(segment.offset, segment.offset + segment.file_size):
            for match in _constants(data):
                name = match[1].decode("utf-8", "surrogateescape")
                if name in known or (start is not None and start <= offset + match.start(1) < end):
                    continue
                known.add(name)
                yield DlopenName(source="string", names=(name,))


def _constant_segments(elf: Elf) -> list[Segment]:
    """Return the loaded segments that hold constants: those without code, or, in older files, those with."""
    fixed = [item for item in elf.segments if item.type == SegmentType.LOAD and not item.flags & _WRITE]
    return [item for item in fixed if not item.flags & _EXECUTE] or fixed


def _constants(data: bytes) -> Iterator[re.Match[bytes]]:
    """Yield whole constants that match; `.so` is searched first, which is many times as fast."""
    for found in _ENDING.finditer(data):
        at = found.start()
        head = data.rfind(b"\0lib", max(0, at - 128), at)
        match = _SONAME.match(data, head) if head >= 0 else None
        if match:
            yield match
