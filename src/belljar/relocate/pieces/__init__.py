"""Pieces of the placeholder in machine code: which are certain, and what is only reported.

A run of letters is a trace, not yet a reference. For each ELF file (also as a member of an archive) the rules
of its machine turn traces into exact pieces: immediates that a decoder confirms (`x86`), halves of registers
(`aarch64`), aligned constants (`constants`). Then comes the check that decides: whoever uses the placeholder
uses all of it, so each piece must go on, before and after it, in another one, from the first byte that
varies to the last. A piece without such a neighbour means that part of a use was not recognised; it is
reported, with its section and offset, and the tree cannot be relocated.

Rejected: to rewrite every run as it stands (1 in 4 of gcc's programs is then wrong), and to demand that the
double build tells the pieces apart, which costs every build twice and helps nobody who has one tree.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from belljar.elf.const import Machine
from belljar.placeholder import DIRECTORY_LIMIT
from belljar.references import Reference
from belljar.relocate.pieces import aarch64, constants, x86
from belljar.relocate.pieces.image import Image, Region, images
from belljar.relocate.search import Run

_WORD = 8  # bytes
INCOMPLETE = "a part of the placeholder whose other parts were not recognised"


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


def resolve(fd: int, wholes: Sequence[int], runs: Sequence[Run], hints: Sequence[int]) -> Pieces:
    """Turn the runs in an open file that are not whole into references, as far as they are certain.

    `wholes` are where the whole placeholder stands, `hints` places that mean something in code only. All
    ascend.
    """
    found = Pieces()
    rest = set(runs)
    for image in images(fd, [*wholes, *(run.offset for run in runs), *hints]):
        inside = [run for run in runs if run.offset in image]
        rest.difference_update(inside)
        work = _Image(fd, image, [place for place in wholes if place in image])
        work.resolve(inside, [hint for hint in hints if hint in image], found)
    found.left += [Trace(run=run) for run in sorted(rest)]
    found.references.sort()
    return found


class _Image:
    """One ELF file at work: the pieces in its data, and those in its code by neighbourhood."""

    def __init__(self, fd: int, image: Image, wholes: list[int]) -> None:
        self.fd, self.image = fd, image
        self.wholes = {image.address(place): Reference(offset=place) for place in wholes}
        self.data: list[Reference] = []
        self.code: list[x86.Neighbourhood] = []
        self.diagonals: dict[int, set[Reference]] = {}

    def resolve(self, runs: list[Run], hints: list[int], found: Pieces) -> None:
        """Add what the runs and hints of this file are to `found`."""
        code = [run for run in runs if self.region(run.offset).is_code and self.image.bits]
        data = sorted(set(runs) - set(code))
        self.decode([*(run.offset for run in code), *hints])
        unknown = [run for run in code if not self.explains(run)]
        data += [run for run in unknown if self.region(run.offset).is_mixed]
        unknown = [run for run in unknown if not self.region(run.offset).is_mixed]
        found.left += [self.trace(run, "in code, but no immediate of an instruction") for run in unknown]
        self.cut(data, found)
        self.begin()
        self.accept(found)

    def region(self, offset: int) -> Region:
        return self.image.region(offset)

    def trace(self, run: Run, reason: str) -> Trace:
        return Trace(run=run, section=self.region(run.offset).name, reason=reason)

    def decode(self, hits: Iterable[int]) -> None:
        """Read the code around the hits."""
        by_region: dict[Region, set[int]] = {}
        for hit in hits:
            region = self.region(hit)
            if region.is_code:
                by_region.setdefault(region, set()).add(hit)
        for region, places in by_region.items():
            if self.image.machine == Machine.AARCH64:
                self.data += aarch64.pieces(self.fd, region, sorted(places))
            elif self.image.bits:
                self.code += x86.neighbourhoods(self.fd, self.image, region, sorted(places))

    def explains(self, run: Run) -> bool:
        """Whether the run is an immediate, but for letters that match by chance."""
        if not self.diagonals:
            for piece in (piece for near in self.code for piece in near.pieces):
                self.diagonals.setdefault(piece.offset - piece.start, set()).add(piece)
        covered = sum(
            piece.length
            for piece in self.diagonals.get(run.offset - run.start, ())
            if run.offset <= piece.offset < run.offset + run.length
        )
        return covered > 0 and run.length - covered <= constants.CHANCE

    def cut(self, runs: list[Run], found: Pieces) -> None:
        """Cut the runs in data to constants."""
        taken: Reference | None = None
        for run in sorted(runs):
            piece = constants.cut(run, self.image.base)
            if piece is None or (taken is not None and piece.offset < taken.end):
                found.left.append(self.trace(run, "not an aligned constant"))
                continue
            taken = piece
            self.data.append(piece)

    def begin(self) -> None:
        """Add the beginnings that stand behind other text, in code and in data."""
        for region in self.image.regions:
            if region.is_code and self.image.bits:
                self.decode(x86.beginnings(self.fd, region, self.image.bits))
        decoded = {head.offset for near in self.code for head in (*near.pieces, *near.heads)}
        found = constants.heads(self.fd, self.image, self.data, self.wholes.values())
        self.data += [head for head in found if head.offset not in decoded]

    def accept(self, found: Pieces) -> None:
        """Take the pieces that go on in others; report the rest."""
        everything = _distinct([*self.data, *(piece for near in self.code for piece in near.pieces)])
        for piece in self.data:
            self.judge(piece, [*everything, *self.hidden(piece)], found)
        seen: set[int] = set()
        for near in self.code:
            around = _distinct([*near.pieces, *self.data])
            follows = {piece.start for piece in around}
            heads = [
                head
                for head in near.heads
                if head.length in follows or head.length > constants.CHANCE or self.copied(near, head)
            ]
            for piece in (*near.pieces, *heads):
                if piece.offset not in seen:
                    seen.add(piece.offset)
                    self.judge(piece, [*around, *_distinct(heads), *self.copied(near, piece)], found)

    def copied(self, near: x86.Neighbourhood, piece: Reference) -> list[Reference]:
        """Return what of a whole placeholder the code may copy after a piece.

        Such code (go's) stores the first word or two and names the address at which the string goes on.
        """
        begin, end = piece.start, piece.start + piece.length
        return [
            Reference(offset=whole.offset + begin, start=begin, length=whole.length - begin)
            for address, whole in self.wholes.items()
            if any(address + begin - _WORD < target <= address + end for target in near.targets)
        ]

    def hidden(self, piece: Reference) -> Iterator[Reference]:
        """Yield the whole placeholders that may be constants in a row, shared by the use of this one."""
        for whole in self.wholes.values():
            if any(
                constants.is_joint(whole, place, self.image.base)
                for place in (piece.start, piece.start + piece.length)
            ):
                yield whole

    def judge(self, piece: Reference, around: list[Reference], found: Pieces) -> None:
        """Take a piece, or report it."""
        if _goes_on(piece, around):
            found.references.append(piece)
        else:
            run = Run(offset=piece.offset, start=piece.start, length=piece.length)
            found.left.append(self.trace(run, INCOMPLETE))


def _distinct(pieces: Iterable[Reference]) -> list[Reference]:
    """Return one piece for each part of the placeholder that they hold."""
    return list({(piece.start, piece.length): piece for piece in pieces}.values())


def _goes_on(piece: Reference, around: Iterable[Reference]) -> bool:
    """Whether others hold the bytes before the piece and those after it, as far as they vary."""
    begin, end = piece.start, piece.start + piece.length
    before, after = begin <= 1, end >= DIRECTORY_LIMIT
    for other in around:
        before = before or other.start < begin <= other.start + other.length
        after = after or other.start <= end < other.start + other.length
        if before and after:
            return True
    return False
