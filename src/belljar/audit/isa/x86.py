"""x86-64 code, decoded by iced-x86.

The levels are those of the x86-64 psABI (v1 is the baseline). What counts is what an older CPU would
not do right: TZCNT does not count, it is `rep bsf` there and baseline gcc emits it; LZCNT does, it is
`rep bsr` there, which means something else, and no compiler emits it for the baseline.

iced's own information on each instruction says which CPUID features it needs. It is asked once for
each kind of instruction; all else is a dictionary look-up.
"""

import re
import struct
from collections.abc import Iterator
from itertools import repeat
from operator import attrgetter, methodcaller

from iced_x86 import (
    Code,
    CpuidFeature,
    Decoder,
    FlowControl,
    Formatter,
    FormatterSyntax,
    Instruction,
    Mnemonic,
    OpKind,
    Register,
)

from belljar.audit.isa.code import BLOCKS_HELD, VARIABLE_ROOM, Block, Flow
from belljar.audit.isa.image import Image

_V2, _V3, _V4, _DETECTION = 1, 2, 4, 8
_FIRST_EXTENSION = 16
_BLOCK_LIMIT = 8000
_SHORT, _LONGEST = 96, 15
_PIECE = 1 << 20
# jmp *slot(%rip), with a prefix, or behind endbr64.
_STUB = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?\xf2?\xff\x25(.{4})", re.DOTALL)
# What ends with a distance of 32 bits from the next instruction, and how long it is in front of that:
# calls and jumps; operands, whose last byte but the distance says so (ModRM, mod 0, rm 5).
_JUMPS = ((rb"[\xe8\xe9]", 1), (rb"\x0f[\x80-\x8f]", 2))
_OPERANDS = ((rb"[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]", 1),)
_NEAR = rb"(?=...[%b])"
_REACH, _FAR = 5, 128
_END = methodcaller("end")

_LEVELS = {
    _V2: ("SSE3", "SSSE3", "SSE4_1", "SSE4_2", "POPCNT", "CMPXCHG16B"),
    _V3: ("AVX", "AVX2", "BMI1", "BMI2", "F16C", "FMA", "LZCNT", "MOVBE"),
    _V4: ("AVX512F", "AVX512BW", "AVX512CD", "AVX512DQ", "AVX512VL"),
}
_EXTENSIONS = (
    *("AES", "PCLMULQDQ", "SHA", "GFNI", "VAES", "VPCLMULQDQ", "ADX", "RDRAND", "RDSEED", "RTM", "FSGSBASE"),
    *("SSE4A", "FMA4", "XOP", "TBM", "D3NOW", "D3NOWEXT", "WAITPKG", "MOVDIRI", "MOVDIR64B", "ENQCMD"),
    *("CLWB", "CLFLUSHOPT", "CLZERO", "MONITORX", "SHA512", "SM3", "SM4", "KL", "WIDE_KL", "AESKLE"),
    *("AVX512_VNNI", "AVX512_BF16", "AVX512_FP16", "AVX512_IFMA", "AVX512_VBMI", "AVX512_VBMI2"),
    *("AVX512_BITALG", "AVX512_VPOPCNTDQ", "AVX512_VP2INTERSECT", "AVX512_4FMAPS", "AVX512_4VNNIW"),
    *("AVX512ER", "AVX512PF", "AVX_VNNI", "AVX_IFMA", "AVX_NE_CONVERT", "AVX_VNNI_INT8", "AVX_VNNI_INT16"),
    *("AMX_TILE", "AMX_INT8", "AMX_BF16", "AMX_FP16", "AMX_COMPLEX", "CMPCCXADD", "RAO_INT"),
)
_LEVEL_OF = {getattr(CpuidFeature, name): bit for bit, names in _LEVELS.items() for name in names}
_NAME_OF = {getattr(CpuidFeature, name): name for name in _EXTENSIONS}
_FLOWS = {
    FlowControl.UNCONDITIONAL_BRANCH: Flow.JUMP,
    FlowControl.CONDITIONAL_BRANCH: Flow.BRANCH,
    FlowControl.CALL: Flow.CALL,
    FlowControl.RETURN: Flow.RETURN,
    FlowControl.INDIRECT_BRANCH: Flow.JUMP_SLOT,
    FlowControl.INDIRECT_CALL: Flow.CALL_SLOT,
    FlowControl.EXCEPTION: Flow.STOP,
}
_CODE = attrgetter("code")
_NEAR_CALLS = (Code.CALL_REL32_64, Code.CALL_REL16)


class X86:
    """The code of one image."""

    baseline = "x86-64"
    levels: tuple[tuple[str, int], ...] = (
        ("x86-64-v2", _V2 | _V3 | _V4),
        ("x86-64-v3", _V3 | _V4),
        ("x86-64-v4", _V4),
    )
    detection = _DETECTION
    detection_names: frozenset[str] = frozenset()  # getauxval tells nothing here

    def __init__(self, image: Image) -> None:
        self.image = image
        self._blocks: dict[int, Block] = {}
        self._kinds: dict[int, tuple[int, Flow]] = {}
        self._harmless: set[int] = set()
        self._extensions: dict[str, int] = {}

    def block(self, start: int) -> Block:
        """Decode from `start` to the next change of flow; nothing beyond the segment's end."""
        known = self._blocks.get(start)
        if known is None:
            if len(self._blocks) >= BLOCKS_HELD:
                self._blocks.clear()
            known = self._blocks[start] = self._decode_block(start)
        return known

    def _decode_block(self, start: int) -> Block:
        segment = self.image.segment(start)
        if segment is None:
            return Block(start, start, start, Flow.UNKNOWN, 0, ())
        data, kinds = self.image.data, self._kinds
        end, shift = segment.address + segment.file_size, segment.offset - segment.address
        needs: list[tuple[int, int]] = []
        at = start
        while at < min(end, start + _BLOCK_LIMIT):
            stop = min(at + _SHORT, end)
            for item in Decoder(64, data[at + shift : stop + shift + _LONGEST], ip=at):
                mask, flow = kinds.get(item.code) or self._kind(item)
                following = item.next_ip
                if following > end:
                    return Block(start, at, at, Flow.UNKNOWN, at, tuple(needs))
                if mask:
                    needs.append((at, mask))
                if flow:
                    return Block(start, at, following, flow, self._target(item, flow), tuple(needs))
                at = following
                if at >= stop:
                    break
            else:
                break
        # A limit that no compiled code meets: go on in another block.
        flow = Flow.JUMP if at < end else Flow.UNKNOWN
        return Block(start, at, at, flow, at, tuple(needs))

    def turns(self, start: int, end: int) -> list[Block]:
        """Return where flow is directed between two addresses, decoded one after the other; no needs."""
        kinds, found, begin = self._kinds, [], start
        for item in self._decode(start, end):
            _, flow = kinds.get(item.code) or self._kind(item)
            if flow:
                following = item.next_ip
                found.append(Block(begin, item.ip, following, flow, self._target(item, flow), ()))
                begin = following
        return found

    @staticmethod
    def _target(item: Instruction, flow: Flow) -> int:
        if flow in (Flow.JUMP_SLOT, Flow.CALL_SLOT):
            return item.ip_rel_memory_address if item.is_ip_rel_memory_operand else 0
        return item.near_branch_target if flow in (Flow.JUMP, Flow.BRANCH, Flow.CALL) else 0

    def slot_of_stub(self, start: int) -> int:
        """Return the slot through which a PLT entry jumps, 0 for code that is none."""
        at = self.image.offset(start)
        stub = None if at is None else _STUB.match(self.image.data[at : at + 11])
        return start + stub.end() + int.from_bytes(stub[1], "little", signed=True) if stub else 0

    def needs_of(self, start: int, end: int) -> int:
        """Return the bits of all instructions between two addresses of one segment."""
        at = self.image.offset(start)
        if at is None:
            return 0
        found: set[int] = set(map(_CODE, Decoder(64, self.image.data[at : at + end - start])))
        strange = found - self._harmless
        if not strange:
            return 0
        return self._sum(strange, start, end)

    def _sum(self, codes: set[int], start: int, end: int) -> int:
        missing = codes - self._kinds.keys()
        for item in self._decode(start, end) if missing else ():
            if item.code in missing:
                self._kind(item)
                missing.remove(item.code)
                if not missing:
                    break
        bits = 0
        for code in codes:
            mask = self._kinds[code][0]
            bits |= mask
            if not mask:
                self._harmless.add(code)
        return bits

    def sites(self, start: int, end: int, wanted: int) -> list[int]:
        """Return the addresses of instructions with wanted bits."""
        return [item.ip for item in self._decode(start, end) if self._kind(item)[0] & wanted]

    def jumps(self) -> Iterator[tuple[int, int]]:
        """Yield from within which call or jump control goes where, in all code, by rising addresses."""
        return self._distances(_JUMPS)

    def operands(self) -> Iterator[tuple[int, int]]:
        """Yield from within which instruction an operand points where, in all code, by rising addresses."""
        return self._distances(_OPERANDS)

    def _distances(self, forms: tuple[tuple[bytes, int], ...]) -> Iterator[tuple[int, int]]:
        """Search all code for opcodes of some length with a distance of 32 bits that stays in the file.

        Its top byte tells that in the search already, and spares the look at most chance matches.
        """
        reach = (self.image.span >> 24) + 1
        tops = bytes({top & 0xFF for top in range(-reach, reach)} if reach < _FAR else range(256))
        found = [(re.compile(form + _NEAR % re.escape(tops), re.DOTALL), size) for form, size in forms]
        data, word = self.image.data, struct.Struct("<i").unpack_from
        for start, stop in self.image.code:
            shift = (self.image.offset(start) or 0) - start
            for at in range(start, stop, _PIECE):
                size = min(_PIECE, stop - at)
                piece = data[at + shift : min(at + size + _REACH, stop) + shift]
                ends: list[int] = []
                for pattern, width in found:
                    ends += map(_END, pattern.finditer(piece, 0, size + width + 3))
                ends.sort()  # two runs: what each pattern has found
                for end, (distance,) in zip(ends, map(word, repeat(piece), ends), strict=True):
                    yield at + end - 1, at + end + 4 + distance

    def filled(self, start: int, end: int) -> set[int]:
        """Return the addresses of variables that the code between two addresses writes or hands on."""
        found: set[int] = set()
        for item in self._decode(start, end):
            if not item.is_ip_rel_memory_operand or item.flow_control != FlowControl.NEXT:
                continue
            address = item.ip_rel_memory_address
            if item.mnemonic == Mnemonic.LEA and self.image.is_writable(address):
                found.update(range(address, address + VARIABLE_ROOM))
            elif item.op0_kind == OpKind.MEMORY and self.image.is_writable(address):
                # A reader with an immediate operand has it behind the address: 1 or 4 bytes off.
                found.update((address, address - 1, address - 4))
        return found

    def text(self, address: int) -> str:
        """Return the instruction at an address in Intel's syntax."""
        item = next(iter(self._decode(address, address + 15)), None)
        return "" if item is None else Formatter(FormatterSyntax.INTEL).format(item)

    def extensions(self) -> tuple[tuple[str, int], ...]:
        """Return name and bit of every feature outside the levels that was met so far."""
        return tuple(self._extensions.items())

    def main(self, entry: int) -> int:
        """Return what a program's entry puts into RDI for its C library (glibc's and musl's crt1)."""
        found = 0
        for _ in range(2):
            block = self.block(entry)
            for item in self._decode(entry, block.next):
                if item.op0_kind == OpKind.REGISTER and item.op0_register in (Register.RDI, Register.EDI):
                    found = self._loaded(item) or found
            if found or block.flow not in (Flow.CALL, Flow.JUMP):
                break
            entry = block.target
        return found if self.image.segment(found) is not None else 0

    def _loaded(self, item: Instruction) -> int:
        if item.mnemonic == Mnemonic.LEA and item.is_ip_rel_memory_operand:
            return item.ip_rel_memory_address
        if item.mnemonic == Mnemonic.MOV and item.is_ip_rel_memory_operand:
            return self.image.resolve(item.ip_rel_memory_address).address
        return item.immediate(1) if item.op1_kind in (OpKind.IMMEDIATE32, OpKind.IMMEDIATE32TO64) else 0

    def _decode(self, start: int, end: int) -> Decoder:
        at = self.image.offset(start) or 0
        return Decoder(64, self.image.data[at : at + end - start], ip=start)

    def _kind(self, item: Instruction) -> tuple[int, Flow]:
        """Return the bits and the flow of that kind of instruction."""
        code = item.code
        known = self._kinds.get(code)
        if known is None:
            flow = _FLOWS.get(item.flow_control, Flow.NEXT)
            if flow == Flow.CALL and code not in _NEAR_CALLS:
                flow = Flow.NEXT  # a system call
            if code == Code.INVALID:
                flow = Flow.UNKNOWN
            elif item.mnemonic in (Mnemonic.HLT, Mnemonic.INT3):
                flow = Flow.STOP
            known = self._kinds[code] = (self._bits(item), flow)
        return known

    def _bits(self, item: Instruction) -> int:
        if item.mnemonic in (Mnemonic.CPUID, Mnemonic.XGETBV):
            return _DETECTION
        if item.mnemonic == Mnemonic.TZCNT or item.code == Code.INVALID:
            return 0
        bits = 0
        for feature in item.cpuid_features():
            bits |= _LEVEL_OF.get(feature, 0)
            name = _NAME_OF.get(feature)
            if name is not None:
                bits |= self._bit(name)
                if name.startswith("AVX512"):
                    bits |= _V4
                elif name.startswith(("AVX_", "VAES", "VPCLMUL")):
                    bits |= _V3
        return bits

    def _bit(self, name: str) -> int:
        return self._extensions.setdefault(name, _FIRST_EXTENSION << len(self._extensions))
