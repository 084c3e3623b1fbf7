"""Where functions begin and end: the binary search table of `.eh_frame_hdr` (LSB Core 10.6.2).

Unlike symbols it is there in stripped files, and it separates code from the tables that hand-written
assembly keeps among it: what has no unwind information is no function here, but a gap.
"""

import struct
from bisect import bisect_right
from functools import cached_property

from belljar.audit.isa.source import Source
from belljar.elf import Elf
from belljar.elf.const import SegmentType

_GNU_EH_FRAME = 0x6474E550
_TABLE_ENCODING = 0x3B  # sdata4, relative to the start of the header
_OMIT = 0xFF
_SIZES = {0x03: 4, 0x0B: 4, 0x04: 8, 0x0C: 8}


class Functions:
    """The functions with unwind information, by address."""

    def __init__(self, data: Source, elf: Elf) -> None:
        self._data = data
        self._elf = elf
        self.starts, self._entries = _read_table(data, elf)
        self._code = tuple(
            (item.address, item.address + item.file_size)
            for item in elf.segments
            if item.type == SegmentType.LOAD and item.flags & 1
        )

    def __len__(self) -> int:
        return len(self.starts)

    def find(self, address: int) -> int:
        """Return the number of the function that contains an address, -1 for none."""
        number = bisect_right(self.starts, address) - 1
        return number if number >= 0 and address < self.end(number) else -1

    def end(self, number: int) -> int:
        """Return the address behind a function, never beyond the next one's start or its segment's end."""
        start, entry = self.starts[number], self._entries[number]
        limit = next((high for low, high in self._code if low <= start < high), start)
        if number + 1 < len(self.starts):
            limit = min(limit, self.starts[number + 1])
        size = _size(self._data, self._elf.offset_of(entry), start, entry)
        return min(start + size, limit) if size > 0 else limit

    def around(self, address: int) -> tuple[int, int, int]:
        """Return number, start and end of the function that contains an address; -1 and itself for none."""
        number = bisect_right(self.starts, address) - 1
        if number < 0 or address >= self.ends[number]:
            return -1, address, address + 1
        return number, self.starts[number], self.ends[number]

    @cached_property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Start and end of every function."""
        return tuple(zip(self.starts, self.ends, strict=True))

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The end of every function."""
        return tuple(self.end(number) for number in range(len(self.starts)))

    @cached_property
    def known(self) -> dict[int, int]:
        """The number of the function that starts at an address."""
        return {start: number for number, start in enumerate(self.starts)}


def _read_table(data: Source, elf: Elf) -> tuple[list[int], list[int]]:
    """Return the functions' starts and the addresses of their entries, both rising; empty when damaged."""
    segment = next((item for item in elf.segments if item.type == _GNU_EH_FRAME), None)
    if segment is None or segment.offset + segment.file_size > len(data) or segment.file_size < 12:
        return [], []
    at, order = segment.offset, ">" if elf.header.is_big_endian else "<"
    version, pointer, counter, table = data[at : at + 4]
    skipped = _SIZES.get(pointer & 0x0F)
    if version != 1 or table != _TABLE_ENCODING or counter == _OMIT or skipped is None:
        return [], []
    width = _SIZES.get(counter & 0x0F)
    if width is None:
        return [], []
    first = at + 4 + skipped
    count = int.from_bytes(data[first : first + width], "big" if order == ">" else "little")
    begin = first + width
    count = min(count, (segment.offset + segment.file_size - begin) // 8)
    numbers = struct.unpack(f"{order}{2 * count}i", data[begin : begin + 8 * count])
    base = segment.address
    starts, entries = [base + number for number in numbers[::2]], numbers[1::2]
    if starts != sorted(starts):
        pairs = sorted(zip(starts, entries, strict=True))
        starts, entries = [pair[0] for pair in pairs], tuple(pair[1] for pair in pairs)
    return starts, [base + number for number in entries]


def _size(data: Source, offset: int | None, start: int, address: int) -> int:
    """Return how long the function of an entry of `.eh_frame` is; 0 when its form is not a usual one."""
    if offset is None or offset + 24 > len(data):
        return 0
    entry = data[offset + 8 : offset + 24]
    begin, size = struct.unpack_from("<iI", entry)
    if start in (address + 8 + begin, begin & 0xFFFFFFFF):
        return int(size)
    wide_begin, wide_size = struct.unpack("<qQ", entry)
    return int(wide_size) if start in (address + 8 + wide_begin, wide_begin) else 0
