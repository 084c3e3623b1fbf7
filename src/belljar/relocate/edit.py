"""Edit ELF files on disk: each is wholly the old or wholly the new, and untouched where nothing changes.

The file is mapped, `belljar.elf.edit` says what to change, and a new inode takes the old one's name: a
program that runs from it goes on, other hard links keep the old content, and a process that is killed
leaves at most a hidden temporary file beside it. Owner, mode, times, extended attributes and holes are
kept (`relocate/inode.py`). A symbolic link is followed: the file behind it is edited.

There is no fsync for each file: after a power failure a filesystem may show the old content, or with
rename barriers switched off an incomplete one; who needs more calls sync(1) after the last file.
"""

import contextlib
import mmap
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from belljar import fsys
from belljar.elf import ElfError
from belljar.elf.edit import Edit, EditRefused, edit
from belljar.errors import InputError
from belljar.relocate import inode
from belljar.splice import Splice


def edit_file(
    path: Path, edits: Sequence[Edit], *, output: Path | None = None, write: bool = True
) -> tuple[Splice, ...]:
    """Make edits in a file (or in a copy of it at `output`), and return what changed; nothing if () is.

    Without `write` nothing is written. Raises InputError, which names the file, when it is no sound ELF
    file; EditRefused when an edit is not to be made; HostError when it cannot be written.
    """
    target = Path(os.path.realpath(path)) if output is None else output
    try:
        with contextlib.ExitStack() as stack:
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, source)
            info = os.fstat(source)
            splices = _splices(source, info, edits, path)
            if write and (splices or output is not None):
                _demand_keeping(source, info, path)
                _replace(source, info, target, splices)
            return splices
    except OSError as error:
        raise fsys.explained(error, path) from error


def _splices(source: int, info: os.stat_result, edits: Sequence[Edit], path: Path) -> tuple[Splice, ...]:
    if not stat.S_ISREG(info.st_mode):
        raise InputError(f"{path}: not a regular file")
    if not info.st_size:
        raise InputError(f"{path}: offset 0x0: not an ELF file")
    try:
        # Not closed: where an error is on its way, its frames still look into the map. It goes with them.
        return edit(memoryview(mmap.mmap(source, 0, access=mmap.ACCESS_READ)), edits)
    except EditRefused as error:
        raise EditRefused(f"{path}: {error.message}", hint=error.hint) from error
    except ElfError as error:
        raise InputError(f"{path}: {error.message}") from error


def _demand_keeping(source: int, info: os.stat_result, path: Path) -> None:
    reason = inode.refusal(source, info)
    if reason is not None:
        raise EditRefused(f"{path}: {reason}", hint="do it as root")


def _replace(source: int, info: os.stat_result, target: Path, splices: Sequence[Splice]) -> None:
    """Put the edited content at `target`, in one step."""
    temporary = target.with_name(f".{target.name[:200]}.{os.urandom(6).hex()}")
    made = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            inode.fill(source, made, splices, subject=str(target))
            inode.dress(source, made, info, subject=str(target))
        finally:
            os.close(made)
        os.rename(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
