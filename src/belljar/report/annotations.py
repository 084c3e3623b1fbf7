"""Findings in the forms that CI services show beside a change.

GitHub reads workflow commands from a step's output and shows ten of each level of a step; GitLab reads
a Code Quality report, a JSON file that a job names; Azure Pipelines reads logging commands. Sources: GitHub's
"Workflow commands", GitLab's "Code Quality report format", Azure's "Logging commands".
"""

import enum
import json
from collections.abc import Sequence

from belljar.audit import Finding, Severity
from belljar.report.baseline import fingerprint

GITHUB_LIMIT = 10
"""How many annotations of one level GitHub shows of a step."""


class Service(enum.StrEnum):
    """A CI service."""

    GITHUB = "github"
    GITLAB = "gitlab"
    AZURE = "azure"


def annotations(service: Service, findings: Sequence[Finding], paths: Sequence[str] = ()) -> list[str]:
    """Return the lines that a service reads, worst findings first.

    `paths` are those that the audit was given; fingerprints leave them out.
    """
    ordered = sorted(findings, key=lambda item: item.severity is not Severity.ERROR)
    match service:
        case Service.GITHUB:
            return _github(ordered)
        case Service.GITLAB:
            return [json.dumps([_gitlab(item, paths) for item in ordered], indent=1)]
        case Service.AZURE:
            return [_azure(item) for item in ordered]


def _github(findings: Sequence[Finding]) -> list[str]:
    """Return as many lines as are shown; the last of a level counts the rest."""
    lines = []
    for severity, level in ((Severity.ERROR, "error"), (None, "warning")):
        some = [item for item in findings if (item.severity is Severity.ERROR) == (severity is not None)]
        shown = some if len(some) <= GITHUB_LIMIT else some[: GITHUB_LIMIT - 1]
        lines += [_github_line(level, item) for item in shown]
        if len(some) > len(shown):
            lines.append(f"::{level} title=belljar::and {len(some) - len(shown)} more; see the job's log")
    return lines


def _github_line(level: str, item: Finding) -> str:
    file = _github_property(item.path.partition("!")[0])
    title = _github_property(f"belljar: {item.rule}")
    return f"::{level} file={file},title={title}::{_github_text(_message(item))}"


def _github_text(text: str) -> str:
    return _plain(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_text(text).replace(":", "%3A").replace(",", "%2C")


def _gitlab(item: Finding, paths: Sequence[str]) -> dict[str, object]:
    return {
        "description": _plain(f"{_inner(item)}{item.message}"),
        "check_name": f"belljar/{item.rule}",
        "fingerprint": fingerprint(item, paths),
        "severity": "major" if item.severity is Severity.ERROR else "info",
        "location": {"path": _plain(item.path.partition("!")[0]), "lines": {"begin": 1}},
    }


def _azure(item: Finding) -> str:
    level = "error" if item.severity is Severity.ERROR else "warning"
    path = _azure_property(item.path.partition("!")[0])
    return (
        f"##vso[task.logissue type={level};sourcepath={path};code={item.rule}]"
        f"{_plain(_message(item)).replace(chr(13), ' ').replace(chr(10), ' ')}"
    )


def _azure_property(text: str) -> str:
    escapes = {"%": "%AZP25", ";": "%3B", "]": "%5D", "\r": "%0D", "\n": "%0A"}
    return "".join(escapes.get(char, char) for char in _plain(text))


def _message(item: Finding) -> str:
    hint = f"\n{item.hint}" if item.hint else ""
    return f"{_inner(item)}{item.message}{hint}"


def _inner(item: Finding) -> str:
    """Name the member of an archive, which the services know nothing of."""
    inner = item.path.partition("!")[2]
    return f"{inner}: " if inner else ""


def _plain(text: str) -> str:
    """Return text that any encoder takes: bytes that are not UTF-8 as U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
