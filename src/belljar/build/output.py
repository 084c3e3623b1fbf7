"""Trees made the same everywhere, whatever the caller's umask and clock: kinds of file, modes, times.

It is done to all that a build sees (sources, environment) and to all that it leaves.
"""

import errno
import os
from pathlib import Path

from belljar import fsys
from belljar.errors import InputError

EPOCH = 315_619_200
"""The time that every file has, in seconds since 1970: 2 January 1980, which zip can say in any time zone."""


def normalise(tree: Path) -> int:
    """Give every file one time and no mode bits but the owner's execute bit; return how many files there are.

    Raises InputError for devices, sockets and pipes, which an artifact cannot hold, and for paths that
    are longer than the kernel takes.
    """
    try:
        return _normalise(tree)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise InputError(f"{tree.name}: holds paths of more than 4096 bytes") from error


def _normalise(tree: Path) -> int:
    files = 0
    strange = []
    tree.chmod(0o755)
    for entry in fsys.walk(tree):
        path = tree / entry.path
        if not (entry.is_file or entry.is_dir or entry.is_link):
            strange.append(entry.path)
            continue
        if not entry.is_link:
            # Writable for now: references are still to be rewritten. setuid and setgid go.
            path.chmod(0o755 if entry.is_dir or entry.is_executable else 0o644)
            files += entry.is_file
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    os.utime(tree, (EPOCH, EPOCH))
    if strange:
        raise InputError(
            f"{strange[0]}: a device, socket or pipe ({len(strange)} in all)",
            hint="an artifact holds files, directories and symbolic links; remove it in the build script",
        )
    return files


def settle(tree: Path) -> None:
    """Give every directory and file its one time again, after the tree was written to."""
    for entry in fsys.walk(tree):
        os.utime(tree / entry.path, (EPOCH, EPOCH), follow_symlinks=False)
    os.utime(tree, (EPOCH, EPOCH))
