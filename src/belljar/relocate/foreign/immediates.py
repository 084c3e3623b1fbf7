"""x86 code around some bytes: which immediates its instructions hold, and which constants it loads whole.

Code has no marks where instructions begin. A decoder that starts a good way before a place falls into step
with it within a few instructions; the start from which most places lie in an immediate is taken. Constants
for vectors are found the other way round: by their address, which code names relative to its own.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

BEFORE, AFTER = 256, 64
"""How many bytes around a place are decoded."""
LONGEST = 15
"""How many bytes an instruction has at most."""
_PHASES = 16
# An opcode but mov to a register, lea, and jumps through a pointer; ModRM with mod 0, r/m 5; the distance.
_LOAD = re.compile(rb"[^\x8b\x8d\xff][\x05\x0d\x15\x1d\x25\x2d\x35\x3d](?=((?s:....)))")


class Immediate(NamedTuple):
    """Bytes begin..end of a file, which an instruction holds as a value."""

    begin: int
    end: int


def immediates(code: bytes, base: int, bits: int, places: Sequence[int]) -> list[Immediate]:
    """Return the immediates of 2, 4 or 8 bytes in code that begins at offset `base` of a file.

    `places` are offsets that should lie in one.
    """
    best: list[Immediate] = []
    most = -1
    for start in range(min(_PHASES, len(code))):
        found = list(_decoded(code, base, bits, start))
        met = sum(any(item.begin <= place < item.end for item in found) for place in places)
        if met > most:
            best, most = found, met
        if met == len(places):
            break
    return best


def _decoded(code: bytes, base: int, bits: int, start: int) -> Iterator[Immediate]:
    from iced_x86 import Decoder

    decoder = Decoder(bits, code)
    decoder.position = start
    for instruction in decoder:
        place = decoder.get_constant_offsets(instruction)
        if place.has_immediate and place.immediate_size > 1:
            begin = base + decoder.position - instruction.len + place.immediate_offset
            yield Immediate(begin, begin + place.immediate_size)


def loads(code: bytes, address: int, low: int, high: int) -> Iterator[int]:
    """Yield the addresses in low..high that code loads from by their distance (Intel SDM 2, 2.2.1.6).

    Not by a move to a general register, which may be of a part of a string.
    """
    for match in _LOAD.finditer(code):
        near = address + match.end() + 4 + int.from_bytes(match[1], "little", signed=True)
        if low <= near + 4 and near < high:
            yield from (target for target in targets(code, address, match.end()) if low <= target < high)


def targets(data: bytes, address: int, place: int) -> set[int]:
    """Return what instructions refer to that hold a distance at `place`: those that may begin before it."""
    from iced_x86 import Decoder, Register

    found = set()
    for start in range(max(0, place - LONGEST), place):
        decoder = Decoder(64, data[start : place + LONGEST], ip=address + start)
        instruction = decoder.decode()
        offset = decoder.get_constant_offsets(instruction).displacement_offset
        if start + offset == place and instruction.memory_base == Register.RIP:
            found.add(instruction.memory_displacement)
    return found
