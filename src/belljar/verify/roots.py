"""The roots that a user has, by name.

    roots/NAME/root.json    what the root is (belljar.verify.root)
    roots/NAME/tree/        its files, unless it is a directory that lies elsewhere
    roots/.NAME.lock        held by whoever adds or removes it

A root is made in a staging directory and renamed in whole: it is there or it is not. What a crash
leaves in the staging directory is swept away by the next one who uses it. Adding what is there
already does nothing; another content under a name in use is refused, so that a name in a recipe
or a report keeps its meaning.
"""

import json
import os
import re
import stat
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from belljar import fsys
from belljar.build.output import EPOCH
from belljar.errors import InputError, UsageError
from belljar.home import Home
from belljar.types import Digest, Event, Progress, quiet
from belljar.verify import builtin
from belljar.verify.root import TREE, Root, describe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_HINT = f"known are {', '.join(builtin.KNOWN)}; another one is NAME=DIRECTORY or NAME=FILE.tar[.gz|.xz|.zst]"


def add(spec: str, home: Home, progress: Progress = quiet) -> Root:
    """Make a root known: a built-in one, `NAME=DIRECTORY` or `NAME=FILE.tar...`; return it.

    What is there already is returned as it is. A directory is referred to, all else is unpacked.
    Raises UsageError for a spec of another form, InputError for a directory or archive that is missing
    or no root, RemoteError without a network, HostError when the disk is full or a client is missing.
    """
    try:
        return _add(spec, home, progress)
    except OSError as error:
        raise fsys.explained(error, home.roots) from error


def obtain(name: str, home: Home, progress: Progress = quiet) -> Root:
    """Return the root of that name; a built-in one that is not there yet is added.

    Raises InputError when there is none, and what `add` raises.
    """
    if not _is_there(name, home) and builtin.is_builtin(name):
        return add(name, home, progress)
    return find(name, home)


def find(name: str, home: Home) -> Root:
    """Return the root of that name. Raises InputError when there is none, or its files are gone."""
    if not _is_there(name, home):
        have = ", ".join(root.name for root in listing(home)) or "none"
        raise InputError(
            f"{name}: no such root (there are: {have})", hint=f"`belljar root add` adds one; {_HINT}"
        )
    root = _read(home.roots / name)
    if not os.path.isdir(root.path):
        raise InputError(f"{name}: its directory {root.path} is gone", hint=f"`belljar root remove {name}`")
    return root


def listing(home: Home) -> tuple[Root, ...]:
    """Return all roots, by name."""
    try:
        names = sorted(os.listdir(home.roots))
    except FileNotFoundError:
        return ()
    return tuple(_read(home.roots / name) for name in names if _is_there(name, home))


def remove(name: str, home: Home) -> None:
    """Forget a root and remove what was unpacked for it; a directory that is only referred to stays.

    Raises InputError when there is no such root.
    """
    _require(name, home)
    with _locked(name, home), fsys.staging(home.staging) as stage:
        _require(name, home)
        try:
            (home.roots / name).rename(stage / "removed")
        except OSError as error:
            raise fsys.explained(error, home.roots) from error


def _add(spec: str, home: Home, progress: Progress) -> Root:
    name, equals, source = spec.partition("=")
    if not equals:
        return _add_builtin(name, home, progress)
    if not _NAME.fullmatch(name) or builtin.is_builtin(name):
        raise UsageError(
            f"{name!r}: cannot name a root of yours",
            hint="a name has letters, digits and . _ + -, and is not one that belljar knows itself",
        )
    source = os.path.expanduser(source)  # no shell does it after `=`
    path = Path(os.path.abspath(source))
    mode = _mode(name, source)
    if stat.S_ISDIR(mode):
        return _add_directory(name, path, home)
    if not stat.S_ISREG(mode):
        raise InputError(f"{name}: {path}: neither a directory nor an archive")
    return _add_archive(name, path, home, progress)


def _mode(name: str, source: str) -> int:
    """Return what kind of file there is. Raises InputError when there is none that this user may see."""
    try:
        return os.stat(source).st_mode
    except OSError as error:
        raise InputError(f"{name}: {source or 'nothing'}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{name}: {source!r}: {error}") from error


def _add_builtin(name: str, home: Home, progress: Progress) -> Root:
    if not builtin.is_builtin(name):
        raise UsageError(f"{name}: not a root that belljar knows", hint=_HINT)
    with _locked(name, home, progress), fsys.staging(home.staging) as stage:
        if _is_there(name, home):
            return find(name, home)
        tree, origin = builtin.make(name, stage, home, progress)
        return _enter(builtin.describe(name, tree, origin), stage, home)


def _add_directory(name: str, path: Path, home: Home) -> Root:
    root = describe(name, path, f"directory {path}")
    with _locked(name, home), fsys.staging(home.staging) as stage:
        if _is_same(root.origin, name, home):
            return find(name, home)
        return _enter(root, stage, home)


def _add_archive(name: str, path: Path, home: Home, progress: Progress) -> Root:
    from belljar.archive.unpack import unpack

    progress(Event(stage="unpack", subject=path.name))
    origin = f"archive {path.name} sha256:{_digest(name, path)}"
    with _locked(name, home, progress), fsys.staging(home.staging) as stage:
        if _is_same(origin, name, home):
            return find(name, home)
        unpack(path, stage / "archive", mtime=EPOCH)
        return _enter(describe(name, stage / "archive", origin), stage, home)


def _digest(name: str, path: Path) -> Digest:
    try:
        return fsys.sha256(path)
    except OSError as error:
        raise InputError(f"{name}: {path}: {error.strerror}") from error


def _enter(root: Root, stage: Path, home: Home) -> Root:
    """Put a root whose tree, if it is ours, lies in `stage` under its name: one rename."""
    place, target = stage / "root", home.roots / root.name
    place.mkdir(mode=0o755)
    staged = root
    if stage in root.path.parents:
        root.path.rename(place / TREE)
        staged = replace(root, path=place / TREE)
    fsys.write_atomic(place / "root.json", json.dumps(staged.to_json(place), indent=1) + "\n")
    place.rename(target)
    return _read(target)


def _is_same(origin: str, name: str, home: Home) -> bool:
    """Whether the name is in use for that very origin. Raises InputError when it is for another one."""
    if not _is_there(name, home):
        return False
    known = _read(home.roots / name)
    if known.origin != origin:
        raise InputError(
            f"{name}: is {known.origin} already",
            hint=f"choose another name, or `belljar root remove {name}` first",
        )
    return True


def _require(name: str, home: Home) -> None:
    if not _is_there(name, home):
        raise InputError(f"{name}: no such root", hint="`belljar root list` shows them all")


def _is_there(name: str, home: Home) -> bool:
    valid = _NAME.fullmatch(name) or builtin.is_builtin(name)
    return bool(valid) and os.path.isfile(home.roots / name / "root.json")


def _read(place: Path) -> Root:
    try:
        return Root.from_json(json.loads((place / "root.json").read_bytes()), place)
    except (OSError, ValueError, InputError) as error:
        raise InputError(
            f"{place}: damaged: {error}", hint=f"`belljar root remove {place.name}`, then add it again"
        ) from error


def _locked(name: str, home: Home, progress: Progress = quiet) -> AbstractContextManager[object]:
    def waiting() -> None:
        progress(Event(stage="root", subject=f"{name} (waiting for another belljar)"))

    return fsys.locked(home.roots / f".{name}.lock", on_wait=waiting)
