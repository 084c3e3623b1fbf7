"""The project: which directory it may be, what of it may be written, and what a build must not leave in it.

Everything is read-only but the outputs. Where the whole project is the output (make builds beside its
sources), the data of version control stays read-only: a hook or an alias planted in `.git` would run
later, outside, as the user. A missing output is made; one that is a link is refused, for it could lead
anywhere.
"""

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from belljar.errors import InputError, UsageError
from belljar.hermetic.request import PROJECT
from belljar.sandbox import Bind

VERSION_CONTROL = (".git", ".hg", ".svn", ".jj", ".bzr")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = stat.S_IRUSR | stat.S_IXUSR
_MOST_DOORS = 1000
_LONGEST, _MOST_TOLD = 8192, 10_000
_SPECIAL = ("/dev", "/proc", "/sys", "/run", "/etc", "/usr", "/boot", "/var/lib")
_ROOMY = ("/home", "/tmp", "/var", "/opt", "/root", "/srv", "/mnt", "/media", "/var/tmp")


def check(project: Path, home: str | None) -> Path:
    """Return the project's real path. Raises UsageError for what holds more than a project."""
    try:
        path = project.resolve()
    except FileNotFoundError as error:
        raise UsageError("the directory that you are in is not there any more") from error
    if not path.is_dir():
        raise UsageError(f"{project}: not a directory")
    homes = [Path(home).resolve()] if home else []
    if any(item == path or path in item.parents for item in homes) or str(path) in ("/", *_ROOMY):
        raise UsageError(
            f"{path}: holds more than a project: all of it would be shown to the command",
            hint="change into the project's directory, or name it with --project",
        )
    if any(str(path) == top or str(path).startswith(f"{top}/") for top in _SPECIAL):
        raise UsageError(f"{path}: belongs to the system, not to a project")
    return path


def binds(project: Path, outputs: Iterable[str]) -> tuple[Bind, ...]:
    """Return how the project is shown; `outputs` are normal paths below it, `.` is all of it.

    Raises InputError for an output that is a link or lies behind one. None that comes later is followed.
    """
    chosen = tuple(dict.fromkeys(outputs))
    for name in chosen:
        _refuse_links(project, name)
    whole = "." in chosen
    shown = [Bind(source=str(project), target=PROJECT, writable=whole, links=False)]
    for name in VERSION_CONTROL if whole else ():
        if (project / name).is_symlink():
            raise InputError(f"{project / name}: is a link, and what it leads to could not be protected")
        if (project / name).exists():
            shown.append(Bind(source=str(project / name), target=f"{PROJECT}/{name}", links=False))
    if not whole:
        shown += [
            Bind(source=str(project / name), target=f"{PROJECT}/{name}", writable=True, links=False)
            for name in chosen
        ]
    doors = tuple(itertools.islice(_doors(project), _MOST_DOORS + 1))
    if len(doors) > _MOST_DOORS:
        raise InputError(
            f"{project}: holds more than {_MOST_DOORS} sockets or named pipes", hint="remove them"
        )
    return (*shown, *(Bind(source="/dev/null", target=f"{PROJECT}/{name}") for name in doors))


def _doors(project: Path) -> Iterator[str]:
    """Yield the sockets and named pipes in a project: somebody outside may be at their other end.

    Watchers of files leave such things (git's fsmonitor, in `.git`); a read-only mount does not keep from
    connecting.
    """
    pending = [str(project)]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif not (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
                    yield os.path.relpath(entry.path, project)


def _refuse_links(project: Path, name: str) -> None:
    place = project
    for part in Path(name).parts:
        place /= part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            what = "a link, which could lead anywhere" if place.is_symlink() else "not a directory"
            raise InputError(f"{place}: is to be written to, but is {what}")


def make_outputs(project: Path, outputs: Iterable[str]) -> None:
    """Make the outputs that are not there yet: what is mounted on must exist."""
    for name in outputs:
        _refuse_links(project, name)
        (project / name).mkdir(parents=True, exist_ok=True)


def disarm(directories: Iterable[Path]) -> tuple[str, ...]:
    """Take the setuid and setgid bits off all files below, and return their paths.

    Inside they give nothing, but on the host a file of the caller's with such a bit runs as the caller, for
    whoever starts it. `directories` are real paths. Somebody else may write there at the same moment: no link
    is followed, what is gone again is passed over, and what is not where it was is not gone into.
    """
    found: list[str] = []
    more = 0
    for directory in directories:
        for descriptor, parts in _each_directory(directory):
            names = _names(descriptor, wanted=os.DirEntry.is_file)
            armed = [name for name in names if _disarm_file(name, descriptor)]
            told = armed[: _MOST_TOLD - len(found)]
            found += [_shown(parts, name) for name in told]
            more += len(armed) - len(told)
    return (*sorted(found), *([f"and {more} more"] if more else []))


def _shown(parts: Sequence[str], name: str) -> str:
    """Return a path; of one that is longer than any that can be opened the middle is left out."""
    if sum(map(len, parts)) + len(parts) < _LONGEST:
        return os.path.join(*parts, name)
    return os.path.join(*parts[:2], "...", *parts[-2:], name)


def _disarm_file(name: str, parent: int) -> bool:
    with contextlib.suppress(OSError):  # in a directory of somebody else's; gone again
        if not _is_armed(os.stat(name, dir_fd=parent, follow_symlinks=False)):
            return False
        file = os.open(name, _FILE, dir_fd=parent)
        try:
            info = os.fstat(file)
            if _is_armed(info):
                os.chmod(f"/proc/self/fd/{file}", info.st_mode & 0o777)
                return True
        finally:
            os.close(file)
    return False


def _is_armed(info: os.stat_result) -> bool:
    mine = stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid()
    return mine and bool(info.st_mode & (stat.S_ISUID | stat.S_ISGID))


def _each_directory(top: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield all directories of a tree, each as a descriptor and the parts of its path.

    A build can make a tree that is deeper than any path, stack or limit of descriptors: one is open at a
    time, and `..` leads back, unless the directory was moved meanwhile; that ends it. One that may not be
    read is made readable for its owner; one that belongs to somebody else is left out then, for neither
    could the build write to it.
    """
    here = _straight(top)
    if here is None:
        return
    try:
        parts, trail = [str(top)], [_identity(here)]
        pending = [_names(here, wanted=os.DirEntry.is_dir)]
        yield here, parts
        while pending:
            name = pending[-1].pop() if pending[-1] else None
            there = _opened(name, here) if name else None
            if name and there is not None:
                os.close(here)
                here = there
                parts.append(name)
                trail.append(_identity(here))
                pending.append(_names(here, wanted=os.DirEntry.is_dir))
                yield here, parts
            elif name is None:
                pending.pop(), parts.pop(), trail.pop()
                here = _parent(here) if pending else here
                if trail and _identity(here) != trail[-1]:
                    return
    finally:
        os.close(here)


def _identity(directory: int) -> tuple[int, int]:
    info = os.fstat(directory)
    return info.st_dev, info.st_ino


def _names(directory: int, *, wanted: Callable[..., bool]) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return [entry.name for entry in entries if wanted(entry, follow_symlinks=False)]
    return []


def _straight(path: Path) -> int | None:
    """Open a directory by its real path; None where it is gone, or a link has come to lie on the way."""
    here = os.open("/", _WAY)
    try:
        for part in path.parent.parts[1:]:
            there = os.open(part, _WAY, dir_fd=here)
            os.close(here)
            here = there
        return _opened(path.name, here)
    except OSError:
        return None
    finally:
        os.close(here)


def _opened(name: str, parent: int) -> int | None:
    """Open a directory that one can look through; None where that is forbidden, or it is gone."""
    try:
        there = os.open(name, _WAY, dir_fd=parent)
    except OSError:
        return None
    try:
        info = os.fstat(there)
        if info.st_uid == os.geteuid() and info.st_mode & _LOOK != _LOOK:
            os.chmod(f"/proc/self/fd/{there}", stat.S_IMODE(info.st_mode) | _LOOK)
        # Without the right to search it there is no way back.
        return os.open(".", _DIRECTORY, dir_fd=there)
    except OSError:
        return None
    finally:
        os.close(there)


def _parent(here: int) -> int:
    """Return the directory that `here`, which is closed, lies in."""
    there = os.open("..", _DIRECTORY, dir_fd=here)
    os.close(here)
    return there
