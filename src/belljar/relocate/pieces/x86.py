"""Pieces in x86 code: immediates, which only decoding the instructions around a hit makes certain.

A compiler stores a literal by `movabs` (8 bytes), `mov` to memory (4, 2, 1) or compares with it. What
follows an immediate may look like the placeholder's next letter (`f` is a prefix, `p` to `z` are jumps), so
a run of letters does not say where the immediate ends; the decoder does. It starts a good way before the
hit, where x86 code falls into step with itself within a few instructions; a hit that it does not meet
exactly is no piece. Immediates of 8 and 4 bytes say by themselves which bytes they are (all 4-grams
differ); those of 2 and 1 only as a row that spells at least 8 letters, in the order of the code.
"""

import functools
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from belljar.placeholder import DIRECTORY_LIMIT, PLACEHOLDER
from belljar.references import Reference
from belljar.relocate.pieces.budget import Budget
from belljar.relocate.pieces.buffers import Known, Machine, Spelled
from belljar.relocate.pieces.image import Image, Region
from belljar.relocate.search import Window

WHOLE = PLACEHOLDER.encode()
BEFORE, AFTER = 1280, 2048
"""How many bytes of code around a hit are decoded: 96 stores of one byte each take up to 1,056."""
_OUT_OF_STEP = 224
"""How many bytes the decoder is given to fall into step: what it reads there does not count."""
_PHASES = 16
_BEGINNING_8, _BEGINNING_4 = (
    re.compile(b"|".join(re.escape(WHOLE[:length]) for length in range(longest, 1, -1))) for longest in (7, 4)
)
_VECTORS = (16, 32, 64)
_BLOCK, _LONGEST = 1 << 16, 16
# The last bytes of an instruction that loads a vector relative to its own address: opcode, ModRM, distance.
_LOAD = re.compile(rb"[\x10\x12\x16\x28\x6c\x6f][\x05\x0d\x15\x1d\x25\x2d\x35\x3d](?s:....)")
_ROWS = (2, 1)
_CERTAIN = (8, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """Code around some hits: the pieces there, the beginnings that stand behind other text, what it spells.

    `targets` are the addresses that the code computes: what it may copy from.
    """

    pieces: tuple[Reference, ...]
    heads: tuple[Reference, ...]
    targets: frozenset[int]
    spelled: tuple[Spelled, ...]


def neighbourhoods(
    fd: int, image: Image, region: Region, hits: Iterable[int], budget: Budget
) -> Iterator[Neighbourhood]:
    """Decode the code around the hits, which ascend; those near to each other are seen together."""
    for begin, end, inside in _spans(region, hits):
        code = os.pread(fd, end - begin, begin)
        address = region.address + begin - region.begin
        start, decoded = _in_step(code, image.bits, address, {hit - begin for hit in inside}, budget)
        ignored = _OUT_OF_STEP if begin > region.begin else 0
        pieces, heads = _read(code, begin, [item for item in decoded.immediates if item.at >= ignored])
        yield Neighbourhood(
            pieces=pieces,
            heads=heads,
            targets=frozenset(decoded.targets),
            spelled=tuple(_spelled(fd, image, code, start, begin, address)),
        )


def _spelled(fd: int, image: Image, code: bytes, start: int, begin: int, address: int) -> list[Spelled]:
    """Return what code spells that stands `begin` bytes into the file, decoded from its byte `start` on."""
    from iced_x86 import Decoder

    decoder = Decoder(image.bits, code)
    decoder.position, decoder.ip = start, address + start
    machine = Machine(fd, image)
    for instruction in decoder:
        offsets = decoder.get_constant_offsets(instruction)
        size = offsets.immediate_size if offsets.has_immediate else 0
        at = decoder.position - instruction.len + offsets.immediate_offset
        machine.step(instruction, Known(code[at : at + size], tuple(range(begin + at, begin + at + size))))
    return machine.finish()


def loads(fd: int, region: Region, wanted: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Yield where code holds the distance to an address from which a constant would reach into wanted bytes.

    `wanted` are begin and end addresses, ascending and apart. In a block of code few values of the distance's
    upper half are possible, so that hardly anything is compared.
    """
    spans = [(max(0, begin - _VECTORS[-1] + 1), end) for begin, end in wanted]
    begins = [begin for begin, _ in spans]
    for at in range(region.begin, region.end, _BLOCK):
        block = os.pread(fd, min(_BLOCK + _LONGEST, region.end - at), at)
        address = region.address + at - region.begin
        halves = {
            distance >> 16 & 0xFFFF
            for begin, end in spans
            for distance in (*range(begin - address - _BLOCK - 8, end - address, 1 << 16), end - address)
        }
        for match in _relative(frozenset(halves)).finditer(block):
            place = match.start() + 1
            distance = int.from_bytes(block[place : place + 4], "little", signed=True)
            for after in (4, 5):  # the instruction ends there, or after an immediate of one byte
                target = address + place + after + distance
                index = bisect_right(begins, target) - 1
                if place < _BLOCK and index >= 0 and target < spans[index][1]:
                    yield at + place
                    break


@functools.lru_cache(maxsize=64)
def _relative(halves: frozenset[int]) -> re.Pattern[bytes]:
    """Return what finds a ModRM byte for an address relative to the code's, and such a distance after it."""
    upper = b"|".join(re.escape(half.to_bytes(2, "little")) for half in sorted(halves))
    return re.compile(rb"(?<!\x8d)[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](?=(?s:..)(?:" + upper + b"))")


def beginnings(fd: int, region: Region, bits: int) -> Iterator[int]:
    """Yield where code may hold a constant that ends in the placeholder's first bytes.

    64-bit code loads 8 bytes, 2 to 7 of which are a beginning; 32-bit code 4 bytes, 2 to 4.
    """
    step, overlap = 1 << 20, 16
    size, pattern = (8, _BEGINNING_8) if bits == 64 else (4, _BEGINNING_4)
    for at in range(region.begin, region.end, step):
        block = os.pread(fd, min(step + overlap, region.end - at), at)
        for match in pattern.finditer(block):
            first = match.end() - size
            if 2 <= first < step and (bits == 32 or _is_movabs(block[first - 2 : first])):
                yield at + first


def _is_movabs(opcode: bytes) -> bool:
    """Whether these are the first bytes of such an instruction (Intel SDM 2, MOV: REX.W + B8+rd io)."""
    return opcode[0] in (0x48, 0x49) and opcode[1] & 0xF8 == 0xB8


def loaded(fd: int, image: Image, ends: Iterable[int]) -> frozenset[int]:
    """Return those offsets at which a constant ends that code loads: 16, 32 or 64 bytes, by its address.

    An object has no addresses yet: there, what stands in its sections for constants counts.
    """
    if not image.is_linked:
        return frozenset(end for end in ends if image.region(end - 1).name.startswith(".rodata.cst"))
    wanted = {image.address(end - 1) + 1 - size: end for end in ends for size in _VECTORS}
    found = set()
    for region in image.regions if wanted else ():
        step, overlap = 1 << 20, 16
        for at in range(region.begin, region.end, step) if region.is_code else ():
            block = os.pread(fd, min(step + overlap, region.end - at), at)
            address = region.address + at - region.begin
            for match in _LOAD.finditer(block):
                after = match.end()
                target = address + after + int.from_bytes(block[after - 4 : after], "little", signed=True)
                if target in wanted:
                    found.add(wanted[target])
    return frozenset(found)


def _spans(region: Region, hits: Iterable[int]) -> list[tuple[int, int, list[int]]]:
    spans: list[tuple[int, int, list[int]]] = []
    for hit in hits:
        begin, end = max(region.begin, hit - BEFORE), min(region.end, hit + AFTER)
        if spans and begin <= spans[-1][1]:
            spans[-1][2].append(hit)
            spans[-1] = (spans[-1][0], end, spans[-1][2])
        else:
            spans.append((begin, end, [hit]))
    return spans


class _Immediate(NamedTuple):
    """Where an immediate is, how many bytes it has, and whether the instruction stores it in memory."""

    at: int
    size: int
    is_store: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoded:
    """The immediates of some code, where its displacements stand, and the addresses that it computes."""

    immediates: list[_Immediate]
    displacements: list[int]
    targets: set[int]

    def meets(self, hits: set[int]) -> int:
        """Return how many of the hits lie in an immediate, or begin a displacement."""
        inside = {place for item in self.immediates for place in range(item.at, item.at + item.size)}
        return len(hits & inside) + len(hits & set(self.displacements))


def _in_step(code: bytes, bits: int, address: int, hits: set[int], budget: Budget) -> tuple[int, _Decoded]:
    """Decode from whichever start meets most of the hits; returns that start too."""
    best, most = (0, _Decoded(immediates=[], displacements=[], targets=set())), -1
    for start in range(min(_PHASES, len(code))):
        budget.spend(len(code))
        found = _decoded(code, bits, address, start)
        if (met := found.meets(hits)) > most:
            best, most = (start, found), met
        if met == len(hits):
            break
    return best


def _decoded(code: bytes, bits: int, address: int, start: int) -> _Decoded:
    from iced_x86 import Decoder, Mnemonic, OpKind, Register

    decoder = Decoder(bits, code)
    decoder.position, decoder.ip = start, address + start
    found = _Decoded(immediates=[], displacements=[], targets=set())
    for instruction in decoder:
        place = decoder.get_constant_offsets(instruction)
        begin = decoder.position - instruction.len
        if place.has_immediate:
            is_store = instruction.mnemonic == Mnemonic.MOV and instruction.op0_kind == OpKind.MEMORY
            found.immediates.append(
                _Immediate(begin + place.immediate_offset, place.immediate_size, is_store)
            )
        if place.has_displacement and instruction.memory_base in (Register.NONE, Register.RIP):
            found.displacements.append(begin + place.displacement_offset)
            if instruction.mnemonic == Mnemonic.LEA:
                found.targets.add(instruction.memory_displacement)
    return found


def _read(
    code: bytes, begin: int, immediates: list[_Immediate]
) -> tuple[tuple[Reference, ...], tuple[Reference, ...]]:
    pieces, heads = [], []
    for at, size, _ in immediates:
        if size not in _CERTAIN:
            continue
        value = code[at : at + size]
        start = WHOLE.find(value)
        if 0 <= start < DIRECTORY_LIMIT:
            pieces.append(Reference(offset=begin + at, start=start, length=size))
        elif start < 0 and (length := head_length(value)):
            heads.append(Reference(offset=begin + at + size - length, start=0, length=length))
    for size in _ROWS:
        pieces += _row(
            code, begin, [item.at for item in immediates if item.size == size and item.is_store], size
        )
    return tuple(sorted(pieces)), tuple(heads)


def head_length(value: bytes) -> int:
    """Return how many of the placeholder's first bytes a constant ends in; 0 for one, which never varies."""
    return next((length for length in range(len(value) - 1, 1, -1) if value.endswith(WHOLE[:length])), 0)


def _row(code: bytes, begin: int, places: list[int], size: int) -> Iterator[Reference]:
    """Yield the small immediates that together spell a run of the placeholder, byte for byte."""
    text = b"".join(code[at : at + size] for at in places)
    taken: set[int] = set()
    for run in Window().over(text).runs():
        if run.width > 1:
            continue
        for index in range(run.length):
            number, into = divmod(run.offset + index, size)
            if run.offset + index not in taken:
                taken.add(run.offset + index)
                yield Reference(offset=begin + places[number] + into, start=run.start + index, length=1)
