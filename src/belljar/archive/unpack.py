"""Unpacking archives so that nothing lands outside the directory, whatever they hold.

Hostile archives name `../x`, absolute paths, a link to a directory outside and then a file through
it, devices, hard links to other people's files, and sizes that fill the disk. The parsers (`members`)
say what an archive holds; this file checks it and writes it, itself: every name is split into its
components, each of which is opened from the one before it without following a link (openat(2) with
O_NOFOLLOW), so that a path cannot lead elsewhere even if the tree changes under our hands. Links are
kept as data, never followed; hard links are made only to files that lie in the tree.

What is written is normal: modes 0644 and 0755, the time that the caller says, the caller as owner, no
set-user-ID. A later member replaces an earlier file of its name, never a directory.

A crash leaves a partial tree: callers unpack into a staging directory and rename it.
"""

import contextlib
import dataclasses
import errno
import os
import secrets
import stat
from pathlib import Path

from belljar import fsys
from belljar.archive.members import Member, Type, members
from belljar.errors import InputError

SIZE_LIMIT = 64 << 30
"""How many bytes an archive may unpack to, unless the caller says otherwise."""
MEMBER_LIMIT = 5_000_000
"""How many members an archive may have."""

_MERGED = (b"bin", b"sbin", b"lib", b"lib64")
_OPEN_DIRECTORIES = 64
_NAME_LIMIT = 255
_PATH_LIMIT = 4095
_DEPTH_LIMIT = 128

Parts = tuple[bytes, ...]


def unpack(
    archive: Path,
    into: Path,
    *,
    mtime: int,
    strip_top: bool = False,
    merged_usr: bool = False,
    limit: int = SIZE_LIMIT,
) -> None:
    """Unpack an archive (tar, plain or in gzip, bzip2, xz, zstd; zip; deb) into a directory.

    `mtime`, in seconds since 1970, becomes the time of all that is written. With `strip_top`, if the
    archive holds one directory and nothing beside it, that directory's content is put in `into`, which
    must be empty before. With `merged_usr`, `bin`, `sbin`, `lib` and `lib64` are links into `usr`, and
    what an archive has below them goes there. Raises InputError, naming the member, for an archive that
    is damaged, of unknown format, or hostile, or whose content exceeds `limit` bytes; HostError when
    the disk does not take it.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        with _Tree(into, mtime) as tree:
            if merged_usr:
                _make_aliases(tree)
            _write(archive, tree, merged_usr=merged_usr, limit=limit)
        if strip_top:
            _strip_top(into, mtime)
    except _RefusedError as error:
        raise InputError(f"{archive.name}: {error}") from None
    except OSError as error:
        raise fsys.explained(error, into) from error


class _RefusedError(Exception):
    """A member that must not be written; the message names it."""


def split(name: bytes) -> Parts:
    """Return the components of a member's name; none for the root of the tree itself."""
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if name.startswith(b"/"):
        what = "an absolute path"
    elif b".." in parts:
        what = "leads upwards"
    elif b"\0" in name:
        what = "holds a NUL"
    elif len(name) > _PATH_LIMIT or len(parts) > _DEPTH_LIMIT or any(len(p) > _NAME_LIMIT for p in parts):
        what = "too long or too deep"
    else:
        return parts
    raise _RefusedError(f"{_show(name)}: {what}")


def _show(name: bytes) -> str:
    text = name.decode("utf-8", "backslashreplace").replace("\0", "\\0")
    return text if len(text) <= 200 else f"{text[:200]}..."


def _write(archive: Path, tree: "_Tree", *, merged_usr: bool, limit: int) -> None:
    left = limit
    for number, member in enumerate(members(archive)):
        left -= member.size
        if left < 0 or number >= MEMBER_LIMIT:
            what = f"{limit} bytes" if left < 0 else f"{MEMBER_LIMIT} members"
            raise _RefusedError(f"{_show(member.name)}: more than {what} in all")
        moved = _merged(member) if merged_usr else member
        if moved is not None and (parts := split(moved.name)):
            tree.add(moved, parts)


def _merged(member: Member) -> Member | None:
    """Return a member as it must be in a merged-/usr tree; None for a link that is there already."""
    target = member.target
    if member.type is Type.HARD_LINK and split(target)[:1] and split(target)[0] in _MERGED:
        target = b"usr/" + b"/".join(split(target))
    parts = split(member.name)
    if not parts or parts[0] not in _MERGED:
        return dataclasses.replace(member, target=target)
    if len(parts) == 1 and member.type is not Type.DIRECTORY:
        if member.type is Type.LINK and target.strip(b"/") == b"usr/" + parts[0]:
            return None
        raise _RefusedError(f"{_show(member.name)}: stands where a link into usr must be")
    if member.type is Type.LINK and _climbs(target, len(parts) - 1):
        target = b"../" + target
    return dataclasses.replace(member, name=b"usr/" + b"/".join(parts), target=target)


def _climbs(target: bytes, depth: int) -> bool:
    """Whether a link that lies `depth` directories deep leads through the root of the tree."""
    if target.startswith(b"/"):
        return False
    for part in target.split(b"/"):
        if part == b"..":
            depth -= 1
        elif part not in (b"", b"."):
            depth += 1
        if depth <= 0:
            return True
    return False


class _Tree:
    """A directory that is being filled; every write goes through a descriptor of its parent."""

    def __init__(self, root: Path, mtime: int) -> None:
        self._mtime = mtime
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[Parts, int] = {}
        self._touched: dict[Parts, None] = {(): None}

    def __enter__(self) -> "_Tree":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        try:
            if error is None:
                self._set_times()
        finally:
            for descriptor in (*self._open.values(), self._root):
                os.close(descriptor)

    def add(self, member: Member, parts: Parts) -> None:
        """Write a member at `parts`. Raises _RefusedError when it must not be there."""
        self._forget_old()
        try:
            if member.type is Type.DIRECTORY:
                self.directory(parts)
                return
            parent = self.directory(parts[:-1])
            with contextlib.suppress(FileNotFoundError):
                os.unlink(parts[-1], dir_fd=parent)
            self._make(member, parts[-1], parent)
        except (NotADirectoryError, IsADirectoryError) as error:
            what = (
                "leads through a link or a file" if error.errno == errno.ENOTDIR else "a directory is there"
            )
            raise _RefusedError(f"{_show(member.name)}: {what}") from error

    def directory(self, parts: Parts) -> int:
        """Return a descriptor of a directory, making it and those above it; links are not followed."""
        known = len(parts)
        while known and parts[:known] not in self._open:
            known -= 1
        descriptor = self._open[parts[:known]] if known else self._root
        for depth in range(known, len(parts)):
            descriptor = self._enter(parts[: depth + 1], descriptor)
        return descriptor

    def link(self, name: bytes, target: bytes, parent: int) -> None:
        """Make a symbolic link in the directory `parent`."""
        os.symlink(target, name, dir_fd=parent)
        os.utime(name, (self._mtime, self._mtime), dir_fd=parent, follow_symlinks=False)

    def _enter(self, parts: Parts, parent: int) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(parts[-1], 0o755, dir_fd=parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, dir_fd=parent)
        self._open[parts] = descriptor
        self._touched[parts] = None
        os.fchmod(descriptor, 0o755)
        return descriptor

    def _forget_old(self) -> None:
        """Close the directories that were opened first, when many are open."""
        while len(self._open) > _OPEN_DIRECTORIES:
            os.close(self._open.pop(next(iter(self._open))))

    def _make(self, member: Member, name: bytes, parent: int) -> None:
        if member.type is Type.FILE:
            self._file(member, name, parent)
        elif member.type is Type.HARD_LINK:
            self._hard_link(member, name, parent)
        elif not member.target or b"\0" in member.target or len(member.target) > _PATH_LIMIT:
            raise _RefusedError(f"{_show(member.name)}: its target cannot be that of a link")
        else:
            self.link(name, member.target, parent)

    def _file(self, member: Member, name: bytes, parent: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        with open(descriptor, "wb", buffering=0) as file:
            for chunk in member.chunks():
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
            os.fchmod(descriptor, 0o755 if member.executable else 0o644)
            os.utime(descriptor, (self._mtime, self._mtime))

    def _hard_link(self, member: Member, name: bytes, parent: int) -> None:
        *above, last = split(member.target) or (b"",)
        source = self.directory(tuple(above))
        try:
            info = os.stat(last, dir_fd=source, follow_symlinks=False)
        except FileNotFoundError:
            info = None
        if info is None or not stat.S_ISREG(info.st_mode):
            target = _show(member.target)
            raise _RefusedError(f"{_show(member.name)}: a hard link to {target}, which is no file here")
        os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _set_times(self) -> None:
        for parts in self._touched:
            self._forget_old()
            os.utime(self.directory(parts), (self._mtime, self._mtime))


def _make_aliases(tree: _Tree) -> None:
    """Make the links of a merged-/usr tree. Raises _RefusedError when something else is there."""
    root = tree.directory(())
    for name in _MERGED:
        tree.directory((b"usr", name))
        try:
            tree.link(name, b"usr/" + name, root)
        except FileExistsError as error:
            try:
                is_alias = os.readlink(name, dir_fd=root) == b"usr/" + name
            except OSError:
                is_alias = False
            if not is_alias:
                raise _RefusedError(f"{_show(name)}: the directory has another one") from error


def _strip_top(into: Path, mtime: int) -> None:
    """Put the content of the only directory in its place; do nothing when there is more than that."""
    names = os.listdir(into)
    if len(names) != 1 or (into / names[0]).is_symlink() or not (into / names[0]).is_dir():
        return
    top = into / f".{secrets.token_hex(8)}"
    (into / names[0]).rename(top)
    for name in os.listdir(top):
        (top / name).rename(into / name)
    top.rmdir()
    os.utime(into, (mtime, mtime))
