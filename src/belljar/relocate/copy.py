"""Copying a tree to where it is to live, rewriting it on the way.

The kernel copies (copy_file_range, which shares the blocks where the filesystem can); then the
recorded places of the copy are compared and overwritten, so that no file passes through this process and
nothing is read but hit bytes. Hard links stay linked, holes stay holes, symbolic links are rewritten,
modes and modification times are kept; owners and extended attributes are not: an artifact has none.

The target is a new directory that nobody sees yet. An error or a crash leaves it half done, and the
caller discards it (belljar.fsys.staging); the source is never touched.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from belljar.errors import InputError, IntegrityError
from belljar.fsys import CHUNK, Entry, explained, walk
from belljar.references import Bound, Table
from belljar.relocate.apply import Places, check, check_twins, missing, patch, retargeted, rewrite_file
from belljar.types import Event, Progress, quiet

_NO_COPY_RANGE = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
_REPORT_EVERY = 1 << 24  # bytes


def copy_tree(
    source: Path, target: Path, *, table: Table, old: bytes, new: bytes, progress: Progress = quiet
) -> None:
    """Copy `source` to `target`, which must not exist, with `new` where the table says that `old` stands.

    Raises IntegrityError when other bytes stand there or the table names what is not in the tree,
    InputError for a device, socket or FIFO, or when `new` cannot be written there, HostError when the
    tree cannot be read or written. `target` is then incomplete: remove it (belljar.fsys.remove_tree).
    """
    table.refuse(new)
    try:
        _Copy(source, target, table, old, new).run(progress)
    except OSError as error:
        raise explained(error, target) from error


class _Copy:
    """One copying in progress; `first` holds the first name of each file that has several."""

    def __init__(self, source: Path, target: Path, table: Table, old: bytes, new: bytes) -> None:
        self.source, self.target = source, target
        self.table, self.old, self.new = table, old, new
        self.first: dict[tuple[int, int], str] = {}
        self.met: set[str] = set()
        self.order = {name: place for place, name in enumerate(table.paths())}
        # Files that hold hashes of others, which must be finished first.
        self.late: dict[str, os.stat_result] = {}

    def run(self, progress: Progress) -> None:
        """Copy all entries, then close the directories: one that is read-only takes no more entries."""
        entries = list(walk(self.source))
        total, done, reported = sum(entry.info.st_size for entry in entries if entry.is_file), 0, 0
        self.target.mkdir(mode=0o700)
        for entry in entries:
            self.copy(entry)
            done += entry.info.st_size if entry.is_file else 0
            if done >= reported + _REPORT_EVERY or (entry is entries[-1] and total):
                progress(Event(stage="copy", subject=entry.path, done=done, total=total))
                reported = done
        for name in [*self.table.paths(), *self.table.links]:
            if name not in self.met:
                raise missing(self.source / name)
        for name, info in sorted(self.late.items(), key=lambda item: self.order[item[0]]):
            rewrite_file(self.target / name, info, self.table.places(name, self.target), self.new)
        for entry in reversed(entries):
            if entry.is_dir:
                _close_directory(self.target / entry.path, entry.info)
        _close_directory(self.target, self.source.stat())

    def copy(self, entry: Entry) -> None:
        """Copy one entry, directories left open."""
        if entry.is_dir:
            os.mkdir(self.target / entry.path, 0o700)
        elif entry.is_link:
            self.copy_link(entry)
        elif entry.is_file:
            self.copy_file(entry)
        else:
            raise InputError(
                f"{self.source / entry.path}: neither a file, a directory nor a symbolic link",
                hint="an artifact holds no devices, sockets or FIFOs",
            )

    def copy_link(self, entry: Entry) -> None:
        """Make a symbolic link with its references rewritten."""
        path, target = self.source / entry.path, self.target / entry.path
        references = self.table.links.get(entry.path, ())
        if references:
            self.met.add(entry.path)
        os.symlink(retargeted(path, references, old=self.old, new=self.new), os.fsencode(target))
        os.utime(target, ns=(entry.info.st_atime_ns, entry.info.st_mtime_ns), follow_symlinks=False)

    def copy_file(self, entry: Entry) -> None:
        """Copy a regular file and rewrite it, or link it to the copy that is there by another name."""
        places = self.table.places(entry.path, self.source)
        if places:
            self.met.add(entry.path)
        if entry.info.st_nlink > 1:
            inode = (entry.info.st_dev, entry.info.st_ino)
            first = self.first.setdefault(inode, entry.path)
            check_twins(self.source / entry.path, places, self.table.places(first, self.source))
            if first != entry.path:
                os.link(self.target / first, self.target / entry.path)
                return
        source = os.open(self.source / entry.path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            self.copy_content(source, entry, places)
        finally:
            os.close(source)

    def copy_content(self, source: int, entry: Entry, places: Places) -> None:
        """Copy the open file `source`, rewrite the copy, give it its mode and time."""
        info = entry.info
        target = os.open(self.target / entry.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for begin, end in _extents(source, info):
                if _copy_range(source, target, begin, end) < end:
                    raise IntegrityError(f"{self.source / entry.path}: became shorter while it was copied")
            if info.st_blocks * 512 < info.st_size:
                os.ftruncate(target, info.st_size)  # a hole at the end
            check(target, self.source / entry.path, places, self.old)
            if any(isinstance(place, Bound) for place in places):
                self.late[entry.path] = info
            else:
                patch(target, places, self.new)
            os.fchmod(target, stat.S_IMODE(info.st_mode))
            os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
        finally:
            os.close(target)


def _extents(fd: int, info: os.stat_result) -> Iterator[tuple[int, int]]:
    """Yield the (begin, end) of what is data: all of it, unless the file has holes."""
    if info.st_blocks * 512 >= info.st_size:
        yield 0, info.st_size
        return
    end = 0
    while end < info.st_size:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            raise
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, end


def _copy_range(source: int, target: int, begin: int, end: int) -> int:
    """Copy bytes begin..end, in the kernel where it can; return how far it got."""
    while begin < end:
        try:
            count = os.copy_file_range(source, target, end - begin, begin, begin)
        except OSError as error:
            if error.errno not in _NO_COPY_RANGE:
                raise
            count = 0
        count = count or os.pwrite(target, os.pread(source, min(end - begin, CHUNK), begin), begin)
        if not count:
            break
        begin += count
    return begin


def _close_directory(path: Path, info: os.stat_result) -> None:
    os.chmod(path, stat.S_IMODE(info.st_mode))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
