"""Pieces in data: the constants from which vector instructions load a literal, 16, 32 or 64 bytes each.

Compilers align such a constant to its size. Where one ends and the next is of another piece, or of something
else, a letter may match by chance; all 4-grams of the placeholder differ, so that chance goes no further
than 3 bytes. A run is therefore cut at the aligned address within 3 bytes of its end; one that ends
elsewhere is not understood and is reported. Text before the placeholder moves its beginning into the end
of a constant: such beginnings of less than 8 bytes are looked for where a later piece asks for one, those
of 2 and 3 bytes in x86 files only.
"""

import os
import re
from collections.abc import Iterable, Iterator

from belljar.placeholder import DIRECTORY_LIMIT, PLACEHOLDER
from belljar.references import Reference
from belljar.relocate.pieces import x86
from belljar.relocate.pieces.image import Image, Region
from belljar.relocate.search import Run

WHOLE = PLACEHOLDER.encode()
CHANCE = 3
"""How many letters of other content may match by chance."""
_ALIGNMENTS = (16, 8)
BLOCK = 16
"""How many bytes the smallest vector constant has."""
_SURE = 4
"""How many bytes a beginning has that is recognised wherever it stands."""
_NEAR = 512


def cut(run: Run, base: int) -> Reference | None:
    """Return the run without what matches by chance; None when its ends are those of no constant."""
    begin, end = run.offset, run.offset + run.length
    if run.start > 0:
        begin = _aligned(begin - base, 1) + base
    if run.start + run.length < DIRECTORY_LIMIT:
        end = _aligned(end - base, -1) + base
    if begin < run.offset or end > run.offset + run.length or end - begin <= CHANCE:
        return None
    return Reference(offset=begin, start=run.start + begin - run.offset, length=end - begin)


def _aligned(place: int, direction: int) -> int:
    """Return the nearest aligned place in a direction, if near enough; else a negative one or infinity."""
    for alignment in _ALIGNMENTS:
        distance = (-direction * place) % alignment
        if distance <= CHANCE:
            return place + direction * distance
    return place - direction * (1 << 62)


def is_joint(whole: Reference, place: int, base: int) -> bool:
    """Whether constants may meet at that byte of a whole placeholder, which then only looks like a string."""
    return (whole.offset + place - base) % BLOCK == 0


def heads(
    fd: int, image: Image, pieces: Iterable[Reference], wholes: Iterable[Reference]
) -> Iterator[Reference]:
    """Yield beginnings of less than 8 bytes at the end of a constant, where a piece goes on after them."""
    follows = {length: [piece.offset for piece in pieces if piece.start == length] for length in range(2, 8)}
    for length, places in follows.items():
        places += [whole.offset for whole in wholes if is_joint(whole, length, image.base)]
    found = [
        Reference(offset=place, start=0, length=length)
        for region in image.regions
        if not (region.is_code and image.bits) or region.is_mixed
        for place, length in _endings(fd, region, image.base, {item for item in follows if follows[item]})
    ]
    short = {head for head in found if head.length < _SURE}
    loaded = x86.loaded(fd, image, {head.end for head in short}) if short and image.bits == 64 else None
    for head in found:
        # No other machine's compiler was seen to make such constants, but text like "/w" is anywhere.
        near = image.bits and any(abs(place - head.offset) < _NEAR for place in follows[head.length])
        if head not in short or (near if loaded is None else head.end in loaded):
            yield head


def _endings(fd: int, region: Region, base: int, lengths: set[int]) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the placeholder's first bytes where an aligned block of text ends in them."""
    if not lengths:
        return
    pattern = re.compile(re.escape(WHOLE[: min(lengths)]))
    at, step = region.begin, 1 << 20
    while at < region.end:
        first = max(region.begin, at - BLOCK)
        block = os.pread(fd, min(step + 2 * BLOCK, region.end - first), first)
        for match in pattern.finditer(block, at - first):
            place = match.start()
            length = -(first + place - base) % BLOCK
            if place >= at - first + step or length not in lengths:
                continue
            if block[place : place + length] != WHOLE[:length] or block[place:].startswith(WHOLE[:8]):
                continue
            before = block[max(0, place + length - BLOCK) : place]
            if b"\0" not in before:
                yield first + place, length
        at += step
