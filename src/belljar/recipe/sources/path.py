"""path: a directory or file beside the recipe, read as it is when it is built.

It is not locked: it is versioned where the recipe is. What identifies it is the hash of its names,
contents, executable bits and links; times, owners and other modes do not count. Left out are the
directories of version control systems, `belljar.lock` (it is an output beside the input), and links
into a store, such as the `result` that a build leaves: neither may make the next build differ.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from belljar import fsys
from belljar.errors import InputError
from belljar.placeholder import TAIL
from belljar.types import Digest

_LEFT_OUT = frozenset({".git", ".hg", ".svn", ".jj", "belljar.lock"})


def entries(root: Path) -> Iterator[fsys.Entry]:
    """Yield what counts of a directory, in the order of `fsys.walk`.

    Raises InputError for what is no file, directory or link.
    """

    def enter(entry: fsys.Entry) -> bool:
        if os.path.basename(entry.path) in _LEFT_OUT:
            return False
        return not (entry.is_link and f"{TAIL}/" in os.readlink(root / entry.path))

    for entry in fsys.walk(root, enter=enter):
        if not (entry.is_file or entry.is_dir or entry.is_link):
            raise InputError(f"{root / entry.path}: neither a file, a directory nor a link")
        yield entry


def tree_digest(path: Path) -> Digest:
    """Return the hash of a `path` source: a directory's names and contents, or a file's content.

    Raises InputError when it is not there or cannot be read.
    """
    try:
        if path.is_dir():
            return _digest(path)
        return Digest(hashlib.sha256(f"file {_executable(path)} {fsys.sha256(path)}".encode()).hexdigest())
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror}") from error


def copy(source: Path, into: Path, *, mtime: int) -> None:
    """Copy what counts of a `path` source into the directory `into`: a file under its own name.

    Modes become 0644 or 0755, times `mtime` (seconds since 1970). Raises InputError as `tree_digest`.
    """
    try:
        if not source.is_dir():
            _copy_file(source, into / source.name, mtime)
            return
        directories = [into]
        for entry in entries(source):
            target = into / entry.path
            if entry.is_link:
                target.symlink_to(os.readlink(source / entry.path))
                os.utime(target, (mtime, mtime), follow_symlinks=False)
            elif entry.is_dir:
                target.mkdir(mode=0o755)
                directories.append(target)
            else:
                _copy_file(source / entry.path, target, mtime)
        for directory in directories:
            os.utime(directory, (mtime, mtime))
    except OSError as error:
        raise fsys.explained(error, into) from error


def _digest(root: Path) -> Digest:
    """Hash one record per entry; NUL ends each field, so that no two trees give the same text."""
    total = hashlib.sha256()
    for entry in entries(root):
        path = root / entry.path
        if entry.is_link:
            fields = ("link", entry.path, os.readlink(path))
        elif entry.is_dir:
            fields = ("dir", entry.path, "")
        else:
            fields = (f"file {_executable(path)}", entry.path, fsys.sha256(path))
        total.update(os.fsencode("\0".join(fields) + "\0"))
    return Digest(total.hexdigest())


def _copy_file(source: Path, target: Path, mtime: int) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o755 if _executable(source) else 0o644)
    os.utime(target, (mtime, mtime))


def _executable(path: Path) -> int:
    return path.stat().st_mode >> 6 & 1
