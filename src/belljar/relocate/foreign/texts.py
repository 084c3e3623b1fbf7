"""Texts that x86 code spells: what it writes or compares, byte by byte, and by which instruction each came.

The code around some places is followed (`relocate.pieces.buffers`); it is decoded from the start that meets
most of them. A byte's source is the offset in the file of an immediate's byte; of a constant's, it is that
together with the offset of the distance by which an instruction names it, so that two loads of one constant
are told apart.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from belljar.relocate.foreign.moves import Hit
from belljar.relocate.foreign.subject import Subject
from belljar.relocate.pieces.budget import Budget
from belljar.relocate.pieces.buffers import Address, Known, Machine, Stretch
from belljar.relocate.pieces.image import Image, Region

Base = tuple[int, ...]
"""What the places of a text are relative to: the code it is in, and the registers' first values."""

_BEFORE, _AFTER = 1280, 2048
"""How many bytes of code around a place are followed."""
_PHASES = 16
_SITE = 1 << 48


def tag(place: int, site: int) -> int:
    """Return the source of a byte at an offset that an instruction loads by its distance at `site`."""
    return place + site * _SITE


def place_of(source: int) -> int:
    """Return where in the file a byte stands."""
    return source % _SITE


def site_of(source: int) -> int:
    """Return where the distance stands by which it is loaded; 0 for a byte of an immediate."""
    return source // _SITE


class Text(NamedTuple):
    """Bytes that arrive side by side, the prefixes in them, and whether they are read again."""

    base: Base
    stretch: Stretch
    is_read: bool
    hits: tuple[Hit, ...]

    @property
    def begin(self) -> int:
        """How far from the base it begins."""
        return self.stretch.distance

    @property
    def end(self) -> int:
        """How far from the base it ends."""
        return self.stretch.distance + len(self.stretch.text)


@dataclass(slots=True, kw_only=True)
class Code:
    """What was read of a file's code.

    `reads`: by which distance which bytes of the file are loaded. `lost`: where something unknown is written,
    as base, begin and end.
    """

    texts: list[Text] = field(default_factory=list)
    reads: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    lost: list[tuple[Base, int, int]] = field(default_factory=list)


class _Reader(Machine):
    """A machine that marks constants by the instruction that loads them: `site` is its distance's offset."""

    def __init__(self, fd: int, image: Image) -> None:
        super().__init__(fd, image)
        self.site = 0
        self.reads: list[tuple[int, tuple[int, ...]]] = []
        self.lost: list[tuple[Base, int, int]] = []

    def lose(self, address: Address, size: int) -> None:
        """Keep where something unknown is written."""
        self.lost.append((address.base, address.distance, address.distance + size))

    def constant(self, address: Address, size: int) -> Known | None:
        """Return what stands in the file, marked by the instruction."""
        value = super().constant(address, size)
        if value is None:
            return None
        self.reads.append((self.site, value.places))
        return Known(value.text, tuple(tag(place, self.site) for place in value.places))


def read_code(subject: Subject, image: Image, places: Iterable[int], budget: Budget) -> Code:
    """Follow the code around some places; raises TooMany when that is more than the budget allows."""
    code = Code()
    by_region: dict[Region, set[int]] = {}
    for place in places:
        region = image.region(place)
        if region.is_code:
            by_region.setdefault(region, set()).add(place)
    for region, inside in by_region.items():
        for begin, end, near in _spans(region, sorted(inside)):
            machine = _follow(subject, image, region, (begin, end), near, budget)
            code.reads += machine.reads
            code.lost += (((begin, *base), first, last) for base, first, last in machine.lost)
            code.texts += _texts(subject, machine, begin)
    return code


def _texts(subject: Subject, machine: Machine, begin: int) -> Iterator[Text]:
    machine.finish()
    for text in machine.done:
        for stretch in text.stretches():
            hits = [hit for hit in subject.moves.over(stretch.text) if not (hit.doubt or hit.is_moved)]
            yield Text((begin, *text.base), stretch, text.is_read, tuple(hits))


def _spans(region: Region, places: Iterable[int]) -> list[tuple[int, int, list[int]]]:
    """Return the code to be followed as begin, end and the places in it; what touches is one."""
    spans: list[tuple[int, int, list[int]]] = []
    for place in places:
        begin, end = max(region.begin, place - _BEFORE), min(region.end, place + _AFTER)
        if spans and begin <= spans[-1][1]:
            spans[-1][2].append(place)
            spans[-1] = (spans[-1][0], end, spans[-1][2])
        else:
            spans.append((begin, end, [place]))
    return spans


def _follow(
    subject: Subject,
    image: Image,
    region: Region,
    span: tuple[int, int],
    places: Sequence[int],
    budget: Budget,
) -> _Reader:
    """Carry out the code from begin to end."""
    from iced_x86 import Decoder

    begin, end = span
    code = subject.read(begin, end - begin)
    start = _in_step(code, [place - begin for place in places], budget)
    decoder = Decoder(image.bits, code)
    decoder.position, decoder.ip = start, region.address + begin - region.begin + start
    machine = _Reader(subject.fd, image)
    for instruction in decoder:
        offsets = decoder.get_constant_offsets(instruction)
        at = decoder.position - instruction.len
        machine.site = begin + at + offsets.displacement_offset
        size = offsets.immediate_size if offsets.has_immediate else 0
        first = at + offsets.immediate_offset
        here = range(begin + first, begin + first + size)
        machine.step(instruction, Known(code[first : first + size], tuple(here)))
    return machine


def _in_step(code: bytes, places: Sequence[int], budget: Budget) -> int:
    """Return the start from which most places lie in an immediate or begin a distance."""
    best, most = 0, -1
    for start in range(min(_PHASES, len(code))):
        budget.spend(len(code))
        values = list(_values(code, start))
        met = 0
        for place in places:
            index = bisect_left(values, (place + 1,)) - 1
            met += index >= 0 and place < values[index][1]
        if met > most:
            best, most = start, met
        if met == len(places):
            break
    return best


def _values(code: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield where distances (their first byte) and immediates stand, in order."""
    from iced_x86 import Decoder

    decoder = Decoder(64, code)
    decoder.position = start
    for instruction in decoder:
        offsets = decoder.get_constant_offsets(instruction)
        at = decoder.position - instruction.len
        if offsets.has_displacement:
            yield at + offsets.displacement_offset, at + offsets.displacement_offset + 1
        if offsets.has_immediate:
            yield at + offsets.immediate_offset, at + offsets.immediate_offset + offsets.immediate_size
