"""From a plan to a record: everything that can be checked before the first write.

Every recorded place is read, every directory and file is asked whether it can be replaced by one that is
like it, and all that is wrong is told at once.
"""

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from belljar.errors import BelljarError, HostError, InputError, IntegrityError
from belljar.relocate import inode
from belljar.relocate.change import FileChange, LinkChange, NewFile, Plan
from belljar.relocate.journal import Directory, Record, is_inside
from belljar.relocate.root import Root, trouble
from belljar.relocate.steps import Retarget, Rewrite, Small, State, Step

_SHOWN = 10
_GETFLAGS = 0x80086601
"""FS_IOC_GETFLAGS of linux/fs.h, for a long of 8 bytes; see ioctl_iflags(2)."""
_FIXED = 0x10 | 0x20
"""FS_IMMUTABLE_FL and FS_APPEND_FL: not even root can rename over such a file."""

Change = FileChange | LinkChange | NewFile


@dataclass(slots=True, kw_only=True)
class _Findings:
    """What is wrong with a plan, and what a user should know."""

    problems: list[BelljarError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def prepare(root: Root, plan: Plan, *, writing: bool = True) -> Record:
    """Return the record of a plan for an open tree; nothing is written.

    Without `writing`, only what is read is checked. Raises InputError for a plan that makes no sense,
    IntegrityError when the tree is not the one that was planned for, HostError when it cannot be written.
    """
    _refuse_paths(plan)
    found = _Findings()
    steps: list[Step] = []
    for change in plan.changes:
        try:
            steps += _steps(root, change, found, writing)
        except BelljarError as error:
            found.problems.append(error)
        except OSError as error:
            found.problems.append(_unreadable(root, change, error))
    directories = {}
    if writing:
        directories = {path: Directory.of(root.lstat(path)) for path in _parents(steps)}
        found.problems += _closed(root, directories)
    if found.problems:
        raise _all(root, found.problems)
    return Record(
        key=os.urandom(6).hex(),
        tree=str(root.path),
        moves=tuple(plan.moves),
        steps=tuple(steps),
        directories=directories,
        notes=(*plan.notes, *found.notes),
    )


def _refuse_paths(plan: Plan) -> None:
    """Refuse paths that leave the tree or stand in the plan twice."""
    seen: set[str] = set()
    for change in plan.changes:
        names = (change.path, *change.aliases) if isinstance(change, FileChange) else (change.path,)
        for name in names:
            if not is_inside(name):
                raise InputError(f"{plan.tree}: {name!r} is not a path of the tree")
            if name in seen:
                raise InputError(f"{plan.tree}: {name}: stands in the plan twice")
            seen.add(name)


def _steps(root: Root, change: Change, found: _Findings, writing: bool) -> Iterator[Step]:
    match change:
        case FileChange():
            if step := _rewrite(root, change, found, writing):
                yield step
        case LinkChange():
            retarget = Retarget(path=change.path, old=change.old, new=change.new)
            if retarget.state(root) != State.OLD and change.old != change.new:
                raise IntegrityError(f"{change.path}: not the symbolic link that was planned for")
            if change.old != change.new:
                yield retarget
        case NewFile():
            added = Small(path=change.path, old=None, new=change.content, mode=change.mode)
            if added.state(root) != State.OLD:
                raise IntegrityError(f"{change.path}: is there already, where a new file was planned")
            yield added


def _rewrite(root: Root, change: FileChange, found: _Findings, writing: bool) -> Rewrite | None:
    names = (change.path, *change.aliases)
    with root.reading(change.path) as fd:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise IntegrityError(f"{change.path}: not a regular file")
        step = Rewrite.of(fd, names, change.splices)
        if step is None:
            return None
        if (offset := inode.first_other(fd, step.splices)) is not None:
            raise IntegrityError(f"{change.path}: offset {offset}: other bytes than the plan expects")
        if writing:
            _refuse_inode(fd, info, change.path)
    for alias in change.aliases:
        if not os.path.samestat(root.lstat(alias), info):
            raise IntegrityError(f"{alias}: no longer the same file as {change.path}")
    if writing:
        found.notes += _worth_knowing(info, names)
    return step


def _refuse_inode(fd: int, info: os.stat_result, path: str) -> None:
    if reason := inode.refusal(fd, info):
        raise HostError(f"{path}: {reason}", hint="do it as root")
    try:
        flags = int.from_bytes(fcntl.ioctl(fd, _GETFLAGS, bytes(8))[:4], "little")
    except OSError:  # a filesystem without such flags
        return
    if flags & _FIXED:
        raise HostError(f"{path}: is immutable or append-only (lsattr)", hint="chattr -i -a")


def _worth_knowing(info: os.stat_result, names: tuple[str, ...]) -> Iterator[str]:
    if (more := info.st_nlink - len(names)) > 0:
        which = (
            "1 hard link from outside the tree keeps" if more == 1 else f"{more} hard links from outside keep"
        )
        yield f"{which} the old file of {names[0]}"
    if os.geteuid() not in {0, info.st_uid}:
        yield f"user {os.geteuid()} becomes the owner of {names[0]}, instead of user {info.st_uid}"


def _parents(steps: Iterable[Step]) -> list[str]:
    found = {name.rpartition("/")[0] for step in steps for name in step.names}
    return sorted(found - {""})


def _closed(root: Root, directories: dict[str, Directory]) -> Iterator[BelljarError]:
    """Yield why directories cannot be written, nor opened for writing by us."""
    for path in directories:
        info = root.lstat(path)
        if not root.is_writable(path) and os.geteuid() != info.st_uid:
            error = OSError(13, "no permission to write", path)
            yield trouble(error, root.path)
        elif info.st_mode & stat.S_ISVTX and os.geteuid() not in {0, info.st_uid}:
            yield HostError(f"{path}: is sticky: files of others cannot be replaced in it")


def _unreadable(root: Root, change: Change, error: OSError) -> BelljarError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return IntegrityError(f"{change.path}: is not there, or its directory is a symbolic link")
    error.filename = change.path
    return trouble(error, root.path)


def _all(root: Root, problems: list[BelljarError]) -> BelljarError:
    """Return one error for all; its kind is that of the first."""
    lines = "\n".join(f"  {problem.message}" for problem in problems[:_SHOWN])
    more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return type(problems[0])(
        f"{root.path}: cannot be relocated; nothing was changed:\n{lines}{more}", hint=problems[0].hint
    )
