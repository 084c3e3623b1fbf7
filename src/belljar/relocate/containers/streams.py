"""Decompressing as far as it goes: chunk by chunk, whatever stands behind or between the streams.

The standard library's readers raise where a checksum is wrong or other bytes follow, and what they had
decompressed by then is lost; `gzip -d` and `xz -d` give it to their readers all the same.
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from belljar.relocate.containers.container import Damaged
from belljar.relocate.containers.gzip import after_header

_CHUNK = 1 << 18
_GZIP, _XZ = b"\x1f\x8b\x08", b"\xfd7zXZ\0"
_TRAILER = 8


def gunzipped(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of all members, zeros between them skipped; checksums are not compared."""
    data = file.read(_CHUNK)
    while data.startswith(_GZIP):
        try:
            data = data[after_header(memoryview(data), 0) :]
            decoder = zlib.decompressobj(-zlib.MAX_WBITS)
            while not decoder.eof:
                chunk = decoder.decompress(data, _CHUNK)
                if chunk:
                    yield chunk
                data = decoder.unconsumed_tail or (b"" if decoder.eof else file.read(_CHUNK))
                if not data and not chunk and not decoder.eof:
                    return
        except (zlib.error, Damaged):
            return
        data = _next(decoder.unused_data + file.read(_CHUNK), file, _TRAILER)


def unxzed(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of all streams, padding between them skipped."""
    import lzma

    data = file.read(_CHUNK)
    while data.startswith(_XZ):
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        try:
            while not decoder.eof:
                if chunk := decoder.decompress(data, _CHUNK):
                    yield chunk
                data = file.read(_CHUNK) if decoder.needs_input and not decoder.eof else b""
                if not data and decoder.needs_input and not decoder.eof:
                    return
        except (lzma.LZMAError, EOFError):
            return
        data = _next(decoder.unused_data + file.read(_CHUNK), file, 0)


def _next(data: bytes, file: BinaryIO, trailer: int) -> bytes:
    """Return what follows a stream, without its trailer and without zeros."""
    data = data[trailer:].lstrip(b"\0")
    while not data and (more := file.read(_CHUNK)):
        data = more.lstrip(b"\0")
    return data + file.read(_CHUNK)
