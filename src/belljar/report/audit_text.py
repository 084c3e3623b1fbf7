"""An audit as plain lines of text: the verdict's ground first, then files, then findings."""

from belljar.audit import FileFacts, Finding, Report

_COLUMNS = ("file", "kind", "arch", "glibc", "needs")
_CAUSES_SHOWN = 3
_SYMBOLS_SHOWN = 3


def render(report: Report) -> list[str]:
    """Return the report as lines without colour, safe to show on a terminal."""
    lines = [_headline(report), *_causes(report), *_policy(report)]
    if report.files:
        lines += ["", *_table([_row(file, _common(report)) for file in report.files])]
        lines += ["", *_libraries(report)]
    if report.findings:
        lines += ["", *(line for finding in report.findings for line in _finding(finding, report))]
    return [_printable(line) for line in [*lines, "", _verdict(report)]]


def _headline(report: Report) -> str:
    subject = ", ".join(report.paths)
    files = f"{len(report.files)} ELF file{'' if len(report.files) == 1 else 's'}"
    if report.floor is None:
        return f"{subject}: {files}, none of which needs glibc"
    where = ", ".join(report.floor.distributions) or "no distribution that belljar knows"
    return f"{subject}: {files}, glibc {report.floor.glibc} or newer ({where})"


def _causes(report: Report) -> list[str]:
    causes = report.floor.causes if report.floor else ()
    lines = []
    for path, use in causes[:_CAUSES_SHOWN]:
        shown = ", ".join(use.symbols[:_SYMBOLS_SHOWN]) + ("..." if len(use.symbols) > _SYMBOLS_SHOWN else "")
        of = f" of {use.library}" if use.library else ""
        lines.append(
            f"  set by {_short(path, _common(report))}: {use.version}{of}" + (f" ({shown})" if shown else "")
        )
    if len(causes) > _CAUSES_SHOWN:
        lines.append(f"  and {len(causes) - _CAUSES_SHOWN} more")
    return lines


def _policy(report: Report) -> list[str]:
    policy = report.policy
    declared = [f"glibc {policy.glibc}"] if policy.glibc else []
    declared += [f"isa {policy.isa} (architecture only: the CPU level is not checked)"] if policy.isa else []
    declared += [f"no path below {', '.join(policy.build_paths)}"] if policy.build_paths else []
    return [f"  declared: {', '.join(declared)}"] if declared else []


def _common(report: Report) -> str:
    """Return what all paths begin with, and the table leaves out: the tree, if there is one."""
    return report.paths[0].rstrip("/") + "/" if len(report.paths) == 1 else ""


def _short(path: str, common: str) -> str:
    return path.removeprefix(common) if common else path


def _row(file: FileFacts, common: str) -> tuple[str, ...]:
    floor = str(file.floor) if file.floor else "-"
    return (_short(file.path, common), file.kind, file.arch, floor, " ".join(file.needed) or "-")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    table = [_COLUMNS, *rows]
    widths = [max(len(row[number]) for row in table) for number in range(len(_COLUMNS))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _libraries(report: Report) -> list[str]:
    kinds = (
        ("libraries of the tree", [item for item in report.libraries if item.inside]),
        ("libraries of glibc", [item for item in report.libraries if item.libc and not item.inside]),
        (
            "other libraries from outside",
            [item for item in report.libraries if not item.libc and not item.inside],
        ),
    )
    return [f"  {title}: {', '.join(item.name for item in items)}" for title, items in kinds if items]


def _finding(finding: Finding, report: Report) -> list[str]:
    at = "" if finding.offset is None else f" (at {finding.offset:#x})"
    lines = [f"{finding.severity}: {_short(finding.path, _common(report))}: {finding.message}{at}"]
    return lines + ([f"  hint: {finding.hint}"] if finding.hint else [])


def _verdict(report: Report) -> str:
    notes = len(report.findings) - len(report.errors)
    counted = f"{_plural(len(report.errors), 'error')}, {_plural(notes, 'note')}"
    return f"{'passed' if report.passed else 'failed'}: {counted}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _printable(line: str) -> str:
    """Escape what names in files could do to a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
