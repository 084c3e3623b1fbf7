"""Proof that a tree can be moved: build it again under another prefix, and compare.

A scan can only find what it knows to look for. A program that folds a letter of its prefix into an
instruction, or keeps the prefix in base64, looks relocatable and is not. So the same build is run under a
second store root, SECOND, of the same length, which differs from the placeholder in every byte that
varies. The first output, moved to SECOND by its table, must then equal the second one, byte for byte: each
byte that follows the prefix is in the table, and the table rewrites nothing else.

What differs nevertheless is told apart by `explain`. When something is left that looks like a missed
reference, the build runs a third time, under the placeholder again: what differs there too is not
reproducible, and where it stands nothing can be proved.

The proof is about two prefixes. A program that uses its prefix in a way in which these two happen to be alike
(the same parity of a letter) is beyond it, as is what a script does only on some machines.
"""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from belljar import fsys
from belljar.build.compare import GAP, Aspect, Difference, compare
from belljar.build.explain import Explainer, Kind, Pair, Sums
from belljar.errors import InputError
from belljar.placeholder import PLACEHOLDER, TAIL
from belljar.references import Table
from belljar.relocate import copy_tree
from belljar.types import Event, Progress, quiet

SECOND = "/lrxbvkcjfrwkrxflbjtlhshdhvggbbjjhhmpkyjjjrnbrtjgldpnbndmpmwphvvjclbprbytpsctchj" + TAIL
"""The store root of the second build: at no index the placeholder's letter, all 4-grams distinct."""

_SHOWN = 16  # bytes
_ROWS = 200


class Verdict(enum.StrEnum):
    """How a proof ended."""

    EXACT = "exact"
    """The table is all that differs."""
    DERIVED = "derived"
    """So it is, up to values that are computed from the content; they are listed."""
    UNDECIDED = "undecided"
    """The build is not reproducible: something differs at every build, whatever the prefix."""
    REFUTED = "refuted"
    """A byte follows the prefix and is not in the table, or is in the table and does not."""


_DECISIVE = {Kind.MISSED: Verdict.REFUTED, Kind.EXTRA: Verdict.REFUTED, Kind.UNSTABLE: Verdict.UNDECIDED}
_WORST = (Verdict.REFUTED, Verdict.UNDECIDED, Verdict.DERIVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The differences of one kind in one section of one file: the first, and how many there are.

    `moved` and `there` are the first bytes of it, in the moved tree and in the tree built there.
    """

    path: str
    section: str
    kind: Kind
    aspect: Aspect
    offset: int
    end: int
    moved: bytes
    there: bytes
    places: int = 1
    size: int = 0

    def describe(self) -> str:
        """Return one line for a person."""
        place = f"{self.path}: {self.section}: " if self.section else f"{self.path}: "
        if self.aspect != Aspect.CONTENT:
            return f"{place}{self.kind}: {self.aspect}"
        more = f" and at {self.places - 1} more, {self.size} bytes in all" if self.places > 1 else ""
        both = f"{self.moved.hex()} moved, {self.there.hex()} built there"
        return f"{place}{self.kind}: offset {self.offset}..{self.end}{more}: {both}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "path": self.path,
            "section": self.section,
            "kind": self.kind.value,
            "aspect": self.aspect.value,
            "offset": self.offset,
            "end": self.end,
            "places": self.places,
            "size": self.size,
            "moved": self.moved.hex(),
            "there": self.there.hex(),
            "text": self.describe(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What building again showed: how many builds there were, what was compared, what differs."""

    builds: int
    files: int
    references: int
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst that a finding means."""
        found = {_DECISIVE.get(item.kind, Verdict.DERIVED) for item in self.findings}
        return next((verdict for verdict in _WORST if verdict in found), Verdict.EXACT)

    @property
    def refutations(self) -> tuple[str, ...]:
        """The findings that say that the tree cannot be moved, in words."""
        return tuple(item.describe() for item in self.findings if _DECISIVE.get(item.kind) == Verdict.REFUTED)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, what is decisive first; of very many findings only the first ones."""
        ordered = sorted(self.findings, key=lambda item: _WORST.index(_DECISIVE.get(item.kind, _WORST[-1])))
        return {
            "version": 1,
            "verdict": self.verdict.value,
            "builds": self.builds,
            "files": self.files,
            "references": self.references,
            "findings": [item.to_json() for item in ordered[:_ROWS]],
            "findings_in_all": len(self.findings),
        }


def prove(
    tree: Path, table: Table, scratch: Path, build: Callable[[str], Path], progress: Progress = quiet
) -> Proof:
    """Hold `tree`, built under the placeholder, and its table against a second build.

    `build` makes the same under another store root and returns the tree, normalised. `scratch` is an empty
    directory on the tree's filesystem. Raises what `build` does, and InputError when a tree cannot be read.
    """
    there = build(SECOND)
    progress(Event(stage="compare", subject="with the second build"))
    moved = scratch / "moved"
    copy_tree(tree, moved, table=table, old=PLACEHOLDER.encode(), new=SECOND.encode())
    try:
        found, builds = list(_explained(tree, moved, there)), 2
        if any(item.kind == Kind.MISSED for item in found):
            again = compare(tree, build(PLACEHOLDER))
            found, builds = [_steadied(item, again) for item in found], 3
    except OSError as error:
        raise InputError(f"{error.filename or tree}: cannot be compared: {error.strerror}") from error
    files = sum(entry.is_file for entry in fsys.walk(tree))
    return Proof(builds=builds, files=files, references=len(table), findings=tuple(_grouped(found)))


def _explained(tree: Path, moved: Path, there: Path) -> Iterator[Finding]:
    """Yield each difference of the two last trees, with its kind."""
    sums = Sums(tree, there)
    for path, differences in groupby(compare(moved, there), key=lambda item: item.path):
        pair = Pair.read(path, tree, moved, there)
        explainer = Explainer(path, pair, sums)
        for item, region in (part for whole in differences for part in explainer.parts(whole)):
            yield Finding(
                path=path,
                section=region.name if region is not None else "",
                kind=explainer.kind(item),
                aspect=item.aspect,
                offset=item.offset,
                end=item.end,
                moved=pair.moved[item.offset : item.end][:_SHOWN],
                there=pair.there[item.offset : item.end][:_SHOWN],
                size=item.end - item.offset,
            )


def _steadied(finding: Finding, again: tuple[Difference, ...]) -> Finding:
    """Return a finding that looks missed as unstable, when two builds under one prefix differ there too."""
    if finding.kind == Kind.MISSED and any(_meets(finding, item) for item in again):
        return replace(finding, kind=Kind.UNSTABLE)
    return finding


def _meets(finding: Finding, item: Difference) -> bool:
    if finding.path != item.path:
        return False
    if finding.aspect != Aspect.CONTENT:
        return finding.aspect == item.aspect
    return item.offset - GAP < finding.end and finding.offset < item.end + GAP


def _grouped(found: list[Finding]) -> Iterator[Finding]:
    """Yield one finding for those of one kind in one section of one file."""

    def key(item: Finding) -> tuple[str, str, Kind, Aspect]:
        return item.path, item.section, item.kind, item.aspect

    for _, group in groupby(sorted(found, key=key), key=key):
        first, *rest = group
        yield replace(first, places=1 + len(rest), size=first.size + sum(item.size for item in rest))
