"""The bytes of a file on the disk, as far as they are wanted.

What the loader looks at is often less than one part in a hundred of a big library: only that is read
(belljar.elf.extents), into memory that is empty elsewhere and takes no room there. A file is not
mapped for it: one that shrinks while it is mapped ends the process with SIGBUS. The code of a big file is
read by pages.
"""

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from belljar.audit.isa.source import Pages
from belljar.elf import HEAD, ElfError, extents_of_segments, extents_of_tables

_SMALL = 256 << 10
"""Files up to this size are read whole: one call instead of ten."""
_OBJECT = (b"\1\0", b"\0\1")
"""The type of object files, whose symbols are anywhere (gABI, e_type ET_REL in both byte orders)."""
IN_MEMORY = 160 << 20
"""Files above this size are mapped where all of their bytes are wanted."""

Content = bytes | mmap.mmap


@contextmanager
def content(path: Path, *, whole: bool) -> Iterator[Content]:
    """Give a file's bytes: all, or those that the loader looks at with zeros between. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.fstat(descriptor).st_size
        if size <= _SMALL or (whole and size <= IN_MEMORY):
            yield _all(descriptor, size)
        elif whole:
            yield mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        else:
            image = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            _fill(descriptor, image)
            yield image
    finally:
        os.close(descriptor)


@contextmanager
def pages(path: Path) -> Iterator[Pages]:
    """Give a file's bytes to those who look at one place after the other. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield Pages(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _all(descriptor: int, size: int) -> bytes:
    chunks = []
    while size > 0 and (chunk := os.read(descriptor, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _fill(descriptor: int, image: mmap.mmap) -> None:
    """Read what the loader looks at; all, where the headers make no sense (and `read` will say so)."""
    with memoryview(image) as view:
        try:
            _read(descriptor, view, [(0, HEAD)])
            if bytes(view[16:18]) in _OBJECT:
                _read(descriptor, view, [(0, len(view))])
                return
            _read(descriptor, view, extents_of_segments(view))
            _read(descriptor, view, extents_of_tables(view))
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
