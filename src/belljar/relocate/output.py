"""Carrying out a plan on a copy: the source is read, never written.

The copy is made beside its place, complete with the journal that says how to undo it, and renamed in at
the end; what a crash leaves is a staging directory, which the next run sweeps away. Everything is copied as
in place (belljar.relocate.inode): hard links stay linked, holes stay holes, owners, attributes, modes and
times are kept. FIFOs are made anew; sockets and devices are left out, and said. Nothing is forced to the
disk, as `cp -a` does not: the source is there still.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from belljar import fsys
from belljar.errors import HostError, InputError, IntegrityError
from belljar.relocate import inode, journal
from belljar.relocate.change import Plan
from belljar.relocate.journal import Phase, Record
from belljar.relocate.prepare import prepare
from belljar.relocate.root import Root, named, opened
from belljar.relocate.steps import Retarget, Rewrite, Small, Step
from belljar.types import Event, Progress

_STAGING = ".belljar-staging"
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_REPORT_EVERY = 1 << 24  # bytes


def copy(plan: Plan, output: Path, progress: Progress) -> Record:
    """Copy the plan's tree to `output`, changed, and return the record that is left there.

    Raises InputError when something is at `output`, it lies in the tree, or the tree's own relocation
    is unfinished; else as `moving.apply`.
    """
    _refuse_output(plan.tree, output)
    with opened(plan.tree) as root:
        with journal.reading(root) as book:
            top = book.top() if book is not None else None
        if top is not None and top[1] != Phase.APPLIED:
            raise InputError(f"{plan.tree}: an earlier relocation was begun and not finished")
        record = prepare(root, plan, writing=False)
        entries = list(fsys.walk(plan.tree))
        _require_room(output.parent, entries)
        staging = output.parent / _STAGING
        with fsys.staging(staging) as stage, opened(stage) as place:
            os.mkdir("tree", 0o700, dir_fd=place.fd)
            with opened(stage / "tree") as target:
                copying = _Copy(root, target, record)
                done = copying.run(entries, progress)
                os.rename("tree", output, src_dir_fd=place.fd)
                copying.close_directory("", target.fd)  # last: what is read-only cannot change its parent
        with contextlib.suppress(OSError):
            staging.rmdir()
    return done


class _Copy:
    """One copying; `first` holds the copied name of each file that has several."""

    def __init__(self, source: Root, target: Root, record: Record) -> None:
        self.source, self.target, self.record = source, target, record
        self.first: dict[tuple[int, int], str] = {}
        self.steps: dict[str, Step] = {name: step for step in record.steps for name in step.names}
        self.notes = list(record.notes)

    def run(self, entries: list[fsys.Entry], progress: Progress) -> Record:
        """Copy all; directories are closed last, since one that is read-only takes no more entries."""
        total, done, reported = sum(_size(entry) for entry in entries), 0, 0
        for entry in entries:
            with named(entry.path):
                self.copy(entry)
            done += _size(entry)
            if done >= reported + _REPORT_EVERY or entry is entries[-1]:
                progress(Event(stage="copy", subject=entry.path, done=done, total=total))
                reported = done
        for step in self.record.steps:
            if isinstance(step, Small):
                step.stage(self.target, self.record.temp(0))
                step.commit(self.target, self.record.temp(0))
        record = self.write_record()
        for entry in reversed(entries):
            if entry.is_dir:
                with self.target.reading(entry.path) as target:
                    self.close_directory(entry.path, target)
        return record

    def write_record(self) -> Record:
        """Leave the journal, on top of what was in the source's."""
        with journal.locked(self.target) as book:
            record = replace(self.record, notes=tuple(self.notes), directories=self.directories())
            if record.steps:
                number = book.begin(record)
                book.turn(number, Phase.APPLYING, Phase.APPLIED)
        return record

    def directories(self) -> dict[str, journal.Directory]:
        """Return what the directories are like in which names change."""
        parents = {name.rpartition("/")[0] for name in self.steps} | {""}
        return {path: journal.Directory.of(self.source.lstat(path)) for path in sorted(parents)}

    def copy(self, entry: fsys.Entry) -> None:
        """Copy one entry, directories left open."""
        parent, name = self.target.parent(entry.path)
        match stat.S_IFMT(entry.info.st_mode):
            case stat.S_IFDIR:
                os.mkdir(name, 0o700, dir_fd=parent)
            case stat.S_IFREG:
                self.copy_file(entry, parent, name)
            case stat.S_IFLNK:
                self.copy_link(entry, parent, name)
            case stat.S_IFIFO:
                os.mkfifo(name, stat.S_IMODE(entry.info.st_mode), dir_fd=parent)
                _dress_by_name(parent, name, entry.info)
            case _:
                self.notes.append(f"{entry.path}: a socket or device, which is not copied")

    def copy_link(self, entry: fsys.Entry, parent: int, name: str) -> None:
        """Make a symbolic link, led elsewhere where the plan says so."""
        step = self.steps.get(entry.path)
        target = step.new if isinstance(step, Retarget) else self.source.readlink(entry.path)
        os.symlink(target, os.fsencode(name), dir_fd=parent)
        _dress_by_name(parent, name, entry.info)

    def copy_file(self, entry: fsys.Entry, parent: int, name: str) -> None:
        """Copy a regular file with its edits, or link it to the copy that is there by another name."""
        if entry.info.st_nlink > 1:
            key = (entry.info.st_dev, entry.info.st_ino)
            first = self.first.setdefault(key, entry.path)
            if first != entry.path:
                there, other = self.target.parent(first)
                os.link(other, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
                return
        step = self.steps.get(entry.path)
        splices = step.splices if isinstance(step, Rewrite) else ()
        target = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            with self.source.reading(entry.path) as source:
                info = os.fstat(source)
                if info.st_size != entry.info.st_size:
                    raise IntegrityError(f"{entry.path}: was changed by somebody else")
                inode.fill(source, target, splices, subject=entry.path)
                inode.dress(source, target, info, subject=entry.path)
        finally:
            os.close(target)

    def close_directory(self, path: str, target: int) -> None:
        """Give an open directory its owner, attributes, mode and times."""
        with self.source.reading(path) as source:
            inode.dress(source, target, os.fstat(source), subject=path or ".")


def _dress_by_name(parent: int, name: str, info: os.stat_result) -> None:
    """Give what cannot be opened its owner, where we may, and its times."""
    with contextlib.suppress(OSError):
        os.chown(name, info.st_uid, info.st_gid, dir_fd=parent, follow_symlinks=False)
    os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=parent, follow_symlinks=False)


def _size(entry: fsys.Entry) -> int:
    return entry.info.st_size if entry.is_file else 0


def _refuse_output(tree: Path, output: Path) -> None:
    """Refuse an output that is there already, or that lies in the tree."""
    if output.is_symlink() or (output.exists() and not (output.is_dir() and not any(_listing(output)))):
        raise InputError(f"{output}: is there already", hint="choose a directory that is new or empty")
    source, place = tree.resolve(), output.resolve()
    if place == source or source in place.parents:
        raise InputError(f"{output}: lies in the tree that is copied")


def _listing(directory: Path) -> Iterator[str]:
    try:
        yield from os.listdir(directory)
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}") from error


def _require_room(place: Path, entries: list[fsys.Entry]) -> None:
    existing = next(one for one in (place, *place.parents) if one.exists())
    info = os.statvfs(existing)
    free = info.f_bavail * info.f_frsize
    seen = {(entry.info.st_dev, entry.info.st_ino): entry.info.st_blocks * 512 for entry in entries}
    if (needed := sum(seen.values())) > free:
        raise HostError(
            f"{place}: no room for a copy: {needed:,} bytes are needed, {free:,} are free",
            hint="free some space there, or relocate in place",
        )
