"""Pieces of the placeholder in machine code: which are certain, and what is only reported.

A run of letters is a trace, not yet a reference. For each ELF file (also as a member of an archive) two
things are asked. What does the code spell (`buffers`)? Where it writes or compares the placeholder from the
first byte that varies to the last, each byte's place is known. And what do the rules of the machine say of a
trace: is it an immediate that a decoder confirms (`x86`), half of a register (`aarch64`; `arm`, which is only
reported), an aligned constant (`constants`)? Pieces that are part of what is spelled are certain. The others
must do without them: whoever uses the placeholder uses all of it, so each must go on, before and after it, in
another one that is left (`tiling`). One that does not means that part of a use was not recognised, or that
the program cuts its prefix; it is reported, with its section and offset, and the tree cannot be relocated.

Only in linked 64-bit x86 code all that is spelled is seen; elsewhere (32 bits, whose code finds its constants
by other ways, objects, which have no addresses yet, aarch64) a piece may also go on in one that is spelled.

Rejected: to rewrite every run as it stands (1 in 4 of gcc's programs is then wrong); to let a piece go on in
any other one of the file, which hides what is missing behind other uses; and to demand that the double build
tells the pieces apart, which costs every build twice and helps nobody who has one tree.
"""

import itertools
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from belljar.elf.const import Machine
from belljar.placeholder import DIRECTORY_LIMIT, LENGTH
from belljar.references import Reference
from belljar.relocate.pieces import aarch64, arm, constants, x86
from belljar.relocate.pieces.budget import TRACES, Budget, TooMany
from belljar.relocate.pieces.buffers import Spelled
from belljar.relocate.pieces.image import Image, Region, images
from belljar.relocate.pieces.meaning import Meaning
from belljar.relocate.pieces.tiling import Tiling
from belljar.relocate.search import Run

INCOMPLETE = "a part of the placeholder whose other parts were not recognised"
CHANGED = "a letter of the placeholder is computed by the code"
TOO_MANY = "too many pieces of the placeholder to tell apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A run that is no reference: where it is, in which section ("": none), and why."""

    run: Run
    section: str = ""
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Pieces:
    """What the traces in a file are: references, and what is left."""

    references: list[Reference] = field(default_factory=list)
    left: list[Trace] = field(default_factory=list)


def resolve(fd: int, wholes: Sequence[Reference], runs: Sequence[Run], hints: Sequence[int]) -> Pieces:
    """Turn the runs in an open file that are not whole into references, as far as they are certain.

    `wholes` are the references to all of the placeholder, `hints` places that mean something in code only.
    All ascend. The work is bounded: beyond it, the first run or hint is reported for all.
    """
    found, budget = Pieces(), Budget()
    rest = set(runs)
    offsets, begins = [run.offset for run in runs], [whole.offset for whole in wholes]
    try:
        if len(runs) > TRACES or len(hints) > TRACES:
            raise TooMany
        for image in images(fd, [*begins, *offsets, *hints]):
            inside = runs[_within(offsets, image)]
            rest.difference_update(inside)
            work = _Image(fd, image, wholes[_within(begins, image)], budget)
            work.resolve(inside, hints[_within(hints, image)], found)
    except TooMany:
        first = min([*offsets[:1], *hints[:1], *begins[:1]])
        return Pieces(left=[Trace(run=Run(offset=first, length=0), reason=TOO_MANY)])
    found.left += [Trace(run=run) for run in sorted(rest)]
    found.references.sort()
    return found


def _within(offsets: Sequence[int], image: Image) -> slice:
    return slice(bisect_left(offsets, image.base), bisect_left(offsets, image.end))


class _Image:
    """One ELF file at work: the pieces in its data, and those in its code by neighbourhood.

    `is_strict`: code and the constants that it loads are understood together, so that a text is all there is.
    """

    def __init__(self, fd: int, image: Image, wholes: Sequence[Reference], budget: Budget) -> None:
        self.fd, self.image, self.budget = fd, image, budget
        self.wholes = [whole for whole in wholes if whole.is_whole]
        self.addresses = sorted(image.address(whole.offset) for whole in self.wholes)
        self.is_strict = image.is_linked and image.bits == 64
        self.data: list[Reference] = []
        self.code: list[x86.Neighbourhood] = []
        self.odd: list[Run] = []
        self.meaning = Meaning(wholes)
        self.cuts: dict[int, list[Spelled]] = {}
        self.diagonals: dict[int, set[Reference]] = {}

    def resolve(self, runs: Sequence[Run], hints: Sequence[int], found: Pieces) -> None:
        """Add what the runs and hints of this file are to `found`."""
        in_code = [run for run in runs if self.region(run.offset).is_code and self.image.bits]
        elsewhere = sorted({*runs} - {*in_code})
        uncut = self.cut([run for run in elsewhere if run.width == 1])
        self.decode(
            itertools.chain((run.offset for run in in_code), hints, self.beginnings(), self.loads(elsewhere))
        )
        self.understand(found)
        for run in sorted({*in_code} - {run for run in in_code if self.explains(run)}):
            if run.width == 1 and self.region(run.offset).is_mixed:
                uncut += self.cut([run])
            else:
                self.report(run, "in code, but no immediate of an instruction", found)
        for run in uncut:
            self.report(run, "not an aligned constant", found)
        for run in dict.fromkeys(self.odd):
            self.report(run, arm.REASON, found)
        for run in elsewhere:
            if run.width > 1:
                self.report(run, "", found)
        self.begin()
        self.accept(found)
        found.references += self.meaning.references()

    def region(self, offset: int) -> Region:
        return self.image.region(offset)

    def report(self, run: Run, reason: str, found: Pieces) -> None:
        """Add a run to what is left, unless it is part of what code spells."""
        if not self.meaning.has(run):
            found.left.append(Trace(run=run, section=self.region(run.offset).name, reason=reason))

    def cut(self, runs: Iterable[Run]) -> list[Run]:
        """Cut the runs in data to constants; returns those that are none."""
        left = []
        taken: Reference | None = None
        for run in sorted(runs):
            piece = constants.cut(run, self.image.base)
            if piece is None or (taken is not None and piece.offset < taken.end):
                left.append(run)
                continue
            taken = piece
            self.data.append(piece)
        return left

    def beginnings(self) -> Iterator[int]:
        """Yield where code may hold the placeholder's first bytes, behind other text."""
        for region in self.image.regions:
            if region.is_code and self.image.bits:
                yield from x86.beginnings(self.fd, region, self.image.bits)

    def loads(self, runs: Iterable[Run]) -> Iterator[int]:
        """Yield where code loads runs in data, or wholes that may be constants in a row."""
        if not self.is_strict:
            return
        joints = [whole for whole in self.wholes if constants.is_joint(whole, 0, self.image.base)]
        spans = [(run.offset, run.length * run.width) for run in runs]
        spans += [(whole.offset, whole.length) for whole in joints]
        wanted = sorted((self.image.address(at), self.image.address(at) + size) for at, size in spans)
        for region in self.image.regions:
            if region.is_code and wanted:
                yield from x86.loads(self.fd, region, wanted)

    def decode(self, hits: Iterable[int]) -> None:
        """Read the code around the hits."""
        by_region: dict[Region, set[int]] = {}
        for number, hit in enumerate(hits):
            if number > TRACES:
                raise TooMany
            region = self.region(hit)
            if region.is_code:
                by_region.setdefault(region, set()).add(hit)
        for region, places in sorted(by_region.items(), key=lambda item: item[0].begin):
            if self.image.machine == Machine.ARM:
                self.odd += arm.pieces(self.fd, region, sorted(places))
            elif self.image.machine == Machine.AARCH64:
                self.data += aarch64.pieces(self.fd, region, sorted(places), self.budget)
            elif self.image.bits:
                self.code += x86.neighbourhoods(self.fd, self.image, region, sorted(places), self.budget)

    def understand(self, found: Pieces) -> None:
        """Take what the code spells in full; keep what it cuts; report what it computes with."""
        for number, near in enumerate(self.code):
            for item in near.spelled:
                if item.is_changed:
                    self.report_spelled(item, CHANGED, found)
                elif not (item.is_complete and self.meaning.take(item)):
                    self.cuts.setdefault(number, []).append(item)

    def explains(self, run: Run) -> bool:
        """Whether the run is what code spells, or an immediate, but for letters that match by chance."""
        if not self.diagonals:
            for piece in (piece for near in self.code for piece in near.pieces):
                self.diagonals.setdefault(piece.offset - piece.start, set()).add(piece)
        count = sum(
            piece.length
            for piece in self.diagonals.get(run.offset - run.start, ())
            if run.width == 1 and run.offset <= piece.offset < run.offset + run.length
        )
        return self.meaning.has(run) or (count > 0 and run.length - count <= constants.CHANCE)

    def begin(self) -> None:
        """Add the beginnings that stand behind other text in data."""
        decoded = {head.offset for near in self.code for head in (*near.pieces, *near.heads)}
        found = constants.heads(self.fd, self.image, self.data, self.wholes)
        self.data += [head for head in found if head.offset not in decoded]

    def accept(self, found: Pieces) -> None:
        """Take the pieces that go on in others; report the rest."""
        open_cuts = [self.unchained(self.open_cuts(number)) for number in range(len(self.code))]
        spans = [_span(piece) for piece in (self.rest(self.data) if self.is_strict else self.data)]
        elsewhere = set(spans)
        for number, near in enumerate(self.code):
            cuts, pieces = open_cuts[number], self.rest(near.pieces)
            around = [*map(_span, pieces if self.is_strict else near.pieces)]
            elsewhere.update(around, (cut.span for cut in cuts))
            heads = self.heads(near, {start for start, _ in (*around, *spans)})
            around += [*spans, *map(_span, heads)]
            self.judge_cuts(cuts, Tiling(around, copied=self.copied(near)), found)
            tiling = Tiling([*around, *(cut.span for cut in cuts)], copied=self.copied(near))
            for piece in self.rest([*pieces, *heads]):
                self.judge(piece, tiling, found)
        tiling = Tiling(elsewhere, joints=self.joints())
        for piece in self.rest(self.data):
            self.judge(piece, tiling, found)

    def open_cuts(self, number: int) -> list[Spelled]:
        """Return the texts of a neighbourhood that are cut, but not those that are only copies."""
        cuts = self.cuts.get(number, []) if self.is_strict else []
        sources = [cut for cut in cuts if self.meaning.is_source(cut) and self.meaning.take(cut)]
        return [cut for cut in cuts if cut not in sources and not self.meaning.is_copy(cut)]

    def unchained(self, cuts: list[Spelled]) -> list[Spelled]:
        """Take the cuts that are one text torn apart, each for one text only; returns the others."""
        left: dict[tuple[int, int], deque[Spelled]] = {}
        for cut in cuts:
            left.setdefault(cut.span, deque()).append(cut)
        alone = []
        for span in sorted(span for span in left if span[0] <= 1):
            while left[span] and (spans := _chain(left, span)):
                chain = [left[item][0] for item in spans]
                if all(self.meaning.take(cut) for cut in chain):
                    for item in spans:
                        left[item].popleft()
                else:
                    alone.append(left[span].popleft())
        return sorted([*alone, *itertools.chain(*left.values())], key=lambda cut: cut.span)

    def rest(self, pieces: Iterable[Reference]) -> list[Reference]:
        """Return what of the pieces is not part of what code spells."""
        return [part for piece in pieces for part in self.meaning.rest(piece)]

    def heads(self, near: x86.Neighbourhood, starts: set[int]) -> list[Reference]:
        """Return the beginnings in code that are more than chance: long, or continued."""
        copied = Tiling([], copied=self.copied(near))
        return [
            head
            for head in self.rest(near.heads)
            if head.length in starts or head.length > constants.CHANCE or copied.goes_on(0, head.length)
        ]

    def copied(self, near: x86.Neighbourhood) -> set[int]:
        """Return from which of its bytes on a whole placeholder may be copied by the code.

        Such code (go's) stores the first word or two and names the address at which the string goes on.
        """
        found = set()
        for target in near.targets:
            index = bisect_right(self.addresses, target) - 1
            if index >= 0 and target - self.addresses[index] < LENGTH:
                found.add(target - self.addresses[index])
        return found

    def joints(self) -> set[int]:
        """Return where in a block whole placeholders begin, which may be constants in a row."""
        if self.is_strict:
            return set()
        return {(whole.offset - self.image.base) % constants.BLOCK for whole in self.wholes}

    def judge_cuts(self, cuts: list[Spelled], tiling: Tiling, found: Pieces) -> None:
        """Take the texts that go on in another one; report the others."""
        for cut in cuts:
            if not (tiling.goes_on(*cut.span) and self.meaning.take(cut)):
                self.report_spelled(cut, INCOMPLETE, found)

    def report_spelled(self, item: Spelled, reason: str, found: Pieces) -> None:
        """Add what code spells to what is left, at the first of its places."""
        place = next(place for places in item.places for place in places if place >= 0)
        run = replace(item.run, offset=place)
        found.left.append(Trace(run=run, section=self.region(place).name, reason=reason))

    def judge(self, piece: Reference, tiling: Tiling, found: Pieces) -> None:
        """Take a piece, or report it."""
        if tiling.goes_on(*_span(piece)):
            found.references.append(piece)
        else:
            run = Run(offset=piece.offset, start=piece.start, length=piece.length)
            found.left.append(Trace(run=run, section=self.region(piece.offset).name, reason=INCOMPLETE))


def _span(piece: Reference) -> tuple[int, int]:
    return piece.start, piece.start + piece.length


def _chain(
    left: Mapping[tuple[int, int], Collection[Spelled]], span: tuple[int, int]
) -> list[tuple[int, int]]:
    """Return spans, of which there are cuts left, that go on from one to the last byte; none if they do not.

    There are few spans, however many cuts: a search costs the same in a hostile file.
    """
    found = [span]
    while (end := found[-1][1]) < DIRECTORY_LIMIT:
        after = [item for item, cuts in left.items() if cuts and item[0] <= end < item[1]]
        if not after:
            return []
        found.append(max(after, key=lambda item: (item[0], -item[1])))
    return found
