"""The steps that a relocation consists of: each on one inode, each of them knows where it stands.

A step is done in two moves. `stage` makes the new inode beside the old one, under a name that nobody else
uses; `commit` renames it over. So a reader finds the old bytes or the new; a program that runs from the
old inode keeps it until it ends. What was done is never remembered, only seen: `state` reads the recorded
places and says whether the old or the new bytes stand there. After a crash that is all one needs.

Old and new differ in size, or else in the bytes at some place which does not move (`Rewrite.of` sees to
that), so that no file can pass for both.
"""

import contextlib
import enum
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from belljar.errors import InputError, IntegrityError
from belljar.relocate import inode
from belljar.relocate.root import Root, named
from belljar.splice import Splice, in_place, inverse, merged


class State(enum.Enum):
    """What stands at a step's place: the old, the new, some names each, or neither."""

    OLD = "old"
    PART = "part"
    NEW = "new"
    OTHER = "other"


class Step(Protocol):
    """One inode's change. `temp` is the name, in the directory of `path`, under which it is staged."""

    @property
    def names(self) -> tuple[str, ...]:
        """All paths that it changes."""

    @property
    def inverse(self) -> "Step":
        """The step that undoes it."""

    def state(self, root: Root) -> State:
        """Look where it stands."""

    def room(self, root: Root) -> int:
        """Return how many bytes on disk staging takes, at most."""

    def stage(self, root: Root, temp: str) -> None:
        """Make the new inode."""

    def commit(self, root: Root, temp: str) -> None:
        """Put the new inode in the place of the old one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """Edit a regular file of `size` bytes; `names` are its hard links, which stay one file."""

    names: tuple[str, ...]
    size: int
    splices: tuple[Splice, ...]

    @classmethod
    def of(cls, fd: int, names: tuple[str, ...], splices: Iterable[Splice]) -> "Rewrite":
        """Make the step for an open file; edits that move bytes but keep the size become one in place.

        Raises InputError when edits overlap.
        """
        try:
            wanted = merged(splice for splice in splices if splice.old != splice.new)
        except ValueError as error:
            raise InputError(f"{names[0]}: {error}") from error
        if not in_place(wanted) and not sum(splice.growth for splice in wanted):
            wanted = (_fused(fd, wanted),)
        return cls(names=names, size=os.fstat(fd).st_size, splices=wanted)

    @property
    def inverse(self) -> "Rewrite":
        """The edits turned round."""
        growth = sum(splice.growth for splice in self.splices)
        return Rewrite(names=self.names, size=self.size + growth, splices=inverse(self.splices))

    def state(self, root: Root) -> State:
        """Look at each name."""
        found = {self._state_of(root, name) for name in self.names}
        if State.OTHER in found:
            return State.OTHER
        return State.PART if len(found) > 1 else found.pop()

    def require(self, fd: int) -> None:
        """Raise IntegrityError unless the old bytes stand in an open file."""
        if os.fstat(fd).st_size != self.size or first_other(fd, self.splices) is not None:
            raise IntegrityError(f"{self.names[0]}: was changed by somebody else")

    def room(self, root: Root) -> int:
        """Return the blocks of the old file, and what it grows by."""
        blocks = root.lstat(self.names[0]).st_blocks * 512
        return blocks + sum(len(splice.new) for splice in self.splices)

    def stage(self, root: Root, temp: str) -> None:
        """Write the new file, or link to it where a name has it already."""
        path = self.names[0]
        with named(path), root.parent(path) as (parent, _name):
            if done := self._done_name(root):
                with root.parent(done) as (there, name):
                    os.link(name, temp, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
                return
            target = os.open(temp, _CREATE | os.O_RDWR, 0o600, dir_fd=parent)
            try:
                self._write(root, target)
            finally:
                os.close(target)

    def _done_name(self, root: Root) -> str | None:
        """Return the name, of several, that a killed run let lead to the new file already."""
        several = self.names if len(self.names) > 1 else ()
        return next((name for name in several if self._state_of(root, name) == State.NEW), None)

    def _write(self, root: Root, target: int) -> None:
        path = self.names[0]
        with root.reading(path) as source:
            before = os.fstat(source)
            self.require(source)
            inode.fill(source, target, self.splices, subject=path)
            inode.dress(source, target, before, subject=path)
            after = os.fstat(source)
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            raise IntegrityError(f"{path}: was changed by somebody else while it was copied")

    def commit(self, root: Root, temp: str) -> None:
        """Let each name lead to the new file; one name at a time, each at once."""
        path = self.names[0]
        with named(path), root.parent(path) as (parent, name):
            for alias in self.names[1:]:
                if self._state_of(root, alias) == State.OLD:
                    _link_over(root, parent, temp, alias)
            if self._state_of(root, path) == State.OLD:
                os.rename(temp, name, src_dir_fd=parent, dst_dir_fd=parent)
                return
            os.unlink(temp, dir_fd=parent)

    def _state_of(self, root: Root, path: str) -> State:
        growth = sum(splice.growth for splice in self.splices)
        try:
            with root.reading(path) as fd:
                info = os.fstat(fd)
                if not stat.S_ISREG(info.st_mode):
                    return State.OTHER
                if info.st_size == self.size and first_other(fd, self.splices) is None:
                    return State.OLD
                if info.st_size == self.size + growth and first_other(fd, inverse(self.splices)) is None:
                    return State.NEW
        except (FileNotFoundError, NotADirectoryError):
            return State.OTHER
        except OSError as error:
            if stat.S_ISREG(root.lstat(path).st_mode):
                raise OSError(error.errno, error.strerror, path) from error
        return State.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Retarget:
    """Let a symbolic link lead elsewhere."""

    path: str
    old: bytes
    new: bytes

    @property
    def names(self) -> tuple[str, ...]:
        """The link's path."""
        return (self.path,)

    @property
    def inverse(self) -> "Retarget":
        """The way back."""
        return Retarget(path=self.path, old=self.new, new=self.old)

    def state(self, root: Root) -> State:
        """Read the link."""
        try:
            target = root.readlink(self.path)
        except OSError:
            return State.OTHER
        return {self.new: State.NEW, self.old: State.OLD}.get(target, State.OTHER)

    def room(self, _root: Root) -> int:
        """Return a block: a long target takes one."""
        return 4096

    def stage(self, root: Root, temp: str) -> None:
        """Make the link with the old one's owner and times."""
        with named(self.path), root.parent(self.path) as (parent, name):
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            os.symlink(self.new, os.fsencode(temp), dir_fd=parent)
            with contextlib.suppress(OSError):  # where we may
                os.chown(temp, info.st_uid, info.st_gid, dir_fd=parent, follow_symlinks=False)
            times = (info.st_atime_ns, info.st_mtime_ns)
            os.utime(temp, ns=times, dir_fd=parent, follow_symlinks=False)

    def commit(self, root: Root, temp: str) -> None:
        """Rename it over the old one."""
        _rename(root, self.path, temp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Add a file."""

    path: str
    content: bytes
    mode: int

    @property
    def names(self) -> tuple[str, ...]:
        """The file's path."""
        return (self.path,)

    @property
    def inverse(self) -> "Remove":
        """The removal of what was added."""
        return Remove(path=self.path, content=self.content, mode=self.mode)

    def state(self, root: Root) -> State:
        """See whether nothing is there, or that file."""
        try:
            info = root.lstat(self.path)
        except FileNotFoundError:
            return State.OLD
        if not stat.S_ISREG(info.st_mode) or info.st_size != len(self.content):
            return State.OTHER
        with root.reading(self.path) as fd:
            same = os.pread(fd, len(self.content) + 1, 0) == self.content
        return State.NEW if same else State.OTHER

    def room(self, _root: Root) -> int:
        """Return its size in blocks."""
        return len(self.content) + 4096

    def stage(self, root: Root, temp: str) -> None:
        """Write it."""
        with named(self.path), root.parent(self.path) as (parent, _name):
            fd = os.open(temp, _CREATE | os.O_WRONLY, 0o600, dir_fd=parent)
            with open(fd, "wb") as file:
                file.write(self.content)
                file.flush()
                os.fchmod(fd, self.mode & 0o777)

    def commit(self, root: Root, temp: str) -> None:
        """Rename it to its place."""
        _rename(root, self.path, temp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Take an added file away again."""

    path: str
    content: bytes
    mode: int

    @property
    def names(self) -> tuple[str, ...]:
        """The file's path."""
        return (self.path,)

    @property
    def inverse(self) -> Create:
        """The addition."""
        return Create(path=self.path, content=self.content, mode=self.mode)

    def state(self, root: Root) -> State:
        """See whether the file is there still."""
        return {State.OLD: State.NEW, State.NEW: State.OLD}.get(self.inverse.state(root), State.OTHER)

    def room(self, _root: Root) -> int:
        """Return nothing."""
        return 0

    def stage(self, _root: Root, _temp: str) -> None:
        """Make nothing."""

    def commit(self, root: Root, _temp: str) -> None:
        """Remove the file."""
        root.remove(self.path)


_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def beside(path: str, name: str) -> str:
    """Return the path of `name` in the directory of `path`."""
    directory, slash, _last = path.rpartition("/")
    return f"{directory}{slash}{name}"


def first_other(fd: int, splices: Sequence[Splice]) -> int | None:
    """Return the offset of the first place of an open file where the old bytes do not stand; None: all do."""
    for splice in splices:
        if os.pread(fd, len(splice.old), splice.offset) != splice.old:
            return splice.offset
    return None


def sweep(root: Root, step: Step, temp: str) -> None:
    """Remove what a killed run staged for a step."""
    for name in step.names:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            root.remove(beside(name, temp))
            root.remove(beside(name, temp + _ALIAS))


def _fused(fd: int, splices: Sequence[Splice]) -> Splice:
    """Return one edit for several: from the first to the last, with what lies between them."""
    parts, done = [], splices[0].offset
    for splice in splices:
        parts += [os.pread(fd, splice.offset - done, done), splice.new]
        done = splice.end
    begin = splices[0].offset
    return Splice(offset=begin, old=os.pread(fd, done - begin, begin), new=b"".join(parts))


_ALIAS = "~"


def _link_over(root: Root, parent: int, temp: str, alias: str) -> None:
    """Let `alias` be a hard link to the staged file."""
    with named(alias), root.parent(alias) as (there, name):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp + _ALIAS, dir_fd=there)
        os.link(temp, temp + _ALIAS, src_dir_fd=parent, dst_dir_fd=there, follow_symlinks=False)
        os.rename(temp + _ALIAS, name, src_dir_fd=there, dst_dir_fd=there)


def _rename(root: Root, path: str, temp: str) -> None:
    with named(path), root.parent(path) as (parent, name):
        os.rename(temp, name, src_dir_fd=parent, dst_dir_fd=parent)
