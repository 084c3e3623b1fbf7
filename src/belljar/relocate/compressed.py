"""References that compression hides: a gzipped manual page or a jar that holds the build's path.

They are not rewritten yet, but must not be missed: a tree that holds one cannot be relocated. Known by
their first bytes: gzip, bzip2, xz, zstd (with them compressed tar archives) and zip (jar, wheel). What is
compressed inside is not looked into again. What is damaged, encrypted or no such file after all hides
nothing that a program could read either, and is passed over.
"""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

from belljar.relocate.search import CONTEXT, Run, Window

LIMIT = 4 << 30
"""How many bytes of one file's content are searched."""

_CHUNK = 1 << 18
_MAGICS = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\3\4": "zip",
}


def format_of(head: bytes) -> str | None:
    """Return which compressed format a file's first 6 bytes announce; None for none that is known."""
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), None)


def search(fd: int, kind: str) -> Run | None:
    """Return the first run inside an open file of that format; None when there is none.

    Raises OverflowError when more than LIMIT bytes are in it and none of those has one.
    """
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        tail, done = b"", 0
        for chunk in _chunks(file, kind):
            text = tail + chunk
            for run in Window().over(text).runs() if b"q" in text else ():
                return run
            tail = text[-CONTEXT:]
            done += len(chunk)
            if done > LIMIT:
                raise OverflowError
    return None


def _chunks(file: BinaryIO, kind: str) -> Iterator[bytes]:
    """Yield a file's decompressed content, each part to its end or to where it is damaged."""
    damage = _damage(kind)
    try:
        for opened in _parts(file, kind):
            with contextlib.suppress(*damage), opened() as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
    except damage:
        return


def _damage(kind: str) -> tuple[type[Exception], ...]:
    """Return what the readers raise for content that is damaged, encrypted or of an unknown method."""
    import lzma
    from zipfile import BadZipFile

    common = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, BadZipFile)
    if kind != "zstd":
        return common
    from zstandard import ZstdError

    return (*common, ZstdError)


def _parts(file: BinaryIO, kind: str) -> Iterator[Callable[[], Any]]:
    """Yield how to open what a compressed file holds: one stream, or a zip's members."""
    import bz2
    import gzip
    import lzma
    import zipfile

    match kind:
        case "gzip":
            yield partial(gzip.GzipFile, fileobj=file)
        case "bzip2":
            yield partial(bz2.BZ2File, file)
        case "xz":
            yield partial(lzma.LZMAFile, file)
        case "zip":
            with zipfile.ZipFile(file) as archive:
                yield from (partial(archive.open, member) for member in archive.infolist())
        case _:
            from zstandard import ZstdDecompressor

            reader = ZstdDecompressor(max_window_size=1 << 31).stream_reader
            yield partial(reader, file, read_across_frames=True, closefd=False)
