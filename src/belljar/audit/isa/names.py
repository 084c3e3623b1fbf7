"""Names by address: exported ones, and local ones where the file is not stripped.

A big library has a million, of hundreds of bytes each, and few are ever asked for: of each is kept what
its address is, and where in the file its name stands.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable

from belljar.audit.isa.source import Source

_LENGTHS = (256, 1 << 13, 1 << 20)
"""How many bytes are looked at for a name: most are short."""


class Names:
    """Names by address; of two for one address, the last that was given."""

    def __init__(self, data: Source, rows: Iterable[tuple[int, int]]) -> None:
        """Take addresses, each with the offset of its name in the file."""
        self._data = data
        addresses, offsets = array("Q"), array("Q")
        for address, offset in rows:
            addresses.append(address)
            offsets.append(offset)
        order = sorted(range(len(addresses)), key=addresses.__getitem__)
        self._addresses = array("Q", map(addresses.__getitem__, order))
        self._offsets = array("Q", map(offsets.__getitem__, order))

    def __len__(self) -> int:
        return len(self._addresses)

    def at(self, address: int) -> str:
        """Return the name of an address, "" for none."""
        start, name = self.before(address)
        return name if start == address else ""

    def before(self, address: int) -> tuple[int, str]:
        """Return the last address with a name up to this one, and the name; -1 when there is none."""
        place = bisect_right(self._addresses, address) - 1
        return (self._addresses[place], self._text(self._offsets[place])) if place >= 0 else (-1, "")

    def _text(self, offset: int) -> str:
        for length in _LENGTHS:
            text, nul, _ = self._data[offset : offset + length].partition(b"\0")
            if nul:
                return text.decode("utf-8", "replace")
        return ""
