"""xz files (the .xz file format 1.2.0, tukaani.org/xz/xz-file-format.txt).

An opened file is one stream of one block: LZMA2 chunks, those of the chosen ranges uncompressed, and a
CRC-32 over the content. Other files (several streams or blocks, filters, other checks) are read by the
library and written anew in that form; the content is the same.
"""

import zlib
from typing import TYPE_CHECKING

from belljar.checksums import SumKind
from belljar.relocate.containers.container import LIMIT, Closed, Damaged, Format, Part, Ranges

if TYPE_CHECKING:
    import lzma

_MAGIC, _END = b"\xfd7zXZ\0", b"YZ"
_FLAGS = b"\x00\x01"  # CRC-32
_HEADER, _CHECK = 12, 4
_UNCOMPRESSED = 1 << 16  # bytes in one uncompressed chunk
_CHUNK = 1 << 18
_DICTIONARY, _SMALLEST = 1 << 23, 1 << 12  # bytes
# One filter, LZMA2 (0x21), a dictionary of 8 MiB (22); padded to 8 bytes.
_BLOCK = b"\x02\x00\x21\x01\x16\x00\x00\x00"


def parts(data: memoryview) -> tuple[Part, ...]:
    """Return the one block of a file of the form that is written here; of any other, the whole file."""
    block = _block(data)
    if block is not None:
        begin, end, check = block
        return (Part(name="", begin=begin, end=end, decode=_decode_raw, sums=((check, SumKind.CRC32),)),)
    return (Part(name="", begin=0, end=len(data), decode=_decode),)


def _block(data: memoryview) -> tuple[int, int, int] | None:
    """Return begin and end of the chunks, and where their checksum stands; None for another form."""
    begin = _HEADER + len(_BLOCK) + 4
    if data[:begin] != _start():
        return None
    try:
        content, size = _decode_chunks(data[begin:])
    except Damaged:
        return None
    end = begin + size
    check = end + -end % 4
    whole = _index(end, len(content))
    if data[check : check + 4] != SumKind.CRC32.of(content) or data[check + 4 :] != whole:
        return None
    return begin, end, check


def _decode(stream: memoryview) -> bytes:
    """Return the content of all streams, checks compared; raises Damaged, and Closed for what follows."""
    import lzma

    contents: list[bytes] = []
    place = 0
    while place < len(stream):
        if not any(stream[place : place + 4]) and place + 4 <= len(stream) and contents:
            place += 4  # stream padding
            continue
        if stream[place : place + len(_MAGIC)] != _MAGIC:
            raise Closed("other bytes follow its streams") if contents else Damaged("no stream")
        left = LIMIT - sum(map(len, contents))
        content, size = _decode_at(stream[place:], lzma.LZMADecompressor(lzma.FORMAT_XZ), left)
        contents.append(content)
        place += size
    return b"".join(contents)


def _decode_raw(stream: memoryview) -> bytes:
    return _decode_chunks(stream)[0]


def _decode_chunks(stream: memoryview) -> tuple[bytes, int]:
    """Return the content of the chunks that begin there, and how many bytes those have."""
    import lzma

    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_filter(_DICTIONARY)])
    return _decode_at(stream, decoder, LIMIT)


def _decode_at(stream: memoryview, decoder: "lzma.LZMADecompressor", limit: int) -> tuple[bytes, int]:
    import lzma

    pieces, total, fed = [], 0, 0
    try:
        while not decoder.eof:
            chunk = bytes(stream[fed : fed + _CHUNK]) if decoder.needs_input else b""
            if decoder.needs_input and not chunk:
                raise Damaged("cut short")
            fed += len(chunk)
            pieces.append(decoder.decompress(chunk, _CHUNK * 4))
            total += len(pieces[-1])
            if total > limit:
                raise Damaged(f"holds more than {LIMIT >> 20} MiB")
    except (lzma.LZMAError, EOFError, MemoryError) as error:
        raise Damaged(str(error)) from error
    return b"".join(pieces), fed - len(decoder.unused_data)


def _filter(dictionary: int) -> dict[str, int]:
    import lzma

    return {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary}


def encode(content: bytes, ranges: Ranges) -> bytes:
    """Return a whole file of `content` in which each (offset, size) stands as it is."""
    pieces, done = [_start()], 0
    for offset, size in ranges:
        pieces += [_compressed(content[done:offset]), *_raw(content[offset : offset + size])]
        done = offset + size
    pieces += [_compressed(content[done:]), b"\0"]
    end = sum(map(len, pieces))
    padding = bytes(-end % 4)
    index = _index(end, len(content))
    return b"".join([*pieces, padding, SumKind.CRC32.of(content), index])


def _compressed(content: bytes) -> bytes:
    """Return LZMA2 chunks that begin with a new dictionary, without the end mark."""
    import lzma

    if not content:
        return b""
    dictionary = min(_DICTIONARY, max(_SMALLEST, len(content)))
    return lzma.compress(content, lzma.FORMAT_RAW, filters=[_filter(dictionary)])[:-1]


def _raw(content: bytes) -> list[bytes]:
    """Return uncompressed chunks (control 1: with a new dictionary; what follows needs none of it)."""
    chunks = [content[begin : begin + _UNCOMPRESSED] for begin in range(0, len(content), _UNCOMPRESSED)]
    return [b"\1" + (len(chunk) - 1).to_bytes(2, "big") + chunk for chunk in chunks]


def _start() -> bytes:
    return b"".join([_MAGIC, _FLAGS, _crc(_FLAGS), _BLOCK, _crc(_BLOCK)])


def _index(end: int, size: int) -> bytes:
    """Return the index and the footer of a block whose chunks end at `end`, with `size` bytes of content."""
    unpadded = end - _HEADER + _CHECK
    index = b"\0" + _number(1) + _number(unpadded) + _number(size)
    index += bytes(-len(index) % 4)
    backward = ((len(index) + 4) // 4 - 1).to_bytes(4, "little")
    return b"".join([index, _crc(index), _crc(backward + _FLAGS), backward, _FLAGS, _END])


def _number(value: int) -> bytes:
    """Return a number in the format's own form: 7 bits a byte, the lowest first."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _encode(_part: Part, content: bytes, ranges: Ranges) -> bytes:
    return encode(content, ranges)


def _assemble(data: memoryview, streams: list[tuple[Part, bytes]]) -> bytes:
    """Return the one stream, which is a whole file."""
    return streams[0][1] if streams else bytes(data)


FORMAT = Format(name="xz", parts=parts, encode=_encode, assemble=_assemble)
