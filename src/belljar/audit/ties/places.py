"""What stands where in an ELF file: strings that the loader reads, sections by name, loaded segments.

Sections say most and prove nothing: a program runs without them, and a hostile table may name
anything. They serve as labels only, and where their table is damaged the segments have to do.
"""

import bisect
import enum
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, cast

from belljar.audit.isa.source import Source
from belljar.elf import Elf
from belljar.elf.const import SegmentType, Tag


class Where(enum.StrEnum):
    """In what part of a tree a path stands."""

    INTERPRETER = "interpreter"
    RPATH = "RPATH"
    RUNPATH = "RUNPATH"
    NEEDED = "needed library"
    SONAME = "soname"
    LOADED = "loaded data"
    DEBUG = "debug information"
    UNLOADED = "data that is not loaded"
    SHEBANG = "#! line"
    LINK = "symbolic link"
    PKG_CONFIG = "pkg-config file"
    LIBTOOL = "libtool file"
    CMAKE = "CMake file"
    PYTHON_CONFIG = "Python's build settings"
    BYTE_CODE = "Python byte code"
    RECORD = "record of an installation"
    TEXT = "text"
    DATA = "other data"

    @property
    def is_read_by_loader(self) -> bool:
        """Whether the kernel or the loader acts on it: elsewhere the program does not start."""
        return self in _LOADER


_LOADER = frozenset(
    {Where.INTERPRETER, Where.RPATH, Where.RUNPATH, Where.NEEDED, Where.SONAME, Where.SHEBANG}
)


@dataclass(frozen=True, slots=True)
class Place:
    """A range of a file, up to but without `end`; `section` is empty where it has no name."""

    start: int
    end: int
    where: Where
    section: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section header, as far as it matters here."""

    name: str
    type: int
    flags: int
    offset: int
    size: int


class Places:
    """Ranges that do not start at the same byte; where they overlap, the last to start is meant."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._places = sorted({place.start: place for place in places}.values(), key=lambda item: item.start)
        self._starts = [place.start for place in self._places]

    def at(self, offset: int) -> Place | None:
        """Return what stands at an offset."""
        number = bisect.bisect_right(self._starts, offset) - 1
        if number < 0 or offset >= self._places[number].end:
            return None
        return self._places[number]


_NAMING: dict[int, Where] = {
    Tag.NEEDED: Where.NEEDED,
    Tag.SONAME: Where.SONAME,
    Tag.RPATH: Where.RPATH,
    Tag.RUNPATH: Where.RUNPATH,
}
_NOBITS = 8
_ALLOC = 2
_COMPRESSED = 0x800
_SECTION_LIMIT = 100_000
_NAMES_LIMIT = 16 << 20
_NAME_LIMIT = 256
STRING_LIMIT = 1 << 16
"""How long a string may be that the loader reads."""
_INFLATED_LIMIT = 1 << 30
_WITHOUT_PATHS = ("loc", "ranges", "rnglists", "loclists", "aranges", "abbrev", "frame", "addr", "names")


def loader_strings(data: Source, elf: Elf) -> tuple[Place, ...]:
    """Return where the strings stand that the kernel and the loader read."""
    found = [
        Place(segment.offset, segment.offset + segment.file_size, Where.INTERPRETER)
        for segment in elf.segments
        if segment.type == SegmentType.INTERP
    ]
    table = elf.dynamic.first(Tag.STRTAB) if elf.dynamic else None
    start = None if table is None else elf.offset_of(table.value)
    for entry in elf.dynamic.entries if elf.dynamic and start is not None else ():
        if entry.tag in _NAMING:
            at = (start or 0) + entry.value
            size = max(data[at : at + STRING_LIMIT].find(b"\0"), 0)
            found.append(Place(at, at + size, _NAMING[entry.tag]))
    return tuple(found)


def section_places(elf: Elf, sections: tuple[Section, ...]) -> tuple[Place, ...]:
    """Return the sections as places; the loaded segments where there is no section table."""
    if not sections:
        loads = (item for item in elf.segments if item.type == SegmentType.LOAD)
        return tuple(Place(item.offset, item.offset + item.file_size, Where.LOADED) for item in loads)
    return tuple(
        Place(item.offset, item.offset + item.size, _where(item), item.name)
        for item in sections
        if item.type != _NOBITS and item.size
    )


def _where(section: Section) -> Where:
    if section.flags & _ALLOC:
        return Where.LOADED
    is_debug = section.name.startswith((".debug", ".zdebug", ".stab", ".gnu_debug", ".line"))
    return Where.DEBUG if is_debug else Where.UNLOADED


def read_sections(data: Source, elf: Elf) -> tuple[Section, ...]:
    """Return the section headers; none where the table is missing or damaged."""
    order = ">" if elf.header.is_big_endian else "<"
    wide = elf.header.is_wide
    form = struct.Struct(order + ("IIQQQQIIQQ" if wide else "10I"))
    try:
        offset, *_ = struct.unpack(
            order + ("Q" if wide else "I"), data[0x28:0x30] if wide else data[0x20:0x24]
        )
        size, count, names = struct.unpack(order + "HHH", data[0x3A:0x40] if wide else data[0x2E:0x34])
        if not offset or size != form.size:
            return ()
        first = form.unpack(data[offset : offset + size])
        count = min(count or first[5], _SECTION_LIMIT, (len(data) - offset) // form.size)
        headers = list(form.iter_unpack(data[offset : offset + count * size]))
        labels = headers[first[6] if names == 0xFFFF else names]
    except (struct.error, IndexError, OverflowError, ValueError):
        return ()
    texts = data[labels[4] : min(labels[4] + labels[5], labels[4] + _NAMES_LIMIT)]
    return tuple(_section(texts, fields) for fields in headers)


def _section(texts: bytes, fields: tuple[int, ...]) -> Section:
    end = texts.find(b"\0", fields[0], fields[0] + _NAME_LIMIT)
    name = texts[fields[0] : end].decode("utf-8", "replace") if end >= 0 else ""
    return Section(name=name, type=fields[1], flags=fields[2], offset=fields[4], size=fields[5])


def inflated(data: Source, elf: Elf, section: Section) -> Iterator[bytes] | None:
    """Return the content of a compressed debug section in chunks; None for any other section.

    Damage ends the content early. Sections that hold no text are left out.
    """
    short = section.name.removeprefix(".z").removeprefix(".").removeprefix("debug_")
    if section.type == _NOBITS or short.startswith(_WITHOUT_PATHS):
        return None
    start, end = section.offset, min(section.offset + section.size, len(data))
    if section.flags & _COMPRESSED:
        header = 24 if elf.header.is_wide else 12
        if end - start < header:
            return None
        method = int.from_bytes(data[start : start + 4], "big" if elf.header.is_big_endian else "little")
        return _inflate(data, start + header, end, method)
    if section.name.startswith(".zdebug") and data[start : start + 4] == b"ZLIB":
        return _inflate(data, start + 12, end, 1)
    return None


def _inflate(data: Source, start: int, end: int, method: int) -> Iterator[bytes]:
    """Yield what a range holds; 1 is zlib, 2 is zstd (gABI, ch_type)."""
    left = _INFLATED_LIMIT
    for chunk in _zlib(data, start, end) if method == 1 else _zstd(data, start, end) if method == 2 else ():
        left -= len(chunk)
        if left < 0:
            return
        yield chunk


_STEP = 1 << 20


def _zlib(data: Source, start: int, end: int) -> Iterator[bytes]:
    engine = zlib.decompressobj()
    try:
        for at in range(start, end, _STEP):
            rest = data[at : min(at + _STEP, end)]
            while rest and not engine.eof:
                yield engine.decompress(rest, 4 * _STEP)
                rest = engine.unconsumed_tail
    except zlib.error:
        return


def _zstd(data: Source, start: int, end: int) -> Iterator[bytes]:
    import zstandard

    pieces = cast(IO[bytes], _Pieces(data, start, end))  # of a file, no more than `read` is used
    try:
        with zstandard.ZstdDecompressor().stream_reader(pieces) as reader:
            while chunk := reader.read(4 * _STEP):
                yield chunk
    except zstandard.ZstdError:
        return


class _Pieces:
    """A range of a file as something to `read` from."""

    def __init__(self, data: Source, start: int, end: int) -> None:
        self._data, self._at, self._end = data, start, end

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        start, self._at = self._at, min(self._at + size, self._end)
        return self._data[start : self._at]
