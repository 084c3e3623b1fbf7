"""aarch64 code: words of 32 bits, told apart by masks (Arm ARM, C4.1); no decoder is needed.

There is no ladder of levels; what counts is the list of features beyond Armv8.0-A. Pointer
authentication and branch targets as compilers emit them are hints, which older CPUs skip: they do not
count, the forms that are no hints do. AES, SHA, PMULL and CRC32 are optional in 8.0 and do count.

Compilers wrap atomics into small helpers that choose between the instructions of 8.1 (LSE) and loops
that all CPUs know; such a helper asks the CPU, it needs nothing.
"""

from collections.abc import Iterator
from itertools import compress

from belljar.audit.isa.code import BLOCKS_HELD, VARIABLE_ROOM, Block, Flow
from belljar.audit.isa.image import Image

_DETECTION = 1
_FIRST_FEATURE = 2
_BLOCK_LIMIT = 2000
_HELPER_SIZE = 96
_PIECE = 1 << 20
_STUB_WORDS = 6
"""How long a PLT entry is at most: bti, adrp, ldr, add, br, nop."""

# Name, mask, value; the first match counts. The lower ten bits, registers mostly, tell nothing.
_PATTERNS = (
    ("", 0xFFFFFC00, 0x1EE24000),  # FCVT from half precision is of 8.0
    ("", 0xFFFFFC00, 0x1EE2C000),
    ("RCPC", 0x3FFFFC00, 0x38BFC000),
    ("LSE", 0x3F208C00, 0x38200000),
    ("LSE", 0x3F20FC00, 0x38208000),
    ("LSE", 0x3FA07C00, 0x08A07C00),
    ("LSE", 0xBFA07C00, 0x08207C00),
    ("RCPC2", 0x3F200C00, 0x19000000),
    ("RDM", 0xBF20F400, 0x2E008400),
    ("CRC32", 0x7FE0E000, 0x1AC04000),
    ("DOTPROD", 0x9FE0FC00, 0x0E809400),
    ("DOTPROD", 0x9FC0F400, 0x0F80E000),
    ("I8MM", 0xBFE0FC00, 0x0E809C00),
    ("I8MM", 0xDFE0F400, 0x4E80A400),
    ("BF16", 0xBFE0FC00, 0x2E40FC00),
    ("BF16", 0xFFE0FC00, 0x6E40EC00),
    ("BF16", 0xFFFFFC00, 0x1E634000),
    ("FP16", 0x7FE00000, 0x1EE00000),
    ("FP16", 0xFFC00000, 0x1FC00000),
    ("FP16", 0x9F60C400, 0x0E400400),
    ("FP16", 0x9F7E0C00, 0x0E780800),
    ("AES", 0xFFFF0C00, 0x4E280800),
    ("PMULL", 0xBFE0FC00, 0x0EE0E000),
    ("SHA", 0xFFE08C00, 0x5E000000),
    ("SHA", 0xFFFF0C00, 0x5E280800),
    ("SHA3", 0xFF000000, 0xCE000000),
    ("JSCVT", 0xFFFFFC00, 0x1E7E0000),
    ("FCMA", 0xBF20E400, 0x2E00C400),
    ("FCMA", 0xBF20EC00, 0x2E00E400),
    ("PAUTH", 0xFEFFF800, 0xD61F0800),
    ("PAUTH", 0xFEFFF800, 0xD63F0800),
    ("PAUTH", 0xFFFFF800, 0xD65F0800),
    ("PAUTH", 0xFFFF0000, 0xDAC10000),
    ("PAUTH", 0xFF200400, 0xF8200400),
    ("MTE", 0xFF200000, 0xD9200000),
    ("SVE", 0x1E000000, 0x04000000),
    ("SME", 0x9E000000, 0x80000000),
    ("?", 0xFFFFF000, 0xD5380000),  # MRS from an identification register
)
_BY_TOP = tuple(
    tuple(item for item in _PATTERNS if not (top ^ item[2] >> 24) & item[1] >> 24) for top in range(256)
)


def feature(word: int) -> str:
    """Return the feature that an instruction needs; "" for Armv8.0-A, "?" when it asks for features."""
    return next((name for name, mask, value in _BY_TOP[word >> 24] if word & mask == value), "")


def flow(word: int) -> tuple[Flow, int]:
    """Return what follows an instruction, and how far the target is in bytes."""
    top = word >> 24
    if top & 0x7C == 0x14:
        return (Flow.CALL if top & 0x80 else Flow.JUMP), _signed(word, 0, 26)
    if top == 0x54 or top & 0x7E == 0x34:
        return Flow.BRANCH, _signed(word, 5, 19)
    if top & 0x7E == 0x36:
        return Flow.BRANCH, _signed(word, 5, 14)
    if top & 0xFE == 0xD6:
        match word >> 21 & 7:
            case 0:
                return Flow.JUMP_SLOT, 0
            case 1:
                return Flow.CALL_SLOT, 0
            case 2:
                return Flow.RETURN, 0
            case _:
                return Flow.UNKNOWN, 0
    if word >> 16 == 0 or word & 0xFFE0001F == 0xD4200000:
        return Flow.STOP, 0
    return Flow.NEXT, 0


def _signed(word: int, low: int, width: int) -> int:
    value = word >> low & (1 << width) - 1
    return (value - (1 << width) if value >> width - 1 else value) * 4


class _Registers:
    """The addresses that registers hold after ADRP and what follows it, in straight code."""

    def __init__(self) -> None:
        self.values: dict[int, int] = {}
        self.slots: dict[int, int] = {}

    def step(self, at: int, word: int) -> tuple[str, int]:
        """Take one instruction in; return what it does with a known address: "take", "load" or "store"."""
        to, base = word & 31, word >> 5 & 31
        if word & 0x9F000000 == 0x90000000:
            pages = _signed(word, 5, 19) + (word >> 29 & 3)
            self.values[to] = (at & ~0xFFF) + (pages << 12)
            return "", 0
        if base not in self.values:
            return "", 0
        immediate = word >> 10 & 0xFFF
        if word & 0xFFC00000 == 0x91000000:
            self.values[to] = address = self.values[base] + immediate
            return "take", address
        if word & 0x3B000000 == 0x39000000:
            address = self.values[base] + (immediate << (word >> 30))
            if word & 0x00C00000 == 0:
                return "store", address
            if word & 0xFFC00000 == 0xF9400000:
                self.slots[to] = address
                self.values.pop(to, None)
            return "load", address
        return "", 0


class Aarch64:
    """The code of one image."""

    baseline = "armv8-a"
    levels: tuple[tuple[str, int], ...] = ()
    detection = _DETECTION
    detection_names = frozenset({"getauxval", "__getauxval", "elf_aux_info"})

    def __init__(self, image: Image) -> None:
        self.image = image
        self._blocks: dict[int, Block] = {}
        self._known: dict[int, int] = {}
        self._features: dict[str, int] = {}
        self._harmless: set[int] = set()

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
        if segment is None or start & 3:
            return Block(start, start, start, Flow.UNKNOWN, 0, ())
        end = segment.address + segment.file_size - 3
        registers = _Registers()
        needs = []
        at = start
        while at < min(end, start + 4 * _BLOCK_LIMIT):
            place = at - segment.address + segment.offset
            word = int.from_bytes(self.image.data[place : place + 4], "little")
            bits = self._bits(word)
            if bits:
                needs.append((at, bits))
            kind, distance = flow(word)
            if kind:
                target = at + distance if distance or kind == Flow.JUMP else 0
                if kind in (Flow.JUMP_SLOT, Flow.CALL_SLOT):
                    target = registers.slots.get(word >> 5 & 31, 0)
                return Block(start, at, at + 4, kind, target, tuple(needs))
            registers.step(at, word)
            at += 4
        return Block(start, at, at, Flow.JUMP if at < end else Flow.UNKNOWN, at, tuple(needs))

    def turns(self, start: int, end: int) -> list[Block]:
        """Return where flow is directed between two addresses, decoded one after the other; no needs."""
        found, begin = [], start
        for at, word in zip(range(start, end, 4), self._words(start, end), strict=False):
            kind, distance = flow(word)
            if kind:
                found.append(Block(begin, at, at + 4, kind, at + distance if distance else 0, ()))
                begin = at + 4
        return found

    def slot_of_stub(self, start: int) -> int:
        """Return the slot through which a PLT entry jumps, 0 for code that is none."""
        words = self._words(start, start + 4 * _STUB_WORDS)
        if not any(word & 0x9F00001F == 0x90000010 for word in words[:2]):  # adrp x16
            return 0
        registers = _Registers()
        for number, word in enumerate(words):
            kind, _ = flow(word)
            if kind:
                return registers.slots.get(word >> 5 & 31, 0) if kind == Flow.JUMP_SLOT else 0
            registers.step(start + 4 * number, word)
        return 0

    def needs_of(self, start: int, end: int) -> int:
        """Return the bits of all instructions between two addresses of one segment."""
        bits = 0
        for word in {word >> 10 for word in self._words(start, end)} - self._harmless:
            found = self._bits(word << 10)
            bits |= found
            if not found:
                self._harmless.add(word)
        if end - start <= _HELPER_SIZE and bits & self._features.get("LSE", 0):
            bits |= _DETECTION * self._has_loop(start, end)
        return bits

    def _has_loop(self, start: int, end: int) -> bool:
        """Whether code also knows how to do without LSE: load and store exclusive."""
        return any(word & 0x3FA00000 == 0x08000000 for word in self._words(start, end))

    def jumps(self) -> Iterator[tuple[int, int]]:
        """Yield from within which call or jump control goes where, in all code, by rising addresses."""
        for at, word in self._marked(_DIRECTS):
            yield at, at + _signed(word, 0, 26)

    def operands(self) -> Iterator[tuple[int, int]]:
        """Yield from within which instruction an operand points where, in all code, by rising addresses."""
        registers = _Registers()
        for at, word in self._marked(_OPERANDS):
            if word >> 25 == _INDIRECT:
                if flow(word)[0] in (Flow.RETURN, Flow.JUMP_SLOT):
                    registers = _Registers()
            elif word >> 5 & 31 in registers.values or word & 0x9F000000 == 0x90000000:
                does, address = registers.step(at, word)
                if does:
                    yield at, address

    def _marked(self, tops: bytes) -> Iterator[tuple[int, int]]:
        """Yield address and word of the instructions of all code whose top byte is marked."""
        for start, stop in self.image.code:
            for at in range(start, stop, _PIECE):
                words = self._words(at, min(at + _PIECE, stop))
                marks = words.tobytes()[3::4].translate(tops)
                yield from compress(zip(range(at, stop, 4), words, strict=False), marks)

    def filled(self, start: int, end: int) -> set[int]:
        """Return the addresses of variables that the code between two addresses writes or hands on."""
        found: set[int] = set()
        registers = _Registers()
        for number, word in enumerate(self._words(start, end)):
            does, address = registers.step(start + 4 * number, word)
            if does in ("take", "store") and self.image.is_writable(address):
                found.update(range(address, address + (VARIABLE_ROOM if does == "take" else 1)))
        return found

    def sites(self, start: int, end: int, wanted: int) -> list[int]:
        """Return the addresses of instructions with wanted bits."""
        words = enumerate(self._words(start, end))
        return [start + 4 * number for number, word in words if self._bits(word) & wanted]

    def text(self, address: int) -> str:
        """Return the instruction at an address, as a number with the feature's name."""
        words = self._words(address, address + 4)
        return f".inst {words[0]:#010x} ({feature(words[0])})" if len(words) else ""

    def extensions(self) -> tuple[tuple[str, int], ...]:
        """Return name and bit of every feature that was met so far."""
        return tuple(self._features.items())

    def main(self, entry: int) -> int:
        """Return what a program's entry puts into X0 for its C library."""
        registers = _Registers()
        found = 0
        block = self.block(entry)
        for number, word in enumerate(self._words(entry, block.next)):
            does, address = registers.step(entry + 4 * number, word)
            if word & 31 == 0 and does in ("take", "load"):
                found = address if does == "take" else self.image.resolve(address).address
        return found if self.image.segment(found) is not None else 0

    def _words(self, start: int, end: int) -> "memoryview[int]":
        at = self.image.offset(start)
        piece = b"" if at is None else self.image.data[at : at + end - start]
        return memoryview(piece[: len(piece) & ~3]).cast("I")

    def _bits(self, word: int) -> int:
        known = self._known.get(word >> 10)
        if known is None:
            known = self._known[word >> 10] = self._read_bits(word)
        return known

    def _read_bits(self, word: int) -> int:
        name = feature(word)
        if not name:
            return 0
        if name == "?":
            return _DETECTION
        return self._features.setdefault(name, _FIRST_FEATURE << len(self._features))


_INDIRECT = 0xD6 >> 1
_DIRECTS = bytes(top & 0x7C == 0x14 for top in range(256))
_OPERANDS = bytes(
    top >> 1 == _INDIRECT or top & 0x9F == 0x90 or top == 0x91 or top & 0x3B == 0x39 for top in range(256)
)
