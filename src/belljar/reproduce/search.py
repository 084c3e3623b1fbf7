"""Which influences are behind the differences, in few builds.

One build with everything varied says whether there is anything to find. What differs there may *prove* an
influence (belljar.reproduce.evidence) or make some likely; then one build with all others varied says that
there is nothing else, and that building as usual twice gives the same. What is not known by then is found by
halving: a group is built, and where it makes no difference it is done with as a whole. For k causes among n
influences that is about k * log2(n) builds instead of n, and mostly one or two.

Differences are looked for in every half, also where one of them explains all there is to see: two causes may
meet in one line. Where neither half makes a difference and both together do, the least set that does is
sought, and named as one cause.

Rejected: one influence at a time (n builds, and blind to those that need each other); from everything varied
back to nothing (a varied address or job count hides what else differs).
"""

import enum
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from belljar.reproduce.difference import Difference, Spot
from belljar.reproduce.evidence import FILE_TIMES, judge
from belljar.reproduce.variation import NOBODYS, Influence, is_carried, is_variable

FAILURE: Spot = ("", "exit status")
"""Where a build differs that does not succeed."""
_CHANCY = "aslr"
_MANY, _AGAIN = 3, 2
"""So many causes of one difference are looked into by so many further builds as usual."""
_TRIES = 5


class How(enum.StrEnum):
    """How an influence was found to be a cause."""

    PROVED = "its value stands in the output"
    ONCE = "seen once, and not again under the same conditions"
    ALONE = "varied alone, it makes the difference"
    EXCLUDED = "without it, nothing differs"
    TOGETHER = "needed together, none makes the difference alone"
    AGAIN = "two builds under the same conditions differ"
    OPEN = "one of them; the search was ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Names of influences (one, but for TOGETHER and OPEN), and where they make a difference."""

    names: tuple[str, ...]
    spots: frozenset[Spot]
    how: How


class Lab(Protocol):
    """Builds, and compares with a build as usual; what is the same under the same conditions is known."""

    def differences(self, names: frozenset[str], *, again: bool = False) -> tuple[Difference, ...]:
        """Return how a build with these influences varied differs, without what differs at every build."""
        ...

    def repeat(self) -> tuple[Difference, ...]:
        """Return what differs at every build, from one more build as usual; it is hidden from then on."""
        ...

    @property
    def is_spent(self) -> bool:
        """Whether there have been as many builds as there may be."""
        ...


def search(lab: Lab, influences: Sequence[Influence], rounds: int = 1) -> tuple[Found, ...]:
    """Return what the differences come from, those of every build first; nothing when there are none.

    What shows only sometimes (the order of pointers, a race) may hide from one build with everything varied,
    and two influences may cancel each other: only after `rounds` builds without a difference there is none.
    """
    everything = lab.differences(frozenset(item.name for item in influences))
    if not everything:
        return _hidden(lab, influences, rounds - 1)
    return _causes(lab, influences, everything)


def _hidden(lab: Lab, influences: Sequence[Influence], rounds: int) -> tuple[Found, ...]:
    """Look for what shows in halves only: those with a bit of their number set, and those without."""
    found: dict[tuple[str, ...], Found] = {}
    for number in range(rounds):
        bit, side = divmod(number, 2)
        half = [
            item for index, item in enumerate(influences) if item.name == _CHANCY or index >> bit & 1 == side
        ]
        if lab.is_spent:
            break
        differing = lab.differences(frozenset(item.name for item in half or influences), again=True)
        for item in _causes(lab, half or influences, differing) if differing else ():
            known = found.get(item.names, item)
            found[item.names] = Found(names=item.names, spots=known.spots | item.spots, how=item.how)
    return tuple(found.values())


def _causes(
    lab: Lab, influences: Sequence[Influence], differing: tuple[Difference, ...]
) -> tuple[Found, ...]:
    if any(item.spot == FAILURE for item in differing):
        return _failing(lab, influences, differing)
    return _Search(lab, influences).run(differing)


def _failing(
    lab: Lab, influences: Sequence[Influence], everything: Sequence[Difference]
) -> tuple[Found, ...]:
    """Find what makes the build fail, then go on without that."""
    names = tuple(item.name for item in influences)
    culprits = tuple(_Search(lab, influences).split(names, _spots(everything), shown=True))
    guilty = {name for item in culprits for name in item.names}
    rest = [item for item in influences if item.name not in guilty]
    is_stuck = not guilty or any(item.how is How.OPEN for item in culprits) or not rest
    return culprits if is_stuck else (*culprits, *search(lab, rest))


def _spots(found: Sequence[Difference]) -> frozenset[Spot]:
    return frozenset(item.spot for item in found)


def _joined(found: Sequence[Found]) -> tuple[Found, ...]:
    """Return one of each name."""
    spots: dict[tuple[str, ...], frozenset[Spot]] = {}
    for item in found:
        spots[item.names] = spots.get(item.names, frozenset()) | item.spots
    return tuple(Found(names=names, spots=places, how=How.AGAIN) for names, places in spots.items())


class _Search:
    def __init__(self, lab: Lab, influences: Sequence[Influence]) -> None:
        self._lab = lab
        self._influences = influences
        self._names = tuple(item.name for item in influences)
        self._blamed: Counter[Spot] = Counter()
        self._noise: list[Found] = []
        self._listed: frozenset[Spot] = frozenset()
        """Where the environment as a whole makes a difference."""

    def run(self, everything: tuple[Difference, ...]) -> tuple[Found, ...]:
        proved, likely = self._suspects(everything)
        self._noise += self._unstable() if FILE_TIMES in proved else ()
        proved.pop(FILE_TIMES, None)
        rest = self._group(set(self._names) - proved.keys() - likely)
        left = self._differs(rest)
        if left and not self._noise:
            self._noise += self._unstable()
            left = self._differs(rest)  # what differs at every build is hidden now
        found = [Found(names=(name,), spots=spots, how=How.PROVED) for name, spots in proved.items()]
        if left:
            found += self.split(rest, left, shown=True)
        found += self._weak(self._group(likely - proved.keys()), everything, alone=not found)
        found = list(self._still(found))
        if not found and not self._noise:
            return (self._chancy(everything),)
        unstable = _joined(self._noise)
        return (*unstable, *self._attribute(found, everything, unstable))

    def _blame(self, spots: frozenset[Spot]) -> None:
        """Build as usual again when so many influences make one difference that chance is likelier."""
        self._blamed.update(spots)
        if any(self._blamed[spot] == _MANY for spot in spots):
            for _ in range(_AGAIN):
                self._noise += self._unstable() if not self._lab.is_spent else ()

    def _still(self, found: Sequence[Found]) -> Iterator[Found]:
        """Yield what is left of causes when what turned out to be chance is taken off."""
        for item in found:
            spots = item.spots
            if item.how in {How.ALONE, How.TOGETHER} and self._noise:
                spots &= _spots(self._lab.differences(frozenset(item.names)))
            if spots:
                yield Found(names=item.names, spots=spots, how=item.how)

    def _chancy(self, everything: tuple[Difference, ...]) -> Found:
        """Return what may differ or not where addresses are random; else it was chance."""
        spots = self._differs((_CHANCY,)) if _CHANCY in self._names else frozenset()
        if spots:
            return Found(names=(_CHANCY,), spots=spots, how=How.ALONE)
        return Found(names=("chance",), spots=_spots(everything), how=How.ONCE)

    def _suspects(self, everything: Sequence[Difference]) -> tuple[dict[str, frozenset[Spot]], set[str]]:
        proved: dict[str, frozenset[Spot]] = {}
        likely: set[str] = set()
        for item in everything:
            evidence = judge(item, self._influences)
            likely |= evidence.likely & set(self._names)
            for name in evidence.proved:
                proved[name] = proved.get(name, frozenset()) | {item.spot}
        return proved, likely

    def _unstable(self) -> tuple[Found, ...]:
        found = self._lab.repeat()
        stamps = {item.spot for item in found if FILE_TIMES in judge(item, ()).proved}
        others = _spots(found) - stamps
        named = ((FILE_TIMES, frozenset(stamps)), ("chance", frozenset(others)))
        return tuple(Found(names=(name,), spots=spots, how=How.AGAIN) for name, spots in named if spots)

    def _weak(
        self, group: tuple[str, ...], everything: tuple[Difference, ...], *, alone: bool
    ) -> Iterator[Found]:
        """Look into those that are only likely; `alone`: nothing else has been found."""
        if not group:
            return
        if self._lab.is_spent:
            yield Found(names=group, spots=self._stable(everything), how=How.OPEN)
        elif not alone:
            spots = self._differs(group)
            if spots:
                yield from self.split(group, spots, shown=True)
        elif spots := self._stable(everything):
            if len(group) == 1:
                yield Found(names=group, spots=spots, how=How.EXCLUDED)
            else:
                yield from self.split(group, spots, shown=False)

    def _stable(self, everything: tuple[Difference, ...]) -> frozenset[Spot]:
        """Return where the build with everything varied differs for a reason."""
        return _spots(self._lab.differences(frozenset(self._names))) & _spots(everything)

    def split(self, group: tuple[str, ...], spots: frozenset[Spot], *, shown: bool) -> Iterator[Found]:
        """Find the causes in a group that makes a difference; `shown` by a build of that very group."""
        if spots <= self._listed and all(map(is_carried, group)):
            yield Found(names=(NOBODYS,), spots=spots, how=How.ALONE)
        elif self._lab.is_spent and len(group) > 1:
            yield Found(names=group, spots=spots, how=How.OPEN)
        elif len(group) == 1:
            yield from self._single(group, spots, shown=shown)
        else:
            yield from self._halves(group, spots, shown=shown)

    def _single(self, group: tuple[str, ...], spots: frozenset[Spot], *, shown: bool) -> Iterator[Found]:
        if not shown:
            spots = self._differs(group)
        if spots:
            self._listed |= spots if group == (NOBODYS,) else frozenset()
            self._blame(spots)
            yield Found(names=group, spots=spots, how=How.ALONE)

    def _parted(self, group: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return two parts of a group: variables, of these the one that nobody knows, else halves."""
        apart = [lambda name: name == NOBODYS] if all(map(is_variable, group)) else [is_variable]
        apart += [is_carried] if self._listed else []
        for belongs in apart:
            one = tuple(name for name in group if belongs(name))
            if one and len(one) < len(group):
                return one, tuple(name for name in group if name not in one)
        middle = len(group) // 2
        return group[:middle], group[middle:]

    def _halves(self, group: tuple[str, ...], spots: frozenset[Spot], *, shown: bool) -> Iterator[Found]:
        first, second = self._parted(group)
        here = self._differs(first)
        found = list(self.split(first, here, shown=True)) if here else []
        if found and self._lab.is_spent:
            found.append(Found(names=second, spots=spots, how=How.OPEN))
        elif found:
            there = self._differs(second)
            found += self.split(second, there, shown=True) if there else ()
        else:
            found += self.split(second, spots, shown=False)
        if not found and shown and (spots := self._differs(group)):
            found = [self._together(group, spots)]
        yield from found

    def _together(self, group: tuple[str, ...], spots: frozenset[Spot]) -> Found:
        """Return the least set of a group no half of which makes a difference, if it makes one again."""
        least = self._least(group)
        if len(least) == 1 or self._lab.is_spent:
            return Found(names=least, spots=spots, how=How.ALONE if len(least) == 1 else How.OPEN)
        if self._lab.differences(frozenset(least), again=True):
            return Found(names=least, spots=spots, how=How.TOGETHER)
        return Found(names=("chance",), spots=spots, how=How.ONCE)

    def _least(self, group: tuple[str, ...]) -> tuple[str, ...]:
        """Return a set that makes a difference and of which none can be left out."""
        for size in (len(group) // 4, 1):
            at = 0
            while size and at < len(group) and not self._lab.is_spent:
                without = group[:at] + group[at + size :]
                if without and self._differs(without):
                    group = without
                else:
                    at += size
        return group

    def _differs(self, names: Sequence[str]) -> frozenset[Spot]:
        if not names:
            return frozenset()
        found = self._lab.differences(frozenset(names))
        for _ in range(_TRIES - 1):
            if found or tuple(names) != (_CHANCY,):
                break
            found = self._lab.differences(frozenset(names), again=True)
        return _spots(found)

    def _attribute(
        self, found: list[Found], everything: Sequence[Difference], unstable: Sequence[Found]
    ) -> list[Found]:
        """Give the differences that prove nothing to the influences that do make them."""
        known = {spot for item in (*found, *unstable) for spot in item.spots}
        left = {item.spot for item in everything if not item.is_derived} - known
        proved = [item for item in found if item.how is How.PROVED]
        if not left or not proved:
            return found
        if len(found) == 1:
            return [Found(names=found[0].names, spots=found[0].spots | left, how=found[0].how)]
        for item in proved:
            if left and not self._lab.is_spent:
                spots = self._differs(item.names)
                found[found.index(item)] = Found(names=item.names, spots=item.spots | spots, how=item.how)
                left -= spots
        return found

    def _group(self, names: set[str]) -> tuple[str, ...]:
        return tuple(name for name in self._names if name in names)
