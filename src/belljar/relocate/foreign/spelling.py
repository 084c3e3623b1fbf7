"""Prefixes that a compiler split, told apart by following the code: what instructions spell in full.

A literal that is copied or compared arrives byte by byte relative to one base (`texts`). Where the text that
arrives holds an old prefix, each of its letters has known places in the file. They are overwritten if nothing
is left open:

- every piece that was found belongs to such a prefix, but for letters that match by chance, and for short
  ones that do not make up a use: nothing that is overwritten can be a part of another;
- no text holds a part of a prefix that is cut where an immediate or constant is, nor its last letters alone;
- nothing is written over a letter of it, and no other text that arrives there shares its beginning;
- every load of a byte that is overwritten is of such a text, and no other code refers to the middle of one;
- no byte means two things.

Otherwise nothing of the file is taken, and it is refused. Only linked 64-bit x86 code is followed: elsewhere
constants are named in ways that are not all seen.

Rejected: to take each text by itself. The two arms of a branch may share the first letters of a path, and the
rest of one arm may be too short to be seen as a piece.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from belljar.relocate.foreign.binary import fitted
from belljar.relocate.foreign.immediates import LONGEST, targets
from belljar.relocate.foreign.moves import Hit, Pair
from belljar.relocate.foreign.pieces import LEAST, SURE, Piece, has_constants
from belljar.relocate.foreign.subject import Subject
from belljar.relocate.foreign.texts import Base, Code, Text, place_of, read_code, site_of, tag
from belljar.relocate.pieces import x86
from belljar.relocate.pieces.budget import Budget, TooMany
from belljar.relocate.pieces.buffers import Stretch
from belljar.relocate.pieces.image import Image, Region

_SHORT = 2  # letters at an end of a prefix that are no chance
_ENDS = b"\0/:;,\"' \n"
_BITS = 64


class Spelling(NamedTuple):
    """What stands at an offset afterwards; where code holds the distances of loads that are understood."""

    new: Mapping[int, int]
    loads: frozenset[int]

    def has(self, hit: Hit) -> bool:
        """Whether all of a whole prefix is what code spells."""
        return all(place in self.new for place in range(hit.offset, hit.end))

    def constants(self, image: Image, hits: Iterable[Hit]) -> tuple[Hit, ...]:
        """Return what lies among constants, as far as it stands together, without whole prefixes."""
        taken = {place for hit in hits for place in range(hit.offset, hit.end)}
        places = sorted(place for place in self.new if place not in taken and not image.region(place).is_code)
        spans: list[tuple[int, int]] = []
        for place in places:
            if spans and spans[-1][1] == place:
                spans[-1] = (spans[-1][0], place + 1)
            else:
                spans.append((place, place + 1))
        return tuple(Hit(begin, end, (b"", b"")) for begin, end in spans)


def spell(subject: Subject, image: Image, found: Sequence[Piece]) -> Spelling | None:
    """Return what becomes of the prefixes that code spells; None where a piece or a use is not understood."""
    if image.bits != _BITS or not image.is_linked:
        return None
    try:
        return _spell(subject, image, found, Budget())
    except TooMany:
        return None


def _spell(subject: Subject, image: Image, found: Sequence[Piece], budget: Budget) -> Spelling | None:
    sites = set(_sites(subject, image, found))
    code = read_code(subject, image, {*sites, *(piece.offset for piece in found)}, budget)
    taken, wholes = _Taken(budget), _wholes(subject, found)
    if (
        all(taken.take(text) for text in code.texts)
        and sites <= {site for site, _ in code.reads}
        and _explains(found, taken.new.keys() | wholes, subject.moves.pairs)
        and not taken.has_open_load(code, wholes)
        and not taken.is_changed(code)
        and not any(taken.is_cut(text, subject.moves.pairs) for text in code.texts)
    ):
        return Spelling(taken.new, frozenset(map(site_of, taken.sources)))
    return None


def _sites(subject: Subject, image: Image, found: Iterable[Piece]) -> Iterator[int]:
    """Yield where code holds the distance to a piece among constants, or to a whole prefix."""
    spans = [(piece.offset, piece.offset + len(piece.letters)) for piece in found]
    spans += [(hit.offset, hit.end) for hit in subject.hits if not hit.codec]
    regions = [(image.region(begin), begin, end) for begin, end in spans]
    wanted = _apart(
        (image.address(begin), image.address(begin) + end - begin)
        for region, begin, end in regions
        if region.address and has_constants(region)
    )
    for region in image.regions:
        if region.is_code and wanted:
            yield from (
                site for site in x86.loads(subject.fd, region, wanted) if _is_distance(subject, region, site)
            )


def _is_distance(subject: Subject, region: Region, site: int) -> bool:
    """Whether an instruction can hold a distance there, wherever it begins."""
    begin = max(region.begin, site - LONGEST)
    return bool(targets(subject.read(begin, site + LONGEST - begin), 0, site - begin))


def _apart(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _wholes(subject: Subject, found: Iterable[Piece]) -> frozenset[int]:
    """Return the letters of those pieces that are overwritten as whole prefixes anyway."""
    certain = {hit.offset: hit.end for hit in subject.hits if not hit.doubt and not hit.codec}
    return frozenset(
        place
        for piece in found
        if certain.get(piece.offset) == piece.offset + len(piece.letters)
        for place in range(piece.offset, certain[piece.offset])
    )


def _explains(found: Iterable[Piece], known: Collection[int], pairs: Iterable[Pair]) -> bool:
    """Whether the pieces are known, but for letters at their ends, and words, that match by chance."""
    words = []
    for piece in found:
        are = [place in known for place in range(piece.offset, piece.offset + len(piece.letters))]
        if True not in are:
            words.append(piece.letters)
            continue
        before, after = are.index(True), are[::-1].index(True)
        if max(before, after) >= LEAST or False in are[before : len(are) - after]:
            return False
    return all(len(word) < SURE for word in words) and not any(_make_up(words, old) for old, _ in pairs)


def _make_up(words: Iterable[bytes], old: bytes) -> bool:
    """Whether words could be all the pieces of a use: who uses a prefix uses all of it."""
    seen = bytearray(len(old))
    for word in words:
        place = old.find(word)
        while place >= 0:
            seen[place : place + len(word)] = b"\1" * len(word)
            place = old.find(word, place + 1)
    return bytes(LEAST) not in seen


class _Taken:
    """The prefixes that are overwritten: what stands at an offset then, and each byte's sources."""

    def __init__(self, budget: Budget) -> None:
        self.new: dict[int, int] = {}
        self.sources: set[int] = set()
        self.budget = budget
        self._spans: dict[Base, list[tuple[int, bytes]]] = {}

    def take(self, text: Text) -> bool:
        """Take the prefixes of a text; False where one has no room, or a byte means something else."""
        for hit in text.hits:
            new = fitted(hit)
            if new is None:
                return False
            for index, byte in enumerate(new, start=hit.offset):
                sources = [source for source in text.stretch.places[index] if source >= 0]
                if any(self.new.setdefault(place_of(source), byte) != byte for source in sources):
                    return False
                self.sources.update(sources)
            whole = text.stretch.text[hit.offset : hit.end]
            self._spans.setdefault(text.base, []).append((text.begin + hit.offset, whole))
        return True

    def has_open_load(self, code: Code, wholes: Collection[int]) -> bool:
        """Whether a byte that is overwritten, or one of these, is loaded for anything else, too."""
        return any(
            (place in self.new or place in wholes) and tag(place, site) not in self.sources
            for site, places in code.reads
            for place in places
        )

    def is_changed(self, code: Code) -> bool:
        """Whether anything else is written over a prefix's letters, of which it may be made."""
        if any(
            first < place + len(whole) and place < last
            for base, first, last in code.lost
            for place, whole in self._near(base)
        ):
            return True
        return any(
            _touches(text, place, whole) for text in code.texts for place, whole in self._near(text.base)
        )

    def _near(self, base: Base) -> Sequence[tuple[int, bytes]]:
        """Return the prefixes that arrive relative to a base: where, and their letters."""
        near = self._spans.get(base, [])
        self.budget.spend(len(near))
        return near

    def is_cut(self, text: Text, pairs: Iterable[Pair]) -> bool:
        """Whether a text holds a part of a prefix that ends where its instructions do."""
        joints = None
        for old, _ in pairs:
            self.budget.spend(len(text.stretch.text))
            for begin, end, start in _runs(text.stretch.text, old):
                if any(hit.offset <= begin and end <= hit.end for hit in text.hits):
                    continue
                joints = _joints(text.stretch) if joints is None else joints
                is_source = text.is_read and self._has(text.stretch.places[begin:end])
                if not is_source and _is_part(text.stretch.text, (begin, end), start, old, joints):
                    return True
        return False

    def _has(self, places: Iterable[tuple[int, ...]]) -> bool:
        """Whether all these bytes are part of what is overwritten."""
        return all(not self.sources.isdisjoint(sources) for sources in places)


def _touches(text: Text, place: int, whole: bytes) -> bool:
    """Whether a text begins within a prefix that arrives at a place, or ends in it with its letters."""
    if place < text.begin < place + len(whole):
        return True
    if not place < text.end < place + len(whole):
        return False
    size = min(text.end - place, len(text.stretch.text))
    return whole[: text.end - place].endswith(text.stretch.text[-size:])


def _runs(text: bytes, old: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the runs of at least two letters of a prefix: begin, end, which letter is first."""
    for letter in range(len(old) - 1):
        place = text.find(old[letter : letter + _SHORT])
        while place >= 0:
            if not (place and letter and text[place - 1] == old[letter - 1]):
                end, stop = place, letter
                while end < len(text) and stop < len(old) and text[end] == old[stop]:
                    end, stop = end + 1, stop + 1
                yield place, end, letter
            place = text.find(old[letter : letter + _SHORT], place + 1)


def _joints(stretch: Stretch) -> set[int]:
    """Return where one immediate or constant ends and another begins."""
    found = {0, len(stretch.text)}
    for index in range(1, len(stretch.text)):
        before = stretch.places[index - 1]
        if not any(source >= 0 and source - 1 in before for source in stretch.places[index]):
            found.add(index)
    return found


def _is_part(text: bytes, span: tuple[int, int], start: int, old: bytes, joints: Collection[int]) -> bool:
    """Whether a run, whose first letter is `start`, has the ends of a part that was cut out of a prefix."""
    begin, end = span
    stop = start + end - begin
    if (start and begin not in joints) or (stop < len(old) and end not in joints):
        return False
    if stop == len(old) and start:
        return end == len(text) or text[end] in _ENDS
    return start == 0 or stop - start >= LEAST
