"""What an archive holds: its members one after the other, whatever its format.

Formats are told by their first bytes, not by names: tar (plain or in gzip, bzip2, xz, zstd), zip
(wheels), and Debian's ar with a data.tar inside. The standard library does the parsing, hardened
where it is lenient: tarfile takes a damaged header for the end of the archive and believes any size
of an extended header. Nothing here says where a member may be written; `unpack` does.
"""

import enum
import errno
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from belljar import fsys
from belljar.errors import InputError

_AR = b"!<arch>\n"
_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\0"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_USTAR = (257, b"ustar")

_EXTENDED_LIMIT = 1 << 20
"""How many bytes of extended header (long names, pax records) one tar member may have."""
_TRAILER_LIMIT = 8 << 20
"""How many bytes may follow the end of a tar archive: padding, which tar makes 10 KiB of."""
_TARGET_LIMIT = 4096


class Type(enum.StrEnum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    HARD_LINK = "hard link"
    OTHER = "device or the like"
    """Refused, unless the caller of `opened` wants to hear of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member; `chunks` yields the `size` bytes of a file, before the next member is asked for.

    `mode` is that of chmod(2), 0 where the archive does not say.
    """

    name: bytes
    type: Type
    size: int = 0
    mode: int = 0
    target: bytes = b""
    chunks: Callable[[], Iterator[bytes]] = lambda: iter(())

    @property
    def executable(self) -> bool:
        """Whether anybody may execute it."""
        return bool(self.mode & 0o111)


class _BadArchiveError(Exception):
    """The archive is not what it should be; the message says how."""


def is_archive(path: Path) -> bool:
    """Whether a file begins like an archive, compressed files included."""
    with path.open("rb") as file:
        start = file.read(512)
    offset, magic = _USTAR
    return start.startswith((_AR, _GZIP, _BZIP2, _XZ, _ZSTD, *_ZIP)) or start.startswith(magic, offset)


def members(archive: Path) -> Iterator[Member]:
    """Yield the members of an archive in its order.

    Raises InputError when it is damaged, cut off, encrypted, or of no known format.
    """
    with archive.open("rb") as file:
        yield from opened(file, archive.name)


def opened(file: BinaryIO, name: str, *, other: bool = False) -> Iterator[Member]:
    """Yield the members of an archive that is open and can seek, `name` being what messages call it.

    With `other`, devices and the like are members too, and files with holes are read. Raises InputError
    as `members` does.
    """
    with _reading(name):
        start = file.read(8)
        file.seek(0)
        if start.startswith(_ZIP):
            found = _zip_members(name, file)
        elif start == _AR:
            found = _tar_members(name, _decompressed(_debian_data(file)), sparse=other)
        else:
            found = _tar_members(name, _decompressed(file), sparse=other)
        for member in found:
            if member.type is Type.OTHER and not other:
                raise _BadArchiveError(f"{_text(member.name)!r} is neither a file, a directory nor a link")
            yield member


def holds_tar(file: BinaryIO) -> bool:
    """Whether a file that is open and can seek is a tar archive in a compressed file."""
    offset, magic = _USTAR
    try:
        with _reading(""):
            file.seek(0)
            return _decompressed(file).read(512).startswith(magic, offset)
    except InputError:
        return False


@contextmanager
def _reading(archive: str, member: str = "") -> Iterator[None]:
    """Turn every way in which the parsers fail on bad bytes into words."""
    subject = f"{archive}: {member}: " if member else f"{archive}: "
    try:
        yield
    except (EOFError, MemoryError, RecursionError) as error:
        what = {EOFError: "cut off", MemoryError: "needs too much memory"}.get(
            type(error), "nested too deeply"
        )
        raise InputError(f"{subject}{what}") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # the disk's trouble, not the archive's
            raise
        raise InputError(f"{subject}damaged: {error}") from error
    except (*_DAMAGE, *_zstd_errors()) as error:
        raise InputError(f"{subject}damaged: {str(error) or type(error).__name__}") from error


_DAMAGE: tuple[type[Exception], ...] = (
    _BadArchiveError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    ArithmeticError,
    LookupError,
    NotImplementedError,
    RuntimeError,
)


def _zstd_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the decompressors that are loaded only when they are needed."""
    import sys

    lzma, zstandard = sys.modules.get("lzma"), sys.modules.get("zstandard")
    found = [module.LZMAError for module in (lzma,) if module] + [
        module.ZstdError for module in (zstandard,) if module
    ]
    return tuple(found)


def _decompressed(file: BinaryIO) -> BinaryIO:
    """Return the content of a compressed file, or the file itself when it is not compressed."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(_GZIP):
        import gzip

        return cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb"))
    if start.startswith(_BZIP2):
        import bz2

        return cast(BinaryIO, bz2.BZ2File(file))
    if start.startswith(_XZ):
        import lzma

        return cast(BinaryIO, lzma.LZMAFile(file))
    if start.startswith(_ZSTD):
        import zstandard

        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
    return file


class _Header(tarfile.TarInfo):
    """A tar header that is strict: damage is an error, not the end, and sizes are believed in reason."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a header block."""
        header = super().frombuf(buf, encoding, errors)
        extended = header.type in (b"x", b"g", b"X", b"L", b"K")
        if header.size < 0 or (extended and header.size > _EXTENDED_LIMIT):
            raise tarfile.ReadError(f"a header with a size of {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """Read the next header."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed leaves it out
            raise
        except tarfile.HeaderError as error:
            what = "cut off" if str(error) in ("empty header", "truncated header") else str(error)
            raise tarfile.ReadError(f"{what} at byte {tarfile_.offset}") from error


def _tar_members(archive: str, stream: BinaryIO, *, sparse: bool) -> Iterator[Member]:
    with tarfile.open(
        fileobj=stream, mode="r|", tarinfo=_Header, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        while (header := tar.next()) is not None:
            cast(Any, tar).members.clear()  # it would remember all of them
            if header.issparse() and not sparse:
                raise _BadArchiveError(f"{header.name!r} is a sparse file")
            yield _tar_member(archive, tar, header)
    trailer = 0
    while chunk := stream.read(fsys.CHUNK):  # to its end, where compressed files have their checksum
        trailer += len(chunk)
        if trailer > _TRAILER_LIMIT:
            raise _BadArchiveError("more data after its end")


def _tar_member(archive: str, tar: tarfile.TarFile, header: tarfile.TarInfo) -> Member:
    name = _bytes(header.name)
    if header.isdir():
        return Member(name=name, type=Type.DIRECTORY)
    if header.issym():
        return Member(name=name, type=Type.LINK, target=_bytes(header.linkname))
    if header.islnk():
        return Member(name=name, type=Type.HARD_LINK, target=_bytes(header.linkname))
    if not header.isreg():
        return Member(name=name, type=Type.OTHER)

    def chunks() -> Iterator[bytes]:
        with _reading(archive, header.name):
            yield from _chunks(tar.extractfile(header), header.size)

    return Member(name=name, type=Type.FILE, size=header.size, mode=header.mode & 0o7777, chunks=chunks)


def _zip_members(archive: str, file: BinaryIO) -> Iterator[Member]:
    with zipfile.ZipFile(file) as content:
        for info in content.infolist():
            yield _zip_member(archive, content, info)


def _zip_member(archive: str, content: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    """Read a member; the upper half of its external attributes is a mode, or 0 from other systems."""
    name = _bytes(info.orig_filename)
    mode = info.external_attr >> 16
    format_bits = mode & 0o170000
    if format_bits == 0o120000:
        if info.file_size > _TARGET_LIMIT:
            raise _BadArchiveError(f"{info.filename!r} is a link to {info.file_size} bytes")
        return Member(name=name, type=Type.LINK, target=content.read(info))
    if name.endswith(b"/") or format_bits == 0o040000:
        return Member(name=name, type=Type.DIRECTORY)
    if format_bits not in (0, 0o100000):
        return Member(name=name, type=Type.OTHER)

    def chunks() -> Iterator[bytes]:
        with _reading(archive, info.filename), content.open(info) as stream:
            yield from _chunks(stream, info.file_size)

    return Member(name=name, type=Type.FILE, size=info.file_size, mode=mode & 0o7777, chunks=chunks)


def _chunks(stream: Any, size: int) -> Iterator[bytes]:
    """Yield what a stream holds, which must be `size` bytes."""
    left = size
    while chunk := stream.read(fsys.CHUNK):
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left != 0:
        raise _BadArchiveError(f"its content is not of {size} bytes")


def _debian_data(file: BinaryIO) -> BinaryIO:
    """Find data.tar in a Debian package, which is an ar archive (deb(5), ar(5))."""
    end = file.seek(0, os.SEEK_END)
    at = len(_AR)
    while at + 60 <= end:
        file.seek(at)
        header = file.read(60)
        digits = header[48:58].strip()
        if header[58:] != b"`\n" or not digits.isdigit():
            raise _BadArchiveError(f"no ar header at byte {at}")
        size = int(digits)
        if at + 60 + size > end:
            raise _BadArchiveError(f"cut off at byte {end}")
        if header[:16].startswith(b"data.tar"):
            return cast(BinaryIO, io.BufferedReader(_Slice(file, at + 60, size)))
        at += 60 + size + size % 2
    raise _BadArchiveError("holds no data.tar")


class _Slice(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
