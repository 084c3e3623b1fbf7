"""The tree that is verified, and under which names it must be seen.

A tree has its real path and those through which it was named: `./result` is a link into the store,
the store may lie below a home directory that is a link itself, and any of these paths may be compiled
into its programs. All of them work inside: the tree stands at the real one, links to it at the others.
What lies in an entry of a store is shown with the whole entry and its closure.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from belljar.errors import InputError
from belljar.store import locate
from belljar.verify.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A directory by its real path, its other names, and the directories to show: itself, or its closure."""

    path: Path
    names: tuple[Path, ...]
    shown: tuple[Path, ...]

    def within(self, root: View) -> View:
        """Return the view of a bare root with the tree in it."""
        binds = {root.spot(path): path for path in self.shown}
        links = {root.spot(name): os.fspath(self.path) for name in self.names}
        return View(
            root=root.root,
            binds=binds,
            links={place: target for place, target in links.items() if not _holds(binds, place)},
        )


def examine(path: Path) -> Tree:
    """Return what must be shown for a tree to work. Raises InputError when it is no directory, or `/`."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: {what}") from error
    if not stat.S_ISDIR(mode):
        raise InputError(f"{path}: is no directory", hint="give the directory that the program lies in")
    if not os.access(path, os.R_OK | os.X_OK):
        raise InputError(f"{path}: Permission denied")
    real = Path(os.path.realpath(path))
    if real == Path("/"):
        raise InputError(f"{path}: the whole machine is not a tree to verify")
    return Tree(path=real, names=_names(path, real), shown=_closure(real))


def _names(path: Path, real: Path) -> tuple[Path, ...]:
    """Return the absolute names that lead to `real`, one for each link that is followed on the way."""
    name = Path(os.path.abspath(path))
    found: list[Path] = []
    while len(found) < 40 and name != real and os.path.realpath(name) == os.fspath(real):
        found.append(name)
        link = next(part for part in (*reversed(name.parents), name) if os.path.islink(part))
        target = os.path.normpath(link.parent / os.readlink(link))
        name = target / name.relative_to(link)
    return tuple(found)


def _closure(real: Path) -> tuple[Path, ...]:
    """Return the store entry that `real` lies in and those that it refers to, where they are; else `real`."""
    found = locate(real)
    if found is None:
        return (real,)
    store, name = found
    paths = (Path(os.path.realpath(store.root / item)) for item in (str(name), *store.record(name).closure))
    return tuple(dict.fromkeys(path for path in paths if os.path.isdir(path)))


def _holds(binds: Iterable[str], place: str) -> bool:
    return any(place == bind or place.startswith(f"{bind}/") for bind in binds)
