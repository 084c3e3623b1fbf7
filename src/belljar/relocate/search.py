"""Finding the placeholder, whole and in pieces, in bytes of any kind.

A compiler may split a literal into immediates, so whole strings are not enough; to search for each of
the placeholder's 8-byte windows would be slow. But each of those holds the rare pair `qz`: one regular
expression visits these anchors, and only there is anything compared. The same expression lets NULs
stand inside the pair, which finds the anchors of UTF-16 and UTF-32 at no cost to speak of.

Rejected (figures in docs/relocation.md): `bytes.find` of the pair, half as fast; mmap, which is slower
for small files and ends the process with SIGBUS when a file shrinks; more than one process or thread,
since one takes a fraction of the time that copying the same files takes.
"""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from belljar.placeholder import DIRECTORY_LIMIT, LENGTH, PLACEHOLDER

MINIMUM = 8
"""How many characters of the placeholder make a piece: fewer occur by chance."""
WIDE_MINIMUM = 4
"""How many wide ones do: the zeros between them do not occur by chance."""
HINT = 4
"""How many make a hint, which is nothing but in code."""
HINTS = 1 << 15
"""How many hints of a file are kept."""
BUFFER = 1 << 18
"""How many bytes of a file are in memory at a time; more would leave the processor's cache."""
CONTEXT = 512
"""How far from its anchor a run, or the name after it, may reach: 96 characters of 4 bytes and some."""

# Second: the `q` and `z` of two x86 instructions that store one byte each (Intel SDM 2, MOV: C6 /0 ib).
# Third: of two that put a letter into a register (B8+rd id), each followed by one that stores it (88, 89 /r),
# as tcc does.
_ANCHOR = re.compile(
    rb"q(?:\0{0,3}z|[\x40-\x4f]?\xc6[\x00-\x07\x40-\x47\x80-\x87](?s:.){0,5}?z"
    rb"|\0{3}[\x40-\x4f\x66]?[\x88\x89](?s:.){2,6}?[\xb8-\xbf]z)"
)
# What stores two letters (Intel SDM 2, MOV: 66 C7 /0 iw): its opcode, and how far before them it may stand.
_STORE, _REACH = 0xC7, 8
# What puts a number of 4 bytes into a register (MOV: B8+rd id).
_PUT = range(0xB8, 0xC0)
_ANCHORS = tuple(match.start() for match in re.finditer("qz", PLACEHOLDER))
_WHOLE = PLACEHOLDER.encode()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Run:
    """Characters start..start+length of the placeholder, `width` bytes each, `offset` bytes into a file."""

    offset: int
    start: int = 0
    length: int = LENGTH
    width: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole placeholder."""
        return self.length == LENGTH


class Window:
    """A file's content, seen through a buffer of fixed size that moves along it.

    `data` begins `base` bytes into the file. Each anchor is looked for in one window only, that in
    whose `begin`..`end` it lies; around that range CONTEXT bytes are in sight, or the file's ends.
    """

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(BUFFER))
        self._start(self._buffer[:0])

    def along(self, fd: int) -> Iterator["Window"]:
        """Move along the open file `fd` from its start to its end; yields itself at each place."""
        filled, size = 0, os.fstat(fd).st_size or sys.maxsize
        self._start(self._buffer[:0])
        while count := os.readv(fd, [self._buffer[filled:]]):
            filled += count
            if self.base + filled >= size:
                break  # most files end in their first window: it is the only one then
            yield self._at(filled, max(self.begin, filled - CONTEXT))
            filled = self._move(filled)
        yield self._at(filled, filled)

    def over(self, content: bytes) -> "Window":
        """Look at all of `content` at once."""
        self._start(memoryview(content))
        return self

    def _start(self, data: memoryview) -> None:
        self.data, self.base, self.begin, self.end = data, 0, 0, len(data)
        self._past = 0  # up to here, anchors are those of a whole that was yielded
        self._seen: set[Run] = set()
        self.hints: list[int] = []

    def _at(self, filled: int, end: int) -> "Window":
        self.data, self.end = self._buffer[:filled], end
        return self

    def _move(self, filled: int) -> int:
        """Keep what the next window needs; return how many bytes that is."""
        cut = max(0, self.end - CONTEXT)
        self._buffer[: filled - cut] = self._buffer[cut:filled]
        self.base += cut
        self.begin = self.end - cut
        if self._seen:  # those that are out of sight do not come again
            self._seen = {run for run in self._seen if run.offset + run.length * run.width >= self.base}
        return filled - cut

    def runs(self) -> Iterator[Run]:
        """Yield each maximal run of at least 8 characters that has an anchor in begin..end.

        Those wholly inside the constant tail are left out: no location differs there.
        """
        for match in _ANCHOR.finditer(self.data, self.begin):
            place = match.start()
            if place >= self.end:
                return
            if self.data[place + 1] not in b"\0z" or match.end() - place > 5:
                self._hint(self.base + place)
                continue
            width = match.end() - place - 1
            if width == 3 or self.base + place < self._past:
                continue
            if width == 1 and self._is_pair(place):
                self._hint(self.base + place)
            for run in self._through(place, width):
                if run not in self._seen:
                    self._seen.add(run)
                    yield run

    def _through(self, place: int, width: int) -> Iterator[Run]:
        """Yield the runs through an anchor, whichever of the placeholder's it is; a whole excludes others."""
        for anchor in _ANCHORS:
            run = _extend(self.data, self.base, place, anchor, width)
            if run.is_whole:
                self._past = run.offset + LENGTH * width
                yield run
                return
            if run.start >= DIRECTORY_LIMIT:
                continue
            if run.length >= (MINIMUM if width == 1 else WIDE_MINIMUM):
                yield run
            elif run.length >= HINT and width == 1:
                self._hint(run.offset)

    def _is_pair(self, place: int) -> bool:
        """Whether two letters may be stored, or put into a register, as a number."""
        before = self.data[max(0, place - _REACH) : place]
        return _STORE in before or (
            len(before) > 0 and before[-1] in _PUT and bytes(self.data[place + 2 : place + 4]) == b"\0\0"
        )

    def _hint(self, offset: int) -> None:
        if len(self.hints) < HINTS:
            self.hints.append(offset)


def _extend(data: memoryview, base: int, place: int, anchor: int, width: int) -> Run:
    """Return the run of which `data[place]` is character `anchor`, as far as it goes both ways."""
    before = min(anchor, place // width)
    first = place - before * width
    text = bytes(data[first : place + (LENGTH - anchor) * width : width])
    pattern = _WHOLE[anchor - before : anchor - before + len(text)]
    if text == pattern:
        begin, end = 0, len(text)
    else:
        begin, end = before, before
        while begin and text[begin - 1] == pattern[begin - 1]:
            begin -= 1
        while end < len(text) and text[end] == pattern[end]:
            end += 1
    return Run(
        offset=base + first + begin * width, start=anchor - before + begin, length=end - begin, width=width
    )
