"""What kind of thing differs, and which influences the differing texts themselves point to.

Two degrees. *Proved*: a text that only a varied influence can have written, such as a host that nobody has,
or the varied day. *Likely*: the form fits, as two numbers fit the number of CPUs; a build has to show it.
"""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from belljar.build.compare import Aspect
from belljar.reproduce.difference import Difference
from belljar.reproduce.lines import ORDER
from belljar.reproduce.variation import CHANCE, Influence, Kind
from belljar.reproduce.world import World

FILE_TIMES = "file-times"
"""What is not an influence of ours: the time stamps that the kernel gives to what a build writes."""
_DAY = 86_400
_USUAL = World()
_WORD = re.compile(r"[0-9A-Za-z_.+-]+")
_NUMBER = re.compile(r"(?<![\w.])(\d{9,10})(?:\.\d+)?(?![\w.])")
_ADDRESS = re.compile(r"\b(?:0x)?[0-9a-f]{7,16}\b")
_DATE = re.compile(
    r"\b(?:19|20)\d\d[-/.]?[01]\d[-/.]?[0-3]\d|\b\d\d?:\d\d(?::\d\d)?\b|\b(?:19|20)\d\d\b|"
    r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b"
)
_BYTES = re.compile(r"[0-9a-f ]* at 0x[0-9a-f]+")
_CODE = re.compile(r"[0-9]+|[0-9a-fA-F-]{8,}|(?=\S*\d)[0-9A-Za-z+/=_.-]{6,}")
_MODES = re.compile(r"0?[0-7]{3,4}|mode \d+|[d-]?[rwx-]{9}")
_LIKELY: dict[Kind, frozenset[str]] = {
    Kind.ORDER: frozenset({"directory-order", "locale", "hash-seed", "aslr", "jobs", "random"}),
    Kind.ADDRESS: frozenset({"aslr"}),
    Kind.RANDOM: CHANCE,
    Kind.NUMBER: CHANCE | {"cpus", "jobs", "memory"},
    Kind.MODE: frozenset({"umask"}),
    Kind.TIME: frozenset({"clock", "timezone", "source-date", "timestamps", "locale"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a difference is, and the names of influences that it proves, or makes likely."""

    kind: Kind
    proved: frozenset[str] = frozenset()
    likely: frozenset[str] = frozenset()


def judge(item: Difference, varied: Iterable[Influence], now: float | None = None) -> Evidence:
    """Return what two texts say, of a build as usual (`before`) and of one with `varied` influences."""
    before, after = item.before, item.after
    if item.aspect is Aspect.MISSING or item.aspect is Aspect.TYPE:
        return Evidence(kind=Kind.PRESENCE, proved=_named(item, varied))
    if item.aspect is Aspect.EXECUTABLE:
        return Evidence(kind=Kind.MODE, likely=_LIKELY[Kind.MODE])
    if item.is_derived:
        return Evidence(kind=Kind.DERIVED)
    if item.part.endswith(ORDER):
        return Evidence(kind=Kind.ORDER, likely=_LIKELY[Kind.ORDER])
    if _BYTES.fullmatch(before) and _BYTES.fullmatch(after):
        return Evidence(kind=Kind.CONTENT)
    known = list(varied)
    marked = [one for one in known if _is_marked(one, before, after)]
    pairs = frozenset(_changed_words(before, after))
    matching = frozenset(one.name for one in known if _has_value(one, before, after, pairs))
    if marked:
        proved = frozenset(one.name for one in marked)
        return Evidence(kind=marked[0].kind, proved=proved, likely=matching - proved)
    if _is_now(before, now) and _is_now(after, now):
        return Evidence(kind=Kind.TIME, proved=frozenset({FILE_TIMES}))
    if matching:
        kinds = {one.name: one.kind for one in known}
        return Evidence(kind=kinds[min(matching)], likely=matching)
    kind = _form(before, after)
    return Evidence(kind=kind, likely=_LIKELY.get(kind, frozenset()))


def _named(item: Difference, varied: Iterable[Influence]) -> frozenset[str]:
    """Return the influences that have written the name of what a varied build alone has made."""
    name = f"{item.path}!{item.part}" if item.after == "there" else ""
    return frozenset(one.name for one in varied if _is_marked(one, "", name))


def _is_marked(item: Influence, before: str, after: str) -> bool:
    marks = list(item.marks)
    moments = [item.changes[name] for name in ("clock", "source_date", "timestamps") if name in item.changes]
    for moment in moments:
        marks += _dates(moment)
        if any(0 <= int(number) - moment < _DAY for number in _NUMBER.findall(after)):
            return True
    return any(mark in after and mark not in before for mark in marks)


@cache
def _dates(moment: int) -> tuple[str, ...]:
    """Return how a day is written."""
    return tuple(_written(moment))


def _written(moment: int) -> Iterator[str]:
    day = time.gmtime(moment)
    for form in (
        "%Y-%m-%d",
        "%Y%m%d",
        "%Y/%m/%d",
        "%d %b %Y",
        "%d %B %Y",
        "%B %d, %Y",
        "%m/%d/%y",
        "%d.%m.%Y",
        "%Y.%m.%d",
        "%d/%b/%Y",
        "%a %b %d",
        "%a %b %e",
    ):
        yield time.strftime(form, day)
    month, number, year = time.strftime("%b", day), day.tm_mday, day.tm_year
    yield from (f"{month} {number:2} {year}", f"{month} {number} {year}", f"{number} {month} {year}")
    yield f"{month} {number:2} {day.tm_hour:02}:"


def _is_now(text: str, now: float | None) -> bool:
    moment = time.time() if now is None else now
    numbers = (int(number) for number in _NUMBER.findall(text))
    today = {time.strftime(form, time.gmtime(moment)) for form in ("%Y-%m-%d", "%b %e %Y", "%d %b %Y")}
    return any(abs(number - moment) < _DAY for number in numbers) or any(day in text for day in today)


def _has_value(item: Influence, before: str, after: str, pairs: frozenset[tuple[str, str]]) -> bool:
    """Whether words that differ are just the usual and the varied value."""
    if "umask" in item.changes:
        return bool(_MODES.fullmatch(before.strip()) and _MODES.fullmatch(after.strip()))
    if not pairs:
        return False
    values = [text for _, text in item.changes.get("variables", ())]
    return any(new in values for _, new in pairs) or any(
        (str(getattr(_USUAL, name)), str(value)) in pairs
        for name, value in item.changes.items()
        if isinstance(value, int) and not isinstance(value, bool)
    )


def _changed_words(before: str, after: str) -> Iterator[tuple[str, str]]:
    one, two = _WORD.findall(before), _WORD.findall(after)
    if len(one) == len(two):
        yield from ((a, b) for a, b in zip(one, two, strict=True) if a != b)


def _form(before: str, after: str) -> Kind:
    one, two = before.split(), after.split()
    if len(one) > 1 and one != two and sorted(one) == sorted(two):
        return Kind.ORDER
    if len(before) > 3 and sorted(before) == sorted(after) and not before.isdigit():
        return Kind.ORDER
    changed = list(_changed_words(before, after)) or [(before, after)]
    if all(_ADDRESS.fullmatch(a) and _ADDRESS.fullmatch(b) and not a.isdigit() for a, b in changed):
        return Kind.ADDRESS
    if _DATE.search(before) and _DATE.search(after):
        return Kind.TIME
    if all(a.isdigit() and b.isdigit() for a, b in changed):
        return Kind.RANDOM if all(len(a) > 3 or len(b) > 3 for a, b in changed) else Kind.NUMBER
    if all(_CODE.fullmatch(a) and _CODE.fullmatch(b) for a, b in changed):
        return Kind.RANDOM
    return Kind.CONTENT
