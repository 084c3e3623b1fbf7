"""What the instructions are that move literals: names and numbers of the decoder, looked up once.

The decoder (iced-x86) takes long to import and its enumerations are plain integers, so they are gathered here
when code is first followed.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iced_x86 import Instruction

_MOVES = (
    *("MOV", "MOVZX", "MOVD", "MOVQ", "MOVAPS", "MOVUPS", "MOVAPD", "MOVUPD", "MOVDQA", "MOVDQU", "LDDQU"),
    *("VMOVD", "VMOVQ", "VMOVAPS", "VMOVUPS", "VMOVAPD", "VMOVUPD", "VMOVDQA", "VMOVDQU", "VLDDQU"),
    *("VMOVDQA32", "VMOVDQA64", "VMOVDQU8", "VMOVDQU16", "VMOVDQU32", "VMOVDQU64", "MOVNTDQ", "MOVNTPS"),
)
# By how many bytes of the first value stand before the second.
_JOINS = {
    4: ("PUNPCKLDQ", "VPUNPCKLDQ", "PINSRD", "VPINSRD"),
    8: (
        *("PUNPCKLQDQ", "VPUNPCKLQDQ", "MOVHPS", "VMOVHPS", "MOVLHPS", "VMOVLHPS", "PINSRQ", "VPINSRQ"),
        *("MOVHPD", "VMOVHPD"),
    ),
    16: ("VINSERTI128", "VINSERTF128", "VINSERTI32X4", "VINSERTF32X4", "VINSERTI64X2", "VINSERTF64X2"),
    32: ("VINSERTI64X4", "VINSERTF64X4", "VINSERTI32X8", "VINSERTF32X8"),
}
# What a called function may write (System V AMD64 ABI 3.2.1; i386: eax, ecx, edx), by the widest name.
_VOLATILE = ("RAX", "RCX", "RDX", "RSI", "RDI", "R8", "R9", "R10", "R11")


class Known:
    """The names that matter, as the decoder numbers them."""

    def __init__(self) -> None:
        import iced_x86 as iced

        self.kinds, self._flows = iced.OpKind, iced.FlowControl
        self.none = iced.Register.NONE
        self.absolute = frozenset({iced.Register.RIP, iced.Register.EIP})
        self.lea, self.mov = iced.Mnemonic.LEA, iced.Mnemonic.MOV
        self.steps: dict[int, int] = {iced.Mnemonic.ADD: 1, iced.Mnemonic.SUB: -1}
        self.moves = frozenset(_number(iced.Mnemonic, name) for name in _MOVES)
        self.joins = {_number(iced.Mnemonic, name): half for half, names in _JOINS.items() for name in names}
        registers: Any = iced.RegisterExt
        self.full: Callable[[int], int] = registers.full_register
        self.size: Callable[[int], int] = registers.size
        self._memory, self._access = iced.MemorySizeExt.size, iced.OpAccess
        self._used = iced.InstructionInfoFactory()
        self._stack = self.full(iced.Register.RSP)
        self._volatile = [_number(iced.Register, name) for name in _VOLATILE]
        self._volatile += [int(iced.Register.ZMM0) + number for number in range(16)]

    def memory_size(self, instruction: "Instruction") -> int:
        """Return how many bytes of memory an instruction reads or writes."""
        return self._memory(instruction.memory_size)

    def writes_memory(self, instruction: "Instruction") -> bool:
        """Whether its first operand is memory."""
        return instruction.op_count > 0 and instruction.op0_kind == self.kinds.MEMORY

    def is_written(self, instruction: "Instruction") -> bool:
        """Whether its first operand changes."""
        access = self._access
        return self._used.info(instruction).op0_access not in (
            *(access.READ, access.COND_READ, access.NONE, access.NO_MEM_ACCESS),
        )

    def destination(self, instruction: "Instruction") -> int:
        """Return the register that is its first operand; 0: none is."""
        is_register = instruction.op_count > 0 and instruction.op0_kind == self.kinds.REGISTER
        return instruction.op0_register if is_register else 0

    def is_branch(self, instruction: "Instruction") -> bool:
        """Whether it may go on elsewhere, or after itself."""
        return instruction.flow_control == self._flows.CONDITIONAL_BRANCH

    def is_end(self, instruction: "Instruction") -> bool:
        """Whether what stands after it is reached from elsewhere only."""
        return instruction.flow_control in (
            self._flows.RETURN,
            self._flows.UNCONDITIONAL_BRANCH,
            self._flows.INDIRECT_BRANCH,
        )

    def written(self, instruction: "Instruction") -> list[int]:
        """Return the registers that it, or a function that it calls, writes, by their widest names.

        The stack pointer stays what it was: `push` and `pop` are balanced where it matters.
        """
        access = self._access
        reads = (access.READ, access.COND_READ, access.NONE, access.NO_MEM_ACCESS)
        found = [
            self.full(used.register)
            for used in self._used.info(instruction).used_registers()
            if used.access not in reads
        ]
        if instruction.flow_control in (self._flows.CALL, self._flows.INDIRECT_CALL):
            found += self._volatile
        return [full for full in found if full != self._stack]


def _number(names: Any, name: str) -> int:
    return int(getattr(names, name))


@functools.cache
def known() -> Known:
    """Return the names, the same each time."""
    return Known()
