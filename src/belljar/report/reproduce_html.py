"""What a build depends on, as one page: the verdict, each cause with what differs because of it, all files.

Like the page of an audit it needs no network and runs no script; text from files is escaped and made visible.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from belljar.report.html import page
from belljar.report.reproduce_text import name_of, verdict
from belljar.report.svg import clean
from belljar.reproduce.result import Cause, Result, Shown

LIMIT = 300
"""How many differences the page lists."""
_OF_CAUSE, _OF_FILE = 20, 5
_FEW = 4
_STYLE = """
del,ins{display:block;text-decoration:none;padding:0 .4rem;white-space:pre-wrap}
del{color:var(--bad);background:var(--badbg)}ins{color:var(--good);background:var(--goodbg)}
.large td:last-child{min-width:22rem}
"""


def to_html(result: Result) -> str:
    """Return the page."""
    parts = (
        _head(result),
        _summary(result.causes),
        *(_cause(number, cause, result) for number, cause in enumerate(result.causes)),
        _files("All differences", result.differences),
        _files("Without a cause", result.unexplained) if result.unexplained else "",
        _varied(result),
        f"<h2>diffoscope</h2><pre class='wide mono'>{_lines(result.diffoscope)}</pre>"
        if result.diffoscope
        else "",
    )
    return page(f"Reproduce {result.subject}", "\n".join(filter(None, parts)), _STYLE)


def _head(result: Result) -> str:
    good = result.is_reproducible
    words = "✓ reproducible" if good else "✗ not reproducible"
    notes = "".join(f"<p>Note: {clean(note)}.</p>" for note in result.notes)
    cards = (
        ("causes", len([cause for cause in result.causes if not cause.declared])),
        ("files that differ", len({item.difference.path for item in result.differences})),
        ("builds", result.builds),
        ("influences varied", len(result.influences)),
        ("seconds", round(result.seconds, 1)),
    )
    shown = "".join(
        f'<div class="card"><dt>{clean(name)}</dt><dd>{value}</dd></div>' for name, value in cards
    )
    return (
        f'<header><p><span class="verdict {"pass" if good else "fail"}">{words}</span></p>'
        f"<h1>{clean(result.subject)}</h1><p>{clean(verdict(result))}.</p>"
        f'<dl class="cards">{shown}</dl>{notes}</header>'
    )


def _summary(causes: Sequence[Cause]) -> str:
    if len(causes) < 2:
        return ""
    rows = "".join(
        f'<tr><th scope="row"><a href="#cause{number}">{clean(name_of(cause))}</a></th>'
        f"<td>{clean(cause.title)}</td><td>{clean(cause.kind)}</td>"
        f"<td><code>{_paths(cause)}</code></td></tr>"
        for number, cause in enumerate(causes)
    )
    return f'<div class="wide" tabindex="0"><table><tbody>{rows}</tbody></table></div>'


def _paths(cause: Cause) -> str:
    paths = sorted({path or "the build" for path, _ in cause.spots})
    return ", ".join(map(_path, paths[:_FEW])) + (
        f" and {len(paths) - _FEW} more" if len(paths) > _FEW else ""
    )


def _cause(number: int, cause: Cause, result: Result) -> str:
    spots = set(cause.spots)
    own = [item for item in result.differences if item.difference.spot in spots]
    told = _some(sorted(own, key=lambda item: (item.difference.path, item.rank)))
    more = f"<p class='dim'>and {len(own) - len(told)} more</p>" if len(own) > len(told) else ""
    label = "Input" if cause.declared else "Cause"
    return (
        f'<section id="cause{number}"><h2>{label}: {clean(name_of(cause))}</h2><p>{clean(cause.title)}; '
        f'<span class="dim">{clean(cause.how)}.</span></p><p>What helps: {clean(cause.remedy)}.</p>'
        f"{_table(told)}{more}</section>"
    )


def _some(items: Sequence[Shown]) -> list[Shown]:
    """Return the first of each file, as many as one can take in."""
    counts: Counter[str] = Counter()
    told = []
    for item in items:
        counts[item.difference.path] += 1
        if counts[item.difference.path] <= _OF_FILE:
            told.append(item)
    return told[:_OF_CAUSE]


def _files(title: str, items: Sequence[Shown]) -> str:
    if not items:
        return f"<section><h2>{clean(title)}</h2><p>None.</p></section>"
    ordered = sorted(items, key=lambda item: (item.rank, item.difference.place))
    more = (
        f'<p class="dim">and {len(items) - LIMIT} more; the JSON has all.</p>' if len(items) > LIMIT else ""
    )
    return (
        f"<section><details><summary>{clean(title)}: {len(items)}</summary>"
        f"{_table(ordered[:LIMIT])}{more}</details></section>"
    )


def _table(items: Iterable[Shown]) -> str:
    rows = "".join(map(_row, items))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("File", "Part", "Kind", "Cause", "Texts"))
    return (
        f'<div class="wide" tabindex="0"><table class="large"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(item: Shown) -> str:
    difference = item.difference
    texts = (
        f'<del class="mono">{clean(difference.before)}</del><ins class="mono">{clean(difference.after)}</ins>'
    )
    cells = (
        f"<code>{clean(difference.part or difference.aspect)}</code>",
        clean(item.kind),
        clean(", ".join(item.causes) or "-"),
        texts,
    )
    path = _path(difference.path) or "the build"
    return f'<tr><th scope="row"><code>{path}</code></th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _path(path: str) -> str:
    """Return a path as one line, its bytes that are no text in hexadecimal."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return clean(text.replace("\n", "\\n").replace("\t", "\\t"))


def _varied(result: Result) -> str:
    rows = "".join(
        f'<tr><th scope="row">{clean(item.name)}</th><td>{clean(item.title)}</td>'
        f"<td><code>{clean(item.describe()[0])}</code></td>"
        f"<td><code>{clean(item.describe()[1])}</code></td></tr>"
        for item in result.influences
    )
    return (
        f"<section><details><summary>What was varied: {len(result.influences)}</summary>"
        '<div class="wide" tabindex="0"><table><thead><tr><th scope="col">Influence</th>'
        '<th scope="col"></th><th scope="col">Usual</th><th scope="col">Varied</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></section>"
    )


def _lines(text: str) -> str:
    return "\n".join(clean(line) for line in text.splitlines())
