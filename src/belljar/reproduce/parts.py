"""A file as named parts: members of archives, what was compressed, sections of ELF files, and their headers.

Where two files differ, the part says what a number of a byte cannot: the time stamp of one member, one
section, the order of members. Each field of a header is a part of its own, `(x.o) mtime`, with a text such as
`mtime 315619200`. Parts within parts are joined by `!`: `data!x.o!.rodata` in a compressed archive.

Bytes are hostile: whatever is damaged, too large or nested too deeply is one part, as it is.
"""

import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from bz2 import BZ2File
from collections.abc import Callable, Iterator
from typing import IO

from belljar.build.regions import Regions

_LIMIT = 256 << 20
"""Bytes of one unpacked part; a larger one stays packed."""
_TOTAL = 1 << 30
"""Bytes of all parts of a file, those within others counted again."""
_DEPTH = 4
_MEMBERS = 20_000
_AR = b"!<arch>\n"
_TOLD = {"path", "linkpath", "size", "uid", "gid", "uname", "gname"}
"""What pax headers say of a member that its own fields say, too."""
_COMPRESSED, _ZLIB = 0x800, 1
_BAD = (OSError, EOFError, ValueError, KeyError, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
_BAD_TOO = (struct.error, NotImplementedError, RuntimeError, UnicodeError, OverflowError, MemoryError)

Parts = dict[str, bytes]


def parts(data: bytes) -> Parts:
    """Return the parts of a file by name; what has none is one part without a name."""
    return _Opener().open(data, _DEPTH)


class _Opener:
    """Takes one file apart, as long as there is room for what comes out of it."""

    def __init__(self) -> None:
        self._room = _TOTAL

    def open(self, data: bytes, depth: int) -> Parts:
        """Return the parts of a file, or of a part of it."""
        found = self._split(data) if depth else None
        if not found:
            return {"": data}
        whole: Parts = {}
        for name, content in found.items():
            inner = {"": content} if name.startswith("(") else self.open(content, depth - 1)
            for rest, part in inner.items():
                whole[f"{name}!{rest}" if rest else name] = part
        return whole

    def _split(self, data: bytes) -> Parts | None:
        found: Parts = {}
        try:
            for matches, split in _KINDS:
                if matches(data):
                    for name, content in split(data):
                        self._room -= len(content)
                        if self._room < 0:
                            return None
                        found[name] = content
                    return found
        except (*_BAD, *_BAD_TOO):
            return None
        return None


def _header(name: str, /, **fields: object) -> Iterator[tuple[str, bytes]]:
    """Yield each field of a member's header."""
    for key, value in fields.items():
        yield f"({name}) {key}", f"{key} {value}".encode("utf-8", "surrogateescape")


def _gzip(data: bytes) -> Iterator[tuple[str, bytes]]:
    flags, mtime, _, system = struct.unpack_from("<BIBB", data, 3)
    name = data[10:].split(b"\0", 1)[0] if flags & 0x08 and not flags & 0x04 else b""
    yield from _header("header", mtime=mtime, system=system, name=name.decode("latin-1"))
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        yield "data", _read(file)


def _xz(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "(blocks)", data[-32:].hex().encode()
    with lzma.LZMAFile(io.BytesIO(data)) as file:
        yield "data", _read(file)


def _bz2(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "data", _read(BZ2File(io.BytesIO(data)))


def _zstd(data: bytes) -> Iterator[tuple[str, bytes]]:
    import zstandard

    try:
        yield "data", _read(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)))
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def _read(file: IO[bytes] | gzip.GzipFile | lzma.LZMAFile) -> bytes:
    content = file.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise ValueError("too large")
    return content


def _tar(data: bytes) -> Iterator[tuple[str, bytes]]:
    names = _Names()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            name = names.add(member.name)
            yield from _header(
                name,
                mtime=member.mtime,
                mode=f"{member.mode:o}",
                uid=member.uid,
                gid=member.gid,
                user=member.uname,
                group=member.gname,
                link=member.linkname,
                **{f"pax {key}": text for key, text in member.pax_headers.items() if key not in _TOLD},
            )
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                yield name, _read(file)
    yield "(order of members)", names.listed()


def _zip(data: bytes) -> Iterator[tuple[str, bytes]]:
    names, room = _Names(), _LIMIT
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            name = names.add(member.filename)
            year, month, day, hour, minute, second = member.date_time
            date = f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
            mode = member.external_attr >> 16
            yield from _header(
                name,
                date=date,
                mode=f"{mode:o}",
                system=member.create_system,
                **_extra(member.extra + _local(data, member)),
            )
            if member.file_size > room or member.flag_bits & 1:
                raise ValueError("too large, or encrypted")
            room -= member.file_size
            yield name, archive.read(member)
    yield "(order of members)", names.listed()


def _local(data: bytes, member: zipfile.ZipInfo) -> bytes:
    """Return what stands before the content of a member, besides what the directory of the archive says."""
    name, extra = struct.unpack_from("<HH", data, member.header_offset + 26)
    start = member.header_offset + 30 + name
    return data[start : start + extra]


def _extra(data: bytes) -> dict[str, object]:
    """Return what Info-ZIP adds to a member (its appnote's 4.5: "UT" and "ux"), and the rest as it is."""
    found: dict[str, object] = {}
    while len(data) >= 4:
        kind, size = struct.unpack_from("<2sH", data)
        content, data = data[4 : 4 + size], data[4 + size :]
        if kind == b"UT" and size % 4 == 1:
            times = struct.unpack_from(f"<{size // 4}I", content, 1)
            found |= zip(("mtime", "atime", "ctime"), times, strict=False)
        elif kind == b"ux" and content[:2] == b"\1\4" and size == 11:
            found["uid"], found["gid"] = struct.unpack_from("<IxI", content, 2)
        else:
            found[f"extra {kind.hex()}"] = content.hex()
    return found


def _ar(data: bytes) -> Iterator[tuple[str, bytes]]:
    at, table, names = len(_AR), b"", _Names()
    while at + 60 <= len(data):
        label, mtime, uid, gid, mode, size = struct.unpack_from("16s12s6s6s8s10s", data, at)
        start, length = at + 60, int(size)
        content, label = data[start : start + length], label.rstrip()
        if label == b"//":
            table = content
        elif label[1:].isdigit():
            label = table[int(label[1:]) :].partition(b"\n")[0]
        name = names.add(label.removesuffix(b"/").decode("utf-8", "surrogateescape") or "/")
        words = {"mtime": mtime, "mode": mode, "uid": uid, "gid": gid}
        yield from _header(name, **{key: text.strip().decode("latin-1") for key, text in words.items()})
        yield name, content
        at = start + length + length % 2
    yield "(order of members)", names.listed()


def _elf(data: bytes) -> Iterator[tuple[str, bytes]]:
    names, last, rest = _Names(), 0, bytearray()
    for region in Regions(data).all:
        if region.end <= region.start:
            continue
        content = data[region.start : region.end]
        if region.flags & _COMPRESSED:
            content = _inflated(content, is_64=data[4] == 2, is_little=data[5] == 1)
        yield names.add(region.section or "(no name)"), content
        rest += data[last : max(last, region.start)]
        last = max(last, region.end)
    if not names:
        raise ValueError("no sections")
    yield "(headers)", bytes(rest + data[last:])


def _inflated(section: bytes, *, is_64: bool, is_little: bool) -> bytes:
    """Return what a compressed section holds (gABI, "Section Compression"), or itself."""
    form = ("<" if is_little else ">") + ("I4x2Q" if is_64 else "3I")
    kind, size, _ = struct.unpack_from(form, section)
    packed = section[struct.calcsize(form) :]
    if kind != _ZLIB or size > _LIMIT:
        return section
    try:
        return zlib.decompressobj().decompress(packed, size)
    except zlib.error:
        return section


def _pyc(data: bytes) -> Iterator[tuple[str, bytes]]:
    flags, stamp, size = struct.unpack_from("<III", data, 4)
    yield from _header("header", magic=data[:2].hex(), flags=flags, mtime=stamp, size=size)
    yield "code", data[16:]


class _Names:
    """Names of members, each made unlike those before it."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._seen)

    def add(self, name: str) -> str:
        """Return the name, or `name#2` where it came before; raises ValueError for too many."""
        if len(self._seen) >= _MEMBERS:
            raise ValueError("too many members")
        count = self._seen[name] = self._seen.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def listed(self) -> bytes:
        """Return all names in their order, one a line."""
        return "\n".join(self._seen).encode("utf-8", "surrogateescape")


def _starts(*magic: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(magic)


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Iterator[tuple[str, bytes]]]], ...] = (
    (_starts(b"\x1f\x8b\x08"), _gzip),
    (_starts(b"\xfd7zXZ\0"), _xz),
    (_starts(b"BZh"), _bz2),
    (_starts(b"\x28\xb5\x2f\xfd"), _zstd),
    (_starts(b"PK\x03\x04", b"PK\x05\x06"), _zip),
    (_starts(_AR), _ar),
    (_starts(b"\x7fELF"), _elf),
    (lambda data: data[257:262] == b"ustar", _tar),
    (lambda data: data[2:4] == b"\r\n" and len(data) > 16, _pyc),
)
