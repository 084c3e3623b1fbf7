"""Where two trees differ: names, types, targets of links, contents; on demand modes, times, hard links.

What an artifact does not have (times, owners, modes but the execute bit) is not compared unless it is asked
for: everything that a build writes has a time of its own.
"""

import enum
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from belljar import fsys
from belljar.build import compare
from belljar.build.compare import Aspect
from belljar.fsys import Entry
from belljar.reproduce.difference import Difference, of_contents, of_texts
from belljar.reproduce.names import paired

NAME = "name"
"""The part of a file that is called otherwise in the other tree."""
_SIZE = 256 << 20
_DEEP = 60
"""In how many directories that have another name each, one within the other, names are still matched."""
_TYPES = {stat.S_IFLNK: "link", stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFIFO: "pipe"}


class Metadata(enum.StrEnum):
    """What of an entry besides its content may be compared."""

    MODE = "mode"
    TIME = "mtime"
    LINKS = "links"
    XATTR = "xattr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Patterns of what is left out, and of what alone is looked at (none: all); which metadata count."""

    ignored: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    metadata: frozenset[Metadata] = frozenset()

    def wants(self, path: str) -> bool:
        """Whether a path is looked at."""
        return not matches(path, self.ignored) and (not self.only or matches(path, self.only))


def differences(left: Path, right: Path, compared: Compared = Compared()) -> tuple[Difference, ...]:
    """Return where two trees differ, by path; what has another name there is called as on the left."""
    return tuple(_of_trees(left, right, "", compared))


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path, one of its components, or a directory that it lies in, is like one of the patterns."""
    pieces = path.split("/")
    tops = ["/".join(pieces[: n + 1]) for n in range(len(pieces))]
    like = _like(tuple(patterns))
    return like is not None and any(map(like, (*tops, *pieces)))


@cache
def _like(patterns: tuple[str, ...]) -> Callable[[str], object] | None:
    """Return what says whether a name is like one of the patterns."""
    return re.compile("|".join(map(fnmatch.translate, patterns))).match if patterns else None


def _of_trees(left: Path, right: Path, at: str, compared: Compared) -> Iterator[Difference]:
    """Yield where two trees differ; `at` is what their paths begin with."""
    found: dict[str, set[Aspect]] = {}
    for item in compare.compare(left, right):
        found.setdefault(item.path, set()).add(item.aspect)
    lost = {path for path, aspects in found.items() if Aspect.MISSING in aspects}
    tops = [path for path in sorted(lost) if os.path.dirname(path) not in lost and compared.wants(at + path)]
    gone = {path: _value(left / path) for path in tops if os.path.lexists(left / path)}
    new = {path: _value(right / path) for path in tops if os.path.lexists(right / path)}
    pairs = paired(gone, new) if at.count("/") < _DEEP else {}
    moved = {*pairs, *pairs.values()}
    below = tuple(f"{path}/" for path in moved)
    for path in sorted(found):
        if path not in moved and not path.startswith(below) and compared.wants(at + path):
            yield from _of_path(at + path, found[path], left / path, right / path)
    for one, other in sorted(pairs.items()):
        yield of_texts(at + one, NAME, at + one, at + other)
        yield from _of_pair(at + one, left / one, right / other, compared)
    if compared.metadata:
        yield from _of_metadata(left, right, at, compared)


def _value(path: Path) -> tuple[str, object]:
    """Return what bears a name, so that it can be known under another one."""
    kind = _type(path)
    if kind == "link":
        return kind, os.readlink(path)
    if kind == "directory":
        return kind, tuple(sorted(os.listdir(path)))
    return kind, fsys.sha256(path) if kind == "file" else ""


def _of_pair(path: str, here: Path, there: Path, compared: Compared) -> Iterator[Difference]:
    """Yield where two things of the same type differ."""
    kind = _type(here)
    if kind == "directory":
        yield from _of_trees(here, there, f"{path}/", compared)
    elif kind == "link" and os.readlink(here) != os.readlink(there):
        yield from _of_path(path, {Aspect.TARGET}, here, there)
    elif kind == "file":
        modes = [item.stat().st_mode & stat.S_IXUSR for item in (here, there)]
        aspects = {Aspect.EXECUTABLE} if modes[0] != modes[1] else set()
        aspects |= {Aspect.CONTENT} if fsys.sha256(here) != fsys.sha256(there) else set()
        yield from _of_path(path, aspects, here, there)


def _of_path(path: str, aspects: set[Aspect], here: Path, there: Path) -> Iterator[Difference]:
    if Aspect.MISSING in aspects:
        words = ("there", "missing") if os.path.lexists(here) else ("missing", "there")
        yield Difference(path=path, before=words[0], after=words[1], aspect=Aspect.MISSING)
        return
    if Aspect.TYPE in aspects:
        yield Difference(path=path, before=_type(here), after=_type(there), aspect=Aspect.TYPE)
        return
    if Aspect.TARGET in aspects:
        targets = os.readlink(here), os.readlink(there)
        yield Difference(path=path, before=targets[0], after=targets[1], aspect=Aspect.TARGET)
    if Aspect.EXECUTABLE in aspects:
        modes = [f"mode {item.stat().st_mode & 0o777:o}" for item in (here, there)]
        yield Difference(path=path, before=modes[0], after=modes[1], aspect=Aspect.EXECUTABLE)
    if aspects & {Aspect.CONTENT, Aspect.SIZE}:
        left_data, right_data = _read(here), _read(there)
        yield from of_contents(path, left_data, right_data)
        if left_data == right_data:
            sizes = (f"{item.stat().st_size} bytes" for item in (here, there))
            yield of_texts(path, f"after the first {_SIZE >> 20} MiB", *sizes)


def _type(path: Path) -> str:
    return _TYPES.get(stat.S_IFMT(path.lstat().st_mode), "device or socket")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_SIZE)


# --- what an artifact does not have -----------------------------------------------------------------


def _of_metadata(left: Path, right: Path, at: str, compared: Compared) -> Iterator[Difference]:
    here, there = ({entry.path: entry for entry in fsys.walk(top)} for top in (left, right))
    alike = {path for path in here.keys() & there.keys() if compared.wants(at + path)}
    sides = [
        _metadata(top, {path: entries[path] for path in alike}, compared.metadata)
        for top, entries in ((left, here), (right, there))
    ]
    for path in sorted(alike):
        one, two = sides[0][path], sides[1][path]
        for part in dict.fromkeys((*one, *two)):
            if one.get(part) != two.get(part):
                texts = (f"{part} {side.get(part, 'none')}" for side in (one, two))
                yield of_texts(at + path, f"({part})", *texts)


def _metadata(
    top: Path, entries: Mapping[str, Entry], wanted: frozenset[Metadata]
) -> dict[str, dict[str, str]]:
    """Return what is wanted of each entry, by name."""
    found: dict[str, dict[str, str]] = {path: {} for path in entries}
    first: dict[tuple[int, int], str] = {}
    for path, entry in sorted(entries.items()):
        own, info = found[path], entry.info
        if Metadata.MODE in wanted and not entry.is_link:
            own["mode"] = f"{stat.S_IMODE(info.st_mode):o}"
        if Metadata.TIME in wanted:
            own["mtime"] = f"{int(info.st_mtime)}"
        if Metadata.LINKS in wanted and entry.is_file and info.st_nlink > 1:
            own["hard link"] = f"of {first.setdefault((info.st_dev, info.st_ino), path)}"
        if Metadata.XATTR in wanted:
            own |= _xattrs(top / path)
    return found


def _xattrs(path: Path) -> dict[str, str]:
    try:
        names: Sequence[str] = os.listxattr(path, follow_symlinks=False)
        return {f"xattr {name}": repr(os.getxattr(path, name, follow_symlinks=False)) for name in names}
    except OSError:
        return {}  # a filesystem that has none
