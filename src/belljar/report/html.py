"""An audit as one page that can be attached to a release: no network, no script, light and dark, printable.

First what a maintainer asks: does it pass, where does it run, what sets each floor and what would lower it.
Then the findings by rule, the picture of needed libraries, and every file, the worst first. A page of ten
thousand files would help nobody: each part shows its first few hundred and counts the rest.

Text from files is escaped and made visible (belljar.report.svg.clean). The same report gives the
same bytes: no time, no host.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields

from belljar import __version__
from belljar.audit import FileFacts, Finding, Report, Severity
from belljar.audit.report import Cause
from belljar.report.graph import Graph, State, graph_of
from belljar.report.svg import LEGEND, STYLE, clean, draw

FILES_LIMIT = 400
"""How many files the page lists."""
FINDINGS_LIMIT = 60
"""How many findings of one rule the page lists."""
_CAUSES_LIMIT = 4
_SYMBOLS_LIMIT = 6
_OPEN_LIMIT = 12
_NEEDED_LIMIT = 20
_FLOORS = {
    "glibc": "glibc",
    "glibcxx": "libstdc++ (GLIBCXX)",
    "cxxabi": "C++ ABI (CXXABI)",
    "gcc": "libgcc (GCC)",
    "kernel": "Linux",
    "isa": "CPU",
}

_CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Whatever a file's name might smuggle in: the browser neither loads nor runs anything."""
_NONE = "-"

_CSS = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f23;--dim:#57606a;--line:#d8dee4;--soft:#f6f8fa;
 --good:#1a6b3a;--goodbg:#e3f4e8;--bad:#b3261e;--badbg:#fcebea;--link:#0a58ca}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e8ea;--dim:#a0a8b0;--line:#353b41;
 --soft:#1d2125;--good:#7ed3a0;--goodbg:#14301f;--bad:#ff9c94;--badbg:#3b1715;--link:#8ab4f8}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1.5rem 1.25rem 4rem;background:var(--bg);color:var(--fg);
 font:15px/1.5 ui-sans-serif,system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0 .6rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.1rem 0 .3rem}
p{margin:.4rem 0}.dim{color:var(--dim)}
code,.mono{font:.875em ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
a{color:var(--link)}
.verdict{display:inline-block;font-weight:650;padding:.15rem .7rem;border-radius:1rem;border:1px solid}
.pass{color:var(--good);background:var(--goodbg)}.fail{color:var(--bad);background:var(--badbg)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.5rem,1fr));gap:.7rem;margin:.8rem 0;
 padding:0}
.card{border:1px solid var(--line);border-radius:.5rem;padding:.55rem .8rem;background:var(--soft)}
.card dt{color:var(--dim);font-size:.82rem}.card dd{margin:0;font-size:1.25rem;font-weight:600}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem}
table{border-collapse:collapse;width:100%;font-size:.875rem}
.large{min-width:46rem}#files tbody th{min-width:17rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .7rem;border-bottom:1px solid var(--line)}
tr:last-child>*{border-bottom:0}thead th{background:var(--soft);white-space:nowrap}
td.num,th.num{white-space:nowrap}tbody th{font-weight:400}
ul.plain{list-style:none;margin:.4rem 0;padding:0}ul.plain>li{padding:.35rem 0 .35rem .8rem;
 border-left:3px solid var(--line);margin:.35rem 0}
li.error{border-left-color:var(--bad)!important}.tag{font-size:.78rem;font-weight:600;color:var(--dim)}
.error .tag{color:var(--bad)}.hint{color:var(--dim)}
details>summary{cursor:pointer;font-weight:600;margin:.5rem 0}
.graph{margin-bottom:1rem;overflow-x:auto;border:1px solid var(--line);border-radius:.5rem;padding:.5rem;
 max-height:80vh}
.graph svg{display:block}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;padding:0;margin:.6rem 0}
footer{margin-top:3rem;color:var(--dim);font-size:.82rem}
@media print{body{max-width:none;padding:0;font-size:11px}
 .graph,.wide{max-height:none;overflow:visible;border:0}
 .large{min-width:0}.graph svg{max-width:100%;min-width:0!important;height:auto}
 nav{display:none}h2{break-after:avoid}tr,li{break-inside:avoid}}
"""


def to_html(report: Report, *, graph: Graph | None = None) -> str:
    """Return the page; `graph` is the report's own unless one with more knowledge is given."""
    title = f"Audit of {', '.join(report.paths)}"
    common = _common(report)
    parts = (
        _head(report),
        _floors(report, common),
        _findings(report, common),
        _graph(graph or graph_of(report)),
        _libraries(report),
        _files(report, common),
    )
    return page(title, "\n".join(part for part in parts if part), STYLE)


def page(title: str, body: str, style: str = "") -> str:
    """Return a whole page with the title, the HTML of its body, and more style than that of all pages."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_CONTENT_POLICY}">\n'
        f"<title>{clean(title)}</title>\n<style>{_CSS}{style}</style>\n</head>\n<body>\n{body}\n"
        f"<footer>Made by belljar {clean(__version__)}; needs no network, runs no script.</footer>\n"
        "</body>\n</html>\n"
    )


def _common(report: Report) -> str:
    """Return what all paths begin with and lists leave out: the tree or archive, if it is one."""
    if len(report.paths) != 1:
        return ""
    root = report.paths[0].rstrip("/")
    return next(
        (root + mark for mark in "/!" if any(f.path.startswith(root + mark) for f in report.files)), ""
    )


def _head(report: Report) -> str:
    verdict = '<span class="verdict pass">✓ passed</span>'
    if not report.passed:
        verdict = f'<span class="verdict fail">✗ failed: {_plural(len(report.errors), "error")}</span>'
    asked = report.policy.describe()
    links = (
        ("floors", "Floors"),
        ("findings", "Findings"),
        ("graph", "Libraries"),
        ("files", "Files"),
    )
    nav = "".join(f'<li><a href="#{anchor}">{name}</a></li>' for anchor, name in links)
    runs = ", ".join(report.distributions)
    nothing = "Nothing in it needs the host's glibc." if report.sealed else "Nothing in it needs glibc."
    where = f"Runs on <strong>{clean(runs)}</strong>." if runs else nothing
    if report.floors.glibc and not runs:
        where = "Runs on no distribution that belljar knows."
    profiles = ", ".join(_ends(report.profiles))
    meets = f"<p>Meets {clean(profiles)}.</p>" if profiles else ""
    traced = "".join(f"<p>Traced: {clean(run.describe())}.</p>" for run in report.traced)
    policy = f"<p>Asked for: {clean(', '.join(asked))}.</p>" if asked else ""
    return (
        f"<header><p>{verdict}</p><h1>{clean(', '.join(report.paths))}</h1>"
        f"<p>{_plural(len(report.files), 'ELF file')}. {where}</p>{meets}{policy}{traced}"
        f'<nav aria-label="Parts"><ul>{nav}</ul></nav></header>'
    )


def _ends(profiles: Sequence[str]) -> list[str]:
    """Name of each family of policies the strictest that is met; the others follow from it."""
    first: dict[str, str] = {}
    for name in profiles:
        first.setdefault(name.partition("_")[0], name)
    return list(first.values())


def _plural(count: int, noun: str) -> str:
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def _floors(report: Report, common: str) -> str:
    floors = report.floors
    known = [(field.name, getattr(floors, field.name)) for field in fields(floors)]
    known += _own(report)
    cards = "".join(
        f'<div class="card"><dt>{clean(_FLOORS.get(name, name))}</dt><dd>{clean(str(value))}</dd></div>'
        for name, value in known
        if value is not None
    )
    if not cards:
        return '<section id="floors"><h2>Floors</h2><p>No file in it sets any.</p></section>'
    return (
        '<section id="floors"><h2>Floors</h2><p class="dim">The oldest on which all of it runs.</p>'
        f'<dl class="cards">{cards}</dl>{_causes(report, common)}</section>'
    )


def _own(report: Report) -> list[tuple[str, str]]:
    """Return the releases of glibc that sealed programs bring, each as a card."""
    own = Counter(item.sealed.glibc for item in report.sealed if item.sealed is not None)
    return [(f"sealed: {_plural(count, 'program')}", f"own glibc {glibc}") for glibc, count in own.items()]


def _causes(report: Report, common: str) -> str:
    by_floor = defaultdict(list)
    for cause in report.causes:
        by_floor[cause.floor].append(cause)
    rows = []
    for causes in by_floor.values():
        # What each file says of itself is the same sentence every time.
        shown = [cause for cause in causes if cause.use][:_CAUSES_LIMIT] or causes[:1]
        rows += [_cause(cause, common) for cause in shown]
        if len(causes) > len(shown):
            more = f"and {len(causes) - len(shown)} more"
            rows.append(f'<tr><td></td><td colspan="4" class="dim">{more}</td></tr>')
    head = ("Floor", "Set by", "Needs", "For", "What lowers it")
    return f"<h3>What sets them</h3>{_table(head, rows)}" if rows else ""


def _cause(cause: Cause, common: str) -> str:
    use = cause.use
    of = f"{use.version}{f' of {use.library}' if use.library else ''}" if use else "its own note"
    return _row(
        f"{clean(_FLOORS.get(cause.floor, cause.floor))} {clean(cause.release)}",
        _code(_short(cause.path, common)),
        _code(of),
        _code(_some(use.symbols, _SYMBOLS_LIMIT) if use else "") + _users(cause),
        clean(cause.remedy or ""),
    )


def _users(cause: Cause) -> str:
    users = [f"{item.symbol}: used by {item}" for item in cause.users[:_SYMBOLS_LIMIT]]
    return "".join(f'<br><span class="hint">{clean(line)}</span>' for line in users)


def _some(names: Sequence[str], limit: int) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _short(path: str, common: str) -> str:
    return path.removeprefix(common) if common else path


def _code(text: str) -> str:
    return f"<code>{clean(text)}</code>" if text else ""


def _row(head: str, *cells: str) -> str:
    """Return a row of HTML cells, the first of which names it."""
    return f'<tr><th scope="row">{head}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _table(head: Sequence[str], rows: Iterable[str]) -> str:
    columns = "".join(f'<th scope="col">{clean(name)}</th>' for name in head)
    large = ' class="large"' if len(head) > 3 else ""
    return (
        f'<div class="wide" tabindex="0"><table{large}><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _findings(report: Report, common: str) -> str:
    by_rule: dict[str, list[Finding]] = defaultdict(list)
    for finding in sorted(report.findings, key=lambda item: item.severity is not Severity.ERROR):
        by_rule[finding.rule].append(finding)
    parts = [_rule(rule, found, common) for rule, found in by_rule.items()]
    return f'<section id="findings"><h2>Findings</h2>{"".join(parts) or "<p>None.</p>"}</section>'


def _rule(rule: str, found: Sequence[Finding], common: str) -> str:
    errors = sum(item.severity is Severity.ERROR for item in found)
    counts = [_plural(errors, "error")] if errors else []
    counts += [_plural(len(found) - errors, "note")] if len(found) > errors else []
    items = "".join(_finding(item, common) for item in found[:FINDINGS_LIMIT])
    if len(found) > FINDINGS_LIMIT:
        items += f'<li class="dim">and {len(found) - FINDINGS_LIMIT} more; the JSON has all</li>'
    is_open = " open" if errors or len(found) <= 5 else ""
    return (
        f"<details{is_open}><summary>{clean(rule)}: {', '.join(counts)}</summary>"
        f'<ul class="plain">{items}</ul></details>'
    )


def _finding(item: Finding, common: str) -> str:
    at = f" at {item.offset:#x}" if item.offset is not None else ""
    hint = f'<br><span class="hint">{clean(item.hint)}</span>' if item.hint else ""
    waived = f'<br><span class="hint">excepted: {clean(item.waived)}</span>' if item.waived else ""
    return (
        f'<li class="{clean(item.severity)}"><span class="tag">{clean(item.severity)}</span> '
        f"<code>{clean(_short(item.path, common))}{at}</code><br>{clean(item.message)}{hint}{waived}</li>"
    )


def _graph(graph: Graph) -> str:
    if not graph.edges:
        return '<section id="graph"><h2>Needed libraries</h2><p>No file needs any.</p></section>'
    picture = draw(graph, standalone=False)
    more = f" {picture.left_out} files and libraries more are not drawn." if picture.left_out else ""
    counts = Counter(node.state for node in graph.nodes)
    missing = (
        f" <strong>{_plural(counts[State.MISSING], 'library')} missing.</strong>"
        if counts[State.MISSING]
        else ""
    )
    return (
        '<section id="graph"><h2>Needed libraries</h2>'
        f'<p class="dim">{clean(LEGEND)}. glibc is not drawn, nor what other ways imply.{more}{missing}</p>'
        f'<div class="graph" tabindex="0">{picture.svg}</div></section>'
    )


def _libraries(report: Report) -> str:
    outside = [item for item in report.libraries if not item.inside and not item.libc]
    libc = [item.name for item in report.libraries if item.libc and not item.inside]
    shown = sorted(outside, key=lambda item: (-len(item.needed_by), item.name))
    rows = [_row(_code(item.name), str(len(item.needed_by))) for item in shown[:FILES_LIMIT]]
    table = _table(("Library from outside the tree", "Needed by"), rows) if rows else ""
    if len(shown) > _OPEN_LIMIT:
        summary = f"{_plural(len(shown), 'library')} from outside the tree"
        table = f"<details><summary>{summary}</summary>{table}</details>"
    of_glibc = f'<p class="dim">Of glibc: <code>{clean(", ".join(libc))}</code></p>' if libc else ""
    return f"{table}{of_glibc}"


def _files(report: Report, common: str) -> str:
    errors = Counter(item.path for item in report.errors)
    notes = Counter(item.path for item in report.findings if item.severity is not Severity.ERROR)
    worst = sorted(report.files, key=lambda f: (-errors[f.path], _negated(f), -notes[f.path], f.path))
    rows = [_file(file, errors[file.path], notes[file.path], common) for file in worst[:FILES_LIMIT]]
    more = len(worst) - len(rows)
    rest = f'<p class="dim">and {more} more, none of them worse; the JSON has all.</p>' if more > 0 else ""
    if not rows:
        return '<section id="files"><h2>Files</h2><p>No ELF files.</p></section>'
    head = ("File", "Kind", "glibc", "CPU", "Findings", "Needs")
    return f'<section id="files"><h2>Files, the worst first</h2>{_table(head, rows)}{rest}</section>'


def _negated(file: FileFacts) -> tuple[int, ...]:
    """Return the floor as a key that puts the newest first."""
    return tuple(-int(part) for part in str(file.floor).split(".")) if file.floor else (0,)


def _file(file: FileFacts, errors: int, notes: int, common: str) -> str:
    counts = [f'<strong class="fail">{_plural(errors, "error")}</strong>'] if errors else []
    counts += [_plural(notes, "note")] if notes else []
    sealed = file.sealed
    kind = f"sealed ({sealed.form})" if sealed is not None and sealed.is_program else file.kind
    own = f"own {sealed.glibc}" if sealed is not None and sealed.glibc else _NONE
    return _row(
        _code(_short(file.path, common)),
        f'{clean(kind)}<br><span class="dim">{clean(file.arch)}</span>',
        clean(str(file.floor or own)),
        clean(file.floors.isa or _NONE),
        ", ".join(counts) or _NONE,
        _code(_some(file.needed, _NEEDED_LIMIT) or _NONE),
    )
