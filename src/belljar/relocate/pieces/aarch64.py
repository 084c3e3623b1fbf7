"""Pieces in aarch64 code: two bytes an instruction, in movz and movk to one register.

Constants of 4 or 8 bytes are put together by `movz` and up to three `movk` (Arm ARM C6.2); other instructions
may stand between them, in any order. The two letters `qz` in such an immediate are looked for; around
each, the registers' values are put together as the processor would, and a value of 8 bytes that is an 8-gram
of the placeholder says which bytes it is made of.
"""

import os
import re
from collections.abc import Iterable, Iterator

from belljar.elf.const import Machine
from belljar.placeholder import DIRECTORY_LIMIT, PLACEHOLDER
from belljar.references import Encoding, Reference
from belljar.relocate.pieces import arm
from belljar.relocate.pieces.budget import Budget
from belljar.relocate.pieces.image import Region
from belljar.relocate.search import Window

WHOLE = PLACEHOLDER.encode()
# A movz or movk whose immediate is `qz`, from its second byte on.
_HINT = re.compile(rb"N[\x8f\xaf\xcf\xef][\x52\xd2\x72\xf2]")
_ELF, _ARCHIVE = b"\x7fELF", b"!<arch>\n"
_NEAR = 400
_MASK, _CLASS = 0x1F800000, 0x12800000
_MOVZ, _MOVK = 2, 3
_SIZES = (8, 4)


def may_hold(head: bytes) -> bool:
    """Whether a file that begins so may hold aarch64 or ARM code: such an ELF file, or an archive."""
    machine = int.from_bytes(head[18:20], "little")
    return head.startswith(_ARCHIVE) or (head.startswith(_ELF) and machine in (Machine.AARCH64, Machine.ARM))


def hints(window: Window) -> Iterator[int]:
    """Yield where in a window an instruction of either machine has `qz` as its immediate."""
    for pattern, shift in ((_HINT, 1), (arm.HINT, 0)):
        for match in pattern.finditer(window.data, window.begin):
            if match.start() >= window.end:
                break
            yield window.base + match.start() - shift


def pieces(fd: int, region: Region, hints: Iterable[int], budget: Budget) -> Iterator[Reference]:
    """Yield the pieces around the hints, which ascend; those near to each other are seen together."""
    spans: list[tuple[int, int]] = []
    for hint in hints:
        begin, end = max(region.begin, hint - _NEAR), min(region.end, hint + _NEAR)
        if spans and begin <= spans[-1][1]:
            begin = spans.pop()[0]
        spans.append((begin - (begin - region.begin) % 4, end))
    for begin, end in spans:
        budget.spend(end - begin)
        yield from dict.fromkeys(_values(os.pread(fd, end - begin, begin), begin))


def _values(code: bytes, begin: int) -> Iterator[Reference]:
    registers: dict[int, dict[int, tuple[int, bytes]]] = {}
    for at in range(0, len(code) - 3, 4):
        word = int.from_bytes(code[at : at + 4], "little")
        kind = word >> 29 & 3
        if word & _MASK != _CLASS or kind not in (_MOVZ, _MOVK):
            continue
        place, value = word >> 21 & 3, (word >> 5 & 0xFFFF).to_bytes(2, "little")
        register = registers.setdefault(word & 31, {})
        if kind == _MOVZ:
            register.clear()
        register[place] = (begin + at, value)
        yield from _piece(register)


def _piece(register: dict[int, tuple[int, bytes]]) -> Iterator[Reference]:
    """Yield the parts of a register's value that are bytes of the placeholder."""
    value = b"".join(register[place][1] if place in register else b"\0\0" for place in range(4))
    for size in _SIZES:
        start = WHOLE.find(value[:size])
        if start < 0 and (length := head_length(value[:size])):
            start = length - size  # text before the placeholder: its parts begin left of it
        elif not 0 <= start < DIRECTORY_LIMIT:
            continue
        for place in range(size // 2):
            if place in register and start + 2 * place >= 0:
                yield Reference(
                    offset=register[place][0], start=start + 2 * place, length=2, encoding=Encoding.IMM16
                )
        return


def head_length(value: bytes) -> int:
    """Return how many of the placeholder's first bytes a constant ends in; 0 for one, which never varies."""
    return next((length for length in range(len(value) - 1, 1, -1) if value.endswith(WHOLE[:length])), 0)
