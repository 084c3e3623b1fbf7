"""Whether a relocated tree is what its record says, and how its relocations stand.

Two questions: do the new bytes stand at every recorded place, and does an old prefix stand anywhere else?
The second reads the whole tree and looks for prefixes as the planning did (relocate.foreign.moves): `/p` is
not in `/p2`. Not looked into: what is compressed. Passed over: files that the plan's notes name, as
`path: why it stays`, and places of which it is in doubt whether they are the prefix.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys
from belljar.relocate import journal
from belljar.relocate.foreign.moves import Hit, Moves
from belljar.relocate.journal import DIRECTORY, Phase, Record
from belljar.relocate.root import Root, opened
from belljar.relocate.steps import State
from belljar.types import Event, Progress, quiet


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """Something that is not as recorded; `offset` is that of an old prefix, in a file or a link's target."""

    path: str
    what: str
    offset: int | None = None

    def describe(self) -> str:
        """Return one line for a person."""
        place = "" if self.offset is None else f": offset {self.offset}"
        return f"{self.path}{place}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One relocation of a tree: its number on the stack, phase, moves, and how many steps it has."""

    number: int
    phase: Phase
    moves: tuple[tuple[bytes, bytes], ...]
    steps: int
    notes: tuple[str, ...]


def status(tree: Path) -> tuple[Status, ...]:
    """Return the relocations that a tree records, the first one first; raises InputError for damage."""
    with opened(tree) as root, journal.reading(root) as book:
        found = [(*entry, book.read(*entry)) for entry in book.entries()] if book is not None else []
    return tuple(
        Status(number=number, phase=phase, moves=one.moves, steps=len(one.steps), notes=one.notes)
        for number, phase, one in found
    )


def check(tree: Path, *, progress: Progress = quiet) -> tuple[Finding, ...]:
    """Compare a tree with its latest record; nothing is found in a tree that is consistent, or has none.

    Raises InputError for a damaged record, HostError when something cannot be read.
    """
    with opened(tree) as root, journal.reading(root) as book:
        top = book.top() if book is not None else None
        if book is None or top is None:
            return ()
        record = book.read(*top)
        found = [] if top[1] == Phase.APPLIED else [Finding(path="", what="the relocation is not finished")]
        found += _unlike(root, record)
        found += _remains(root, record, progress)
    return tuple(sorted(found, key=lambda one: (one.path, one.offset or 0, one.what)))


def _unlike(root: Root, record: Record) -> Iterator[Finding]:
    for step in record.steps:
        state = step.state(root)
        if state == State.OTHER:
            yield Finding(path=step.names[0], what="is not what the relocation made of it")
        elif state != State.NEW:
            yield Finding(path=step.names[0], what="is still as before the relocation")


def _remains(root: Root, record: Record, progress: Progress) -> Iterator[Finding]:
    """Yield each old prefix that stands outside of what the notes name."""
    if not record.moves:
        return
    moves = Moves.of(record.moves)
    entries = list(fsys.walk(root.path, enter=lambda entry: entry.path != DIRECTORY))
    total, done = sum(entry.info.st_size for entry in entries if entry.is_file), 0
    for entry in entries:
        for offset in _places(root, entry, moves):
            if _is_known(entry.path, record.notes):
                break
            yield Finding(path=entry.path, offset=offset, what="an old prefix stands there")
        if entry.is_file:
            done += entry.info.st_size
            progress(Event(stage="check", subject=entry.path, done=done, total=total))


def _is_known(path: str, notes: Sequence[str]) -> bool:
    """Whether the plan said of a file why something stays in it."""
    return any(note.startswith(f"{path}:") or f": {path}:" in note for note in notes)


def _places(root: Root, entry: fsys.Entry, moves: Moves) -> Iterator[int]:
    """Yield where old prefixes stand, in a file or a link's target, without those that may be another's."""
    if entry.is_link:
        hits: Iterable[Hit] = moves.over(root.readlink(entry.path))
        yield from (hit.offset for hit in hits if not hit.is_moved and not hit.doubt)
    elif entry.is_file:
        with root.reading(entry.path) as fd:
            hits = moves.along(fd)
            yield from (hit.offset for hit in hits if not hit.is_moved and not hit.doubt)
