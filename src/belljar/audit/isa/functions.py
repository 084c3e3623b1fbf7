"""Where functions begin and end: the binary search table of `.eh_frame_hdr` (LSB Core 10.6.2).

Unlike symbols it is there in stripped files, and it separates code from the tables that hand-written
assembly keeps among it: what has no unwind information is no function here, but a gap.
"""

import operator
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from belljar.audit.isa.source import Source
from belljar.elf import Elf, Segment
from belljar.elf.const import SegmentType

_GNU_EH_FRAME = 0x6474E550
_TABLE_ENCODING = 0x3B  # sdata4, relative to the start of the header
_OMIT = 0xFF
_LAST = (1 << 64) - 1
_ENTRY, _WIDE = struct.Struct("<iIQ"), struct.Struct("<q")
_SIZES = {0x03: 4, 0x0B: 4, 0x04: 8, 0x0C: 8}


class Functions:
    """The functions with unwind information, by address."""

    def __init__(self, data: Source, elf: Elf) -> None:
        self._data = data
        self.starts, self._entries = _read_table(data, elf)
        loads = [item for item in elf.segments if item.type == SegmentType.LOAD]
        self._code = tuple(
            (item.address, min(item.address + item.file_size, _LAST)) for item in loads if item.flags & 1
        )
        # Whose segment has one entry has them all, unless the file is damaged.
        first = self._entries[0] if self._entries else 0
        self._described = next((item for item in loads if _is_in(item, first)), None)

    def __len__(self) -> int:
        return len(self.starts)

    def find(self, address: int) -> int:
        """Return the number of the function that contains an address, -1 for none."""
        number = bisect_right(self.starts, address) - 1
        return number if number >= 0 and address < self.end(number) else -1

    def end(self, number: int) -> int:
        """Return the address behind a function, never beyond the next one's start or its segment's end."""
        start, entry = self.starts[number], self._entries[number]
        limit = start
        for low, high in self._code:
            if low <= start < high:
                limit = high
                break
        if number + 1 < len(self.starts):
            limit = min(limit, self.starts[number + 1])
        segment = self._described
        if segment is None or not _is_in(segment, entry):
            return limit
        size = _size(self._data, entry - segment.address + segment.offset, start, entry)
        return min(start + size, limit) if size > 0 else limit

    def around(self, address: int) -> tuple[int, int, int]:
        """Return number, start and end of the function that contains an address; -1 and itself for none."""
        number = bisect_right(self.starts, address) - 1
        if number < 0 or address >= self.ends[number]:
            return -1, address, address + 1
        return number, self.starts[number], self.ends[number]

    @property
    def ranges(self) -> Iterator[tuple[int, int]]:
        """Start and end of every function."""
        return zip(self.starts, self.ends, strict=True)

    @cached_property
    def ends(self) -> "array[int]":
        """The end of every function."""
        return array("Q", map(self.end, range(len(self.starts))))

    @cached_property
    def known(self) -> dict[int, int]:
        """The number of the function that starts at an address."""
        return {start: number for number, start in enumerate(self.starts)}


def _is_in(segment: Segment, address: int) -> bool:
    return 0 <= address - segment.address < segment.file_size


def _read_table(data: Source, elf: Elf) -> "tuple[array[int], array[int]]":
    """Return the functions' starts and the addresses of their entries, both rising; empty when damaged."""
    segment = next((item for item in elf.segments if item.type == _GNU_EH_FRAME), None)
    numbers = array("i") if segment is None else _read_numbers(data, elf, segment)
    if segment is None or not numbers:
        return array("Q"), array("Q")
    base = segment.address
    starts = array("Q", [base + number & _LAST for number in numbers[::2]])
    entries = array("Q", [base + number & _LAST for number in numbers[1::2]])
    if not all(map(operator.le, starts, starts[1:])):
        order = sorted(range(len(starts)), key=lambda number: (starts[number], entries[number]))
        starts = array("Q", map(starts.__getitem__, order))
        entries = array("Q", map(entries.__getitem__, order))
    return starts, entries


def _read_numbers(data: Source, elf: Elf, segment: Segment) -> "array[int]":
    """Return the table: for each function two distances from the header, to its code and to its entry."""
    numbers = array("i")
    if segment.offset + segment.file_size > len(data) or segment.file_size < 12:
        return numbers
    at = segment.offset
    order: Literal["big", "little"] = "big" if elf.header.is_big_endian else "little"
    version, pointer, counter, table = data[at : at + 4]
    skipped, width = _SIZES.get(pointer & 0x0F), _SIZES.get(counter & 0x0F)
    if version != 1 or table != _TABLE_ENCODING or counter == _OMIT or skipped is None or width is None:
        return numbers
    first = at + 4 + skipped
    begin = first + width
    count = int.from_bytes(data[first:begin], order)
    count = max(min(count, (segment.offset + segment.file_size - begin) // 8), 0)
    numbers.frombytes(data[begin : begin + 8 * count])
    if order != sys.byteorder:
        numbers.byteswap()
    return numbers


def _size(data: Source, offset: int, start: int, address: int) -> int:
    """Return how long the function of an entry of `.eh_frame` is; 0 when its form is not a usual one."""
    if offset + 24 > len(data):
        return 0
    entry = data[offset + 8 : offset + 24]
    begin, size, wide_size = _ENTRY.unpack(entry)
    if start in (address + 8 + begin, begin & 0xFFFFFFFF):
        return int(size)
    (wide_begin,) = _WIDE.unpack_from(entry)
    return int(wide_size) if start in (address + 8 + wide_begin, wide_begin) else 0
