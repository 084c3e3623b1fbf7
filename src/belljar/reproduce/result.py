"""What the search found, as values that are reported: causes, files, and what could not be varied."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from belljar.build.compare import Aspect
from belljar.reproduce.difference import Difference, Spot
from belljar.reproduce.evidence import FILE_TIMES, judge
from belljar.reproduce.search import FAILURE, Found, How
from belljar.reproduce.variation import CHANCE, ENVIRONMENT, NOBODYS, Influence, Kind, is_carried, is_variable

VERSION = 1
"""Of the JSON form; raised when a key changes its meaning or goes."""
_TITLES = {
    FILE_TIMES: "the time stamps of files that the build makes",
    "chance": "chance: nothing that could be varied",
    "random": "random numbers",
    ENVIRONMENT: "the environment as a whole: it is listed or hashed, or its size moves the stack",
}
_REMEDIES = {
    FILE_TIMES: "tar --mtime=@$SOURCE_DATE_EPOCH, gzip -n, touch before zip",
    "chance": "a race between jobs, the monotonic clock (names of temporary files), memory never written to",
    "random": "a fixed seed",
    ENVIRONMENT: "write no list of variables; order by content, not by pointer; initialise what is written",
}

_CLEAR = frozenset({Kind.ORDER, Kind.ADDRESS, Kind.PRESENCE, Kind.DERIVED})
"""Kinds that the form of two texts shows, whatever their cause."""
_SEEDED = frozenset({"clock", "random", "aslr"})
"""One of these is in every seed; a user and a process number may well stand in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """An influence, or several that are needed together, that makes a difference at `spots`.

    `through` are the influences that random numbers were seeded from, where they are the cause.
    """

    names: tuple[str, ...]
    title: str
    kind: Kind
    how: How
    spots: tuple[Spot, ...]
    remedy: str
    declared: bool = False
    through: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it for a report."""
        return {
            "influences": list(self.names),
            "title": self.title,
            "kind": self.kind,
            "how": self.how,
            "declared": self.declared,
            "through": list(self.through),
            "remedy": self.remedy,
            "spots": [{"path": path, "part": part} for path, part in self.spots],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A difference with its kind and the names of its causes."""

    difference: Difference
    kind: Kind
    causes: tuple[str, ...]

    @property
    def rank(self) -> tuple[bool, bool]:
        """Return what sorts first what tells most: texts before bytes, what follows from others last."""
        return self.kind is Kind.DERIVED, self.kind in {Kind.CONTENT, Kind.RANDOM, Kind.PRESENCE}

    def to_json(self) -> dict[str, Any]:
        """Return it for a report."""
        item = self.difference
        return {
            "path": item.path,
            "part": item.part,
            "aspect": item.aspect,
            "before": item.before,
            "after": item.after,
            "kind": self.kind,
            "causes": list(self.causes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was built, what it depends on, and where that shows.

    `notes` say what could not be varied, or only in part; `builds` is how many builds there were.
    """

    subject: str
    influences: tuple[Influence, ...]
    builds: int
    seconds: float
    causes: tuple[Cause, ...]
    differences: tuple[Shown, ...]
    notes: tuple[str, ...] = ()
    kept: str = ""
    diffoscope: str = ""

    @property
    def is_reproducible(self) -> bool:
        """Whether nothing differs but by what is an input by convention."""
        return all(cause.declared for cause in self.causes) and not self.unexplained

    @property
    def is_same(self) -> bool:
        """Whether nothing differs at all."""
        return not self.causes and not self.differences

    @property
    def unexplained(self) -> tuple[Shown, ...]:
        """The differences that no cause was found for, though they do not follow from others."""
        return tuple(item for item in self.differences if not item.causes and item.kind is not Kind.DERIVED)

    def to_json(self) -> dict[str, Any]:
        """Return the report; docs/reproduce.md has the keys."""
        return {
            "kind": "reproduce",
            "version": VERSION,
            "subject": self.subject,
            "reproducible": self.is_reproducible,
            "builds": self.builds,
            "seconds": round(self.seconds, 3),
            "varied": [item.name for item in self.influences],
            "causes": [cause.to_json() for cause in self.causes],
            "differences": [item.to_json() for item in self.differences],
            "notes": list(self.notes),
            "kept": self.kept,
            "diffoscope": self.diffoscope,
        }


def causes_of(
    found: Sequence[Found], influences: Sequence[Influence], differences: Sequence[Difference]
) -> tuple[Cause, ...]:
    """Return what was found as causes.

    Several seeds of one random number are one cause, and so is all of the environment where a variable that
    nobody knows makes a difference.
    """
    known = {item.name: item for item in influences}
    judged = {item.spot: judge(item, influences) for item in differences}
    kinds = {spot: evidence.kind for spot, evidence in judged.items()}
    proved: dict[str, set[Spot]] = {}
    for spot, evidence in judged.items():
        for name in evidence.proved:
            proved.setdefault(name, set()).add(spot)
    merged = _merged(tuple(_with_environment(found, proved)), kinds)
    causes = [_cause(item, known, kinds, through) for item, through in merged]
    return tuple(sorted(causes, key=lambda cause: (cause.declared, -len(cause.spots), cause.names)))


def _with_environment(found: Sequence[Found], proved: dict[str, set[Spot]]) -> Iterator[Found]:
    """Join what the environment does where a variable that nobody knows makes a difference, too."""
    whole = frozenset(spot for item in found if item.names == (NOBODYS,) for spot in item.spots)
    paths, joined = {path for path, _ in whole}, set(whole)
    for item in found:
        if not all(is_carried(name) for name in item.names):
            yield item
            continue
        of_variable = is_variable(item.names[0]) and {path for path, _ in item.spots} <= paths
        own = item.spots if of_variable else (item.spots & whole) - proved.get(item.names[0], set())
        joined |= own
        if item.spots - own:
            yield Found(names=item.names, spots=item.spots - own, how=item.how)
    if whole:
        yield Found(names=(ENVIRONMENT,), spots=frozenset(joined), how=How.ALONE)


def _merged(found: Sequence[Found], kinds: dict[Spot, Kind]) -> Iterator[tuple[Found, tuple[str, ...]]]:
    """Yield causes; what several of those that seeds are made of write is a random number."""
    seeds = [item for item in found if set(item.names) <= CHANCE and item.how is not How.PROVED]
    spots: list[Spot] = [spot for item in seeds for spot in item.spots]
    sown = {spot for item in seeds if _SEEDED & set(item.names) for spot in item.spots}
    shared = {spot for spot in sown if spots.count(spot) > 1 and kinds.get(spot) is not Kind.TIME}
    if shared:
        through = tuple(item.names[0] for item in seeds if item.spots & shared)
        alone = {spot for item in seeds if item.names == ("random",) for spot in item.spots}
        yield Found(names=("random",), spots=frozenset(shared | alone), how=How.ALONE), through
    for item in found:
        if shared and item.names == ("random",):
            continue
        rest = item.spots - shared if item in seeds else item.spots
        if rest or not shared or item not in seeds:
            yield Found(names=item.names, spots=rest, how=item.how), ()


def _cause(
    item: Found, known: dict[str, Influence], kinds: dict[Spot, Kind], through: tuple[str, ...]
) -> Cause:
    named = [known[name] for name in item.names if name in known]
    kind = named[0].kind if named and not through else _kind(item, kinds)
    titles = [one.title for one in named] if named and not through else [_TITLES[item.names[0]]]
    remedies = [one.remedy for one in named] if named and not through else [_REMEDIES[item.names[0]]]
    return Cause(
        names=item.names,
        title=", and ".join(titles) if item.how is How.TOGETHER else "; or ".join(titles),
        kind=Kind.FAILURE if FAILURE in item.spots else kind,
        how=item.how,
        spots=tuple(sorted(item.spots)),
        remedy=remedies[0],
        declared=bool(named) and all(one.declared for one in named),
        through=through,
    )


def _kind(item: Found, kinds: dict[Spot, Kind]) -> Kind:
    named = {FILE_TIMES: Kind.TIME, ENVIRONMENT: Kind.ENVIRONMENT}
    if item.names[0] in named:
        return named[item.names[0]]
    return Kind.RANDOM if item.names[0] == "random" else kinds.get(min(item.spots), Kind.CONTENT)


def shown(
    differences: Sequence[Difference], influences: Sequence[Influence], causes: Sequence[Cause]
) -> tuple[Shown, ...]:
    """Return differences with their kinds and causes; what follows from others has theirs."""
    of_path: dict[str, list[str]] = {}
    of_spot: dict[Spot, list[Cause]] = {}
    for cause in causes:
        for spot in cause.spots:
            of_spot.setdefault(spot, []).append(cause)
    for cause in causes:
        for path, _ in cause.spots:
            of_path.setdefault(path, []).append(" + ".join(cause.names))
    return tuple(
        Shown(
            difference=item,
            kind=_kind_of(item, influences, of_spot.get(item.spot, [])),
            causes=tuple(" + ".join(cause.names) for cause in of_spot.get(item.spot, ()))
            or (tuple(dict.fromkeys(of_path.get(item.path, ()))) if item.is_derived else ()),
        )
        for item in differences
    )


def _kind_of(item: Difference, influences: Sequence[Influence], causes: Sequence[Cause]) -> Kind:
    """Return what kind of thing differs: what the texts prove, or show by their form, else their cause's."""
    if item.spot == FAILURE:
        return Kind.FAILURE
    evidence = judge(item, influences)
    is_clear = evidence.proved or evidence.kind in _CLEAR or item.aspect is Aspect.EXECUTABLE
    if not is_clear and len(causes) == 1 and causes[0].names[0] != "chance":
        return causes[0].kind
    return evidence.kind
