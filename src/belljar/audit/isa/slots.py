"""What relocations put where, of a file that may have a million of them: arrays, searched by address."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Fill(NamedTuple):
    """What the loader puts into a slot: the value of a symbol, by number, or else `value`."""

    symbol: int
    value: int


class Fills:
    """Fills by the addresses of their slots; of two for one slot, the last that was given."""

    def __init__(self, rows: Iterable[tuple[int, Fill]]) -> None:
        slots, symbols, values = array("Q"), array("I"), array("q")
        for slot, (symbol, value) in rows:
            slots.append(slot)
            symbols.append(symbol)
            values.append(value)
        order = sorted(range(len(slots)), key=slots.__getitem__)
        self._slots = array("Q", map(slots.__getitem__, order))
        self._symbols = array("I", map(symbols.__getitem__, order))
        self._values = array("q", map(values.__getitem__, order))

    def at(self, slot: int) -> Fill | None:
        """Return what is put into a slot, None when nothing is known."""
        place = bisect_right(self._slots, slot) - 1
        if place < 0 or self._slots[place] != slot:
            return None
        return Fill(self._symbols[place], self._values[place])

    def __iter__(self) -> Iterator[Fill]:
        return map(Fill, self._symbols, self._values)
