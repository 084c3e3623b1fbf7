"""A file's edits, however many: 12 bytes each.

A log or a database may name its prefix millions of times, and a `Splice` takes 150 bytes. But all its edits
put one of few strings in the place of another: these pairs are kept once, and of each edit only where it
is and which pair it is of. What iterates over them makes a `Splice` at a time.
"""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from belljar.splice import Splice, merged

Pair = tuple[bytes, bytes]
"""The old and the new bytes of an edit."""


class Edits(Sequence[Splice]):
    """Splices that ascend and do not overlap. `numbers` are places in `pairs`, one for each of `offsets`."""

    __slots__ = ("numbers", "offsets", "pairs")

    def __init__(self, offsets: "array[int]", numbers: "array[int]", pairs: tuple[Pair, ...]) -> None:
        self.offsets, self.numbers, self.pairs = offsets, numbers, pairs

    @classmethod
    def of(cls, splices: Iterable[Splice]) -> "Edits":
        """Keep splices, but those that change nothing. Raises ValueError when two of them overlap."""
        if not splices:
            return _NONE
        if isinstance(splices, Edits) and all(old != new for old, new in splices.pairs):
            return splices
        if isinstance(splices, Sequence) and not _ascends(splices):
            splices = merged(splices)
        offsets, numbers, pairs, end = array("q"), array("I"), dict[Pair, int](), -1
        for splice in splices:
            if splice.offset < end:
                raise ValueError(f"edits overlap at offset {splice.offset}")
            if splice.old != splice.new:
                end = max(splice.end, splice.offset + 1)
                offsets.append(splice.offset)
                numbers.append(pairs.setdefault((splice.old, splice.new), len(pairs)))
        return cls(offsets, numbers, tuple(pairs))

    @property
    def growth(self) -> int:
        """By how many bytes the file becomes longer."""
        return sum(self._growths())

    @property
    def in_place(self) -> bool:
        """Whether nothing moves: every edit keeps its length."""
        return all(len(old) == len(new) for old, new in self.pairs)

    @property
    def inverse(self) -> "Edits":
        """The edits that undo these, with offsets into the edited file."""
        pairs = tuple((new, old) for old, new in self.pairs)
        if self.in_place:
            return Edits(self.offsets, self.numbers, pairs)
        shifts = itertools.accumulate(self._growths(), initial=0)
        moved = array("q", (offset + shift for offset, shift in zip(self.offsets, shifts, strict=False)))
        return Edits(moved, self.numbers, pairs)

    def _growths(self) -> Iterator[int]:
        each = [len(new) - len(old) for old, new in self.pairs]
        return (each[number] for number in self.numbers)

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Splice]:
        for offset, number in zip(self.offsets, self.numbers, strict=True):
            old, new = self.pairs[number]
            yield Splice(offset=offset, old=old, new=new)

    @overload
    def __getitem__(self, index: int) -> Splice: ...
    @overload
    def __getitem__(self, index: slice) -> "Edits": ...
    def __getitem__(self, index: int | slice) -> "Splice | Edits":
        if isinstance(index, slice):
            return Edits(self.offsets[index], self.numbers[index], self.pairs)
        old, new = self.pairs[self.numbers[index]]
        return Splice(offset=self.offsets[index], old=old, new=new)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    def __hash__(self) -> int:
        return hash((len(self), *self[:1]))

    def __repr__(self) -> str:
        return f"Edits({', '.join(map(repr, self[:3]))}{', ...' if len(self) > 3 else ''})"


_NONE = Edits(array("q"), array("I"), ())


def _ascends(splices: Sequence[Splice]) -> bool:
    pairs = itertools.pairwise(splices)
    return all(before.offset < after.offset and before.end <= after.offset for before, after in pairs)


def _same(one: Splice, other: Any) -> bool:
    return bool(one == other)
