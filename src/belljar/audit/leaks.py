"""Paths of the machine that built a file, left over in it.

A path that the loader reads (interpreter, search paths, libraries) breaks the program elsewhere. One
in loaded data may (a default directory, a plug-in path) or may not (`__FILE__` in an assertion); one
that is not loaded is debug information. All are found by one search over the bytes.

A hit in the middle of a longer path (`/home/me/build/x`, `../build/x` for `/build`) is not one.
Not found: paths in compressed debug sections, and in encodings other than UTF-8.
"""

import bisect
import enum
import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from belljar.audit.isa.source import Source, source_of, windows
from belljar.elf import Elf
from belljar.elf.const import SegmentType, Tag


class Where(enum.StrEnum):
    """In what part of a file a path stands."""

    INTERPRETER = "interpreter"
    NEEDED = "needed"
    SONAME = "soname"
    RPATH = "rpath"
    RUNPATH = "runpath"
    LOADED = "loaded data"
    DEBUG = "data that is not loaded"

    @property
    def is_read_by_loader(self) -> bool:
        """Whether the loader acts on it."""
        return self not in (Where.LOADED, Where.DEBUG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A path as it stands, at `offset` for the first of `count` times."""

    where: Where
    text: str
    offset: int
    count: int = 1


_NAMING: dict[int, Where] = {
    Tag.NEEDED: Where.NEEDED,
    Tag.SONAME: Where.SONAME,
    Tag.RPATH: Where.RPATH,
    Tag.RUNPATH: Where.RUNPATH,
}
KINDS_LIMIT = 1000
"""How many different paths of one file are kept."""
_TEXT_LIMIT = 256
_LOOK_BACK = 64
_STRING_PIECE = 1 << 16
_TEXT = re.compile(rb"[^\x00-\x1f\x7f\"'<>|;:,()*?\\ ]*")
_GOES_ON = re.compile(rb"[\w.+~@%-]")
_INSIDE_PATH = re.compile(rb"(?:/[\w.+~@%-]+|(?<![\w+~@%-])\.\.?)\Z")


def find_leaks(data: bytes | mmap.mmap, elf: Elf, prefixes: Iterable[str]) -> tuple[Leak, ...]:
    """Return the paths below `prefixes` that a file names, in the order of their first offsets."""
    source = source_of(data)
    strings, loaded = _loader_strings(source, elf), _loaded(elf)
    found: dict[tuple[Where, str], Leak] = {}
    for offset, text in _hits(source, prefixes):
        where = strings.at(offset) or loaded.at(offset) or Where.DEBUG
        known = found.get((where, text))
        if known is not None:
            found[where, text] = replace(known, count=known.count + 1)
        elif len(found) < KINDS_LIMIT:
            found[where, text] = Leak(where=where, text=text, offset=offset)
    return tuple(sorted(found.values(), key=lambda leak: leak.offset))


def _hits(source: Source, prefixes: Iterable[str]) -> Iterator[tuple[int, str]]:
    for prefix in prefixes:
        wanted = prefix.rstrip("/").encode("utf-8", "surrogateescape")
        for offset, data, start, stop in windows(source, len(wanted) + _TEXT_LIMIT):
            at = data.find(wanted, start)
            while 0 <= at < stop:
                end = at + len(wanted)
                before = data[max(0, at - _LOOK_BACK) : at]
                if not _GOES_ON.match(data, end) and not _INSIDE_PATH.search(before):
                    text = _TEXT.match(data, at, at + _TEXT_LIMIT)
                    yield offset + at, (text[0] if text else wanted).decode("utf-8", "surrogateescape")
                at = data.find(wanted, end)


class _Ranges:
    """What stands from where to where in a file; ranges that overlap have the same end."""

    def __init__(self, ranges: Iterable[tuple[int, int, Where]]) -> None:
        self._ranges = sorted(ranges)
        self._starts = [start for start, _, _ in self._ranges]

    def at(self, offset: int) -> Where | None:
        """Return what stands at an offset."""
        number = bisect.bisect_right(self._starts, offset) - 1
        if number < 0:
            return None
        _, end, where = self._ranges[number]
        return where if offset < end else None


def _loader_strings(source: Source, elf: Elf) -> _Ranges:
    """Return where the strings stand that the loader reads. Those of one table end at the same NULs."""
    found: dict[int, tuple[int, Where]] = {}
    for segment in elf.segments:
        if segment.type == SegmentType.INTERP:
            found[segment.offset] = (segment.offset + segment.file_size, Where.INTERPRETER)
    table = elf.dynamic.first(Tag.STRTAB) if elf.dynamic else None
    start = None if table is None else elf.offset_of(table.value)
    for entry in elf.dynamic.entries if elf.dynamic and start is not None else ():
        at = (start or 0) + entry.value
        if entry.tag in _NAMING and at not in found:
            found[at] = (_end_of_string(source, at), _NAMING[entry.tag])
    return _Ranges((at, end, where) for at, (end, where) in found.items())


def _end_of_string(source: Source, start: int) -> int:
    """Return where the NUL behind a string is, -1 where there is none."""
    for at in range(start, len(source), _STRING_PIECE):
        found = source[at : at + _STRING_PIECE].find(b"\0")
        if found >= 0:
            return at + found
    return -1


def _loaded(elf: Elf) -> _Ranges:
    """Return what of the file is loaded, as ranges that do not touch."""
    merged: list[tuple[int, int, Where]] = []
    for begin, size in sorted((s.offset, s.file_size) for s in elf.segments if s.type == SegmentType.LOAD):
        start, end = begin, begin + size
        if merged and start <= merged[-1][1]:
            start, before, _ = merged.pop()
            end = max(end, before)
        merged.append((start, end, Where.LOADED))
    return _Ranges(merged)
