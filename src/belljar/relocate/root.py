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
from dataclasses import dataclass
from pathlib import Path

from belljar.errors import HostError, InputError

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
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
    """An open directory, `fd`, and the path it was opened by, for messages."""

    path: Path
    fd: int

    @contextlib.contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the directory that holds `path`; yields it and the last component. No link is followed."""
        *parts, name = path.split("/")
        fd = os.open(".", _STEP, dir_fd=self.fd)
        try:
            for part in parts:
                inner = os.open(part, _STEP, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd, name
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[int]:
        """Open a file or directory for reading, without waiting for a FIFO's other end."""
        with self.parent(path or ".") as (parent, name):
            fd = os.open(name, _READ, dir_fd=parent)
        try:
            yield fd
        finally:
            os.close(fd)

    def lstat(self, path: str) -> os.stat_result:
        """Return what lstat(2) says of a path."""
        with self.parent(path or ".") as (parent, name):
            return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def readlink(self, path: str) -> bytes:
        """Return a symbolic link's target."""
        with self.parent(path) as (parent, name):
            return os.fsencode(os.readlink(name, dir_fd=parent))

    def remove(self, path: str) -> None:
        """Remove a file or link, if it is there."""
        with contextlib.suppress(FileNotFoundError), self.parent(path) as (parent, name):
            os.unlink(name, dir_fd=parent)

    def is_writable(self, directory: str) -> bool:
        """Whether names can be changed in a directory just now."""
        with self.parent(directory or ".") as (parent, name):
            return os.access(
                name, os.W_OK | os.X_OK, dir_fd=parent, effective_ids=os.geteuid() != os.getuid()
            )

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
    try:
        yield Root(path=tree, fd=fd)
    except OSError as error:
        raise trouble(error, tree) from error
    finally:
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
