"""Proving that a function cannot return without an instruction of some kind.

Walk every path from the entry; a path ends where it meets a wanted instruction or calls a function
of which the same is proven. If no path gets out (returns, jumps to where nobody knows, ends the
program in good order) and at least one met such an instruction, the function must run it.

Flow is followed, so tables among the code are never taken for instructions. Jumps are followed
wherever they lead, into another function too (tail calls, `.cold` parts). All doubt goes against the
proof: unknown callees return, limits and recursion count as "not proven". So a check at run time, a
once-guard or an early exit defeats it; that is what makes a proof worth something.
"""

from typing import NamedTuple

from belljar.audit.isa.code import Block, Flow, Machine
from belljar.audit.isa.image import Image, Slot

DEPTH_LIMIT = 14
BLOCK_LIMIT = 500_000
"""How many blocks are walked per file at most, long ones counting for more: some seconds."""
WALK_LIMIT = 5_000
"""How many blocks one function may have."""

_ENDS_WELL = {"exit", "_exit", "_Exit", "quick_exit", "pthread_exit", "thrd_exit", "longjmp", "siglongjmp"}
_ENDS_WELL |= {"execv", "execve", "execvp", "execvpe", "execl", "execlp", "execle", "fexecve", "_longjmp"}
_ENDS_BADLY = {"abort", "__assert_fail", "__assert", "__stack_chk_fail", "__chk_fail", "__fortify_fail"}
_ENDS_BADLY |= {"__cxa_throw", "__cxa_rethrow", "_Unwind_Resume", "_ZSt9terminatev", "__cxa_bad_cast"}


class Outcome(NamedTuple):
    """What is known of a function: `site` leads to the instruction that it must run (0: not proven).

    `callee` is the function that runs it, 0 when it is the function itself. `returns` and `exits` say
    how it can be left otherwise.
    """

    site: int
    callee: int
    returns: bool
    exits: bool


_UNPROVEN = Outcome(0, 0, returns=True, exits=False)


class Budget:
    """How many blocks may still be walked, by all proofs over one file."""

    def __init__(self) -> None:
        self.left = BLOCK_LIMIT


class Prover:
    """Proofs over one image for one set of wanted bits."""

    def __init__(self, image: Image, machine: Machine, wanted: int, budget: Budget) -> None:
        self._image = image
        self._machine = machine
        self._wanted = wanted
        self._known: dict[int, Outcome] = {}
        self._budget = budget
        dynamic = image.elf.dynamic
        self._is_static = image.is_program and not (dynamic and dynamic.needed)

    @property
    def is_exhausted(self) -> bool:
        """Whether the limit was met, so that something may have been missed."""
        return self._budget.left <= 0

    def prove(self, function: int) -> tuple[int, ...]:
        """Return the functions on the way and last the instruction that `function` must run; () if none."""
        outcome = self._outcome(function, 0)
        chain = []
        while outcome.site and outcome.callee:
            chain.append(self._behind_stub(outcome.callee))
            outcome = self._known[outcome.callee]
        return (*chain, outcome.site) if outcome.site else ()

    def _behind_stub(self, function: int) -> int:
        """Return the function that a PLT entry leads to, for people to read its name."""
        slot = self._machine.slot_of_stub(function)
        return (self._image.resolve(slot).address or function) if slot else function

    def _outcome(self, function: int, depth: int) -> Outcome:
        known = self._known.get(function)
        if known is not None:
            return known
        if depth >= DEPTH_LIMIT or self._budget.left <= 0:
            return _UNPROVEN
        self._known[function] = _UNPROVEN  # while it is being looked at: recursion proves nothing
        found = self._known[function] = self._walk(function, depth)
        return found

    def _walk(self, function: int, depth: int) -> Outcome:
        site = callee = 0
        exits = False
        seen = {function}
        todo = [function]
        while todo:
            block = self._machine.block(todo.pop())
            self._budget.left -= 1 + (block.last - block.start) // 64
            if self._budget.left <= 0 or len(seen) > WALK_LIMIT:
                return _UNPROVEN
            met = next((at for at, bits in block.needs if bits & self._wanted), 0)
            if met:
                site, callee = (met, 0) if not site or callee else (site, callee)
                continue
            step = self._step(block, depth)
            if step.returns:
                return _UNPROVEN
            exits = exits or step.exits
            if step.callee and not site:
                site, callee = block.last, step.callee
            for address in step.following:
                if address not in seen:
                    seen.add(address)
                    todo.append(address)
        return Outcome(0 if exits else site, callee, returns=False, exits=exits)

    def _step(self, block: Block, depth: int) -> "_Step":
        """Say where control goes after a block."""
        match block.flow:
            case Flow.JUMP:
                return _Step((block.target,))
            case Flow.BRANCH:
                return _Step((block.target, block.next))
            case Flow.CALL:
                return self._call(Slot(block.target, ""), block, depth)
            case Flow.CALL_SLOT:
                return self._call(self._slot(block), block, depth)
            case Flow.JUMP_SLOT:
                slot = self._slot(block)
                if slot.address:
                    return _Step((slot.address,))
                return _name_step(slot.name) or _Step((), returns=True)
            case Flow.STOP:
                return _Step(())
            case _:
                return _Step((), returns=True)

    def _slot(self, block: Block) -> Slot:
        return self._image.resolve(block.target) if block.target else Slot(0, "")

    def _call(self, callee: Slot, block: Block, depth: int) -> "_Step":
        after = self._after(block)
        if not callee.address:
            return _name_step(callee.name) or after
        outcome = self._outcome(callee.address, depth + 1)
        if outcome.site:
            return _Step((), callee=callee.address)
        if not outcome.returns and (outcome.exits or self._is_static):
            # A static program's exit has no name: whatever does not return may be it.
            return _Step((), exits=True)
        return after

    def _after(self, block: Block) -> "_Step":
        """Go on behind a call, unless the function ends there: then the callee does not return."""
        functions = self._image.functions
        inside = functions.find(block.last)
        if inside >= 0 and block.next >= functions.end(inside):
            return _Step(())
        return _Step((block.next,))


class _Step(NamedTuple):
    following: tuple[int, ...]
    returns: bool = False
    exits: bool = False
    callee: int = 0


def _name_step(name: str) -> _Step | None:
    """Say what calling a function of another file means; None: it returns."""
    if name in _ENDS_WELL:
        return _Step((), exits=True)
    return _Step(()) if name in _ENDS_BADLY else None
