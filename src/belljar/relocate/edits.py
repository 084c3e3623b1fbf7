"""A file's edits, however many: all put one of few strings in the place of another (belljar.rows)."""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence

from belljar.rows import Rows
from belljar.splice import Splice, merged

Pair = tuple[bytes, bytes]
"""The old and the new bytes of an edit."""


class Edits(Rows[Splice, Pair]):
    """Splices that ascend and do not overlap."""

    __slots__ = ()

    def item(self, offset: int, shape: Pair) -> Splice:
        """Make the splice that a row stands for."""
        return Splice(offset=offset, old=shape[0], new=shape[1])

    @classmethod
    def of(cls, splices: Iterable[Splice]) -> "Edits":
        """Keep splices, but those that change nothing. Raises ValueError when two of them overlap."""
        if isinstance(splices, Edits) and all(old != new for old, new in splices.shapes):
            return splices
        if isinstance(splices, Sequence) and not _ascends(splices):
            splices = merged(splices)
        edits, end = cls(), -1
        for splice in splices:
            if splice.offset < end:
                raise ValueError(f"edits overlap at offset {splice.offset}")
            if splice.old != splice.new:
                end = max(splice.end, splice.offset + 1)
                edits.add(splice.offset, (splice.old, splice.new))
        return edits

    @property
    def growth(self) -> int:
        """By how many bytes the file becomes longer."""
        return 0 if self.in_place else sum(self._growths())

    @property
    def in_place(self) -> bool:
        """Whether nothing moves: every edit keeps its length."""
        return all(len(old) == len(new) for old, new in self.shapes)

    @property
    def inverse(self) -> "Edits":
        """The edits that undo these, with offsets into the edited file."""
        pairs = [(new, old) for old, new in self.shapes]
        if self.in_place:
            return Edits(self.offsets, self.numbers, pairs)
        shifts = itertools.accumulate(self._growths(), initial=0)
        moved = array("q", (offset + shift for offset, shift in zip(self.offsets, shifts, strict=False)))
        return Edits(moved, self.numbers, pairs)

    def _growths(self) -> Iterator[int]:
        each = [len(new) - len(old) for old, new in self.shapes]
        return (each[number] for number in self.numbers)


def _ascends(splices: Sequence[Splice]) -> bool:
    pairs = itertools.pairwise(splices)
    return all(before.offset < after.offset and before.end <= after.offset for before, after in pairs)
