"""Prefixes that a compiler split: what of them can be seen in code, which no search for whole ones finds.

A literal that is copied or compared may stand in the code as immediates of 8 bytes. Without a placeholder
whose every piece is unmistakable they cannot be rewritten with certainty, but they must not be passed over:
where code holds 8 letters of an old prefix outside of any whole one, the file is refused. Only
executable sections are searched: elsewhere such letters belong to other paths. Pieces of less than 8
letters are not seen.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.subject import Subject
from belljar.relocate.pieces.image import Image

LEAST = 8
"""How many letters make a piece: the width of an immediate."""
_GRAM = 4
_CHUNK = 1 << 20


class Piece(NamedTuple):
    """Letters of an old prefix at an offset of the file, in that section."""

    offset: int
    section: str
    letters: bytes


def pieces(subject: Subject, image: Image) -> Iterator[Piece]:
    """Yield the runs of at least 8 letters of an old prefix in code, outside of whole ones."""
    olds = [old for old, new in subject.moves.pairs if len(old) >= LEAST and old != new]
    if not olds:
        return
    pattern = _grams(subject.moves, olds)
    whole = {place for hit in subject.hits for place in range(hit.offset, hit.end)}
    for region in image.regions:
        if not region.is_code:
            continue
        for begin in range(region.begin, region.end, _CHUNK):
            lead = min(256, begin - region.begin)
            data = subject.read(begin - lead, min(_CHUNK, region.end - begin) + lead + 256)
            past = 0
            for match in pattern.finditer(data, lead):
                if (
                    match.start() < past
                    or match.start() >= lead + _CHUNK
                    or begin - lead + match.start() in whole
                ):
                    continue
                run = _run(data, match.start(), olds)
                if run is not None:
                    past = run[1]
                    yield Piece(begin - lead + run[0], region.name, data[run[0] : run[1]])


def _grams(moves: Moves, olds: list[bytes]) -> re.Pattern[bytes]:
    """Return an expression that matches in every run of 8 letters: the 4-grams at each fifth letter."""
    del moves
    grams = {
        old[place : place + _GRAM]
        for old in olds
        for place in range(0, len(old) - _GRAM + 1, LEAST - _GRAM + 1)
    }
    return re.compile(b"|".join(map(re.escape, sorted(grams))))


def _run(data: bytes, place: int, olds: list[bytes]) -> tuple[int, int] | None:
    """Return the longest run of letters of an old prefix through a 4-gram, where it has 8 or more."""
    best = None
    for old in olds:
        gram = data[place : place + _GRAM]
        at = old.find(gram)
        while at >= 0:
            begin, end = place, place + _GRAM
            while begin > 0 and at - (place - begin) > 0 and data[begin - 1] == old[at - (place - begin) - 1]:
                begin -= 1
            while end < len(data) and at + end - place < len(old) and data[end] == old[at + end - place]:
                end += 1
            if end - begin >= LEAST and (best is None or end - begin > best[1] - best[0]):
                best = (begin, end)
            at = old.find(gram, at + 1)
    return best
