"""Pieces in 32-bit ARM code, which are reported: numbers of four letters, in `movw` and `movt`.

Each puts an immediate of 16 bits, torn into fields (Arm ARM A8.8.102 and 106), into half of a register, in
ARM code and in Thumb. No compiler was seen to split a whole path so, and each half would need an encoding of
its own; so where two make four letters of the placeholder, its tree is not relocated. The letters `qz` in one
immediate are looked for: a number of four letters has them in two of seven cases, a longer use nearly always.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator

from belljar.placeholder import DIRECTORY_LIMIT, PLACEHOLDER
from belljar.relocate.pieces.image import Region
from belljar.relocate.search import Run

REASON = "a number in two instructions (movw, movt), which is not rewritten"
_WHOLE = PLACEHOLDER.encode()
# The instructions whose immediate is `qz`: ARM code, then Thumb.
HINT = re.compile(rb"q[\x0a-\xea][\x07\x47]\xe3|[\x47\xc7]\xf6q[\x20-\x2e]")
_NEAR = 64


def pieces(fd: int, region: Region, hints: Iterable[int]) -> Iterator[Run]:
    """Yield the numbers of four letters of the placeholder around the hints."""
    for hint in hints:
        begin = max(region.begin, hint - _NEAR + (region.begin - hint) % 4)
        code = os.pread(fd, min(region.end, hint + _NEAR) - begin, begin)
        for read, step in ((_arm, 4), (_thumb, 2)):
            for at, value in _values(code, read, step):
                start = _WHOLE.find(value)
                if 0 <= start < DIRECTORY_LIMIT:
                    yield Run(offset=begin + at, start=start, length=len(value))


_Half = tuple[int, bool, bytes]
"""A register, whether its upper half, and the two bytes that are put there."""


def _values(code: bytes, read: Callable[[int], _Half | None], step: int) -> Iterator[tuple[int, bytes]]:
    """Yield where a register's second half is set, and its four bytes."""
    low: dict[int, bytes] = {}
    for at in range(0, len(code) - 3, step):
        half = read(int.from_bytes(code[at : at + 4], "little"))
        if half is None:
            continue
        register, is_upper, value = half
        if not is_upper:
            low[register] = value
        elif register in low:
            yield at, low[register] + value


def _arm(word: int) -> _Half | None:
    if word & 0x0FB00000 != 0x03000000:
        return None
    value = word >> 4 & 0xF000 | word & 0xFFF
    return word >> 12 & 15, bool(word & 1 << 22), value.to_bytes(2, "little")


def _thumb(word: int) -> _Half | None:
    first, second = word & 0xFFFF, word >> 16
    if first & 0xFB70 != 0xF240 or second & 0x8000:
        return None
    value = (first & 15) << 12 | (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    return second >> 8 & 15, bool(first & 1 << 7), value.to_bytes(2, "little")
