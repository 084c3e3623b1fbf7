"""Where two texts differ: lines that only one of them has, and the order of those that both have.

Told apart, since they have different causes: a log of parallel jobs has its lines in another order each time,
and one of them names the host. Each line is called by its number in the usual build, so that it is the same
line in all builds, whatever was inserted before it.
"""

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest

ORDER = "order of lines"
MORE = "more lines"
_LINES, _MANY = 4000, 1000

Change = tuple[str, str, str]
"""What is called so, as it stands in the one text, and in the other."""


def changes(here: Sequence[str], there: Sequence[str]) -> Iterator[Change]:
    """Yield what differs between two lists of lines; of very many only the first."""
    gone, new = _only(here, there), _only(there, here)
    kept, others = _without(here, gone), _without(there, new)
    if kept == others:
        found = _hunks(here, there)
    else:
        first, last = _changed(kept, others)
        yield ORDER, " ".join(kept[first:last]), " ".join(others[first:last])
        found = _paired(here, there, gone, new)
    for count, (number, before, after) in enumerate(found):
        if count == _MANY:
            yield MORE, before, after
            return
        yield f"line {number + 1}", before, after


def _only(these: Sequence[str], those: Sequence[str]) -> frozenset[int]:
    """Return the numbers of the lines of which there are more here than there, the last of equal ones."""
    many = Counter(these) - Counter(those)
    found = []
    for number in range(len(these) - 1, -1, -1):
        if many.get(these[number], 0) > 0:
            many[these[number]] -= 1
            found.append(number)
    return frozenset(found)


def _without(lines: Sequence[str], numbers: frozenset[int]) -> list[str]:
    return [line for number, line in enumerate(lines) if number not in numbers]


def _changed(here: Sequence[str], there: Sequence[str]) -> tuple[int, int]:
    numbers = [n for n, (one, two) in enumerate(zip(here, there, strict=True)) if one != two]
    return numbers[0], numbers[-1] + 1


def _paired(
    here: Sequence[str], there: Sequence[str], gone: frozenset[int], new: frozenset[int]
) -> Iterator[tuple[int, str, str]]:
    """Yield the lines of which one side has more, in their order, by their numbers on the left side."""
    last = len(here) - 1
    for one, two in zip_longest(sorted(gone), sorted(new)):
        number = last if one is None else one
        yield number, "" if one is None else here[one], "" if two is None else there[two]


def _hunks(here: Sequence[str], there: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield number, text and other text of the lines that differ; numbers are those of the left side."""
    if len(here) == len(there) or max(len(here), len(there)) > _LINES:
        for number, (one, two) in enumerate(zip_longest(here, there, fillvalue="")):
            if one != two:
                yield number, one, two
        return
    matcher = difflib.SequenceMatcher(None, here, there)
    for word, first, last, start, end in matcher.get_opcodes():
        if word == "equal":
            continue
        for n, (one, two) in enumerate(zip_longest(here[first:last], there[start:end], fillvalue="")):
            yield min(first + n, max(first, last - 1)), one, two
