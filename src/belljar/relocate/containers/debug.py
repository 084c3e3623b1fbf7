"""Compressed sections of ELF files: debugging information (gABI, "Section Compression"; zlib and zstd).

A new stream is longer than the old one, so it goes to the end of the file and the section header says so;
the old bytes become zeros. Nothing that is loaded moves, and what readelf, gdb and strip read is valid.
Only section headers are read, bounds checked; a file without them has no such sections.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from belljar.checksums import SumKind
from belljar.relocate.containers import deflate, zstd
from belljar.relocate.containers.container import Closed, Damaged, Format, Part, Ranges

_COMPRESSED, _ALLOC, _NO_BITS = 0x800, 2, 8
_ZLIB, _ZSTD = 1, 2
_IDENT = 16
_FILE = {1: "HHIIIIIHHHHHH", 2: "HHIQQQIHHHHHH"}
_SECTION = {1: "10I", 2: "2I4Q2I2Q"}
_CHDR = {1: "3I", 2: "2I2Q"}
_FLAGS, _OFFSET, _SIZE = 2, 4, 5  # of a section header's fields
_ZLIB_HEADER, _ZLIB_TRAILER = 2, 4
_DICTIONARY = 0x20
_MANY = 1 << 20  # sections, where the header has no room for their number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """A compressed section: where its header stands, its data, its compression header's size."""

    number: int
    header: int
    offset: int
    size: int
    stream: int
    method: int
    content: int


def has_sections(fd: int, base: int = 0) -> bool:
    """Whether ELF with compressed sections begins `base` bytes into an open file; reads headers only."""
    head = os.pread(fd, _IDENT + 48, base)
    if not _is_elf(head):
        return False
    order, wide = "<" if head[5] == 1 else ">", head[4]
    fields = struct.unpack_from(order + _FILE[wide], head, _IDENT)
    layout = struct.Struct(order + _SECTION[wide])
    if fields[5] >= 1 << 62 or fields[10] != layout.size:
        return False
    count = fields[11] or _MANY
    rows = os.pread(fd, count * layout.size, base + fields[5])
    flags = (row[_FLAGS] for row in layout.iter_unpack(rows[: len(rows) // layout.size * layout.size]))
    return any(item & _COMPRESSED and not item & _ALLOC for item in flags)


def _is_elf(head: bytes) -> bool:
    return len(head) == _IDENT + 48 and head[:4] == b"\x7fELF" and head[4] in _FILE and head[5] in (1, 2)


def parts(data: memoryview) -> tuple[Part, ...]:
    """Return the streams of the compressed sections, those first that stand first."""
    return tuple(_part(data, item) for item in _sections(data))


def _part(data: memoryview, section: _Section) -> Part:
    end = section.offset + section.size
    name = f"section {section.number}"
    if section.method == _ZSTD:
        return Part(name=name, begin=section.stream, end=end, decode=zstd.decode)
    begin = section.stream + _ZLIB_HEADER
    damaged = Part(name=name, begin=section.stream, end=end, decode=_damaged)
    if section.method != _ZLIB or begin >= end or data[section.stream + 1] & _DICTIONARY:
        return damaged
    try:
        content, size = deflate.decode(data[begin:end], limit=section.content)
    except Damaged:
        return damaged
    trailer = begin + size
    if data[trailer : min(end, trailer + _ZLIB_TRAILER)] != SumKind.ADLER32.of(content):
        return damaged
    sums = ((trailer, SumKind.ADLER32),)
    return Part(name=name, begin=begin, end=trailer, decode=_inflate, sums=sums)


def _damaged(_stream: memoryview) -> bytes:
    raise Damaged("it is damaged, or compressed in a way that is not known")


def _inflate(stream: memoryview) -> bytes:
    return deflate.decode(stream)[0]


def encode(part: Part, content: bytes, ranges: Ranges) -> bytes:
    """Return a section's new stream."""
    return zstd.encode(content, ranges) if part.decode is zstd.decode else deflate.encode(content, ranges)


def assemble(data: memoryview, streams: list[tuple[Part, bytes]]) -> bytes:
    """Return the file with the sections' new data behind all else."""
    new = {part.begin: (part, stream) for part, stream in streams}
    order = "<" if data[5] == 1 else ">"
    layout = struct.Struct(order + _SECTION[data[4]])
    buffer = bytearray(data)
    for section in _sections(data):
        for begin in (section.stream, section.stream + _ZLIB_HEADER):
            if begin in new:
                part, stream = new[begin]
                old_end = section.offset + section.size
                raw = b"".join([data[section.offset : part.begin], stream, data[part.end : old_end]])
                buffer[section.offset : old_end] = bytes(section.size)
                buffer += bytes(-len(buffer) % 8)
                fields = list(layout.unpack_from(buffer, section.header))
                fields[_OFFSET], fields[_SIZE] = len(buffer), len(raw)
                _pack(layout, buffer, section.header, fields)
                buffer += raw
                break
    return bytes(buffer)


def _pack(layout: struct.Struct, buffer: bytearray, at: int, fields: list[int]) -> None:
    try:
        layout.pack_into(buffer, at, *fields)
    except struct.error as error:
        raise Closed("it would become too large for its format") from error


def _sections(data: memoryview) -> Iterator[_Section]:
    """Yield the compressed sections that are no part of the program; raises Damaged."""
    if not _is_elf(bytes(data[: _IDENT + 48])):
        raise Damaged("not an ELF file")
    wide, order = data[4], "<" if data[5] == 1 else ">"
    header, layout = struct.Struct(order + _FILE[wide]), struct.Struct(order + _SECTION[wide])
    compression = struct.Struct(order + _CHDR[wide])
    fields = header.unpack_from(data, _IDENT)
    table, entry, count = fields[5], fields[10], fields[11]
    if not table or entry != layout.size:
        return
    if not count and table + layout.size <= len(data):
        count = layout.unpack_from(data, table)[_SIZE]  # more than 65,279 sections
    if table + count * entry > len(data):
        raise Damaged("its section headers are cut short")
    last = 0
    for number, at in sorted(
        enumerate(range(table, table + count * entry, entry)),
        key=lambda item: layout.unpack_from(data, item[1])[_OFFSET],
    ):
        row = layout.unpack_from(data, at)
        if not row[_FLAGS] & _COMPRESSED or row[_FLAGS] & _ALLOC or row[1] == _NO_BITS:
            continue
        offset, size = row[_OFFSET], row[_SIZE]
        if offset + size > len(data) or size < compression.size or offset < last:
            raise Damaged("a compressed section lies outside the file or in another")
        last = offset + size
        head = compression.unpack_from(data, offset)
        yield _Section(
            number=number,
            header=at,
            offset=offset,
            size=size,
            stream=offset + compression.size,
            method=head[0],
            content=head[1] if wide == 1 else head[2],
        )


FORMAT = Format(name="ELF debug sections", parts=parts, encode=encode, assemble=assemble)
