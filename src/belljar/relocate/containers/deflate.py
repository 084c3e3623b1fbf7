"""Deflate streams with chosen bytes stored as they are (RFC 1951).

The content between the chosen ranges is compressed, each part ended by a full flush: what follows is
byte aligned and refers to nothing before it. The ranges are stored blocks. Overwriting their bytes
overwrites the content and nothing else, and no compressor is needed for it.
"""

import zlib
from collections.abc import Sequence

from belljar.relocate.containers.container import LIMIT, Damaged

_STORED = 0xFFFF  # bytes in one stored block, RFC 1951 section 3.2.4
_CHUNK = 1 << 16
_END = b"\x01\x00\x00\xff\xff"


def encode(content: bytes, ranges: Sequence[tuple[int, int]]) -> bytes:
    """Return one deflate stream of `content` in which each (offset, size) stands as it is."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL)
    parts, done = [], 0
    for offset, size in ranges:
        if offset > done:
            parts += [compressor.compress(content[done:offset]), compressor.flush(zlib.Z_FULL_FLUSH)]
        parts += _stored(content[offset : offset + size])
        done = offset + size
    if done < len(content):
        return b"".join([*parts, compressor.compress(content[done:]), compressor.flush()])
    return b"".join([*parts, _END])


def _stored(raw: bytes) -> list[bytes]:
    blocks = []
    for begin in range(0, len(raw), _STORED):
        block = raw[begin : begin + _STORED]
        size = len(block)
        blocks += [b"\0", size.to_bytes(2, "little"), (size ^ _STORED).to_bytes(2, "little"), block]
    return blocks


def decode(stream: memoryview, *, limit: int = LIMIT) -> tuple[bytes, int]:
    """Return the content of the stream that begins there, and how many bytes the stream has.

    Raises Damaged when it is damaged, cut short, or holds more than `limit` bytes.
    """
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    parts, total, fed = [], 0, 0
    try:
        while not decoder.eof:
            chunk = decoder.unconsumed_tail
            if not chunk:
                chunk = bytes(stream[fed : fed + _CHUNK])
                fed += len(chunk)
            part = decoder.decompress(chunk, _CHUNK * 16)
            if not chunk and not part:
                raise Damaged("cut short")
            parts.append(part)
            total += len(part)
            if total > limit:
                raise Damaged(f"holds more than {limit >> 20} MiB")
    except zlib.error as error:
        raise Damaged(str(error)) from error
    return b"".join(parts), fed - len(decoder.unused_data)
