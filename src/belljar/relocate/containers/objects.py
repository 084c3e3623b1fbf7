"""Static libraries whose objects have compressed sections (ar(5)); seen, but not opened.

An object in the middle of an archive cannot grow without moving the others, of which the archive's symbol
index holds the offsets. So what compression hides there is reported.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from belljar.relocate.containers import debug
from belljar.relocate.containers.container import Closed, Damaged, Format, Part

MAGIC = b"!<arch>\n"
_HEADER = 60
_SIZE, _MARK = slice(48, 58), slice(58, 60)


def has_sections(fd: int) -> bool:
    """Whether an object in an open static library has compressed sections; reads nothing but headers."""
    members = _members(lambda at, size: os.pread(fd, size, at))
    return any(debug.has_sections(fd, begin) for begin, _ in members)


def parts(data: memoryview) -> tuple[Part, ...]:
    """Return the streams of all objects' compressed sections."""
    found: list[Part] = []
    for begin, end in _members(lambda at, size: bytes(data[at : at + size])):
        try:
            inside = debug.parts(data[begin:end])
        except Damaged:
            continue
        found += (_moved(part, begin) for part in inside)
    return tuple(found)


def _moved(part: Part, begin: int) -> Part:
    sums = tuple((offset + begin, kind) for offset, kind in part.sums)
    name = f"object at {begin}, {part.name}"
    return replace(part, name=name, begin=part.begin + begin, end=part.end + begin, sums=sums)


def _members(read: Callable[[int, int], bytes]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each member, as far as the headers are sound."""
    at = len(MAGIC)
    while len(header := read(at, _HEADER)) == _HEADER and header[_MARK] == b"`\n":
        text = header[_SIZE].strip()
        if not text.isdigit():
            return
        begin = at + _HEADER
        yield begin, begin + int(text)
        at = begin + int(text) + int(text) % 2


def _assemble(_data: memoryview, _streams: list[tuple[Part, bytes]]) -> bytes:
    raise Closed("in a static library")


FORMAT = Format(name="static library", parts=parts, encode=debug.encode, assemble=_assemble)
