"""The steps that a relocation consists of: each on one inode, each of them knows where it stands.

A step is done in two moves. `stage` makes the new inode beside the old one, under a name that nobody else
uses; `commit` renames it over. So a reader finds the old bytes or the new; a program that runs from the
old inode keeps it until it ends. What was done is never remembered, only seen: `state` reads the recorded
places and says whether the old or the new bytes stand there. After a crash that is all one needs.

Old and new differ in size, or else in the bytes at some place which does not move: where edits move bytes
and yet keep the size, such a place is looked for. So no file can pass for both.
"""

import contextlib
import enum
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from belljar.errors import InputError, IntegrityError
from belljar.relocate import inode
from belljar.relocate.edits import Edits
from belljar.relocate.root import Root, named
from belljar.splice import Splice, inverse

Stamp = tuple[int, ...]
"""What changes whenever somebody else touches a file: device, inode, size, times of content and inode."""
_TOLD = 16  # bytes of a witness


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

    def stage(self, root: Root, temp: str) -> Stamp | None:
        """Make the new inode. Return what tells that the old one is still what was read, if anything does."""

    def commit(self, root: Root, temp: str, seen: Stamp | None = None) -> None:
        """Put the new inode in the place of the old one; `seen` is what `stage` returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """Edit a regular file of `size` bytes; `names` are its hard links, which stay one file.

    Where the edits move bytes and yet keep the size, `witness` is a place at which old and new differ.
    """

    names: tuple[str, ...]
    size: int
    splices: Edits
    witness: Splice | None = None

    @classmethod
    def of(cls, fd: int, names: tuple[str, ...], splices: Iterable[Splice]) -> "Rewrite | None":
        """Make the step for an open file; None when it is no change. Raises InputError when edits overlap."""
        try:
            edits = Edits.of(splices)
        except ValueError as error:
            raise InputError(f"{names[0]}: {error}") from error
        step = cls(names=names, size=os.fstat(fd).st_size, splices=edits)
        if edits.in_place or edits.growth:
            return step if edits else None
        witness = _witness(fd, edits, names[0])
        return replace(step, witness=witness) if witness else None

    @property
    def inverse(self) -> "Rewrite":
        """The edits turned round."""
        witness = self.witness and inverse([self.witness])[0]
        return Rewrite(names=self.names, size=self.new_size, splices=self.splices.inverse, witness=witness)

    @property
    def new_size(self) -> int:
        """How many bytes the file will have."""
        return self.size + self.splices.growth

    def state(self, root: Root) -> State:
        """Look at each name."""
        found = {self._state_of(root, name) for name in self.names}
        if State.OTHER in found:
            return State.OTHER
        return State.PART if len(found) > 1 else found.pop()

    def room(self, root: Root) -> int:
        """Return the blocks of the old file, and what it grows by; of a small one, without a look."""
        blocks = self.size + _BLOCK
        if self.size > inode.SMALL:
            blocks = root.lstat(self.names[0]).st_blocks * 512
        return blocks + max(0, self.splices.growth)

    def stage(self, root: Root, temp: str) -> Stamp | None:
        """Write the new file, or link to it where a name has it already."""
        path = self.names[0]
        with named(path):
            parent, _name = root.parent(path)
            if done := self._done_name(root):
                there, other = root.parent(done)
                os.link(other, temp, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
                return None
            target = os.open(temp, _CREATE | os.O_RDWR, 0o600, dir_fd=parent)
            try:
                with root.reading(path) as source:
                    return self._write(source, target)
            finally:
                os.close(target)

    def _done_name(self, root: Root) -> str | None:
        """Return the name, of several, that a killed run let lead to the new file already."""
        several = self.names if len(self.names) > 1 else ()
        return next((name for name in several if self._state_of(root, name) == State.NEW), None)

    def _write(self, source: int, target: int) -> Stamp:
        path, before = self.names[0], os.fstat(source)
        if before.st_size != self.size or inode.first_other(source, self.witnesses) is not None:
            raise IntegrityError(f"{path}: was changed by somebody else")
        inode.fill(source, target, self.splices, subject=path)
        inode.dress(source, target, before, subject=path)
        seen = _stamp(before)
        if _stamp(os.fstat(source)) != seen:
            raise IntegrityError(f"{path}: was changed by somebody else while it was copied")
        return seen

    def commit(self, root: Root, temp: str, seen: Stamp | None = None) -> None:
        """Let each name lead to the new file; one name at a time, each at once."""
        path = self.names[0]
        with named(path):
            parent, name = root.parent(path)
            for alias in self.names[1:]:
                if self._state_of(root, alias) == State.OLD:
                    _link_over(root, parent, temp, alias)
            if self._is_old(root, path, seen):
                os.rename(temp, name, src_dir_fd=parent, dst_dir_fd=parent)
            else:
                os.unlink(temp, dir_fd=parent)

    def _is_old(self, root: Root, path: str, seen: Stamp | None) -> bool:
        with contextlib.suppress(FileNotFoundError):
            if seen is not None and _stamp(root.lstat(path)) == seen:
                return True
        return self._state_of(root, path) == State.OLD

    def _state_of(self, root: Root, path: str) -> State:
        try:
            with root.reading(path) as fd:
                return self._look(fd, os.fstat(fd))
        except (FileNotFoundError, NotADirectoryError):
            return State.OTHER
        except OSError as error:
            if stat.S_ISREG(root.lstat(path).st_mode):
                raise OSError(error.errno, error.strerror, path) from error
        return State.OTHER

    def _look(self, fd: int, info: os.stat_result) -> State:
        """See which bytes stand in an open file."""
        if stat.S_ISREG(info.st_mode):
            if info.st_size == self.size and self.stands(fd):
                return State.OLD
            undone = self.inverse
            if info.st_size == undone.size and undone.stands(fd):
                return State.NEW
        return State.OTHER

    def stands(self, fd: int) -> bool:
        """Whether the old bytes stand at every place of an open file."""
        return all(inode.first_other(fd, places) is None for places in (self.witnesses, self.splices))

    @property
    def witnesses(self) -> tuple[Splice, ...]:
        """The witness, if there is one."""
        return () if self.witness is None else (self.witness,)


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
        return _BLOCK

    def stage(self, root: Root, temp: str) -> None:
        """Make the link with the old one's owner and times."""
        with named(self.path):
            parent, name = root.parent(self.path)
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            os.symlink(self.new, os.fsencode(temp), dir_fd=parent)
            with contextlib.suppress(OSError):  # where we may
                os.chown(temp, info.st_uid, info.st_gid, dir_fd=parent, follow_symlinks=False)
            times = (info.st_atime_ns, info.st_mtime_ns)
            os.utime(temp, ns=times, dir_fd=parent, follow_symlinks=False)

    def commit(self, root: Root, temp: str, _seen: Stamp | None = None) -> None:
        """Rename it over the old one."""
        _rename(root, self.path, temp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """Let a small file come or go: its content before and after, None where there is none."""

    path: str
    old: bytes | None
    new: bytes | None
    mode: int

    @property
    def names(self) -> tuple[str, ...]:
        """The file's path."""
        return (self.path,)

    @property
    def inverse(self) -> "Small":
        """The way back."""
        return replace(self, old=self.new, new=self.old)

    def state(self, root: Root) -> State:
        """Read what is there."""
        found = None
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(root.lstat(self.path).st_mode):
                return State.OTHER
            with root.reading(self.path) as fd:
                found = os.pread(fd, len(self.old or self.new or b"") + 1, 0)
        return {self.new: State.NEW, self.old: State.OLD}.get(found, State.OTHER)

    def room(self, _root: Root) -> int:
        """Return its size in blocks."""
        return len(self.new or b"") + _BLOCK

    def stage(self, root: Root, temp: str) -> None:
        """Write it, if it is to come."""
        if self.new is None:
            return
        with named(self.path):
            fd = os.open(temp, _CREATE | os.O_WRONLY, 0o600, dir_fd=root.parent(self.path)[0])
            with open(fd, "wb") as file:
                file.write(self.new)
                file.flush()
                os.fchmod(fd, self.mode & 0o777)

    def commit(self, root: Root, temp: str, _seen: Stamp | None = None) -> None:
        """Rename it to its place, or remove it."""
        if self.new is None:
            root.remove(self.path)
        else:
            _rename(root, self.path, temp)


_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 4096  # bytes: what the smallest file takes
_ALIAS = "~"


def sweep(root: Root, step: Step, temp: str) -> None:
    """Remove what a killed run staged for a step."""
    for name in step.names:
        directory, slash, _last = name.rpartition("/")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            root.remove(f"{directory}{slash}{temp}")
            root.remove(f"{directory}{slash}{temp}{_ALIAS}")


def _stamp(info: os.stat_result) -> Stamp:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _witness(fd: int, edits: Edits, path: str) -> Splice | None:
    """Return a place at which the old and the new content differ; None when they are equal."""
    for begin, new in _changed(fd, edits, path):
        old = os.pread(fd, len(new), begin)
        if old != new:
            at = next(at for at in range(len(new)) if old[at : at + 1] != new[at : at + 1])
            return Splice(offset=begin + at, old=old[at : at + _TOLD], new=new[at : at + _TOLD])
    return None


def _changed(fd: int, edits: Edits, path: str) -> Iterator[tuple[int, bytes]]:
    """Yield the new content from the first edit to the last, and where it stands in the new file."""
    done, shift = edits.offsets[0], 0
    for begin, old, new in inode.runs(fd, edits, subject=path):
        while done < begin and (chunk := os.pread(fd, min(inode.CHUNK, begin - done), done)):
            yield done + shift, chunk
            done += len(chunk)
        yield begin + shift, new
        done, shift = begin + len(old), shift + len(new) - len(old)


def _link_over(root: Root, parent: int, temp: str, alias: str) -> None:
    """Let `alias` be a hard link to the staged file."""
    with named(alias):
        there, name = root.parent(alias)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp + _ALIAS, dir_fd=there)
        os.link(temp, temp + _ALIAS, src_dir_fd=parent, dst_dir_fd=there, follow_symlinks=False)
        os.rename(temp + _ALIAS, name, src_dir_fd=there, dst_dir_fd=there)


def _rename(root: Root, path: str, temp: str) -> None:
    with named(path):
        parent, name = root.parent(path)
        os.rename(temp, name, src_dir_fd=parent, dst_dir_fd=parent)
