"""One edit of a file's bytes: at `offset`, `new` in the place of `old`.

Every change that belljar makes to a file is a list of these values: they can be printed before anything
is written, checked against the file (the old bytes must be there), applied, and turned round. An edit in
place has `old` and `new` of one length; text that grows has not; what is appended stands at the file's
end with no old bytes.

Offsets count in the file before any of the list's edits. A list ascends and does not overlap.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from belljar.errors import IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Splice:
    """Put `new` where `old` stands, `offset` bytes into a file."""

    offset: int
    old: bytes
    new: bytes

    @property
    def end(self) -> int:
        """The offset of the first byte after what is replaced."""
        return self.offset + len(self.old)

    @property
    def growth(self) -> int:
        """By how many bytes the file becomes longer."""
        return len(self.new) - len(self.old)


def in_place(splices: Iterable[Splice]) -> bool:
    """Whether nothing moves: every edit keeps its length."""
    return all(not splice.growth for splice in splices)


def spliced(data: bytes, splices: Sequence[Splice], *, subject: str) -> bytes:
    """Return `data` with all edits made.

    Raises IntegrityError, which names `subject` and the offset, where the old bytes do not stand;
    ValueError when the list does not ascend.
    """
    parts, done = [], 0
    for splice in splices:
        if splice.offset < done:
            raise ValueError(f"{subject}: edits overlap at offset {splice.offset}")
        if data[splice.offset : splice.end] != splice.old or splice.offset > len(data):
            raise IntegrityError(f"{subject}: offset {splice.offset}: other bytes than the plan expects")
        parts += [data[done : splice.offset], splice.new]
        done = splice.end
    return b"".join([*parts, data[done:]])


def inverse(splices: Iterable[Splice]) -> tuple[Splice, ...]:
    """Return the edits that undo these, with offsets into the edited file."""
    undone, shift = [], 0
    for splice in splices:
        undone.append(Splice(offset=splice.offset + shift, old=splice.new, new=splice.old))
        shift += splice.growth
    return tuple(undone)


def merged(splices: Iterable[Splice]) -> tuple[Splice, ...]:
    """Return edits in ascending order, the same one once.

    Raises ValueError when two of them overlap.
    """
    ordered = sorted(set(splices))
    for before, after in itertools.pairwise(ordered):
        if after.offset < before.end or (after.offset == before.offset and not before.old):
            raise ValueError(f"edits overlap at offset {after.offset}")
    return tuple(ordered)
