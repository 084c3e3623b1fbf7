"""Finding the prefix that a tree was made for, when nobody says it.

An absolute path that ends in the name of a file of the tree (`/opt/x/lib/libz.so`, and the tree has
`lib/libz.so`) votes for what stands before: `/opt/x`. Each file of the tree votes once for a prefix, however
often it is named. Directories vote only when they lie at least two deep: `/usr/lib` says nothing, since
every tree has a `lib`. What a file says outright (`prefix=` in a `.pc`, `VIRTUAL_ENV=` in an activation
script) counts twice; a virtual environment's words about the Python that it was made with do not count.

Prose does not vote (README, METADATA, manual pages): its paths are examples. One file alone is no evidence
either, unless it says the prefix outright.

The prefix with the most votes wins when no other has half as many; else nobody can tell, and the user is
asked.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from belljar.errors import InputError
from belljar.fsys import Entry, walk
from belljar.relocate.foreign.moves import inside
from belljar.relocate.journal import DIRECTORY

READ = 1 << 20
"""How many bytes of each file are looked at."""
_PATH = re.compile(rb"(?<![\w.~}/+-])(?:-[ILFBR]|-isystem)?(/[\w.+@~-]+(?:/[\w.+@~-]+)+)")
_SAID = {
    "activate": re.compile(rb"^\s*(?:export )?VIRTUAL_ENV=[\"']?(/[^\"'\s$]+)", re.M),
    "activate.fish": re.compile(rb"^set -gx VIRTUAL_ENV [\"']?(/[^\"'\s$]+)", re.M),
    "activate.csh": re.compile(rb"^setenv VIRTUAL_ENV [\"']?(/[^\"'\s$]+)", re.M),
    ".pc": re.compile(rb"^prefix\s*=\s*(/\S+)", re.M),
}
_VENV = "pyvenv.cfg"
_PROSE = re.compile(
    r"(?:^|/)(?:METADATA|PKG-INFO|README|CHANGE|NEWS|HISTORY|INSTALL|LICENSE|COPYING|AUTHORS|NOTICE|TODO)[^/]*$"
    r"|\.(?:md|rst|txt|html?|adoc|tex|info|pod|[1-8]|gz)$|(?:^|share/)(?:man|doc|info)/",
    re.I,
)
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A prefix, how many files of the tree speak for it, and some of what says so.

    `witnesses`: how many files name it; those that say it outright count twice.
    """

    prefix: bytes
    votes: int
    evidence: tuple[str, ...]
    witnesses: int = 2

    def describe(self) -> list[str]:
        """Return the prefix and why, for a person."""
        return [f"{os.fsdecode(self.prefix)}: {self.votes} votes", *(f"  {line}" for line in self.evidence)]


def candidates(tree: Path) -> tuple[Candidate, ...]:
    """Return the prefixes that paths in the tree speak for, the likeliest first."""
    entries = list(walk(tree, enter=lambda entry: entry.path != DIRECTORY))
    names = {os.fsencode(entry.path): entry.is_dir for entry in entries}
    votes: dict[bytes, dict[bytes, str]] = defaultdict(dict)
    witnesses: dict[bytes, set[str]] = defaultdict(set)
    is_venv = any(entry.path == _VENV for entry in entries)
    for entry in entries:
        if (is_venv and (entry.is_link or entry.path == _VENV)) or _PROSE.search(entry.path):
            continue
        content = _content(tree, entry)
        for prefix in _said(entry, content):
            witnesses[prefix] |= {entry.path, f"{entry.path} says so"}
            votes[prefix] |= {
                b"%d %s" % (n, os.fsencode(entry.path)): f"{entry.path} says so" for n in (1, 2)
            }
        for path in {match[1].rstrip(b".") for match in _PATH.finditer(content)}:
            if found := _split(path, names):
                prefix, rest = found
                said = f"{entry.path} names {os.fsdecode(path)}, and the tree has {os.fsdecode(rest)}"
                votes[prefix].setdefault(rest, said)
                witnesses[prefix].add(entry.path)
    found_all = (
        Candidate(
            prefix=prefix,
            votes=len(said),
            evidence=tuple(dict.fromkeys(said.values()))[:_SHOWN],
            witnesses=len(witnesses[prefix]),
        )
        for prefix, said in votes.items()
    )
    return tuple(sorted(found_all, key=lambda item: (-item.votes, item.prefix)))


def find(tree: Path) -> Candidate:
    """Return the prefix that the tree was made for.

    Raises InputError when nothing speaks for any, one file alone does, or two have too many votes to choose
    between.
    """
    found = candidates(tree)
    if not found:
        raise InputError(
            f"{tree}: no path in it says where it was made for",
            hint="name the old prefix with --from; a tree that names none may work wherever it lies",
        )
    best = found[0]
    if best.witnesses < 2:
        raise InputError(
            f"{tree}: ambiguous: one file alone speaks for a prefix:\n" + "\n".join(best.describe()),
            hint="name the old prefix with --from",
        )
    rivals = [
        item for item in found[1:] if 2 * item.votes > best.votes and not inside(item.prefix, best.prefix)
    ]
    if rivals:
        lines = [line for item in (best, *rivals[:2]) for line in item.describe()[:2]]
        raise InputError(
            f"{tree}: more than one prefix is likely:\n" + "\n".join(lines),
            hint="name the old prefix with --from",
        )
    return best


def _content(tree: Path, entry: Entry) -> bytes:
    """Return a file's beginning, or a link's target."""
    place = os.path.join(tree, entry.path)
    if entry.is_link:
        return os.fsencode(os.readlink(place))
    if not entry.is_file:
        return b""
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.pread(fd, READ, 0)
    finally:
        os.close(fd)


def _said(entry: Entry, content: bytes) -> Iterator[bytes]:
    """Yield the prefix that a file of a known sort says outright."""
    name = entry.path.rpartition("/")[2]
    pattern = _SAID.get(name) or _SAID.get(os.path.splitext(name)[1])
    match = pattern.search(content) if pattern else None
    if match:
        yield match[1].rstrip(b"/")


def _split(path: bytes, names: dict[bytes, bool]) -> tuple[bytes, bytes] | None:
    """Return a path as a prefix and the longest name of the tree that ends it; None when none does."""
    place = path.find(b"/", 1)
    while place > 0:
        rest = path[place + 1 :]
        is_dir = names.get(rest)
        if is_dir is not None:
            return None if is_dir and b"/" not in rest else (path[:place], rest)
        place = path.find(b"/", place + 1)
    return None
