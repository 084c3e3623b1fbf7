"""Files: atomic writes, sorted walks, locks, staging directories, removal of read-only trees.

Paths inside a tree are relative `str` with undecodable bytes kept (os.fsdecode), in the order of
their bytes, so that two machines walk a tree alike whatever their filesystems say.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from belljar.errors import HostError
from belljar.types import Digest

CHUNK = 1 << 20
"""How many bytes are read at a time."""


class Entry(NamedTuple):
    """One name in a tree: its path relative to the tree's root, and what lstat says of it."""

    path: str
    info: os.stat_result

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.info.st_mode)

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.info.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.info.st_mode)

    @property
    def is_executable(self) -> bool:
        """Whether its owner may execute it."""
        return bool(self.info.st_mode & stat.S_IXUSR)


def walk(root: Path, *, enter: Callable[[Entry], bool] | None = None) -> Iterator[Entry]:
    """Yield everything below `root`, parents first, siblings in byte order; links are not followed.

    `enter` decides of each entry whether it is yielded (and, of a directory, gone into).
    """
    pending = [""]
    while pending:
        relative = pending.pop()
        with os.scandir(root / relative) as listing:
            found = sorted(listing, key=lambda item: os.fsencode(item.name))
        children = []
        for item in found:
            path = f"{relative}/{item.name}" if relative else item.name
            entry = Entry(path=path, info=item.stat(follow_symlinks=False))
            if enter is not None and not enter(entry):
                continue
            yield entry
            if entry.is_dir:
                children.append(path)
        pending.extend(reversed(children))


def sha256(path: Path) -> Digest:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())


def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Put `data` at `path` so that readers see the old content or the new, never a part.

    Raises HostError when there is no space or no permission.
    """
    content = data.encode() if isinstance(data, str) else data
    with _explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def destination(path: Path) -> Callable[[bytes | str], None]:
    """Return what puts content at `path`: into the device, pipe or open file that is there, else atomically.

    That is opened now, so that nothing which takes its place later is written into. Raises HostError.
    """
    is_named = any(path.absolute().is_relative_to(top) for top in ("/dev", "/proc"))
    if not is_named and (path.is_file() or not path.exists()):
        return functools.partial(write_atomic, path)
    with _explain(path):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def put(data: bytes | str) -> None:
        with _explain(path), os.fdopen(opened, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)

    return put


def remove_tree(path: Path) -> None:
    """Remove a tree, read-only directories included, however deep; a path that is not there is no error.

    What lies deeper is moved up before it is emptied: no path grows, nothing recurses.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    path.chmod(0o700)
    pending = [path]
    while pending:
        place = pending.pop()
        for item in list(os.scandir(place)):
            if not item.is_dir(follow_symlinks=False):
                os.unlink(item.path)
                continue
            os.chmod(item.path, 0o700)
            up = Path(item.path) if place == path else path / os.urandom(16).hex()
            os.rename(item.path, up)
            pending.append(up)
        if place != path:
            place.rmdir()
    path.rmdir()


def make_read_only(root: Path) -> None:
    """Take all write permission from a tree: files to 0444 or 0555, directories to 0555."""
    for entry in walk(root):
        if entry.is_link:
            continue
        mode = 0o555 if entry.is_dir or entry.is_executable else 0o444
        os.chmod(root / entry.path, mode)
    root.chmod(0o555)


@contextlib.contextmanager
def locked(
    path: Path, *, on_wait: Callable[[], None] | None = None, shared: bool = False
) -> Iterator[BinaryIO]:
    """Hold an advisory lock on `path` (created where it is missing); `on_wait` is called before waiting.

    The lock goes with the process, however it ends.
    """
    with _locked_file(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, on_wait) as file:
        yield file


def _locked_file(path: Path, kind: int, on_wait: Callable[[], None] | None) -> BinaryIO:
    """Return the locked file, opened anew where its last owner removed it before it was ours."""
    while True:
        with _explain(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
        try:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is not None:
                    on_wait()
                fcntl.flock(file, kind)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()


@contextlib.contextmanager
def staging(parent: Path, *, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Make a private directory below `parent` and remove it at the end, unless `keep` says otherwise.

    A lock is held on it; what a killed process left behind is swept away by the next one.
    """
    with _explain(parent):
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        path = parent / os.urandom(6).hex()
        lock = parent / f"{path.name}.lock"
    with locked(lock):
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            if not keep():
                remove_tree(path)
            lock.unlink(missing_ok=True)


def sweep(parent: Path) -> None:
    """Remove the staging directories below `parent` whose owner is gone: those whose lock can be had."""
    for lock in parent.glob("*.lock"):
        remove_lock(lock, functools.partial(remove_tree, lock.with_suffix("")))


def remove_lock(path: Path, before: Callable[[], None] = lambda: None) -> None:
    """Remove a lock file that nobody holds, having called `before` while it was held; else do nothing."""
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        before()
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Turn the errors that a user can mend into words."""
    try:
        yield
    except OSError as error:
        raise explained(error, path) from error


def explained(error: OSError, path: Path) -> HostError:
    """Return what an OSError at `path` means to a user, as a HostError with a hint."""
    hints = {
        errno.ENOSPC: "free some space there, or choose another filesystem (BELLJAR_HOME, --to)",
        errno.EDQUOT: "your quota there is used up; choose another filesystem (BELLJAR_HOME, --to)",
        errno.EROFS: "the filesystem is read-only; choose another one (BELLJAR_HOME, --to)",
        errno.EACCES: "you may not write there; choose a directory of yours (BELLJAR_HOME, --to)",
    }
    subject = error.filename if isinstance(error.filename, str) else str(path)
    return HostError(f"{subject}: {error.strerror or error}", hint=hints.get(error.errno or 0))
