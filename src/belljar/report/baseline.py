"""A baseline: the findings that are known, so that an audit fails on what is new only.

A finding is known by its fingerprint: its rule, its file, and what it is about (library and version, or
else its message). Left out is what changes from build to build and says nothing: offsets, counts, the
version in an archive's name, the hash that auditwheel puts into a library's name. So a baseline that was
taken of one release holds for the next.

    {"version": 1, "findings": [{"fingerprint": str, "rule": str, "path": str, "message": str}]}

Sorted and one finding per line, for a file that lives in a repository; only `fingerprint` is read.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys
from belljar.audit import Finding
from belljar.errors import InputError

VERSION = 1

_COUNT = re.compile(r"\(\d+x\)|0x[0-9a-f]+|and \d+ more")
_TEMPORARY = re.compile(r"(?<=/tmp/)[^/\s]+")
_RELEASE = re.compile(
    r"[-_]v?\d[\w.+~:-]*?(?=(?:[-_](?:py|cp|pp)\d[^!]*)?\.(?:whl|deb|zip|jar|tar|tgz|txz)\b)"
)
_TAGS = re.compile(r"-(?:(?:py|cp|pp)\d[^!]*?)?(?=\.whl\b)")
_HASH = re.compile(r"-[0-9a-f]{8}(?=[.-])")


def fingerprint(finding: Finding, paths: Sequence[str] = ()) -> str:
    """Return what a finding is known by; `paths` are those that the audit was given (Report.paths)."""
    about = (finding.library or "", finding.version or "") if finding.version else (_steady(finding.message),)
    words = (finding.rule, _where(finding.path, paths), *about)
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _steady(message: str) -> str:
    return _HASH.sub("", _TEMPORARY.sub("", _COUNT.sub("", message)))


def _where(path: str, paths: Sequence[str]) -> str:
    """Return a path within what was audited, without what changes with each release."""
    for given in paths:
        root = given.rstrip("/")
        if path.startswith(f"{root}/"):
            path = path[len(root) + 1 :]
            break
        if path == root or path.startswith(f"{root}!"):
            path = root.rpartition("/")[2] + path[len(root) :]
            break
    return _HASH.sub("", _TAGS.sub("", _RELEASE.sub("", path)))


@dataclass(frozen=True, slots=True)
class Baseline:
    """The fingerprints of what is known."""

    known: frozenset[str]

    def new(self, findings: Iterable[Finding], paths: Sequence[str] = ()) -> tuple[Finding, ...]:
        """Return the findings that are not known."""
        return tuple(item for item in findings if fingerprint(item, paths) not in self.known)


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises InputError when it is none."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="make it with --write-baseline") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise InputError(
            f"{path}: not a baseline of version {VERSION}", hint="make it anew: --write-baseline"
        )
    found = content.get("findings")
    known = (
        [item.get("fingerprint") if isinstance(item, dict) else None for item in found or ()]
        if isinstance(found, list)
        else [None]
    )
    if not all(isinstance(item, str) for item in known):
        raise InputError(f"{path}: findings: each must have a fingerprint")
    return Baseline(frozenset(filter(None, known)))


def write_baseline(path: Path, findings: Iterable[Finding], paths: Sequence[str] = ()) -> None:
    """Write the baseline of these findings. Raises HostError when it cannot be written."""
    rows = {
        fingerprint(item, paths): {"rule": item.rule, "path": item.path, "message": item.message}
        for item in findings
    }
    lines = [
        json.dumps({"fingerprint": key} | row)
        for key, row in sorted(rows.items(), key=lambda entry: (entry[1]["path"], entry[1]["rule"], entry[0]))
    ]
    body = ",\n".join(f"    {line}" for line in lines)
    text = (
        f'{{"version": {VERSION}, "findings": [\n{body}\n]}}\n'
        if lines
        else '{"version": 1, "findings": []}\n'
    )
    fsys.write_atomic(path, text)
