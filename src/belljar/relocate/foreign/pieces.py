"""Prefixes that a compiler split: what of them can be seen, which no search for whole ones finds.

A literal that is copied or compared may stand in the code as immediates of 8 or 4 bytes, or among the
constants in blocks of 16, 32 or 64 that vector instructions load. Without a placeholder whose every piece is
unmistakable they are not rewritten, but they must not be passed over: the file is refused.

A piece shows by its ends: letters of an old prefix go from its first letter, or from where the immediate or
block begins, to its last letter, or to where that ends. `/usr/lo` inside of a string is none; as the last 7
bytes of an immediate it is. A block with a whole prefix is one where the literal may go on in another block,
which may hold the last letters again. Pieces of 4 to 7 letters count where a file has, together with others,
nearly all of the prefix: `local` alone is a word.

An immediate is what a decoder meets, a block what code loads by its address (x86 alone). For other machines,
and in objects, 8 letters in code are a piece, among constants those that begin or end a block of 16.
"""

from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from belljar.relocate.foreign.immediates import AFTER, BEFORE, LONGEST, Immediate, immediates, loads
from belljar.relocate.foreign.subject import Subject
from belljar.relocate.pieces.image import Image, Region

LEAST = 4
"""How many letters make a piece that has the ends of one."""
SURE = 8
"""How many letters make one in code, whatever its ends: the width of an immediate."""
BLOCKS = (16, 32, 64)
"""How many bytes a vector constant has."""
_LONG = 64  # of longer prefixes some piece has 8 letters
_CONSTANTS = (".rodata", ".lrodata", ".data.rel.ro")
_CHUNK = 1 << 20
_CONTEXT = 512


class Piece(NamedTuple):
    """Letters of an old prefix at an offset of the file, in that section."""

    offset: int
    section: str
    letters: bytes


class _Run(NamedTuple):
    """Letters start.. of `old` at begin..end of a file."""

    begin: int
    end: int
    start: int
    old: bytes

    @property
    def stop(self) -> int:
        """Which letter comes next."""
        return self.start + self.end - self.begin

    def within(self, begin: int, end: int) -> "_Run":
        """Return the part of it that lies in begin..end."""
        first = max(begin, self.begin)
        return _Run(first, min(end, self.end), self.start + first - self.begin, self.old)

    def is_piece(self, begin: int, end: int) -> bool:
        """Whether it has the ends of a piece of an immediate or block at begin..end."""
        return (
            self.end - self.begin >= LEAST
            and (self.start == 0 or self.begin == begin)
            and (self.stop == len(self.old) or self.end == end)
            and (self.begin == begin or self.end == end or self.stop - self.start < len(self.old))
        )


_Place = tuple[Region, _Run]


def pieces(subject: Subject, image: Image) -> Iterator[Piece]:
    """Yield the pieces of old prefixes in code and constants, outside of whole ones."""
    olds = [old for old, new in subject.moves.pairs if len(old) > LEAST and old != new]
    if not olds:
        return
    whole = {hit.offset: hit.end for hit in subject.hits if not hit.doubt and not hit.codec}
    found = [(region, run) for region in image.regions for run in _runs(subject, region, olds)]
    split = {old for old in olds if _may_be_split(old, [run for _, run in found if not _is_in(run, whole)])}
    found = [(region, run) for region, run in found if run.old in split or run.end - run.begin >= SURE]
    code = [(region, run) for region, run in found if region.is_code and not _is_in(run, whole)]
    sure = [*_in_code(subject, image, code), *_in_data(subject, image, _constants(found))]
    split = {old for old in split if _may_be_split(old, [run for _, run in sure])}
    for region, run in sure:
        if run.old in split or run.end - run.begin >= SURE:
            yield Piece(run.begin, region.name, run.old[run.start : run.stop])


def _may_be_split(old: bytes, runs: Iterable[_Run]) -> bool:
    """Whether runs have all letters together, but for so few in a row that no search would find them.

    Who uses a prefix uses all of it: a few letters alone belong to another word.
    """
    seen = bytearray(len(old))
    for run in runs:
        if run.old == old:
            seen[run.start : run.stop] = b"\1" * (run.stop - run.start)
    return bytes(LEAST) not in seen


def _constants(found: Iterable[_Place]) -> list[_Place]:
    return [item for item in found if has_constants(item[0])]


def has_constants(region: Region) -> bool:
    """Whether constants may lie in it."""
    return region.is_mixed or region.name.startswith(_CONSTANTS)


def _is_in(run: _Run, whole: Mapping[int, int]) -> bool:
    return any(begin <= run.begin and run.end <= end for begin, end in whole.items())


def _runs(subject: Subject, region: Region, olds: Sequence[bytes]) -> Iterator[_Run]:
    """Yield the runs of letters of old prefixes in a region, read in chunks that overlap."""
    if not (region.is_code or has_constants(region)):
        return
    grams, past = _grams(olds), 0
    for begin in range(region.begin, region.end, _CHUNK):
        base = max(region.begin, begin - _CONTEXT)
        data = subject.read(base, min(begin + _CHUNK + _CONTEXT, region.end) - base)
        last = begin + _CHUNK - base
        for place in sorted(at for gram in grams for at in _finds(data, gram, begin - base, last)):
            if base + place >= past:
                run = _longest(data, place, base, olds)
                past = run.end - LEAST + 1
                yield run


def _grams(olds: Sequence[bytes]) -> frozenset[bytes]:
    """Return 4-grams of which every run has one: those at each letter, or at each fifth of many."""
    return frozenset(
        old[place : place + LEAST]
        for old in olds
        for place in range(0, len(old) - LEAST + 1, 1 if len(old) < _LONG else SURE - LEAST + 1)
    )


def _finds(data: bytes, gram: bytes, begin: int, end: int) -> Iterator[int]:
    at = data.find(gram, begin)
    while 0 <= at < end:
        yield at
        at = data.find(gram, at + 1)


def _longest(data: bytes, place: int, base: int, olds: Sequence[bytes]) -> _Run:
    """Return the longest run of letters of an old prefix through a 4-gram."""
    gram = data[place : place + LEAST]
    runs = [_extended(data, place, base, old, at) for old in olds for at in _finds(old, gram, 0, len(old))]
    return max(runs, key=lambda run: run.end - run.begin)


def _extended(data: bytes, place: int, base: int, old: bytes, at: int) -> _Run:
    """Return the run in which `data[place]` is letter `at`, as far as it goes both ways."""
    begin, start = place, at
    while begin and start and data[begin - 1] == old[start - 1]:
        begin, start = begin - 1, start - 1
    end, stop = place, at
    while end < len(data) and stop < len(old) and data[end] == old[stop]:
        end, stop = end + 1, stop + 1
    return _Run(base + begin, base + end, start, old)


def _in_code(subject: Subject, image: Image, found: Iterable[_Place]) -> Iterator[_Place]:
    for region, run in found:
        near = _immediates(subject, image, region, run) if image.bits else []
        parts = [(item, run.within(*item)) for item in near if item.begin < run.end and run.begin < item.end]
        if any(part.is_piece(*item) for item, part in parts) or (
            not region.is_mixed and not parts and run.end - run.begin >= SURE
        ):
            yield region, run


def _immediates(subject: Subject, image: Image, region: Region, run: _Run) -> list[Immediate]:
    base = max(region.begin, run.begin - BEFORE)
    code = subject.read(base, min(region.end, run.end + AFTER) - base)
    return immediates(code, base, image.bits, [run.begin, run.end - 1])


def _in_data(subject: Subject, image: Image, found: Sequence[_Place]) -> Iterator[_Place]:
    """Yield runs that have the ends of a block's piece, or go on in another: where code loads the block."""
    if not found:
        return
    places = [_address(region, run) for region, run in found]
    targets = _loaded(
        subject, image, min(places) - BLOCKS[-1], max(places) + max(len(run.old) for _, run in found)
    )
    for (region, run), first in zip(found, places, strict=True):
        nearest = slice(bisect(targets, first - BLOCKS[-1]), bisect(targets, first + run.end - run.begin - 1))
        begins = [run.begin + target - first for target in targets[nearest]]
        if not image.bits or not image.is_linked or run.end - run.begin >= BLOCKS[0]:
            begins += _aligned(region, run)
        if any(_is_in_block(run, begin, begin + size) for begin in begins for size in BLOCKS):
            yield region, run


def _address(region: Region, run: _Run) -> int:
    return region.address + run.begin - region.begin


def _is_in_block(run: _Run, begin: int, end: int) -> bool:
    """Whether a block holds a piece, or all of a prefix: the code may write over letters that it loads."""
    if end <= run.begin or run.end <= begin:
        return False
    return run.stop - run.start == len(run.old) or run.within(begin, end).is_piece(begin, end)


def _loaded(subject: Subject, image: Image, low: int, high: int) -> list[int]:
    """Return the addresses in low..high that x86 code loads from, in order."""
    found: set[int] = set()
    for region in image.regions:
        for base in range(region.begin, region.end, _CHUNK) if region.is_code and image.bits else ():
            begin = max(region.begin, base - LONGEST)
            code = subject.read(begin, min(base + _CHUNK + LONGEST, region.end) - begin)
            found.update(loads(code, region.address + begin - region.begin, low, high))
    return sorted(found)


def _aligned(region: Region, run: _Run) -> Iterator[int]:
    """Yield where a block that holds the run may begin, in code that says it otherwise."""
    if run.end - run.begin >= SURE and run.stop - run.start < len(run.old):
        first = run.begin - _address(region, run) % BLOCKS[0]
        yield from range(first - BLOCKS[-1] + BLOCKS[0], run.end, BLOCKS[0])
