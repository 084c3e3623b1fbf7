"""zip files: members with local headers, and the central directory that says where those are (APPNOTE.TXT).

A member that is opened gets a new stream; its sizes change in both its headers, what follows it moves,
and so do the offsets in the central directory. The order, other members, names, times, comments and what
stands before the archive (a shell script, a `#!` line) stay as they are. A data descriptor of an opened
member goes into its local header, where every reader finds it. Zip64 fields are kept where they stand.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from belljar.checksums import SumKind
from belljar.relocate.containers import deflate, zstd
from belljar.relocate.containers.container import LIMIT, Closed, Damaged, Format, Part, Ranges

if TYPE_CHECKING:
    import bz2
    import lzma

_END, _END64, _LOCATOR64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_CENTRAL, _LOCAL, _DESCRIPTOR = b"PK\1\2", b"PK\3\4", b"PK\7\x08"
_CENTRAL_SIZE, _LOCAL_SIZE, _END_SIZE, _END64_SIZE, _LOCATOR64_SIZE = 46, 30, 22, 56, 20
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _HAS_DESCRIPTOR, _PATCH, _STRONG, _UTF8 = 1, 8, 32, 64, 2048
_COMPRESSION = 6  # how well it was compressed; for LZMA, something else
_ZIP64 = 1
_LZMA_PROPERTIES = 5
_FULL = 0xFFFFFFFF
_TOTAL = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """Where a number stands, and in how many bytes."""

    at: int
    size: int

    def read(self, data: memoryview | bytearray) -> int:
        return _number(data, self.at, self.size)

    def write(self, data: bytearray, value: int) -> None:
        if value >= 1 << 8 * self.size:
            raise Closed("it would become too large for its format")
        data[self.at : self.at + self.size] = value.to_bytes(self.size, "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One member: its two headers, its data, and where its data descriptor ends (`end` without one)."""

    name: bytes
    central: int
    local: int
    begin: int
    end: int
    after: int
    flags: int
    method: int
    has_descriptor: bool
    crc: int
    size: int
    local_offset: _Field
    central_sizes: tuple[_Field, _Field]
    local_sizes: tuple[_Field, _Field]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Archive:
    """The directory's place, how far all offsets are off (what stands before the archive), its members."""

    members: tuple[_Member, ...]
    directory: int
    shift: int
    offsets: tuple[_Field, ...]


def parts(data: memoryview) -> tuple[Part, ...]:
    """Return the members that are stored or deflated, sound and not encrypted, in the order of the file."""
    archive = _read(data)
    _refuse_signed(archive)
    if sum(member.size for member in archive.members) > _TOTAL:
        raise Closed(f"it holds more than {_TOTAL >> 20} MiB")
    found = []
    for member in sorted(archive.members, key=lambda item: item.begin):
        if member.flags & (_ENCRYPTED | _PATCH | _STRONG):
            continue
        if member.method in _DECODERS:
            found.append(_part(data, member))
    return tuple(found)


def _part(data: memoryview, member: _Member) -> Part:
    """Return a member as a part with all its checksums; one that is damaged cannot be decoded."""
    decoder = _DECODERS[member.method]
    decode = bytes if decoder is None else partial(decoder, limit=min(member.size, LIMIT))
    places = [member.central + 16, member.local + 14]
    if member.after > member.end:
        signed = data[member.end : member.end + 4] == _DESCRIPTOR
        places.append(member.end + 4 * signed)
    want = member.crc.to_bytes(4, "little")
    name = member.name.decode("utf-8" if member.flags & _UTF8 else "cp437", "replace")
    try:
        content = decode(data[member.begin : member.end])
    except Damaged:
        return Part(name=name, begin=member.begin, end=member.end, decode=_damaged)
    if SumKind.CRC32.of(content) != want or len(content) != member.size:
        return Part(name=name, begin=member.begin, end=member.end, decode=_damaged)
    sums = tuple((place, SumKind.CRC32) for place in sorted(places) if data[place : place + 4] == want)
    return Part(name=name, begin=member.begin, end=member.end, decode=decode, sums=sums)


def _inflate(stream: memoryview, *, limit: int) -> bytes:
    content, size = deflate.decode(stream, limit=limit)
    if size != len(stream):
        raise Damaged("other bytes follow its stream")
    return content


def _damaged(_stream: memoryview) -> bytes:
    raise Damaged("its checksum or size is wrong")


def _bunzip2(stream: memoryview, *, limit: int) -> bytes:
    import bz2

    return _all_of(bz2.BZ2Decompressor(), bytes(stream), limit)


def _unlzma(stream: memoryview, *, limit: int) -> bytes:
    """Decompress method 14: a version, the size of the properties, those, the stream (APPNOTE 5.8)."""
    import lzma

    size = int.from_bytes(stream[2:4], "little")
    if size != _LZMA_PROPERTIES:
        raise Damaged("unknown properties")
    alone = b"".join([stream[4 : 4 + size], limit.to_bytes(8, "little"), stream[4 + size :]])
    return _all_of(lzma.LZMADecompressor(lzma.FORMAT_ALONE), alone, limit)


def _all_of(decoder: "bz2.BZ2Decompressor | lzma.LZMADecompressor", stream: bytes, limit: int) -> bytes:
    import lzma

    pieces = [b""]
    try:
        while not decoder.eof and sum(map(len, pieces)) <= limit:
            pieces.append(decoder.decompress(stream, limit + 1))
            if not pieces[-1] and not stream:
                break
            stream = b""
    except (OSError, ValueError, EOFError, MemoryError, lzma.LZMAError) as error:
        raise Damaged(str(error)) from error
    return b"".join(pieces)


def _unzstd(stream: memoryview, *, limit: int) -> bytes:
    content = zstd.decode(stream)
    if len(content) > limit:
        raise Damaged("its size is wrong")
    return content


_DECODERS = {_STORED: None, _DEFLATED: _inflate, 12: _bunzip2, 14: _unlzma, 93: _unzstd}


def encode(part: Part, content: bytes, ranges: Ranges) -> bytes:
    """Return a member's new stream; one that is stored needs none."""
    return content if part.decode is bytes else deflate.encode(content, ranges)


def assemble(data: memoryview, streams: list[tuple[Part, bytes]]) -> bytes:
    """Return the archive with new streams, its headers and its directory changed to match."""
    archive = _read(data)
    new = {part.begin: stream for part, stream in streams}
    buffer = bytearray(data)
    moved = _Moves()
    edits: list[tuple[int, int, bytes]] = []
    for member in sorted(archive.members, key=lambda item: item.local):
        member.local_offset.write(buffer, member.local_offset.read(buffer) + moved.total)
        if (stream := new.get(member.begin)) is not None:
            _resize(buffer, member, len(stream))
            edits.append((member.begin, member.after, stream))
            moved.total += len(stream) - (member.after - member.begin)
    for field in archive.offsets:
        field.write(buffer, field.read(buffer) + moved.total)
    pieces: list[bytes | bytearray] = []
    done = 0
    for begin, end, stream in edits:
        pieces += [buffer[done:begin], stream]
        done = end
    return b"".join([*pieces, buffer[done:]])


@dataclass(slots=True)
class _Moves:
    """By how much what follows is moved."""

    total: int = 0


def _resize(buffer: bytearray, member: _Member, size: int) -> None:
    """Write a member's new size, and what its data descriptor said, into its headers."""
    if member.has_descriptor and member.after == member.end:
        raise Closed("a data descriptor is of a kind that is not known")
    flags = member.flags & ~(_HAS_DESCRIPTOR | _COMPRESSION)
    for at in (member.central + 8, member.local + 6):
        buffer[at : at + 4] = flags.to_bytes(2, "little") + _DEFLATED.to_bytes(2, "little")
    buffer[member.local + 14 : member.local + 18] = member.crc.to_bytes(4, "little")
    for packed, whole in (member.central_sizes, member.local_sizes):
        packed.write(buffer, size)
        whole.write(buffer, member.size)


def _read(data: memoryview) -> _Archive:
    """Return the archive's directory; raises Damaged or Closed."""
    end = _find_end(data)
    count, size, offset = _number(data, end + 10, 2), _Field(at=end + 12, size=4), _Field(at=end + 16, size=4)
    if _number(data, end + 4, 2) or _number(data, end + 6, 2):
        raise Closed("it is one of several disks")
    offsets, stop = [offset], end
    locator = end - _LOCATOR64_SIZE
    if locator >= 0 and data[locator : locator + 4] == _LOCATOR64:
        place = _find_end64(data, locator)
        count, size, offset = (
            _number(data, place + 32, 8),
            _Field(at=place + 40, size=8),
            _Field(at=place + 48, size=8),
        )
        offsets = [item for item in (offsets[0],) if item.read(data) != _FULL]
        offsets += [offset, _Field(at=locator + 8, size=8)]
        stop = place
    directory = stop - size.read(data)
    shift = directory - offset.read(data)
    if directory < 0 or shift < 0:
        raise Damaged("its directory lies outside")
    members = tuple(_members(data, directory, stop, count, shift))
    _refuse_overlaps(members, directory)
    return _Archive(members=members, directory=directory, shift=shift, offsets=tuple(offsets))


def _find_end(data: memoryview) -> int:
    """Return where the end record stands, whose comment reaches to the end of the file."""
    begin = max(0, len(data) - _END_SIZE - 0xFFFF)
    tail = bytes(data[begin:])
    place = tail.rfind(_END)
    while place >= 0:
        if place + _END_SIZE <= len(tail) and (place + _END_SIZE + _number(tail, place + 20, 2) == len(tail)):
            return begin + place
        place = tail.rfind(_END, 0, place)
    raise Damaged("no end record")


def _find_end64(data: memoryview, locator: int) -> int:
    """Return where the zip64 end record stands: right before its locator, as everybody writes it."""
    place = locator - _END64_SIZE
    if place < 0 or data[place : place + 4] != _END64 or _number(data, place + 4, 8) != _END64_SIZE - 12:
        raise Closed("its zip64 end record is of a kind that is not known")
    return place


def _members(data: memoryview, begin: int, stop: int, count: int, shift: int) -> Iterator[_Member]:
    """Yield the members in the order of the directory, which must be exactly bytes begin..stop."""
    for _ in range(count):
        if begin + _CENTRAL_SIZE > stop or data[begin : begin + 4] != _CENTRAL:
            raise Damaged("its directory is cut short")
        name, extra, comment = (_number(data, begin + at, 2) for at in (28, 30, 32))
        after = begin + _CENTRAL_SIZE + name + extra + comment
        if after > stop:
            raise Damaged("its directory is cut short")
        yield _member(data, begin, shift)
        begin = after
    if begin != stop:
        raise Closed("its directory holds more than members")


def _member(data: memoryview, central: int, shift: int) -> _Member:
    name_size, extra = _number(data, central + 28, 2), _number(data, central + 30, 2)
    extra_at = central + _CENTRAL_SIZE + name_size
    if _number(data, central + 34, 2):
        raise Closed("it is one of several disks")
    whole, packed, offset = _wide(data, extra_at, extra, (central + 24, central + 20, central + 42))
    local = offset.read(data) + shift
    if local + _LOCAL_SIZE > len(data) or data[local : local + 4] != _LOCAL:
        raise Damaged("a member's header is missing")
    local_name, local_extra = _number(data, local + 26, 2), _number(data, local + 28, 2)
    begin = local + _LOCAL_SIZE + local_name + local_extra
    local_whole, local_packed = _wide(
        data, local + _LOCAL_SIZE + local_name, local_extra, (local + 22, local + 18)
    )
    flags, crc = _number(data, central + 8, 2), _number(data, central + 16, 4)
    end = begin + packed.read(data)
    if end > central:
        raise Damaged("a member reaches beyond the directory")
    size = whole.read(data)
    has_descriptor = bool(_number(data, local + 6, 2) & _HAS_DESCRIPTOR)
    return _Member(
        name=bytes(data[central + _CENTRAL_SIZE : extra_at]),
        central=central,
        local=local,
        begin=begin,
        end=end,
        after=_after_descriptor(data, end, crc, end - begin, size) if has_descriptor else end,
        flags=flags,
        method=_number(data, central + 10, 2),
        has_descriptor=has_descriptor,
        crc=crc,
        size=size,
        local_offset=offset,
        central_sizes=(packed, whole),
        local_sizes=(local_packed, local_whole),
    )


def _wide(data: memoryview, extra: int, size: int, places: tuple[int, ...]) -> list[_Field]:
    """Return the fields at `places`, or where the zip64 extra field has them, in its order (4.5.3)."""
    at, stop = extra, extra + size
    if stop > len(data):
        raise Damaged("an extra field is cut short")
    wide = -1
    while at + 4 <= stop:
        if _number(data, at, 2) == _ZIP64:
            wide, stop = at + 4, min(stop, at + 4 + _number(data, at + 2, 2))
            break
        at += 4 + _number(data, at + 2, 2)
    fields = []
    for place in places:
        field = _Field(at=place, size=4)
        if wide >= 0 and field.read(data) == _FULL:
            field, wide = _Field(at=wide, size=8), wide + 8
            if wide > stop:
                raise Damaged("its zip64 field is cut short")
        fields.append(field)
    return fields


def _after_descriptor(data: memoryview, end: int, crc: int, packed: int, size: int) -> int:
    """Return where the data descriptor behind a member ends: with a signature or not, of either width."""
    for signature in (_DESCRIPTOR, b""):
        for width in (4, 8):
            if packed >> 8 * width or size >> 8 * width:
                continue
            numbers = (
                crc.to_bytes(4, "little"),
                packed.to_bytes(width, "little"),
                size.to_bytes(width, "little"),
            )
            want = b"".join([signature, *numbers])
            if data[end : end + len(want)] == want:
                return end + len(want)
    return end


def _refuse_overlaps(members: tuple[_Member, ...], directory: int) -> None:
    last = 0
    for member in sorted(members, key=lambda item: item.local):
        if member.local < last:
            raise Closed("its members overlap")
        last = member.after
    if last > directory:
        raise Closed("its members overlap")


def _refuse_signed(archive: _Archive) -> None:
    """Raise Closed for a signed jar: nobody but the signer can make another signature."""
    for member in archive.members:
        name = member.name.upper()
        if name.startswith(b"META-INF/") and name.endswith((b".SF", b".RSA", b".DSA", b".EC")):
            raise Closed("it is signed")


def _number(data: memoryview | bytearray | bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


FORMAT = Format(name="zip", parts=parts, encode=encode, assemble=assemble)
