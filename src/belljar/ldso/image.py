"""The bytes of a file, as far as its loader looks at them.

That is often less than one part in a hundred of a big library: only that is read (belljar.elf.extents),
into memory that is empty elsewhere and takes no room there. A file is not mapped for it: one that
shrinks while it is mapped ends the process with SIGBUS.
"""

import mmap
import os
from collections.abc import Iterable, Iterator

from belljar.elf import HEAD, ElfError, extents_of_relocations, extents_of_segments, extents_of_tables
from belljar.elf.const import MAGIC

_SMALL = 256 << 10
"""Files up to this size are read whole: one call instead of ten."""
_OBJECT = (b"\1\0", b"\0\1")
"""The type of object files, whose symbols are anywhere (gABI, e_type ET_REL in both byte orders)."""
_WINDOW = 1 << 20
OVERLAP = 256
"""How many bytes two windows have in common: what is shorter is whole in one of them."""


def image_of(descriptor: int, size: int) -> bytes | mmap.mmap:
    """Return the bytes of a file of that size that the loader looks at, zeros between. Raises OSError."""
    if size <= _SMALL:
        return read_all(descriptor, size)
    image = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with memoryview(image) as view:
        fill(descriptor, view)
    return image


def read_all(descriptor: int, size: int) -> bytes:
    """Return the bytes of a file, fewer when it has shrunk. Raises OSError."""
    chunks = []
    while size > 0 and (chunk := os.read(descriptor, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def windows(descriptor: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield a part of a file in pieces that overlap, each with where it starts. Raises OSError."""
    for at in range(start, end, _WINDOW):
        yield at, os.pread(descriptor, min(_WINDOW + OVERLAP, end - at), at)


def fill(descriptor: int, view: memoryview) -> None:
    """Read what the loader looks at; all, where the headers make no sense (and `read` will say so).

    Of what is no ELF file, only the start. Raises OSError.
    """
    try:
        _read(descriptor, view, [(0, HEAD)])
        if bytes(view[:4]) != MAGIC:
            return
        if bytes(view[16:18]) in _OBJECT:
            _read(descriptor, view, [(0, len(view))])
            return
        _read(descriptor, view, extents_of_segments(view))
        _read(descriptor, view, extents_of_tables(view))
        _read(descriptor, view, extents_of_relocations(view))
    except ElfError:
        _read(descriptor, view, [(0, len(view))])


def _read(descriptor: int, view: memoryview, extents: Iterable[tuple[int, int]]) -> None:
    for offset, size in _merged(extents, len(view)):
        at, end = offset, offset + size
        while at < end and (count := os.preadv(descriptor, [view[at:end]], at)):
            at += count


def _merged(extents: Iterable[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    """Yield extents within the file, those that touch as one."""
    start = stop = 0
    for offset, size in sorted(extents):
        if offset > stop:
            yield start, stop - start
            start = stop = min(offset, end)
        stop = max(stop, min(offset + size, end))
    yield start, stop - start
