"""What there is to look at: the files of directories and archives, archives within archives included.

Nothing is unpacked: members are streamed in the order of their archive, and what must be had whole
(a zip within a tar, a library of hundreds of megabytes) lies in a file without a name, which goes with
the process. A member is called `pkg.whl!numpy/core/x.so`. What a hard link or a symbolic link leads to
is looked at once, under the name that comes first.

Whatever an archive holds, the walk ends: depth, number and size of all that is unpacked are limited,
and what cannot be read is a subject with `trouble`, after which the walk goes on beside it.
"""

import itertools
import mmap
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from belljar import fsys
from belljar.archive.members import Member, Type, holds_tar, opened
from belljar.audit import ar
from belljar.audit.content import sparse
from belljar.errors import InputError
from belljar.types import Event, Progress, quiet

STDIN = "-"
"""The path that stands for standard input."""
IN_MEMORY = 32 << 20
"""How many bytes of one file are held in memory; of more, what is asked for."""
_HEAD = 512
_SEPARATOR = "!"

Content = bytes | mmap.mmap
"""The bytes of a file; Sparse (belljar.audit.isa.source) for a big one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far archives are followed: depth of nesting; files and bytes in all that is unpacked."""

    depth: int = 6
    members: int = 2_000_000
    size: int = 32 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A file or a symbolic link to look at, or, with `trouble`, what could not be looked at.

    `read` gives a file's bytes until the next subject is asked for; it raises InputError or OSError.
    `head` are its first bytes, at most 512. `mode` is that of chmod(2), 0 where an archive does not say.
    `place` is where it lies on the disk, None for what is in an archive; `is_named` says that the user
    asked for this very file.
    """

    name: str
    size: int = 0
    mode: int = 0
    head: bytes = b""
    link: str | None = None
    place: Path | None = None
    is_named: bool = False
    trouble: str | None = None
    read: Callable[[], Content] = field(default=lambda: b"", repr=False, compare=False)

    @property
    def is_file(self) -> bool:
        """Whether there is content to read."""
        return self.link is None and self.trouble is None


def walk(
    paths: Sequence[Path | str],
    *,
    progress: Progress = quiet,
    limits: Limits | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[Subject]:
    """Yield all files and links at and below `paths`, archives opened; `-` is `stdin`.

    A path given here may be a symbolic link; links within trees are not followed. Raises InputError
    when a path does not exist or is neither a file nor a directory.
    """
    visit = _Visit(limits=limits or Limits())
    for path in paths:
        if str(path) == STDIN and stdin is not None:
            found = visit.stream(STDIN, lambda: _pieces(stdin), depth=0, is_named=True)
        else:
            found = visit.path(Path(path))
        for subject in found:
            progress(Event(stage="audit", subject=subject.name, done=visit.count))
            visit.count += 1
            yield subject


class _Visit:
    """One walk: what it has seen, and what it may still unpack."""

    def __init__(self, limits: Limits) -> None:
        self.count = 0
        self._limits = limits
        self._members = limits.members
        self._size = limits.size
        self._seen: set[tuple[int, int]] = set()

    def path(self, path: Path) -> Iterator[Subject]:
        """Yield what is at a path that the user gave."""
        try:
            info = path.stat()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        if stat.S_ISREG(info.st_mode):
            yield from self._file(path, info, is_named=True)
        elif stat.S_ISDIR(info.st_mode):
            yield from self._directory(path)
        else:
            raise InputError(f"{path}: neither a file nor a directory")

    def _directory(self, root: Path) -> Iterator[Subject]:
        closed: list[Path] = []

        def enter(entry: fsys.Entry) -> bool:
            may = not entry.is_dir or os.access(root / entry.path, os.R_OK | os.X_OK, effective_ids=True)
            if not may:
                closed.append(root / entry.path)
            return may

        try:
            for entry in fsys.walk(root, enter=enter):
                if entry.is_file:
                    yield from self._file(root / entry.path, entry.info)
                elif entry.is_link:
                    yield self._link(root / entry.path, entry.info)
        except OSError as error:
            yield Subject(name=str(error.filename or root), trouble=error.strerror or str(error))
        for path in closed:
            yield Subject(name=str(path), trouble="directory may not be read")

    @staticmethod
    def _link(path: Path, info: os.stat_result) -> Subject:
        try:
            target = os.readlink(path)
        except OSError as error:
            return Subject(name=str(path), trouble=error.strerror or str(error))
        return Subject(name=str(path), size=info.st_size, link=target, place=path)

    def _file(self, path: Path, info: os.stat_result, *, is_named: bool = False) -> Iterator[Subject]:
        identity = (info.st_dev, info.st_ino)
        if identity in self._seen:
            return
        self._seen.add(identity)
        try:
            # A pipe that took the file's place would wait for a writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            yield Subject(name=str(path), trouble=error.strerror or str(error))
            return
        with open(descriptor, "rb", buffering=0) as raw:
            file = cast(BinaryIO, raw)
            try:
                head = file.read(_HEAD)
            except OSError as error:
                yield Subject(name=str(path), trouble=error.strerror or str(error))
                return
            if _is_archive(file, head):
                yield from self._archive(file, str(path), depth=1)
                return
            yield Subject(
                name=str(path),
                size=info.st_size,
                mode=stat.S_IMODE(info.st_mode),
                head=head,
                place=path,
                is_named=is_named,
                read=lambda: _content(file),
            )

    def _archive(self, file: BinaryIO, name: str, *, depth: int) -> Iterator[Subject]:
        """Yield what is in an archive; what is wrong with it is the last thing."""
        if depth > self._limits.depth:
            yield Subject(name=name, trouble=f"archives nested more than {self._limits.depth} deep")
            return
        try:
            file.seek(0)
            for member in _members(file, name):
                self._pay(member)
                label = name + _SEPARATOR + member.name.decode("utf-8", "surrogateescape").removeprefix("./")
                yield from self._member(member, label, depth)
        except _SpentError as error:
            yield Subject(name=name, trouble=str(error))
        except (InputError, OSError) as error:
            yield Subject(name=name, trouble=_words(error, name))

    def _pay(self, member: Member) -> None:
        self._members -= 1
        self._size -= member.size
        if self._members < 0 or self._size < 0:
            what = "files" if self._members < 0 else "bytes"
            raise _SpentError(f"unpacks to more {what} than are looked at; the rest was not")

    def _member(self, member: Member, name: str, depth: int) -> Iterator[Subject]:
        match member.type:
            case Type.FILE:
                yield from self.stream(name, member.chunks, depth=depth, size=member.size, mode=member.mode)
            case Type.LINK:
                yield Subject(name=name, link=member.target.decode("utf-8", "surrogateescape"))
            case Type.OTHER | Type.DIRECTORY | Type.HARD_LINK:
                return

    def stream(
        self,
        name: str,
        chunks: Callable[[], Iterator[bytes]],
        *,
        depth: int,
        size: int | None = None,
        mode: int = 0,
        is_named: bool = False,
    ) -> Iterator[Subject]:
        """Yield what a stream holds: one file, or all that is in an archive.

        Its start is read here, and so is all of what is an archive; the rest of a file when it is wanted.
        """
        try:
            pieces = chunks()
            first = next(pieces, b"")
            while len(first) < _HEAD and (more := next(pieces, b"")):
                first += more
        except (InputError, OSError) as error:
            yield Subject(name=name, trouble=_words(error, name))
            return
        if not _may_be_archive(first):
            yield Subject(
                name=name,
                size=len(first) if size is None else size,
                mode=mode,
                head=first[:_HEAD],
                is_named=is_named,
                read=lambda: _gathered(first, pieces, size),
            )
            return
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as spool:
            file = cast(BinaryIO, spool)
            try:
                _fill(file, first, pieces, self._limits.size)
            except (InputError, OSError) as error:
                yield Subject(name=name, trouble=_words(error, name))
                return
            if _is_archive(file, first[:_HEAD]):
                yield from self._archive(file, name, depth=depth + 1)
                return
            length = file.seek(0, os.SEEK_END)
            yield Subject(
                name=name,
                size=length,
                mode=mode,
                head=first[:_HEAD],
                is_named=is_named,
                read=lambda: _whole(file),
            )


class _SpentError(Exception):
    """An archive holds more than is looked at."""


def _may_be_archive(head: bytes) -> bool:
    return head.startswith(_MAGIC) or head[257:262] == b"ustar"


_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_MAGIC = (*_COMPRESSED, b"PK\x03\x04", b"PK\x05\x06", ar.MAGIC)


def _is_archive(file: BinaryIO, head: bytes) -> bool:
    """Whether an open file is an archive; of a compressed file, whether a tar archive is in it."""
    if head.startswith(_COMPRESSED):
        return holds_tar(file)
    return _may_be_archive(head)


def _members(file: BinaryIO, name: str) -> Iterator[Member]:
    """Yield the members of any archive; a Debian package's are those that it installs."""
    head = file.read(len(ar.MAGIC) + 16)
    file.seek(0)
    if head.startswith(ar.MAGIC) and not head.endswith(b"debian-binary   "):
        return ar.members(file, name)
    return opened(file, name, other=True)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(fsys.CHUNK):
        yield chunk


def _fill(file: BinaryIO, first: bytes, rest: Iterator[bytes], limit: int) -> None:
    """Write a stream to a file. Raises InputError when it holds more than `limit` bytes."""
    left = limit
    for chunk in itertools.chain((first,), rest):
        left -= file.write(chunk)
        if left < 0:
            raise InputError(f"more than {limit} bytes, which are not looked at")
    file.seek(0)


def _words(error: InputError | OSError, name: str) -> str:
    if isinstance(error, InputError):
        return error.message.removeprefix(f"{name}: ")
    return error.strerror or str(error)


def _gathered(first: bytes, rest: Iterator[bytes], size: int | None) -> Content:
    """Return what a stream holds; a big one through a file without a name."""
    if size is not None and size <= IN_MEMORY:
        return b"".join((first, *rest))
    with tempfile.TemporaryFile() as file:
        _fill(cast(BinaryIO, file), first, rest, sys.maxsize if size is None else size)
        return _content(cast(BinaryIO, file))


def _content(file: BinaryIO) -> Content:
    """Return what is in a real file; of a big one what its loader looks at, and the rest by pages."""
    size = os.fstat(file.fileno()).st_size
    return sparse(file.fileno(), size) if size > IN_MEMORY else _whole(file)


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return b"".join(_pieces(file))
