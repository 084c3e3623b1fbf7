"""Copying a tree to where it is to live, rewriting it on the way.

The kernel copies all but small files (belljar.relocate.inode), and shares blocks where the filesystem can;
then the recorded places of the copy are compared and overwritten. Hard links stay linked, holes stay holes,
symbolic links are rewritten, modes and modification times are kept; owners and extended attributes are not:
an artifact has none.

The target is a new directory that nobody sees yet. An error or a crash leaves it half done, and the
caller discards it (belljar.fsys.staging); the source is never touched.
"""

import os
import stat
from pathlib import Path

from belljar.errors import InputError
from belljar.fsys import Entry, explained, walk
from belljar.references import Bound, Table
from belljar.relocate import inode
from belljar.relocate.apply import Places, check, check_twins, missing, patch, retargeted, rewrite_file
from belljar.types import Event, Progress, quiet

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
            key = (entry.info.st_dev, entry.info.st_ino)
            first = self.first.setdefault(key, entry.path)
            check_twins(self.source / entry.path, places, self.table.places(first, self.source))
            if first != entry.path:
                os.link(self.target / first, self.target / entry.path)
                return
        path = f"{self.source}/{entry.path}"  # a Path would take as long as the copying of a small file
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            self.copy_content(source, path, entry, places)
        finally:
            os.close(source)

    def copy_content(self, source: int, path: str, entry: Entry, places: Places) -> None:
        """Copy the open file `source`, rewrite the copy, give it its mode and time."""
        info = entry.info
        target = os.open(f"{self.target}/{entry.path}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            inode.fill(source, target, (), subject=path)
            if places:
                check(target, Path(path), places, self.old)
                if any(isinstance(place, Bound) for place in places):
                    self.late[entry.path] = info
                else:
                    patch(target, places, self.new)
            os.fchmod(target, stat.S_IMODE(info.st_mode))
            os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
        finally:
            os.close(target)


def _close_directory(path: Path, info: os.stat_result) -> None:
    os.chmod(path, stat.S_IMODE(info.st_mode))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
