"""Compressed content: taken apart, planned like any other file, and compressed again.

gzip, bzip2, xz, zstd (with them compressed tar archives) and zip (jar, wheel). What is inside is examined
by its own kind, so that text may grow and all else keeps its length; a refusal names the member. What is
compressed again depends on the content and the compressor's version only: headers with names and times
stay. A wheel's RECORD follows; a signed jar is refused. What cannot be unpacked (damaged, encrypted, of an
unknown method, in need of too much memory) is noted.

The plan holds the new bytes of such a file, which is why there is a limit.
"""

import base64
import functools
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from belljar.relocate.foreign import kinds
from belljar.relocate.foreign.subject import Finding, Subject
from belljar.relocate.foreign.sums import RECORD
from belljar.splice import Splice, spliced

if TYPE_CHECKING:
    import lzma

LIMIT = 64 << 20
"""How many bytes a file may have, packed and unpacked, to be rewritten."""
SUM = 1 << 30
"""How many bytes the members of an archive may have together for it to be written again."""
MEMORY = 1 << 28
"""How many bytes a decompressor may take."""
SEARCHED = 4 << 30
"""How many bytes of content are searched."""
DEPTH = 3
"""How often packed content may be packed again."""

_CHUNK = 1 << 18
_HEAD = 512
_HEADER, _EXTRA, _NAME, _COMMENT, _CRC = 10, 4, 8, 16, 2
_SIGNED = (".SF", ".RSA", ".DSA", ".EC")

Examine = Callable[[Subject], Finding]


def plan_packed(subject: Subject, finding: Finding, examine: Examine) -> None:
    """Plan what is inside, and pack it again where it changes; say what was not looked into."""
    kind = kinds.packing(subject.head)
    if kind is None:
        return
    if subject.depth >= DEPTH:
        finding.notes.append(f"{subject.path}: packed more than {DEPTH} times, not looked into")
        return
    try:
        with os.fdopen(os.dup(subject.fd), "rb") as file:
            file.seek(0)
            if kind == "zip":
                _plan_zip(subject, finding, examine, file)
            else:
                _plan_stream(subject, finding, examine, file, kind)
    except tuple(_damage(kind)) as error:
        finding.notes.append(f"{subject.path}: cannot be unpacked ({error}), not looked into")


def _plan_stream(subject: Subject, finding: Finding, examine: Examine, file: BinaryIO, kind: str) -> None:
    with _opened(file, kind) as stream:
        content = _Content(subject, stream, SEARCHED)
    path = os.path.splitext(subject.path)[0]
    new = _rewritten(subject, content, path, finding, examine, f"inside {kind}")
    if new is not None and _is_small(subject, finding):
        _put(finding, subject, _pack(kind, subject.read(0, subject.size), new), f"compress it again ({kind})")


def _plan_zip(subject: Subject, finding: Finding, examine: Examine, file: BinaryIO) -> None:
    import zipfile

    with zipfile.ZipFile(file) as archive:
        changed: dict[str, bytes] = {}
        closed, left = [], SEARCHED
        for info in archive.infolist():
            if info.is_dir():
                continue
            path, section = f"{subject.path}/{info.filename}", f"member {info.filename}"
            try:
                with archive.open(info) as stream:
                    content = _Content(subject, stream, left)
            except tuple(_damage("zip")) as error:
                closed.append(info.filename)
                finding.notes.append(f"{path}: cannot be unpacked ({error}), not looked into")
                continue
            left -= content.size
            new = _rewritten(subject, content, path, finding, examine, section)
            if new is not None:
                changed[info.filename] = new
        if changed and _may_change(subject, finding, archive, changed, closed):
            _follow_records(archive, changed)
            _put(finding, subject, _zipped(archive, changed), "write the archive again")


def _may_change(
    subject: Subject, finding: Finding, archive: Any, changed: Mapping[str, bytes], closed: Sequence[str]
) -> bool:
    """Whether the archive can be written again with new members; refuses it where it cannot."""
    names = archive.namelist()
    first = next(iter(changed))
    if any(name.upper().startswith("META-INF/") and name.upper().endswith(_SIGNED) for name in names):
        finding.refuse(subject.path, f"a signed archive would change: {first}")
    elif closed:
        finding.refuse(subject.path, f"{first} would change, but {closed[0]} cannot be unpacked")
    elif twice := next((name for name in changed if names.count(name) > 1), None):
        finding.refuse(subject.path, f"has two members of one name: {twice}")
    elif sum(info.file_size for info in archive.infolist()) > SUM:
        finding.refuse(subject.path, f"has more than {SUM >> 20} MiB of content, not written again")
    else:
        return _is_small(subject, finding)
    return False


class _Content:
    """Unpacked content, searched as it comes; kept only as far as it may be rewritten."""

    def __init__(self, subject: Subject, stream: Any, limit: int) -> None:
        self.size = 0
        self.limit = limit
        self._kept: list[bytes] = []
        self.hits = tuple(hit for hit in subject.moves.through(self._chunks(stream)) if not hit.is_moved)

    def _chunks(self, stream: Any) -> Iterator[bytes]:
        while self.size <= self.limit and (chunk := stream.read(_CHUNK)):
            self.size += len(chunk)
            if self.size <= LIMIT:
                self._kept.append(chunk)
            yield chunk

    @property
    def kept(self) -> bytes:
        """The content, or its beginning where it is larger than LIMIT."""
        return b"".join(self._kept)


def _is_small(subject: Subject, finding: Finding) -> bool:
    if subject.size > LIMIT:
        finding.refuse(subject.path, f"has more than {LIMIT >> 20} MiB, not written again")
    return subject.size <= LIMIT


def _rewritten(
    subject: Subject, content: _Content, path: str, finding: Finding, examine: Examine, section: str
) -> bytes | None:
    """Return the new content; None where it stays. Refusals are passed on, with the place inside."""
    old = content.kept
    if content.size > content.limit:
        finding.refuse(subject.path, "too much content, not searched", section=section)
        return None
    if not content.hits and kinds.packing(old[:_HEAD]) is None:
        return None
    if not content.hits and content.size > LIMIT:
        finding.notes.append(f"{path}: packed twice, with more than {LIMIT >> 20} MiB, not looked into")
        return None
    if content.size > LIMIT:
        finding.refuse(subject.path, f"more than {LIMIT >> 20} MiB, not rewritten", section=section)
        return None
    fd = os.memfd_create("content")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(old)
        found = examine(_inner(subject, content, path, fd))
    finally:
        os.close(fd)
    for item in found.refusals:
        where = f"{section}: {item.section}" if item.section else section
        finding.refusals.append(replace(item, path=subject.path, section=where))
    where = section if subject.depth else f"{subject.path}: {section}"
    finding.notes += [f"{where}: {note}" for note in found.notes]
    if not found.splices or found.refusals:
        return None
    return spliced(old, sorted(found.splices), subject=path)


def _inner(subject: Subject, content: _Content, path: str, fd: int) -> Subject:
    return replace(
        subject,
        path=path,
        fd=fd,
        size=content.size,
        head=os.pread(fd, _HEAD, 0),
        hits=content.hits,
        depth=subject.depth + 1,
    )


def _put(finding: Finding, subject: Subject, new: bytes, reason: str) -> None:
    finding.splices.append(Splice(offset=0, old=subject.read(0, subject.size), new=new))
    finding.because(reason)


def _opened(file: BinaryIO, kind: str) -> Any:
    import bz2
    import gzip

    match kind:
        case "gzip":
            return gzip.GzipFile(fileobj=file)
        case "bzip2":
            return bz2.BZ2File(file)
        case "xz":
            return _Xz(file)
        case _:
            from zstandard import ZstdDecompressor

            return ZstdDecompressor(max_window_size=MEMORY).stream_reader(file, read_across_frames=True)


class _Xz(io.RawIOBase):
    """The content of an xz file of any number of streams, within the memory that is allowed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, b""
        self._decoder = self._new()

    @staticmethod
    def _new() -> "lzma.LZMADecompressor":
        import lzma

        return lzma.LZMADecompressor(memlimit=MEMORY)

    def read(self, size: int = -1) -> bytes:
        """Return up to that many bytes of content, none at its end."""
        while True:
            if self._decoder.eof:
                self._left = self._decoder.unused_data.lstrip(b"\0") or self._file.read(_CHUNK).lstrip(b"\0")
                if not self._left:
                    return b""
                self._decoder = self._new()
            elif self._decoder.needs_input and not self._left:
                self._left = self._file.read(_CHUNK)
                if not self._left:
                    raise EOFError("ends too early")
            found = self._decoder.decompress(self._left, size)
            self._left = b""
            if found:
                return found


def _pack(kind: str, old: bytes, content: bytes) -> bytes:
    """Return content compressed as its file was: a gzip header stays as it is."""
    import bz2
    import lzma

    match kind:
        case "gzip":
            packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
            trailer = zlib.crc32(content).to_bytes(4, "little") + (len(content) & 0xFFFFFFFF).to_bytes(
                4, "little"
            )
            return _gzip_header(old) + packer.compress(content) + packer.flush() + trailer
        case "bzip2":
            return bz2.compress(content, 9)
        case "xz":
            return lzma.compress(content)
        case _:
            from zstandard import ZstdCompressor

            return ZstdCompressor(level=19, write_checksum=True).compress(content)


def _gzip_header(old: bytes) -> bytes:
    """Return the header with its name and comment, without a checksum of itself (RFC 1952)."""
    flags, place = old[3], _HEADER
    if flags & _EXTRA:
        place += 2 + int.from_bytes(old[place : place + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            place = old.index(b"\0", place) + 1
    return old[:3] + bytes([flags & ~_CRC]) + old[4:place]


def _zipped(archive: Any, changed: dict[str, bytes]) -> bytes:
    """Return an archive with new content in some members; order, names, times and methods stay."""
    import zipfile

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        target.comment = archive.comment
        for info in archive.infolist():
            content = changed.get(info.filename)
            target.writestr(info, archive.read(info) if content is None else content, info.compress_type, 9)
    return made.getvalue()


def _follow_records(archive: Any, changed: dict[str, bytes]) -> None:
    """Put the new hashes and sizes into a wheel's RECORD."""
    for name in archive.namelist():
        if name.endswith(".dist-info/RECORD"):
            content = changed.get(name) or archive.read(name)
            changed[name] = RECORD.sub(functools.partial(_line, changed), content)


def _line(changed: dict[str, bytes], match: Any) -> bytes:
    content = changed.get(os.fsdecode(match[2]))
    if content is None:
        return bytes(match[0])
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return b"%b%b%b,sha256=%b,%d" % (match[1], match[2], match[1], digest, len(content))


def _damage(kind: str) -> Iterator[type[Exception]]:
    """Yield what the readers raise for content that is damaged, encrypted or of an unknown method."""
    import lzma
    from zipfile import BadZipFile

    yield from (
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        zlib.error,
        lzma.LZMAError,
        BadZipFile,
    )
    yield OSError  # BadGzipFile, and bz2's
    if kind == "zstd":
        from zstandard import ZstdError

        yield ZstdError
