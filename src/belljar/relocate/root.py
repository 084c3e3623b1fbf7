"""A tree that is held by a descriptor, so that nothing outside of it can be reached.

Whoever may write in a tree can swap a directory for a symbolic link while we work there, perhaps as
root. Therefore no path is given to the kernel whole: each directory is opened from its parent without
following links (openat(2), O_NOFOLLOW), and every operation names one component below an open directory.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from belljar.errors import HostError, InputError

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HELD = 32
"""How many directories stay open; more than any caller uses at a time."""
_HINTS = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "your quota there is used up",
    errno.EFBIG: "the file is larger than the limit that is set for this process (ulimit -f)",
    errno.EROFS: "the filesystem is read-only; relocate to another directory (--output)",
    errno.EACCES: "do it as the user who owns the tree, or relocate a copy of yours (--output)",
    errno.EPERM: "do it as the user who owns the tree, or relocate a copy of yours (--output)",
    errno.ENOTDIR: "a directory of the tree became something else while it was relocated",
    errno.ELOOP: "a file of the tree became a symbolic link while it was relocated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """An open directory, `fd`, and the path it was opened by, for messages.

    Those directories below it that were used last stay open, so that a path costs one call, not one for
    each component. For one thread; another one, or who wants to look anew, takes a Root `apart`.
    """

    path: Path
    fd: int
    held: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def directory(self, path: str) -> int:
        """Return a descriptor, which stays ours, of a directory; no link is followed."""
        if not path:
            return self.fd
        fd = self.held.pop(path, None)
        if fd is None:
            fd = self._open(path)
        self.held[path] = fd  # the last one
        if len(self.held) > _HELD:
            os.close(self.held.pop(next(iter(self.held))))
        return fd

    def _open(self, path: str) -> int:
        """Open a directory from the nearest one that is open."""
        known = path
        while known and known not in self.held:
            known = known.rpartition("/")[0]
        fd = kept = self.held.get(known, self.fd)
        for part in path[len(known) :].strip("/").split("/"):
            try:
                inner = os.open(part, _STEP, dir_fd=fd)
            finally:
                if fd != kept:
                    os.close(fd)
            fd = inner
        return fd

    def parent(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the directory that holds `path`, and the last component."""
        directory, _slash, name = path.rpartition("/")
        return self.directory(directory), name or "."

    def let_go(self) -> None:
        """Close the directories that are held."""
        while self.held:
            os.close(self.held.popitem()[1])

    @contextlib.contextmanager
    def apart(self) -> Iterator["Root"]:
        """Give a Root that opens its directories itself."""
        other = Root(path=self.path, fd=self.fd)
        try:
            yield other
        finally:
            other.let_go()

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[int]:
        """Open a file or directory for reading, without waiting for a FIFO's other end."""
        parent, name = self.parent(path)
        fd = os.open(name, _READ, dir_fd=parent)
        try:
            yield fd
        finally:
            os.close(fd)

    def lstat(self, path: str) -> os.stat_result:
        """Return what lstat(2) says of a path."""
        parent, name = self.parent(path)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def readlink(self, path: str) -> bytes:
        """Return a symbolic link's target."""
        parent, name = self.parent(path)
        return os.fsencode(os.readlink(name, dir_fd=parent))

    def remove(self, path: str) -> None:
        """Remove a file or link, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            parent, name = self.parent(path)
            os.unlink(name, dir_fd=parent)

    def is_writable(self, directory: str) -> bool:
        """Whether names can be changed in a directory just now."""
        parent, name = self.parent(directory)
        return os.access(name, os.W_OK | os.X_OK, dir_fd=parent, effective_ids=os.geteuid() != os.getuid())

    def set_directory(self, directory: str, mode: int, times: tuple[int, int] | None = None) -> None:
        """Give a directory its mode, and its (atime, mtime) in nanoseconds where it is ours."""
        with self.reading(directory) as fd:
            info = os.fstat(fd)
            if stat.S_IMODE(info.st_mode) != mode:
                os.fchmod(fd, mode)
            if times is not None and times[1] != info.st_mtime_ns:
                with contextlib.suppress(PermissionError):  # another's directory in which we may write
                    os.utime(fd, ns=times)


@contextlib.contextmanager
def opened(tree: Path) -> Iterator[Root]:
    """Hold the directory `tree` open; an OSError inside becomes a HostError with a hint.

    Raises InputError when it is not a directory.
    """
    try:
        fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{tree}: not a directory") from error
    except OSError as error:
        raise trouble(error, tree) from error
    root = Root(path=tree, fd=fd)
    try:
        yield root
    except OSError as error:
        raise trouble(error, tree) from error
    finally:
        root.let_go()
        os.close(fd)


def trouble(error: OSError, tree: Path) -> HostError:
    """Return what an OSError somewhere below `tree` means to a user."""
    name = error.filename if isinstance(error.filename, str) else ""
    subject = name if name.startswith("/") else f"{tree}: {name}" if name else str(tree)
    return HostError(f"{subject}: {error.strerror or error}", hint=_HINTS.get(error.errno or 0))


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Let an OSError inside name the whole path below the tree, not its last component."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = path, None
        raise
