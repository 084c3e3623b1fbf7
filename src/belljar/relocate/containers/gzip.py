"""gzip files: members one after the other, each with a header, a deflate stream, CRC-32 and size (RFC 1952).

Headers (names, times) and what stands behind the last member stay as they are.
"""

from belljar.checksums import SumKind
from belljar.relocate.containers import deflate
from belljar.relocate.containers.container import LIMIT, Closed, Damaged, Format, Part, Ranges, splice

_MAGIC = b"\x1f\x8b\x08"
_HEADER, _TRAILER = 10, 8
_HAS_CRC, _HAS_EXTRA, _HAS_NAME, _HAS_COMMENT, _RESERVED = 2, 4, 8, 16, 0xE0


def parts(data: memoryview) -> tuple[Part, ...]:
    """Return the members; bytes behind them that are no member are left out, as gzip does."""
    found: list[Part] = []
    begin, total = 0, 0
    while data[begin : begin + 3] == _MAGIC:
        start = after_header(data, begin)
        if data[begin + 3] & _HAS_CRC:
            raise Closed("its header has a checksum of its own")
        content, size = deflate.decode(data[start:], limit=LIMIT - total)
        end = start + size
        _check_trailer(data, end, content)
        found.append(Part(name="", begin=start, end=end, decode=_decode, sums=((end, SumKind.CRC32),)))
        begin, total = end + _TRAILER, total + len(content)
    if not found:
        raise Damaged("no member")
    return tuple(found)


def after_header(data: memoryview, begin: int) -> int:
    """Return where the deflate stream of the member that begins there begins; raises Damaged."""
    if begin + _HEADER > len(data):
        raise Damaged("cut short")
    flags, place = data[begin + 3], begin + _HEADER
    if flags & _RESERVED:
        raise Damaged("reserved flags")
    if flags & _HAS_EXTRA:
        place += 2 + int.from_bytes(data[place : place + 2], "little")
    for flag in (_HAS_NAME, _HAS_COMMENT):
        if flags & flag:
            place = _after_text(data, place)
    return place + (2 if flags & _HAS_CRC else 0)


def _after_text(data: memoryview, place: int) -> int:
    while place < len(data):
        window = bytes(data[place : place + 4096])
        end = window.find(b"\0")
        if end >= 0:
            return place + end + 1
        place += len(window)
    raise Damaged("cut short")


def _check_trailer(data: memoryview, end: int, content: bytes) -> None:
    size = (len(content) & 0xFFFFFFFF).to_bytes(4, "little")
    if data[end : end + _TRAILER] != SumKind.CRC32.of(content) + size:
        raise Damaged("its checksum or size is wrong")


def _decode(stream: memoryview) -> bytes:
    return deflate.decode(stream)[0]


def _encode(_part: Part, content: bytes, ranges: Ranges) -> bytes:
    return deflate.encode(content, ranges)


FORMAT = Format(name="gzip", parts=parts, encode=_encode, assemble=splice)
