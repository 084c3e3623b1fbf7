"""Instructions as a proof needs them: where control goes next, and what the CPU must know.

One vocabulary for all architectures. Needs are bits of an integer, so that a set of functions is
searched for "this level or above" by one `&`.
"""

import enum
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from belljar.audit.isa.image import Image

BLOCKS_HELD = 50_000
"""How many decoded blocks are kept for whoever comes back: some 15 MB."""
VARIABLE_ROOM = 32
"""How many bytes behind an address that is handed on to somebody count as written."""


class Flow(enum.IntEnum):
    """What follows an instruction."""

    NEXT = 0
    JUMP = 1
    BRANCH = 2
    CALL = 3
    RETURN = 4
    STOP = 5
    JUMP_SLOT = 6
    CALL_SLOT = 7
    UNKNOWN = 8


class Block(NamedTuple):
    """Instructions from `start` up to one that directs the flow.

    `target` is the address that it goes to, or for the slot kinds that of the word which holds the
    address (0: not known). `needs` are the instructions that not every CPU has, with their bits.
    """

    start: int
    last: int
    next: int
    flow: Flow
    target: int
    needs: tuple[tuple[int, int], ...]


class Machine(Protocol):
    """One architecture's code: decoding, and the names of the bits."""

    image: Image
    baseline: str
    levels: tuple[tuple[str, int], ...]
    """Rising levels above the baseline, each with the bits of itself and all above."""
    detection: int
    """The bits of instructions that ask the CPU what it can do."""
    detection_names: frozenset[str]
    """Functions of other files that answer it on this architecture only."""

    def block(self, start: int) -> Block:
        """Decode from `start` to the next change of flow."""
        ...

    def turns(self, start: int, end: int) -> list[Block]:
        """Return where flow is directed between two addresses, decoded one after the other; no needs."""
        ...

    def slot_of_stub(self, start: int) -> int:
        """Return the slot through which a PLT entry jumps, 0 for code that is none."""
        ...

    def needs_of(self, start: int, end: int) -> int:
        """Return the bits of all instructions between two addresses, decoded one after the other."""
        ...

    def sites(self, start: int, end: int, wanted: int) -> list[int]:
        """Return the addresses of instructions with wanted bits."""
        ...

    def jumps(self) -> Iterator[tuple[int, int]]:
        """Yield from within which call or jump control goes where, in all code, by rising addresses."""
        ...

    def operands(self) -> Iterator[tuple[int, int]]:
        """Yield from within which instruction an operand points where, in all code, by rising addresses."""
        ...

    def filled(self, start: int, end: int) -> set[int]:
        """Return the addresses of variables that the code between two addresses writes or hands on."""
        ...

    def text(self, address: int) -> str:
        """Return the instruction at an address as an assembler writes it."""
        ...

    def extensions(self) -> tuple[tuple[str, int], ...]:
        """Return name and bit of every feature outside the levels that was met so far."""
        ...

    def main(self, entry: int) -> int:
        """Return the function that the program's entry hands to its C library, 0 when it is not seen."""
        ...
