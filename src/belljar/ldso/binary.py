"""What a loader looks at in one file, kept small: a tree has thousands of files.

Symbols become sets of text: `name@version` for what is looked up under a version, `name` for what any
version finds. Which definition meets which use: glibc's elf/dl-lookup.c (check_match).
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from belljar.elf import Elf, Segment, Symbol, Symbols
from belljar.elf.const import Binding, SegmentType, Tag

_UNVERSIONED = 2
"""Version indices below this are local and global symbols without a version."""
_FDO_DLOPEN = 0x407C0C0A
_EXECUTE = 1
_WRITE = 2
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
    """What a library defines: under a version, for any version, and for uses without version."""

    versioned: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()
    default: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A parsed file; `elf` is without its symbols, `imports` are the undefined that must be found."""

    elf: Elf
    exports: Exports = Exports()
    imports: frozenset[str] = frozenset()
    dlopens: tuple[DlopenName, ...] = ()

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


def digest(elf: Elf, data: bytes) -> Binary:
    """Return what a loader looks at in the file with these bytes."""
    return Binary(
        elf=replace(elf, symbols=Symbols()),
        exports=_exports(elf),
        imports=frozenset(
            _use(symbol)
            for symbol in elf.symbols
            if not symbol.defined and symbol.binding == Binding.GLOBAL and symbol.name
        ),
        dlopens=(*_noted(elf), *_guessed(elf, data)),
    )


def _use(symbol: Symbol) -> str:
    return f"{symbol.name}@{symbol.version}" if symbol.library else symbol.name


def _exports(elf: Elf) -> Exports:
    has_versions = elf.dynamic is not None and elf.dynamic.first(Tag.VERSYM) is not None
    versioned, plain, default = set(), set(), set()
    for symbol in elf.symbols:
        if not symbol.defined or symbol.binding == Binding.LOCAL:
            continue
        if not has_versions or symbol.version_index < _UNVERSIONED:
            plain.add(symbol.name)
            continue
        versioned.add(f"{symbol.name}@{symbol.version}")
        # The first version that a file defines finds uses without version even where it is hidden.
        if not symbol.hidden or symbol.version_index == _UNVERSIONED:
            default.add(symbol.name)
    return Exports(versioned=frozenset(versioned), plain=frozenset(plain), default=frozenset(default))


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


def _guessed(elf: Elf, data: bytes) -> Iterator[DlopenName]:
    """Yield constants that look like a library's name, which the file does not need or bear."""
    if elf.dynamic is None:
        return
    known = {*elf.dynamic.needed, elf.dynamic.soname}
    strings = elf.dynamic.first(Tag.STRTAB)
    start = elf.offset_of(strings.value) if strings else None
    size = elf.dynamic.first(Tag.STRSZ)
    end = start + size.value if start is not None and size else 0
    for segment in _constant_segments(elf):
        for match in _constants(data, segment.offset, segment.offset + segment.file_size):
            name = match[1].decode("utf-8", "surrogateescape")
            if name in known or (start is not None and start <= match.start(1) < end):
                continue
            known.add(name)
            yield DlopenName(source="string", names=(name,))


def _constant_segments(elf: Elf) -> list[Segment]:
    """Return the loaded segments that hold constants: those without code, or, in older files, those with."""
    fixed = [item for item in elf.segments if item.type == SegmentType.LOAD and not item.flags & _WRITE]
    return [item for item in fixed if not item.flags & _EXECUTE] or fixed


def _constants(data: bytes, start: int, end: int) -> Iterator[re.Match[bytes]]:
    """Yield whole constants that match; `.so` is searched first, which is many times as fast."""
    at = data.find(b".so", start, end)
    while at >= 0:
        head = data.rfind(b"\0lib", max(start, at - 128), at)
        match = _SONAME.match(data, head, end) if head >= 0 else None
        if match:
            yield match
        at = data.find(b".so", max(at + 3, match.end() if match else 0), end)
