"""What x86 code spells: the bytes that it writes or compares, each with the places that it comes from.

That a piece has neighbours somewhere near says little: they may be those of another use. So the code is
followed as the processor would: constants go into registers, registers to addresses. What arrives relative
to one base, distance by distance, is the text of one use. Where it spells the placeholder, each byte's place
in the file is known, be it the immediate of one letter, the end of a vector constant, or half of a UTF-16
character; a text that stops short of the last byte that varies is a cut.

The code is read from its first instruction to its last, branches as if they were not taken, until a return or
jump that none of them leads across: there a function ends. That may tear the text of one use apart, which
is then seen as two cuts; it does not make one out of two uses, as a place that is written again begins anew.
"""

import itertools
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from belljar.placeholder import DIRECTORY_LIMIT
from belljar.relocate.pieces import instructions
from belljar.relocate.pieces.image import Image
from belljar.relocate.search import MINIMUM, Run, Window

if TYPE_CHECKING:
    from iced_x86 import Instruction

_VECTOR = 64
"""How many bytes the widest register has."""
_REGISTER = 8
_NOWHERE = -1
_TERMS = 16
"""Of how many parts the base of an address is made before it is one of its own."""


class Known(NamedTuple):
    """A value: its bytes, and the offset in the file that each comes from (-1: none)."""

    text: bytes
    places: tuple[int, ...]

    def first(self, size: int) -> "Known":
        """Return its first bytes."""
        return self if len(self.text) <= size else Known(self.text[:size], self.places[:size])

    def then(self, other: "Known") -> "Known":
        """Return the value that has the other's bytes after its own."""
        return Known(self.text + other.text, self.places + other.places)


class Address(NamedTuple):
    """An address: what it is relative to (nothing: absolute), and how far from it."""

    base: tuple[int, ...]
    distance: int


class Loaded(NamedTuple):
    """A value that was read from an address, where it may be compared with a constant; its bytes if known."""

    address: Address
    content: Known | None


_Value = Known | Loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelled:
    """A run of the placeholder that code spells, and the places in the file where each of its bytes stands.

    The offset of the run means nothing. `is_read`: the code reads it again and writes it elsewhere.
    `is_changed`: the code writes another letter over one of it; the compiler may have computed that.
    """

    run: Run
    places: tuple[tuple[int, ...], ...]
    is_read: bool = False
    is_changed: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether it has all bytes that vary."""
        begin, end = self.span
        return begin <= 1 and end >= DIRECTORY_LIMIT

    @property
    def span(self) -> tuple[int, int]:
        """Which bytes of the placeholder it has: begin and end."""
        return self.run.start, self.run.start + self.run.length


class Stretch(NamedTuple):
    """Bytes that stand side by side from a distance on, each with the places that it comes from."""

    distance: int
    text: bytes
    places: tuple[tuple[int, ...], ...]


@dataclass(slots=True, kw_only=True)
class Text:
    """What has arrived relative to one base: byte and places by distance; and by which accesses.

    `computed`: at which distances a single byte was written over another one that had arrived.
    """

    base: tuple[int, ...]
    content: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    accesses: set[tuple[int, int]] = field(default_factory=set)
    computed: set[int] = field(default_factory=set)
    is_read: bool = False

    def takes(self, distance: int, text: bytes) -> bool:
        """Whether these bytes may belong to it: not seen before, and none of them differs."""
        here = self.content
        return (distance, len(text)) not in self.accesses and all(
            here.get(distance + index, (byte,))[0] == byte for index, byte in enumerate(text)
        )

    def put(self, distance: int, value: Known) -> None:
        """Add a value."""
        self.accesses.add((distance, len(value.text)))
        for index, (byte, place) in enumerate(zip(value.text, value.places, strict=True)):
            self.content.setdefault(distance + index, (byte, []))[1].append(place)

    def change(self, distance: int, size: int) -> None:
        """Take note that something else is written over it.

        Only a single byte is a letter that the code computes from one of the literal's, which the compiler
        folded into a number; more than one is the memory's next use.
        """
        if size == 1 and distance in self.content:
            self.computed.add(distance)

    def stretches(self) -> Iterator[Stretch]:
        """Yield its bytes as far as they stand side by side."""
        for _, group in itertools.groupby(enumerate(sorted(self.content)), lambda item: item[1] - item[0]):
            distances = [distance for _, distance in group]
            stretch = [self.content[distance] for distance in distances]
            places = tuple(tuple(places) for _, places in stretch)
            yield Stretch(distances[0], bytes(byte for byte, _ in stretch), places)

    def spelled(self, window: Window) -> Iterator[Spelled]:
        """Yield what it spells of the placeholder, stretch by stretch."""
        if len(self.content) < MINIMUM:
            return
        for stretch in self.stretches():
            for run in window.over(stretch.text).runs():
                places = stretch.places[run.offset : run.offset + run.length * run.width]
                first = stretch.distance + run.offset
                letters = {run.start + (distance - first) // run.width for distance in self.computed}
                is_changed = any(max(run.start, 1) <= letter < DIRECTORY_LIMIT for letter in letters)
                yield Spelled(run=run, places=places, is_read=self.is_read, is_changed=is_changed)


class Machine:
    """Registers and memory, as far as they follow from constants in the code and its file.

    `done` are the texts to which nothing is added any more.
    """

    def __init__(self, fd: int, image: Image) -> None:
        self.fd, self.image = fd, image
        self.known = instructions.known()
        self.done: list[Text] = []
        self._values: dict[int, _Value] = {}
        self._pointers: dict[int, Address] = {}
        self._texts: dict[tuple[int, ...], Text] = {}
        self._serial = itertools.count(1)
        self._reach = 0  # the furthest that a branch of this function leads to
        self._loaded = sorted(
            (region for region in image.regions if region.address), key=lambda region: region.address
        )
        self._starts = [region.address for region in self._loaded]

    def step(self, instruction: "Instruction", immediate: Known) -> None:
        """Carry out one instruction."""
        known = self.known
        sources = self._sources(instruction, immediate)
        value: _Value | None = None
        if instruction.mnemonic in known.moves:
            value = sources[-1] if sources else None
        elif half := known.joins.get(instruction.mnemonic):
            value = self._joined(sources, half, immediate)
        elif instruction.mnemonic != known.lea:
            self._compare(sources)
        pointer = self._pointer(instruction)
        target = self._address(instruction) if known.writes_memory(instruction) else None
        self._forget(instruction)
        if target is not None:
            if isinstance(value, Loaded):
                value = self._read(value)
            if value is not None:
                self._arrive(target, value.first(known.memory_size(instruction)))
            elif known.is_written(instruction):
                self.lose(target, known.memory_size(instruction))
        elif register := known.destination(instruction):
            if value is not None:
                size = known.size(register)
                self._values[known.full(register)] = value.first(size) if isinstance(value, Known) else value
            if pointer is not None:
                self._pointers[known.full(register)] = pointer

    def lose(self, address: Address, size: int) -> None:
        """Take note that something unknown is written over what may have arrived."""
        if text := self._texts.get(address.base):
            text.change(address.distance, size)

    def finish(self) -> list[Spelled]:
        """End all texts, and return what they spell of the placeholder."""
        self.done += self._texts.values()
        self._texts.clear()
        window = Window()
        return [item for text in self.done for item in text.spelled(window)]

    def _sources(self, instruction: "Instruction", immediate: Known) -> list[_Value | None]:
        first = 1 if instruction.mnemonic in self.known.moves else 0
        return [
            self._operand(instruction, number, immediate) for number in range(first, instruction.op_count)
        ]

    def _operand(self, instruction: "Instruction", number: int, immediate: Known) -> _Value | None:
        """Return what is known of an operand."""
        known, kind = self.known, instruction.op_kind(number)
        if kind == known.kinds.REGISTER:
            register = instruction.op_register(number)
            value = self._values.get(known.full(register))
            return value.first(known.size(register)) if isinstance(value, Known) else value
        if kind == known.kinds.MEMORY:
            address = self._address(instruction)
            size = known.memory_size(instruction)
            return self.constant(address, size) or Loaded(address, self._stored(address, size))
        if immediate.text:  # smaller ones are extended by their sign, which text does not have
            zeros = _REGISTER - len(immediate.text)
            return immediate.then(Known(bytes(zeros), (_NOWHERE,) * zeros))
        return None

    def _joined(self, sources: list[_Value | None], half: int, immediate: Known) -> Known | None:
        """Return the value made of the low half of one operand and another; the immediate says which half."""
        if immediate.text:
            sources = sources[:-1]
            half *= immediate.text[0] or 1
        low, high = sources[-2:] if len(sources) > 1 else (None, None)
        if isinstance(low, Known) and isinstance(high, Known) and len(low.text) >= half:
            return low.first(half).then(high)
        return None

    def _compare(self, sources: list[_Value | None]) -> None:
        """Take a constant that meets what was read from an address as what is expected there."""
        constant = next((one for one in sources if isinstance(one, Known)), None)
        other = next((one for one in sources if isinstance(one, Loaded)), None)
        if constant is not None and other is not None:
            self._arrive(other.address, constant)

    def _arrive(self, address: Address, value: Known) -> None:
        text = self._texts.setdefault(address.base, Text(base=address.base))
        if not text.takes(address.distance, value.text):
            text.change(address.distance, len(value.text))
            self.done.append(text)
            text = self._texts[address.base] = Text(base=address.base)
        text.put(address.distance, value)

    def _address(self, instruction: "Instruction") -> Address:
        """Return the address of the memory operand."""
        known, distance = self.known, instruction.memory_displacement
        if instruction.memory_base in known.absolute:
            return Address((), distance)
        distance -= (distance >> (self.image.bits - 1)) << self.image.bits
        base: tuple[int, ...] = ()
        if instruction.memory_base != known.none:
            base, more = self._where(instruction.memory_base)
            distance += more
        if instruction.memory_index != known.none:
            scale = instruction.memory_index_scale
            index, more = self._where(instruction.memory_index)
            base, distance = (*base, -scale, *index), distance + more * scale
        return Address(base if len(base) <= _TERMS else (next(self._serial),), distance)

    def _where(self, register: int) -> Address:
        """Return what a register points to."""
        full = self.known.full(register)
        if full not in self._pointers:
            self._pointers[full] = Address((next(self._serial),), 0)
        return self._pointers[full]

    def _pointer(self, instruction: "Instruction") -> Address | None:
        """Return what the first operand points to afterwards, where that follows from before."""
        known, name = self.known, instruction.mnemonic
        if not known.destination(instruction):
            return None
        if name == known.lea:
            return self._address(instruction)
        if name == known.mov and instruction.op1_kind == known.kinds.REGISTER:
            return self._where(instruction.op1_register)
        if sign := known.steps.get(name):
            if instruction.op1_kind in (known.kinds.REGISTER, known.kinds.MEMORY):
                return None
            step = instruction.immediate(1)
            base, distance = self._where(instruction.op0_register)
            return Address(base, distance + sign * (step - ((step >> 63) << 64)))
        return None

    def _forget(self, instruction: "Instruction") -> None:
        """Forget what the registers hold that an instruction, or what it calls, writes."""
        known = self.known
        for full in known.written(instruction):
            self._values.pop(full, None)
            self._pointers.pop(full, None)
        if known.is_branch(instruction):
            self._reach = max(self._reach, instruction.near_branch_target)
        elif known.is_end(instruction) and self._reach < instruction.next_ip:
            self._values.clear()
            self._pointers.clear()
            self._reach = 0

    def _read(self, value: Loaded) -> Known | None:
        """Return what was read from an address and is written to another."""
        text = self._texts.get(value.address.base)
        if value.content is not None and text is not None:
            text.is_read = True
        return value.content

    def _stored(self, address: Address, size: int) -> Known | None:
        """Return what has arrived at an address."""
        text = self._texts.get(address.base)
        if text is None or not 0 < size <= _VECTOR or address.distance not in text.content:
            return None
        found = [text.content.get(address.distance + index, (0, [_NOWHERE])) for index in range(size)]
        return Known(bytes(byte for byte, _ in found), tuple(places[0] for _, places in found))

    def constant(self, address: Address, size: int) -> Known | None:
        """Return what stands in the file at an absolute address; None where that is not known."""
        index = bisect_right(self._starts, address.distance) - 1
        if address.base or index < 0 or not 0 < size <= _VECTOR:
            return None
        region = self._loaded[index]
        offset = region.begin + address.distance - region.address
        if offset + size > region.end:
            return None
        return Known(os.pread(self.fd, size, offset), tuple(range(offset, offset + size)))
