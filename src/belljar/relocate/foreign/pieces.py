"""Prefixes that a compiler split: what of them can be seen, which no search for whole ones finds.

A literal that is copied or compared may stand in the code as immediates of 8 bytes, or among the constants
in blocks of 16 that overlap. Without a placeholder whose every piece is unmistakable they cannot be rewritten
with certainty, but they must not be passed over: a file is refused where code holds 8 letters of an old
prefix outside of any whole one, and where a block of constants is filled with its beginning or its end.
Letters elsewhere in data belong to other paths. Pieces of less than 8 letters are not seen.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from belljar.relocate.foreign.subject import Subject
from belljar.relocate.pieces.image import Image, Region

LEAST = 8
"""How many letters make a piece: the width of an immediate."""
BLOCK = 16
"""How many bytes a vector constant has, at the least."""
_GRAM = 4
_CHUNK = 1 << 20
_CONTEXT = 512


class Piece(NamedTuple):
    """Letters of an old prefix at an offset of the file, in that section."""

    offset: int
    section: str
    letters: bytes


class _Run(NamedTuple):
    """Letters start.. of `old` at begin..end."""

    begin: int
    end: int
    start: int
    old: bytes


def pieces(subject: Subject, image: Image) -> Iterator[Piece]:
    """Yield the pieces of old prefixes in code and constants, outside of whole ones."""
    olds = [old for old, new in subject.moves.pairs if len(old) >= LEAST and old != new]
    if not olds:
        return
    pattern = _grams(olds)
    whole = {place for hit in subject.hits for place in range(hit.offset, hit.end)}
    for region in image.regions:
        if region.is_code or region.name.startswith(".rodata"):
            for piece in _within(subject, region, pattern, olds):
                if piece.offset not in whole:
                    yield piece


def _within(
    subject: Subject, region: Region, pattern: re.Pattern[bytes], olds: Sequence[bytes]
) -> Iterator[Piece]:
    """Yield the pieces in a region, read in chunks that overlap."""
    past = 0
    for begin in range(region.begin, region.end, _CHUNK):
        base = max(region.begin, begin - _CONTEXT)
        data = subject.read(base, min(begin + _CHUNK + _CONTEXT, region.end) - base)
        for match in pattern.finditer(data, begin - base):
            if base + match.start() >= begin + _CHUNK:
                break
            run = _longest(data, match.start(), olds) if base + match.start() >= past else None
            if run is None or not _is_piece(run, data, base, region):
                continue
            past = base + run.end
            yield Piece(base + run.begin, region.name, data[run.begin : run.end])


def _is_piece(run: _Run, data: bytes, base: int, region: Region) -> bool:
    """Whether a run stands as compilers put pieces; in code alone each one is one."""
    if region.is_code and not region.is_mixed:
        return True
    if (region.address + base + run.begin - region.begin) % BLOCK:
        return False
    if run.start == 0 and run.end - run.begin < len(run.old):
        return (run.end - run.begin) % BLOCK == 0
    block = data[run.begin : run.begin + BLOCK - 1]
    return run.start > 0 and run.start + run.end - run.begin == len(run.old) and b"\0" not in block


def _grams(olds: Sequence[bytes]) -> re.Pattern[bytes]:
    """Return an expression that matches in every run of 8 letters: the 4-grams at each fifth letter."""
    step = LEAST - _GRAM + 1
    grams = {old[place : place + _GRAM] for old in olds for place in range(0, len(old) - _GRAM + 1, step)}
    return re.compile(b"|".join(map(re.escape, sorted(grams))))


def _longest(data: bytes, place: int, olds: Sequence[bytes]) -> _Run | None:
    """Return the longest run of letters of an old prefix through a 4-gram, where it has 8 or more."""
    gram = data[place : place + _GRAM]
    runs = [
        _extended(data, place, old, match.start())
        for old in olds
        for match in re.finditer(b"(?=" + re.escape(gram) + b")", old)
    ]
    best = max(runs, key=lambda run: run.end - run.begin, default=None)
    return best if best is not None and best.end - best.begin >= LEAST else None


def _extended(data: bytes, place: int, old: bytes, at: int) -> _Run:
    """Return the run in which `data[place]` is letter `at`, as far as it goes both ways."""
    begin, start = place, at
    while begin and start and data[begin - 1] == old[start - 1]:
        begin, start = begin - 1, start - 1
    end, stop = place, at
    while end < len(data) and stop < len(old) and data[end] == old[stop]:
        end, stop = end + 1, stop + 1
    return _Run(begin, end, start, old)
