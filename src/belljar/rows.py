"""Millions of small values in 12 bytes each: where each is, and which of few shapes it has.

A log may name its prefix millions of times, and a value of its own for each place takes 100 bytes and more.
But places differ in their offset; else they are of few kinds. So kinds are kept once, and of each place two
numbers. What iterates over rows makes one value at a time.
"""

from abc import abstractmethod
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar, overload

_T = TypeVar("_T")
_S = TypeVar("_S", bound=Hashable)


class Rows(Sequence[_T], Generic[_T, _S]):
    """A sequence of `item(offset, shape)`. `numbers` are places in `shapes`, one for each of `offsets`."""

    __slots__ = ("_known", "numbers", "offsets", "shapes")

    def __init__(
        self,
        offsets: "array[int] | None" = None,
        numbers: "array[int] | None" = None,
        shapes: Iterable[_S] = (),
    ) -> None:
        self.offsets = array("q") if offsets is None else offsets
        self.numbers = array("I") if numbers is None else numbers
        self.shapes = list(shapes)
        self._known = {shape: number for number, shape in enumerate(self.shapes)}

    @abstractmethod
    def item(self, offset: int, shape: _S) -> _T:
        """Make the value that a row stands for."""

    def add(self, offset: int, shape: _S) -> None:
        """Put a row behind the others."""
        number = self._known.get(shape)
        if number is None:
            number = self._known[shape] = len(self.shapes)
            self.shapes.append(shape)
        self.offsets.append(offset)
        self.numbers.append(number)

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[_T]:
        for offset, number in zip(self.offsets, self.numbers, strict=True):
            yield self.item(offset, self.shapes[number])

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> "_T | Self":
        if isinstance(index, slice):
            return type(self)(self.offsets[index], self.numbers[index], self.shapes)
        return self.item(self.offsets[index], self.shapes[self.numbers[index]])

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(bool(mine == theirs) for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((len(self), *self[:1]))

    def __repr__(self) -> str:
        more = ", ..." if len(self) > 3 else ""
        return f"{type(self).__name__}({', '.join(map(repr, self[:3]))}{more})"
