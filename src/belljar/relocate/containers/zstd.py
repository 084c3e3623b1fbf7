"""zstd files: frames one after the other (RFC 8878).

The content between the chosen ranges becomes ordinary frames, the ranges become raw blocks in frames of
their own, all without content checksums. Decompressors read frames that follow each other as one content.
A file with skippable frames is left as it is: they may index the others (the seekable format).
"""

from belljar.relocate.containers.container import LIMIT, Closed, Damaged, Format, Part, Ranges, splice

_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # behind a byte of 0x50..0x5f
_BLOCK = 1 << 16  # bytes in one raw block and frame; the format allows up to 128 KiB
_SINGLE_SEGMENT = 0x20
_SIZES = {0: 0, 1: 2, 2: 4, 3: 8}
_DICTIONARY_IDS = {0: 0, 1: 1, 2: 2, 3: 4}
_CHUNK = 1 << 18


def parts(data: memoryview) -> tuple[Part, ...]:
    """Return the whole file as one part."""
    place = 0
    while place < len(data):
        place = _after_frame(data, place)
    return (Part(name="", begin=0, end=len(data), decode=decode),)


def _after_frame(data: memoryview, begin: int) -> int:
    """Return where the frame that begins there ends."""
    if data[begin + 1 : begin + 4] == _SKIPPABLE and data[begin] & 0xF0 == 0x50:
        raise Closed("it has skippable frames, which may index the others")
    if data[begin : begin + 4] != _MAGIC or begin + 5 > len(data):
        raise Damaged("no frame")
    descriptor = data[begin + 4]
    single = bool(descriptor & _SINGLE_SEGMENT)
    size = _SIZES[descriptor >> 6] or int(single)
    place = begin + 5 + (not single) + _DICTIONARY_IDS[descriptor & 3] + size
    last = False
    while not last:
        if place + 3 > len(data):
            raise Damaged("cut short")
        header = int.from_bytes(data[place : place + 3], "little")
        last = bool(header & 1)
        place += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
    place += 4 if descriptor & 4 else 0
    if place > len(data):
        raise Damaged("cut short")
    return place


def decode(stream: memoryview) -> bytes:
    """Return the content of all frames; raises Damaged."""
    from zstandard import ZstdDecompressor, ZstdError

    pieces, total = [], 0
    try:
        with ZstdDecompressor(max_window_size=1 << 31).stream_reader(
            bytes(stream), read_across_frames=True
        ) as reader:
            while chunk := reader.read(_CHUNK):
                pieces.append(chunk)
                total += len(chunk)
                if total > LIMIT:
                    raise Damaged(f"holds more than {LIMIT >> 20} MiB")
    except (ZstdError, MemoryError) as error:
        raise Damaged(str(error)) from error
    return b"".join(pieces)


def encode(content: bytes, ranges: Ranges) -> bytes:
    """Return frames of `content` in which each (offset, size) stands as it is."""
    from zstandard import ZstdCompressor

    compressor = ZstdCompressor(level=19, write_checksum=False, write_content_size=True)
    frames, done = [], 0
    for offset, size in ranges:
        if offset > done:
            frames.append(compressor.compress(content[done:offset]))
        frames += [
            _raw(content[begin : min(begin + _BLOCK, offset + size)])
            for begin in range(offset, offset + size, _BLOCK)
        ]
        done = offset + size
    if done < len(content):
        frames.append(compressor.compress(content[done:]))
    return b"".join(frames)


def _raw(content: bytes) -> bytes:
    """Return a frame of one raw block: its sizes take 4 bytes, its window is its content."""
    descriptor = (2 << 6 | _SINGLE_SEGMENT).to_bytes(1, "little")
    block = (len(content) << 3 | 1).to_bytes(3, "little")
    return b"".join([_MAGIC, descriptor, len(content).to_bytes(4, "little"), block, content])


def _encode(_part: Part, content: bytes, ranges: Ranges) -> bytes:
    return encode(content, ranges)


FORMAT = Format(name="zstd", parts=parts, encode=_encode, assemble=splice)
