"""An audit as plain lines of text: what the whole needs and why, files and findings, worst first.

What a long list would bury is counted instead; `why` shows all of it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from belljar.audit import Cause, FileFacts, Finding, GlibcVersion, Report, Severity, gcc_of

_FILES_SHOWN = 20
_FINDINGS_SHOWN = 30
_CAUSES_SHOWN = 3
_SYMBOLS_SHOWN = 3
_NAME_SHOWN = 48
_NEEDS_SHOWN = 5
_PLACES_SHOWN = 6
_TITLES = {
    "glibc": ("glibc", ""),
    "glibcxx": ("libstdc++", "GLIBCXX_"),
    "cxxabi": ("libstdc++", "CXXABI_"),
    "gcc": ("libgcc", "GCC_"),
    "kernel": ("kernel", ""),
}
_COLUMNS = ("file", "kind", "arch", "glibc", "libstdc++", "cpu", "errors", "needs")


def render(report: Report, *, why: bool = False) -> list[str]:
    """Return the report as lines without colour, safe to show on a terminal."""
    shorten = _Shortener(report.paths)
    lines = [_headline(report), *_floors(report, shorten, why=why), *_policy(report)]
    if report.files:
        lines += ["", *_files(report, shorten, why=why)]
        lines += ["", *_libraries(report), *_closures(report, shorten, why=why)]
    if report.findings:
        lines += ["", *_findings(report, shorten, why=why)]
    return [_printable(line) for line in [*lines, "", _verdict(report)]]


class _Shortener:
    """Leaves out what all paths begin with: the tree, if there is one."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._common = tuple(paths[0].rstrip("/") + mark for mark in "/!") if len(paths) == 1 else ()

    def __call__(self, path: str) -> str:
        for common in self._common:
            path = path.removeprefix(common)
        return path


def _headline(report: Report) -> str:
    subject = ", ".join(report.paths)
    files = _plural(len(report.files), "ELF file")
    glibc = report.floors.glibc
    if glibc is None:
        whose = "the host's glibc" if report.sealed else "glibc"
        return f"{subject}: {files}, none of which needs {whose}"
    where = ", ".join(report.distributions) or "no distribution that belljar knows"
    return f"{subject}: {files}, glibc {glibc} or newer ({where})"


def _floors(report: Report, shorten: _Shortener, *, why: bool) -> list[str]:
    """Say of each floor what sets it, and with `why` what would lower it."""
    lines = []
    for floor, (title, prefix) in _TITLES.items():
        causes = [cause for cause in report.causes if cause.floor == floor]
        if not causes:
            continue
        gcc = gcc_of(prefix + causes[0].release) if prefix else None
        lines.append(f"  {title:<10} {prefix}{causes[0].release}" + (f" (GCC {gcc})" if gcc else ""))
        shown = causes if why else causes[: _CAUSES_SHOWN if causes[0].use else 0]
        for cause in shown:
            lines.append(f"    set by {shorten(cause.path)}{_use(cause, why=why)}")
            lines += [f"      {item.symbol}: used by {item}" for item in cause.users] if why else []
            lines += [f"      lower: {cause.remedy}"] if why and cause.remedy else []
        lines += [f"    and {len(causes) - len(shown)} more"] if 0 < len(shown) < len(causes) else []
    lines += _sealed(report)
    if report.floors.isa is not None:
        lines.append(
            f"  {'cpu':<10} {report.floors.isa}{'' if _has_isa(report) else ' (code not looked at)'}"
        )
        lines += _cpu(report, shorten, why=why)
    if report.probe is not None:
        runs_on = f"runs on {report.probe.needs}" if report.probe.needs else "runs on no CPU that was tried"
        lines.append(f"  {'probe':<10} {' '.join(report.probe.command)}: {runs_on}")
    lines += [f"  {'traced':<10} {run.describe()}" for run in report.traced]
    if report.policy.sealed and not report.traced:
        lines.append(f"  {'traced':<10} no run: what is opened after the start is not proven (--traced CMD)")
    if report.profiles:
        lines.append(f"  {'meets':<10} {_profiles(report.profiles)}")
    return lines + (_musl(report, shorten) if why else [])


def _sealed(report: Report) -> list[str]:
    """Say of the programs that bring their own glibc which one that is, and what it needs itself."""
    own = Counter(
        (item.sealed.form, str(item.sealed.glibc or "unknown"), item.sealed.kernel)
        for item in report.sealed
        if item.sealed is not None
    )
    lines = []
    for (form, glibc, kernel), count in own.items():
        whose, verb, need = ("its", "runs", "needs") if count == 1 else ("their", "run", "need")
        linux = f"; {need} Linux {kernel}" if kernel else ""
        programs = f"{_plural(count, 'program')} ({form})"
        lines.append(f"  {'sealed':<10} {programs}: {verb} on {whose} own glibc {glibc}{linux}")
    return lines


def _use(cause: Cause, *, why: bool) -> str:
    if cause.use is None:
        return ""
    symbols = cause.use.symbols if why else tuple(map(_short, cause.use.symbols[:_SYMBOLS_SHOWN]))
    dots = "..." if len(symbols) < len(cause.use.symbols) else ""
    of = f" of {cause.use.library}" if cause.use.library else ""
    return f": {cause.use.version}{of}" + (f" ({', '.join(symbols)}{dots})" if symbols else "")


def _short(name: str) -> str:
    """Cut a long name: those of C++ go on for lines."""
    return name if len(name) <= _NAME_SHOWN else name[: _NAME_SHOWN - 3] + "..."


def _has_isa(report: Report) -> bool:
    return any(file.isa is not None for file in report.files)


def _cpu(report: Report, shorten: _Shortener, *, why: bool) -> list[str]:
    """Name the files whose need of a CPU level is proven, with the evidence."""
    lines = []
    for file in report.files:
        if file.isa is not None and (file.isa.is_proven or (why and file.isa.evidence)):
            lines.append(f"    {shorten(file.path)}: {file.isa.needs} ({file.isa.tier})")
            lines += [f"      {item}" for item in file.isa.evidence] if why else []
    shown = len(lines) if why else _CAUSES_SHOWN
    return lines[:shown] + ([f"    and {len(lines) - shown} more"] if len(lines) > shown else [])


def _profiles(names: Sequence[str]) -> str:
    """Name the strictest policy of each family: all after it are met with it."""
    first = {name.partition("_")[0]: name for name in reversed(names)}
    return ", ".join(f"{name} and newer" for name in first.values())


def _musl(report: Report, shorten: _Shortener) -> list[str]:
    lines = [f"    {shorten(file.path)}: {'; '.join(file.musl)}" for file in report.files if file.musl]
    return [f"  {'musl':<10} not there:", *lines] if lines else []


def _policy(report: Report) -> list[str]:
    declared = list(report.policy.describe())
    lines = [f"  {'declared':<10} {', '.join(declared)}"] if declared else []
    return lines + ([f"  {'':<10} {report.policy.title}"] if report.policy.title else [])


def _files(report: Report, shorten: _Shortener, *, why: bool) -> list[str]:
    errors = Counter(finding.path for finding in report.errors)

    def badness(file: FileFacts) -> tuple[int, GlibcVersion]:
        return errors[file.path], file.floor or GlibcVersion(0, 0)

    ordered = sorted(report.files, key=badness, reverse=True)
    shown = ordered if why else ordered[:_FILES_SHOWN]
    lines = _table([_row(file, shorten, errors[file.path], why=why) for file in shown])
    more = len(ordered) - len(shown)
    return lines + ([f"  and {_plural(more, 'file')} more, none worse (--why shows all)"] if more else [])


def _row(file: FileFacts, shorten: _Shortener, errors: int, *, why: bool) -> tuple[str, ...]:
    floors = file.floors
    needs = " ".join(file.needed if why else file.needed[:_NEEDS_SHOWN])
    needs += " ..." if not why and len(file.needed) > _NEEDS_SHOWN else ""
    sealed = file.sealed
    own = f"own {sealed.glibc}" if sealed is not None and sealed.glibc else None
    kind = "sealed" if sealed is not None and sealed.is_program else file.kind
    cells = (floors.glibc or own, floors.glibcxx, floors.isa, str(errors or ""), needs)
    return (shorten(file.path), kind, file.arch, *(cell or "-" for cell in cells))


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    table = [_COLUMNS, *rows]
    widths = [max(len(row[number]) for row in table) for number in range(len(_COLUMNS))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _libraries(report: Report) -> list[str]:
    libraries = report.libraries
    kinds = (
        ("libraries of the tree", [item for item in libraries if item.inside]),
        ("libraries of glibc", [item for item in libraries if item.libc and not item.inside]),
        ("other libraries from outside", [item for item in libraries if not item.libc and not item.inside]),
    )
    return [f"  {title}: {', '.join(item.name for item in items)}" for title, items in kinds if items]


def _findings(report: Report, shorten: _Shortener, *, why: bool) -> list[str]:
    """Show errors first, then notes, those that say the same as one; what is left out is counted."""
    notes = [item for item in report.findings if item.severity is Severity.NOTE]
    lines, left = [], Counter[str]()
    for findings in (report.errors, notes):
        groups = _grouped(findings, alone=why)
        shown = groups if why else groups[:_FINDINGS_SHOWN]
        lines += [line for group in shown for line in _group(group, shorten, why=why)]
        left.update(f"{item.severity} {item.rule}" for group in groups[len(shown) :] for item in group)
    counted = ", ".join(f"{number} {what}" for what, number in left.items())
    return [*lines, f"and more (--why shows all): {counted}"] if left else lines


def _grouped(findings: Iterable[Finding], *, alone: bool) -> list[list[Finding]]:
    """Put findings that differ in their file only together, the most common first."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        key = finding if alone else (finding.rule, finding.message, finding.offset, finding.waived)
        groups.setdefault(key, []).append(finding)
    return sorted(groups.values(), key=len, reverse=True)


def _group(group: list[Finding], shorten: _Shortener, *, why: bool) -> list[str]:
    first = group[0]
    at = "" if first.offset is None else f" (at {first.offset:#x})"
    places = [shorten(item.path) for item in group]
    where = places[0] if len(places) == 1 else _plural(len(places), "file")
    lines = [f"{first.severity}: {where}: {first.message}{at}"]
    if len(places) > 1:
        more = f" and {len(places) - _PLACES_SHOWN} more" if len(places) > _PLACES_SHOWN else ""
        lines.append(f"  in {', '.join(places[:_PLACES_SHOWN])}{more}")
    lines += [f"  accepted: {first.waived}"] if first.waived else []
    lines += [f"  hint: {first.hint}"] if first.hint else []
    return lines + ([f"  {line}" for line in first.detail] if why else [])


def _closures(report: Report, shorten: _Shortener, *, why: bool) -> list[str]:
    """Count the files that find all their libraries; with `why` say of each library where and why there."""
    if not report.closures:
        return []
    complete = sum(closure.is_complete for _, closure in report.closures)
    lines = [f"  closures complete: {complete} of {len(report.closures)} (--why shows each)"]
    if not why:
        return lines
    lines = []
    for name, closure in report.closures:
        objects = _plural(len(closure.objects), "file")
        state = "complete" if closure.is_complete else "incomplete"
        lines += ["", f"  closure of {shorten(name)}: {objects}, {state}"]
        lines += [f"    {line}" for line in closure.describe()]
    return lines


def _verdict(report: Report) -> str:
    notes = len(report.findings) - len(report.errors)
    counted = f"{_plural(len(report.errors), 'error')}, {_plural(notes, 'note')}"
    return f"{'passed' if report.passed else 'failed'}: {counted}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _printable(line: str) -> str:
    """Escape what names in files could do to a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
