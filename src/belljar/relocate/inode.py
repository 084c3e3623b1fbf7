"""A new inode that is like an old one, but for some edits.

The kernel copies (copy_file_range(2), which shares blocks where the filesystem can), holes stay holes,
then only the edits are written: no file passes through this process whole, whatever its size.

Kept: owner and group (where we may), mode with its set-ID bits, extended attributes with ACLs and file
capabilities, both times. Not kept: the labels of integrity measurement (security.ima, security.evm), which
sign the bytes that change, and the inode's flags of chattr(1).

The modification time is kept because a `.pyc` records that of its `.py` (PEP 552): an equal-length edit
leaves it valid, where a new time would make Python compile all again, or fail to, in a tree that is
read-only. The price: tools that compare size and time only (rsync, make) do not see the change; ctime tells.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from belljar.errors import HostError, IntegrityError
from belljar.relocate.edits import Edits
from belljar.splice import Splice, spliced

CHUNK = 1 << 20
"""How many bytes pass through this process at a time."""
SMALL = 1 << 17
"""Files of fewer bytes are read and written: fewer calls than letting the kernel copy."""
_NEAR = 1 << 12
"""Edits with fewer bytes between them are compared and written together."""

_NO_COPY_RANGE = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY}
_NO_ATTRIBUTES = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EACCES}
_ACL = "system.posix_acl_access"
_CAPABILITY = "security.capability"
_SIGNED = {"security.ima", "security.evm"}
_SET_ID = stat.S_ISUID | stat.S_ISGID


def fill(source: int, target: int, splices: Sequence[Splice], *, subject: str) -> None:
    """Write the open file `source` with its edits made to the empty open file `target`.

    Raises IntegrityError when the old bytes do not stand there, or the source became shorter meanwhile.
    """
    info, edits = os.fstat(source), Edits.of(splices)
    if info.st_size <= SMALL and not _is_sparse(info):
        data = os.pread(source, info.st_size, 0)
        if len(data) < info.st_size:
            raise _shorter(subject)
        _write(target, spliced(data, edits, subject=subject), 0)
    elif edits.in_place:
        _copy(source, target, 0, info, info.st_size, subject)
        os.ftruncate(target, info.st_size)  # a hole at the end
        for begin, _old, new in runs(source, edits, subject=subject):
            _write(target, new, begin)
    else:
        _fill_moved(source, target, info, edits, subject)


def _fill_moved(source: int, target: int, info: os.stat_result, edits: Edits, subject: str) -> None:
    """Copy what is between the edits to where they move it."""
    done = shift = 0
    for begin, old, new in runs(source, edits, subject=subject):
        _copy(source, target, done, info, begin, subject, shift)
        _write(target, new, begin + shift)
        done, shift = begin + len(old), shift + len(new) - len(old)
    _copy(source, target, done, info, info.st_size, subject, shift)
    os.ftruncate(target, info.st_size + shift)


def runs(fd: int, splices: Iterable[Splice], *, subject: str) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield edits of an open file that are near each other as one: (offset, old bytes, new bytes).

    Raises IntegrityError, which names `subject` and the offset, where the old bytes do not stand.
    """
    for begin, old, group in _groups(fd, splices):
        if (other := _first_other(begin, old, group)) is not None:
            raise IntegrityError(f"{subject}: offset {other}: other bytes than the plan expects")
        parts, done = [], 0
        for splice in group:
            parts += [old[done : splice.offset - begin], splice.new]
            done = splice.end - begin
        yield begin, old, b"".join(parts)


def first_other(fd: int, splices: Iterable[Splice]) -> int | None:
    """Return the offset of the first place of an open file where the old bytes do not stand; None: all do."""
    found = (_first_other(*group) for group in _groups(fd, splices))
    return next((other for other in found if other is not None), None)


def _first_other(begin: int, data: bytes, group: Iterable[Splice]) -> int | None:
    for splice in group:
        if data[splice.offset - begin : splice.end - begin] != splice.old:
            return splice.offset
    return None


def _groups(fd: int, splices: Iterable[Splice]) -> Iterator[tuple[int, bytes, list[Splice]]]:
    """Yield edits in groups that are near each other, with where they begin and what stands there."""
    group: list[Splice] = []
    size = 0
    for splice in splices:
        if group and (splice.offset > group[-1].end + _NEAR or size > CHUNK):
            yield _group(fd, group)
            group, size = [], 0
        size += splice.offset - (group[-1].end if group else splice.offset) + len(splice.old + splice.new)
        group.append(splice)
    if group:
        yield _group(fd, group)


def _group(fd: int, group: list[Splice]) -> tuple[int, bytes, list[Splice]]:
    begin = group[0].offset
    return begin, os.pread(fd, group[-1].end - begin, begin), group


def dress(source: int, target: int, info: os.stat_result, *, subject: str) -> None:
    """Give the open file `target` the owner, attributes, mode and times of the open file `source`.

    In this order: a change of owner clears the set-ID bits and capabilities, and an ACL sets mode bits.
    Raises HostError when privileges that the file gives cannot be kept.
    """
    _give_owner(target, info, subject)
    _copy_attributes(source, target, subject)
    os.fchmod(target, stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))


def refusal(fd: int, info: os.stat_result) -> str | None:
    """Return why a new inode could not be like this open file, as far as can be said before: or None."""
    if os.geteuid() == 0:
        return None
    groups = {os.getegid(), *os.getgroups()}
    if info.st_mode & _SET_ID and (info.st_uid != os.geteuid() or info.st_gid not in groups):
        return "has set-ID bits and another owner, which only root can give again"
    if _CAPABILITY in attributes(fd):
        return "has file capabilities, which only root can give again"
    return None


def attributes(fd: int) -> list[str]:
    """Return the names of an open file's extended attributes; none where there are no such things."""
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return []
        raise


def _give_owner(target: int, info: os.stat_result, subject: str) -> None:
    own = os.fstat(target)
    if (own.st_uid, own.st_gid) == (info.st_uid, info.st_gid):
        return
    try:
        os.fchown(target, info.st_uid, info.st_gid)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EINVAL}:
            raise
        if info.st_mode & _SET_ID:
            raise _lost(subject, "set-ID bits and another owner") from error
        with contextlib.suppress(OSError):
            os.fchown(target, -1, info.st_gid)


def _copy_attributes(source: int, target: int, subject: str) -> None:
    wanted = [name for name in attributes(source) if name not in _SIGNED]
    if _ACL not in wanted and _ACL in attributes(target):
        os.removexattr(target, _ACL)  # inherited from the directory's default
    for name in wanted:
        value = os.getxattr(source, name)
        try:
            os.setxattr(target, name, value)
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTES:
                raise
            if name == _CAPABILITY:
                raise _lost(subject, "file capabilities") from error
            if not name.startswith("security."):  # labels are the policy's to give
                raise


def _lost(subject: str, what: str) -> HostError:
    return HostError(f"{subject}: has {what}, which cannot be kept", hint="do it as root")


def _shorter(subject: str) -> IntegrityError:
    return IntegrityError(f"{subject}: became shorter while it was copied")


def _copy(
    source: int, target: int, begin: int, info: os.stat_result, end: int, subject: str, shift: int = 0
) -> None:
    """Copy what is data in bytes begin..end, `shift` bytes further on in the target."""
    for first, last in extents(source, info, begin, end):
        if _copy_range(source, target, first, last, shift) < last:
            raise _shorter(subject)


def extents(fd: int, info: os.stat_result, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the (begin, end) of what is data there: all of it, unless the file has holes."""
    while begin < end:
        first, last = _next_data(fd, begin, end) if _is_sparse(info) else (begin, end)
        if first >= end:
            return
        yield first, min(last, end)
        begin = last


def _is_sparse(info: os.stat_result) -> bool:
    return info.st_blocks * 512 < info.st_size


def _next_data(fd: int, begin: int, end: int) -> tuple[int, int]:
    try:
        first = os.lseek(fd, begin, os.SEEK_DATA)
        return first, os.lseek(fd, first, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole from here on
            return end, end
        return begin, end  # a filesystem that does not tell


def _copy_range(source: int, target: int, begin: int, end: int, shift: int) -> int:
    """Copy bytes begin..end, in the kernel where it can; return how far it got."""
    while begin < end:
        try:
            count = os.copy_file_range(source, target, end - begin, begin, begin + shift)
        except OSError as error:
            if error.errno not in _NO_COPY_RANGE:
                raise
            count = 0
        if not count:
            data = os.pread(source, min(end - begin, CHUNK), begin)
            count = _write(target, data, begin + shift)
        if not count:
            break
        begin += count
    return begin


def _write(fd: int, data: bytes, offset: int) -> int:
    """Write all of `data`; return how much that is."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, memoryview(data)[done:], offset + done)
    return done
