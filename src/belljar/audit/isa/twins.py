"""Calls that a flag chooses: one side for a newer CPU, the other side for any.

zstd, blosc and others ask the CPU once and carry the answer in a structure, so that nothing in the
function which uses it tells a CPU flag from any other. But the shape does: the same condition picks,
with its next call, a function with newer instructions on one side and one without on the other. That
is used to acquit, never to accuse.
"""

from bisect import bisect_right

from belljar.audit.isa.code import Block, Flow, Machine
from belljar.audit.isa.image import Image

STEPS = 6
"""How many blocks may lie between a branch and the call that it chooses."""


def chosen(image: Image, machine: Machine, caller: int, newer: set[int]) -> set[int]:
    """Return those functions of `newer` that `caller` calls where a condition picks between two."""
    body = _Body(image, machine, image.functions.starts[caller], image.functions.end(caller))
    found: set[int] = set()
    for turn in body.turns:
        if turn.flow == Flow.BRANCH:
            sides = {body.next_call(turn.target), body.next_call(turn.next)}
            if len(sides & newer) == 1 and len(sides - newer - {-1}) == 1:
                found |= sides & newer
    return found


class _Body:
    """The code of one function, by the instructions that direct its flow."""

    def __init__(self, image: Image, machine: Machine, start: int, end: int) -> None:
        self._image, self._machine = image, machine
        self._start, self._end = start, end
        self.turns = machine.turns(start, end)
        self._ends = [turn.next for turn in self.turns]

    def next_call(self, address: int) -> int:
        """Return the function that is certainly called next from an address, -1 for none."""
        for _ in range(STEPS):
            turn = self._turn(address)
            if turn.flow not in (Flow.CALL, Flow.JUMP):
                return -1
            if turn.flow == Flow.CALL or not self._start <= turn.target < self._end:
                return self._image.functions.known.get(turn.target, -1)
            address = turn.target
        return -1

    def _turn(self, address: int) -> Block:
        """Return the next turn from an address on, which is another function's for a jump out of this one."""
        place = bisect_right(self._ends, address)
        if self._start <= address < self._end and place < len(self.turns):
            return self.turns[place]
        return self._machine.block(address)
