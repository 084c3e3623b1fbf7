"""What a build depends on, as text."""

from collections.abc import Sequence

from belljar.reproduce.result import Cause, Result, Shown
from belljar.reproduce.search import FAILURE, How
from belljar.reproduce.variation import ALL

_SPOTS = 5
_FILES = 10
_WIDTH = 100


def render(result: Result) -> list[str]:
    """Return the verdict, each cause with what differs because of it, and what is left."""
    number = len(result.influences)
    count = f"{result.builds} builds, {number} influence{'s'[: number != 1]} varied"
    lines = [f"{verdict(result)} ({count}, {result.seconds:.1f} s)"]
    lines += _summary(result.causes)
    for cause in result.causes:
        lines += ["", *_cause(cause, result)]
    rest = result.unexplained
    if rest:
        lines += ["", f"{len(rest)} differences that no influence was found for:"]
        lines += _differences(rest)
    lines += [f"note: {note}" for note in result.notes]
    if result.kept:
        lines += [f"kept: {result.kept}/usual, {result.kept}/varied"]
    if result.diffoscope:
        lines += ["", "diffoscope:", *result.diffoscope.splitlines()]
    return lines


def verdict(result: Result) -> str:
    """Return the answer in one sentence."""
    if result.is_same:
        return f"reproducible: {result.subject}"
    if result.is_reproducible:
        names = ", ".join(name for cause in result.causes for name in cause.names)
        return f"reproducible, given the same {names}: {result.subject}"
    if any(FAILURE in cause.spots for cause in result.causes):
        return f"not reproducible, fails under other conditions: {result.subject}"
    return f"not reproducible: {result.subject}"


def name_of(cause: Cause) -> str:
    """Return what a cause is called."""
    names = " or ".join(cause.names) if cause.how is How.OPEN else " + ".join(cause.names)
    through = f" (seeded from {', '.join(cause.through)})" if cause.through else ""
    return f"{names}{through}"


def _summary(causes: Sequence[Cause]) -> list[str]:
    """Return a line for each of several causes."""
    if len(causes) < 2:
        return []
    counts = [len({path for path, _ in cause.spots}) for cause in causes]
    width = max(len(name_of(cause)) for cause in causes)
    return [
        f"  {name_of(cause):{width}}  {count} file{'s'[: count != 1]}"
        for cause, count in zip(causes, counts, strict=True)
    ]


def _cause(cause: Cause, result: Result) -> list[str]:
    label = "input" if cause.declared else "cause"
    spots = set(cause.spots)
    own = [item for item in result.differences if item.difference.spot in spots]
    return [
        f"{label}: {name_of(cause)}: {cause.title}",
        f"  how known: {cause.how}",
        f"  what helps: {cause.remedy}",
        *_differences(own),
    ]


def _differences(items: list[Shown] | tuple[Shown, ...]) -> list[str]:
    lines = []
    files = list(dict.fromkeys(item.difference.path for item in items))
    for path in files[:_FILES]:
        own = [item for item in items if item.difference.path == path]
        own.sort(key=lambda item: item.rank)
        lines.append(f"  {path or 'the build'}")
        for item in own[:_SPOTS]:
            lines += _texts(item)
        lines += [f"    and {len(own) - _SPOTS} more"] if len(own) > _SPOTS else []
    return lines + (
        [f"  and {len(files) - _FILES} files more (--json has all)"] if len(files) > _FILES else []
    )


def _texts(item: Shown) -> list[str]:
    part = item.difference.part or item.difference.aspect
    return [
        f"    {part}, {item.kind}",
        f"      - {_cut(item.difference.before)}",
        f"      + {_cut(item.difference.after)}",
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[:_WIDTH] + "…"


def influences() -> list[str]:
    """Return all influences: name, title, the usual and the varied value."""
    lines = []
    for item in ALL:
        usual, varied = item.describe()
        lines.append(f"{item.name:28} {item.title}")
        lines.append(f"{'':28}   {usual} -> {varied}")
    return lines


def influences_json() -> list[dict[str, str]]:
    """Return all influences as JSON values."""
    rows = ((item, *item.describe()) for item in ALL)
    return [
        {"name": item.name, "title": item.title, "usual": usual, "varied": varied}
        for item, usual, varied in rows
    ]
