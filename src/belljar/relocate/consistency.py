"""Whether a relocated tree is what its record says, and how its relocations stand.

Two questions: do the new bytes stand at every recorded place, and does an old prefix stand anywhere else?
The second reads the whole tree, in windows of fixed size. A prefix counts where a component ends after it:
`/p` is not in `/p2`. Not looked into: what is compressed, and files that the plan's notes name, as
`path: why it stays`.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys
from belljar.relocate import journal
from belljar.relocate.journal import DIRECTORY, Phase, Record
from belljar.relocate.root import Root, opened
from belljar.relocate.steps import State
from belljar.types import Event, Progress, quiet

_WINDOW = 1 << 20
_NAME = rb"[0-9A-Za-z_.+~@-]"


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
    pattern = _pattern(record.moves)
    if pattern is None:
        return
    entries = list(fsys.walk(root.path, enter=lambda entry: entry.path != DIRECTORY))
    total, done = sum(entry.info.st_size for entry in entries if entry.is_file), 0
    for entry in entries:
        for offset in _places(root, entry, pattern):
            if _is_known(entry.path, record.notes):
                break
            yield Finding(path=entry.path, offset=offset, what="an old prefix stands there")
        if entry.is_file:
            done += entry.info.st_size
            progress(Event(stage="check", subject=entry.path, done=done, total=total))


def _is_known(path: str, notes: Sequence[str]) -> bool:
    """Whether the plan said of a file why something stays in it."""
    return any(note.startswith(f"{path}:") or f": {path}:" in note for note in notes)


def _pattern(moves: Sequence[tuple[bytes, bytes]]) -> re.Pattern[bytes] | None:
    """Match new prefixes first, so that an old one inside a new one is passed over; group 1 is an old one."""
    changed = [(old.rstrip(b"/"), new) for old, new in moves if old.rstrip(b"/") and old != new]
    if not changed:
        return None
    around = [re.escape(new) for old, new in changed if old in new]
    olds = [re.escape(old) for old, _new in sorted(changed, key=lambda move: -len(move[0]))]
    return re.compile(b"|".join([*around, b"(" + b"|".join(olds) + b")(?!" + _NAME + b")"]))


def _places(root: Root, entry: fsys.Entry, pattern: re.Pattern[bytes]) -> Iterator[int]:
    if entry.is_link:
        target = root.readlink(entry.path)
        yield from (match.start() for match in pattern.finditer(target) if match[1])
    elif entry.is_file:
        with root.reading(entry.path) as fd:
            yield from _places_in(fd, pattern)


def _places_in(fd: int, pattern: re.Pattern[bytes]) -> Iterator[int]:
    """Search an open file in windows that overlap by more than any match is long."""
    overlap, base, tail = len(pattern.pattern) + 1, 0, b""
    while True:
        chunk = os.read(fd, _WINDOW)
        data = tail + chunk
        # A match that begins in the last `overlap` bytes is judged when more is in sight.
        limit = len(data) - overlap if chunk else len(data)
        end = max(limit, 0)
        for match in pattern.finditer(data):
            if match.start() >= limit:
                break
            end = max(end, match.end())
            if match[1]:
                yield base + match.start()
        if not chunk:
            return
        tail, base = data[end:], base + end
