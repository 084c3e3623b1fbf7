"""What relocating a tree changes, as values: they are planned, printed, applied and undone.

A plan is made by reading only. It names every file and link that changes, with the reason of each
edit, and everything that cannot be changed; with a refusal in it a plan is not applied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from belljar.splice import Splice


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A regular file's edits. `kind` is what it was treated as (text, elf, bytes, archive, ...).

    `aliases` are its other names: hard links, which stay linked. `reasons` says what is done, one line
    for each sort of edit. Where there may be millions of edits, `Edits` hold them.
    """

    path: str
    kind: str
    splices: Sequence[Splice] = ()
    reasons: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChange:
    """A symbolic link's target before and after."""

    path: str
    old: bytes
    new: bytes
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A small file that is added, with its permission bits: a trampoline for a shebang."""

    path: str
    content: bytes
    mode: int = 0o755
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Refusal:
    """Why a path cannot be relocated: `section` names the ELF section or the archive's member."""

    path: str
    reason: str
    offset: int | None = None
    section: str = ""

    def describe(self) -> str:
        """Return one line for a person."""
        place = f": {self.section}" if self.section else ""
        place += f": offset {self.offset}" if self.offset is not None else ""
        return f"{self.path}{place}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that relocating `tree` takes. `moves` are the (old, new) prefixes, the longest old one first.

    `alias` is a symbolic link outside of the tree and its target, which the moves rely on; `found` says how
    the old prefix was found, where nobody gave it.
    """

    tree: Path
    moves: tuple[tuple[bytes, bytes], ...]
    changes: Sequence[FileChange | LinkChange | NewFile] = ()
    refusals: Sequence[Refusal] = ()
    notes: Sequence[str] = field(default=())
    alias: tuple[Path, Path] | None = None
    found: Sequence[str] = ()

    def describe(self) -> list[str]:
        """Return the plan for a person, one line a change, refusals last."""
        return [*map(describe, self.changes), *(f"refused: {item.describe()}" for item in self.refusals)]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values; bytes are text with undecodable ones as surrogates."""
        return {
            "version": 1,
            "tree": str(self.tree),
            "moves": [[_text(old), _text(new)] for old, new in self.moves],
            "changes": [_json(change) for change in self.changes],
            "refusals": [
                {"path": item.path, "offset": item.offset, "section": item.section, "reason": item.reason}
                for item in self.refusals
            ],
            "notes": list(self.notes),
            "found": list(self.found),
            "alias": None if self.alias is None else list(map(str, self.alias)),
        }


def describe(change: FileChange | LinkChange | NewFile) -> str:
    """Return one line for a person."""
    match change:
        case FileChange():
            return f"{change.path}: {change.kind}: {'; '.join(change.reasons)}"
        case LinkChange():
            why = f": {change.reason}" if change.reason else ""
            return f"{change.path}: link: {_text(change.old)} -> {_text(change.new)}{why}"
        case NewFile():
            return f"{change.path}: new file: {change.reason}"


def _json(change: FileChange | LinkChange | NewFile) -> dict[str, Any]:
    match change:
        case FileChange():
            edits = [[item.offset, _text(item.old), _text(item.new)] for item in change.splices]
            common = {"kind": change.kind, "reasons": list(change.reasons), "aliases": list(change.aliases)}
            return {"path": change.path, **common, "edits": edits}
        case LinkChange():
            return {
                "path": change.path,
                "kind": "link",
                "reasons": [change.reason],
                "old": _text(change.old),
                "new": _text(change.new),
            }
        case NewFile():
            return {
                "path": change.path,
                "kind": "new file",
                "reasons": [change.reason],
                "content": _text(change.content),
                "mode": change.mode,
            }


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
