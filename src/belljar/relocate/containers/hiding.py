"""What compression hides: whether a trace of the placeholder is inside a compressed file.

The first look at every compressed file, of any size, in bounded memory; only where it finds something does
anything else look. Known by their first bytes: gzip, bzip2, xz, zstd (with them compressed tar archives) and
zip (jar, wheel), also one behind a script or a program. Compressed members of these are looked into again,
`DEPTH` deep. What is damaged, encrypted or no such file after all hides nothing that a program could read
either, and is passed over.
"""

import contextlib
import io
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

from belljar.relocate.containers import streams
from belljar.relocate.search import CONTEXT, Window

LIMIT = 4 << 30
"""How many bytes of one file's content are searched."""
DEPTH = 3
"""How many compressed files inside each other are looked into."""

_CHUNK = 1 << 18
_NESTED = 64 << 20  # bytes of a compressed file inside another that are looked into
_ZIP_END, _ZIP_END_SIZE = b"PK\5\6", 22
_MAGICS = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\3\4": "zip",
}
HEAD, TAIL = 6, _ZIP_END_SIZE
"""How many bytes at a file's begin and end say what it is."""


def format_of(content: bytes) -> str | None:
    """Return which compressed format a content is; its first HEAD and last TAIL bytes say so."""
    head = next((name for magic, name in _MAGICS.items() if content.startswith(magic)), None)
    return head or ("zip" if content[-TAIL:].startswith(_ZIP_END) else None)


def search(file: BinaryIO, kind: str, *, depth: int = DEPTH) -> bool:
    """Whether there is a trace of the placeholder inside a file of that format.

    Raises OverflowError when more than LIMIT bytes are in it and none of those has one.
    """
    damage = _damage(kind)
    done = 0
    with contextlib.suppress(*damage):
        for opened in _parts(file, kind):
            with contextlib.suppress(*damage), opened() as stream:
                for count in _search(stream, depth):
                    if count is None:
                        return True
                    done += count
                    if done > LIMIT:
                        raise OverflowError
    return False


def _search(stream: Any, depth: int) -> Iterator[int | None]:
    """Yield how many bytes were looked through, or None where a trace is; never both at once."""
    first = stream.read(_CHUNK)
    tail, chunk = b"", first
    kept = [first] if format_of(first[:HEAD]) and depth else []
    size = 0
    while chunk:
        text = tail + chunk
        if b"q" in text and any(True for _ in Window().over(text).runs()):
            yield None
        tail = text[-CONTEXT:]
        yield len(chunk)
        chunk = stream.read(_CHUNK)
        size += len(chunk)
        if kept and size <= _NESTED:
            kept.append(chunk)
    if kept and search(io.BytesIO(b"".join(kept)), format_of(first[:HEAD]) or "", depth=depth - 1):
        yield None


class _Stream:
    """Chunks, read as from a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, _size: int) -> bytes:
        return next(self._chunks, b"")


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
    import zipfile

    match kind:
        case "gzip":
            yield partial(_Stream, streams.gunzipped(file))
        case "bzip2":
            yield partial(bz2.BZ2File, file)
        case "xz":
            yield partial(_Stream, streams.unxzed(file))
        case "zip":
            with zipfile.ZipFile(file) as archive:
                yield from (partial(archive.open, member) for member in archive.infolist())
        case _:
            from zstandard import ZstdDecompressor

            reader = ZstdDecompressor(max_window_size=1 << 31).stream_reader
            yield partial(reader, file, read_across_frames=True, closefd=False)
