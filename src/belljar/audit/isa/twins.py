"""Calls that a flag chooses: one side for a newer CPU, the other side for any.

zstd, blosc and others ask the CPU once and carry the answer in a structure, so that nothing in the
function which uses it tells a CPU flag from any other. But the shape does: the same condition picks,
with its next call, a function with newer instructions on one side and one without on the other. That
is used to acquit, never to accuse.
"""

from belljar.audit.isa.code import Flow, Machine
from belljar.audit.isa.image import Image

STEPS = 6
"""How many blocks may lie between a branch and the call that it chooses."""


def chosen(image: Image, machine: Machine, caller: int, newer: set[int]) -> set[int]:
    """Return those functions of `newer` that `caller` calls where a condition picks between two."""
    start, end = image.functions.starts[caller], image.functions.end(caller)
    found: set[int] = set()
    at = start
    while at < end:
        block = machine.block(at)
        if block.flow == Flow.BRANCH:
            sides = {
                _next_call(image, machine, address, start, end) for address in (block.target, block.next)
            }
            if len(sides & newer) == 1 and len(sides - newer - {-1}) == 1:
                found |= sides & newer
        at = max(block.next, at + 1)
    return found


def _next_call(image: Image, machine: Machine, address: int, start: int, end: int) -> int:
    """Return the function that is certainly called next from an address within a function, -1 for none."""
    for _ in range(STEPS):
        block = machine.block(address)
        if block.flow not in (Flow.CALL, Flow.JUMP):
            return -1
        if block.flow == Flow.CALL or not start <= block.target < end:
            return image.functions.known.get(block.target, -1)
        address = block.target
    return -1
