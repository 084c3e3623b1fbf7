"""What differs at every build, and so hides from a search: places, and single words of a line.

A line that holds a random name and the number of CPUs differs at every build. If the whole of it were left
out, nobody would hear of the CPUs; so only the words that differ by chance are. Where many do, or the names
of what is made, nothing there can be trusted.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from belljar.build.compare import Aspect
from belljar.reproduce.difference import Difference, Spot

_FEW = 3
_LINE = re.compile(r"(^|!)line \d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Which words differ by chance at which spots (None: any), and in which places names do."""

    words: dict[Spot, frozenset[int] | None]
    places: frozenset[tuple[str, str]]

    def joined(self, other: "Noise") -> "Noise":
        """Return what either of two repetitions shows."""
        words = dict(self.words)
        for spot, changed in other.words.items():
            known = words.get(spot, frozenset())
            words[spot] = None if known is None or changed is None else known | changed
        return Noise(words=words, places=self.places | other.places)

    def hides(self, item: Difference) -> bool:
        """Whether a difference is one of every build."""
        if _is_new(item) and _place(item) in self.places:
            return True
        if item.spot not in self.words:
            return False
        chancy, changed = self.words[item.spot], _changed(item)
        return chancy is None or changed is None or changed <= chancy


def noise_of(repeated: Iterable[Difference]) -> Noise:
    """Return what two builds under the same conditions say of all others."""
    words: dict[Spot, frozenset[int] | None] = {}
    places = set()
    for item in repeated:
        words[item.spot] = _few(item) if item.spot not in words else None
        if _is_new(item):
            places.add(_place(item))
    return Noise(words=words, places=frozenset(places))


def _few(item: Difference) -> frozenset[int] | None:
    """Return which words of a line differ, if they are few and most are the same."""
    changed = _changed(item) if _LINE.search(item.part) else None
    if changed is None or len(changed) > _FEW or len(changed) * 2 > len(item.before.split()):
        return None
    return changed


def _changed(item: Difference) -> frozenset[int] | None:
    one, two = item.before.split(), item.after.split()
    if len(one) != len(two):
        return None
    return frozenset(n for n, (a, b) in enumerate(zip(one, two, strict=True)) if a != b)


def _is_new(item: Difference) -> bool:
    return item.aspect is Aspect.MISSING and item.after == "there"


def _place(item: Difference) -> tuple[str, str]:
    if item.part:
        return item.path, re.split(r"[^/!]*$", item.part, maxsplit=1)[0]
    return os.path.dirname(item.path), ""
