"""Rewriting recorded bytes of a private tree in place.

Plan first, then do: every recorded place is read and compared before the first byte is written, so
that a table which does not belong to the tree changes nothing. Then the bytes are overwritten where they
stand (belljar.placeholder says why that is all). Only hit files are opened, only hit bytes are read.

For a tree that nobody else sees yet: writing is not atomic. A crash leaves some files rewritten; the
caller discards the tree, which is why it must be a staged one.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from belljar.errors import IntegrityError
from belljar.fsys import explained
from belljar.references import Place, Reference, Table, mismatch, rewritten

References = Sequence[Reference]
Places = Sequence[Place]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A regular file to be rewritten, under the first of its names."""

    path: Path
    info: os.stat_result
    places: Places


def rewrite_tree(tree: Path, table: Table, *, old: bytes, new: bytes) -> None:
    """Put `new` where the table says that `old` stands; modes and modification times stay.

    `old` and `new` are the placeholder or locations. Nothing is changed by what raises IntegrityError (a
    file is missing, or other bytes stand there) or InputError (`new` cannot be written).
    Raises HostError when the tree cannot be read or written.
    """
    table.refuse(new)
    try:
        root = tree.resolve()
        files = _plan_files(root, table, old)
        targets = [
            (path, retargeted(path, references, old=old, new=new))
            for path, references in _inside(root, table.links)
        ]
        for file in files:
            rewrite_file(file.path, file.info, file.places, new)
        for path, target in targets:
            _rewrite_link(path, target)
    except OSError as error:
        raise explained(error, tree) from error


def check(fd: int, path: Path, places: Places, old: bytes) -> None:
    """Raise IntegrityError unless what `old` makes of each place stands there in the open file `fd`."""
    size = os.fstat(fd).st_size
    for place in places:
        if place.end > size:
            raise mismatch(str(path), place.offset)
        current = os.pread(fd, place.end - place.offset, place.offset)
        if place.written(current, old) != current:
            raise mismatch(str(path), place.offset)


def patch(fd: int, places: Places, new: bytes) -> None:
    """Put what `new` makes of each place there, in the open file `fd`."""
    for place in places:
        current = os.pread(fd, place.end - place.offset, place.offset)
        os.pwrite(fd, place.written(current, new), place.offset)


def retargeted(link: Path, references: References, *, old: bytes, new: bytes) -> bytes:
    """Return the target of a symbolic link with its references rewritten.

    Raises IntegrityError when it is none, or `old` does not stand there.
    """
    try:
        target = os.fsencode(os.readlink(link))
    except OSError as error:
        raise missing(link) from error
    return rewritten(target, references, old=old, new=new, subject=str(link))


def missing(path: Path) -> IntegrityError:
    """Return the error that says that a file or link of the table is not in the tree as such."""
    return IntegrityError(
        f"{path}: named in the relocation table, but not there as a file or link of the tree",
        hint="the table belongs to another tree; scan this one again",
    )


def check_twins(path: Path, here: Places, there: Places) -> None:
    """Raise IntegrityError unless two names of one file have the same references."""
    if here != there:
        raise IntegrityError(f"{path}: a hard link whose other name has other references in the table")


def _plan_files(root: Path, table: Table, old: bytes) -> list[_File]:
    """Check every file of the table; return each once, however many names it has, in the table's order."""
    files: dict[tuple[int, int], _File] = {}
    for path, places in _inside(root, {name: table.places(name, root) for name in table.paths()}):
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode):
            raise missing(path)
        with _opened(path, os.O_RDONLY) as fd:
            check(fd, path, places, old)
        file = _File(path=path, info=info, places=places)
        first = files.setdefault((info.st_dev, info.st_ino), file)
        check_twins(path, places, first.places)
    return list(files.values())


def _inside(root: Path, side: Mapping[str, _T]) -> Iterator[tuple[Path, _T]]:
    """Yield the table's paths below `root`, which is resolved; refuse one that leads through a link."""
    for name, found in side.items():
        path = root / name
        if not os.path.lexists(path) or os.path.realpath(path.parent) != str(path.parent):
            raise missing(path)
        yield path, found


def rewrite_file(path: Path, info: os.stat_result, places: Places, new: bytes) -> None:
    """Put what `new` makes of each place there; mode and time are those of `info`."""
    if not info.st_mode & stat.S_IWUSR:
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with _opened(path, os.O_RDWR) as fd:
        patch(fd, places, new)
        os.fchmod(fd, stat.S_IMODE(info.st_mode))  # last: writing clears the set-user-ID bit
        os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))


def _rewrite_link(path: Path, target: bytes) -> None:
    """Make the link anew, in a directory that may be read-only; both keep their times."""
    info, parent = path.lstat(), path.parent.stat()
    path.parent.chmod(stat.S_IMODE(parent.st_mode) | stat.S_IWUSR)
    path.unlink()
    os.symlink(target, os.fsencode(path))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)
    os.utime(path.parent, ns=(parent.st_atime_ns, parent.st_mtime_ns))
    path.parent.chmod(stat.S_IMODE(parent.st_mode))


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)
