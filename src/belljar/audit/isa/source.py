"""Where code is read from: bytes, or a file of which a little is held at a time.

Nobody looks at all of a big library at once, so it is read in pages as they are asked for. It is not
mapped: one that shrinks while it is mapped would end the process with SIGBUS.
"""

import os
from functools import lru_cache
from typing import Protocol

_PAGE = 1 << 16
_HELD = 64
"""How many pages are held: 4 MB."""


class Source(Protocol):
    """The bytes of a file, by slices: `bytes`, `mmap`, or `Pages`."""

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
