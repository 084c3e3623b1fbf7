"""Where files are read from: bytes, or a file of which a little is held at a time.

Nobody looks at all of a big library at once, so it is read in pages as they are asked for, or from one end
to the other in windows. It is not mapped: one that shrinks while it is mapped would end the process with
SIGBUS.
"""

import mmap
import os
import weakref
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

_PAGE = 1 << 16
_HELD = 64
"""How many pages are held: 4 MB."""
_WINDOW = 4 << 20


class Source(Protocol):
    """The bytes of a file, by slices: `bytes` or `Pages`."""

    def __len__(self) -> int:
        """Return the size of the file."""
        ...

    def __getitem__(self, extent: slice, /) -> bytes:
        """Return a copy of some bytes, fewer at the end."""
        ...


class Pages:
    """An open file by slices; zeros where it has shrunk since. Raises OSError when it cannot be read."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._page = lru_cache(_HELD)(self._load)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, extent: slice, /) -> bytes:
        """Return some bytes: from a page, or at once what lies in more than one."""
        start, stop, _ = extent.indices(self._size)
        number, at = divmod(start, _PAGE)
        if stop <= start:
            return b""
        if at + stop - start <= _PAGE:
            return self._page(number)[at : at + stop - start]
        return self._read(start, stop - start)

    def _load(self, number: int) -> bytes:
        return self._read(number * _PAGE, min(_PAGE, self._size - number * _PAGE))

    def _read(self, offset: int, size: int) -> bytes:
        chunks = []
        while size > 0 and (chunk := os.pread(self._descriptor, size, offset)):
            chunks.append(chunk)
            offset += len(chunk)
            size -= len(chunk)
        return (chunks[0] if len(chunks) == 1 else b"".join(chunks)) + bytes(size)


class Sparse(mmap.mmap):
    """A big file in memory that is zero but for what somebody reads into it; `pages` has all of it."""

    pages: Pages

    @classmethod
    def of(cls, descriptor: int, size: int) -> "Sparse":
        """Return memory for an open file of that size, which stays open until `pages` is gone."""
        image = cls(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        own = os.dup(descriptor)
        image.pages = Pages(own, size)
        weakref.finalize(image.pages, os.close, own)
        return image


def source_of(content: bytes | mmap.mmap) -> Source:
    """Return all bytes of what may be Sparse."""
    return content.pages if isinstance(content, Sparse) else content


class Window(NamedTuple):
    """A part of a file: `data` begins at `offset`; what is new in it goes from `start` to `end`."""

    offset: int
    data: bytes
    start: int
    end: int


def windows(source: Source, margin: int) -> Iterator[Window]:
    """Yield a file part by part, with so many bytes on both sides of what is new."""
    for start in range(0, len(source), _WINDOW):
        end, begin = min(start + _WINDOW, len(source)), max(0, start - margin)
        yield Window(begin, source[begin : end + margin], start - begin, end - begin)
