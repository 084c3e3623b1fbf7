"""One file of a foreign tree under examination, and what is found about it."""

import fnmatch
import os
from dataclasses import dataclass, field
from pathlib import Path

from belljar.relocate.change import NewFile, Refusal
from belljar.relocate.foreign.moves import Hit, Moves, spelled
from belljar.splice import Splice


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user allows.

    `relative`: prefer forms that name no prefix at all. `leave`: patterns of paths that stay as they are
    where they cannot be rewritten. `alias`: a short link to the tree's new place, which paths go through.
    """

    relative: bool = False
    leave: tuple[str, ...] = ()
    alias: Path | None = None

    def leaves(self, path: str) -> bool:
        """Whether the user agreed that this path stays as it is."""
        return any(fnmatch.fnmatch(path, pattern) for pattern in self.leave)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A regular file: its path in the tree, open, and where old prefixes stand in it.

    `depth` counts what it is packed in: archives, compressed files.
    """

    tree: Path
    path: str
    fd: int
    size: int
    mode: int
    head: bytes
    hits: tuple[Hit, ...]
    moves: Moves
    options: Options
    depth: int = 0

    @property
    def name(self) -> str:
        """The last component of its path."""
        return self.path.rpartition("/")[2]

    def up(self) -> str:
        """Return the way from its directory to the tree's root: `.`, `..`, `../..`."""
        return "/".join([".."] * self.path.count("/")) or "."

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`."""
        return os.pread(self.fd, size, offset) if offset >= 0 and size > 0 else b""


@dataclass(slots=True, kw_only=True)
class Finding:
    """What is to be done about a file, gathered while it is examined."""

    kind: str
    splices: list[Splice] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    added: list[NewFile] = field(default_factory=list)

    def replace(self, hit: Hit, new: bytes, reason: str) -> None:
        """Put `new` where a hit stands; nothing where it stands there already."""
        old = spelled(hit.pair[0], hit.codec)
        if new != old:
            self.splices.append(Splice(offset=hit.offset, old=old, new=new))
            self.because(reason)

    def because(self, reason: str) -> None:
        """Count one more edit of that sort."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def refuse(self, path: str, reason: str, *, offset: int | None = None, section: str = "") -> None:
        """Say that a place cannot be rewritten."""
        self.refusals.append(Refusal(path=path, reason=reason, offset=offset, section=section))
