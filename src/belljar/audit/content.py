"""The bytes of a file on the disk, as far as they are wanted.

All of a small one; of a big one what its loader looks at (belljar.ldso.image), and the rest by pages.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from belljar.audit.isa.source import Pages, Sparse
from belljar.ldso.image import fill, image_of, read_all

AT_ONCE = 8 << 20
"""Up to this size a file is read at once where all of its bytes are wanted."""

Content = bytes | mmap.mmap


@contextmanager
def content(path: Path | str, *, whole: bool) -> Iterator[Content]:
    """Give a file's bytes: all, or those that the loader looks at with zeros between. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.fstat(descriptor).st_size
        if not whole:
            yield image_of(descriptor, size)
        elif size <= AT_ONCE:
            yield read_all(descriptor, size)
        else:
            yield sparse(descriptor, size)
    finally:
        os.close(descriptor)


def sparse(descriptor: int, size: int) -> Sparse:
    """Return what the loader looks at in an open file, zeros between, and all of it by pages."""
    image = Sparse.of(descriptor, size)
    with memoryview(image) as view:
        fill(descriptor, view)
    return image


@contextmanager
def pages(path: Path) -> Iterator[Pages]:
    """Give a file's bytes to those who look at one place after the other. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield Pages(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
