"""Findings as SARIF 2.1.0 (OASIS), which code hosts and editors show.

One run, one rule per kind of finding, one result per finding. The location is the outermost file, which
is what a repository or a release has; a member of an archive is a logical location in it. The
fingerprint is the baseline's, so that a code host knows a finding again after a rebuild. What a policy
waives is a result with a suppression and its reason.

A region is given in bytes; GitHub shows only results that have a line, which is 1 for all.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from belljar import __version__
from belljar.audit import Finding, Severity
from belljar.report.baseline import Baseline, fingerprint

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_ABOUT = {
    "glibc-floor": "Needs a newer glibc than declared",
    "glibc-private": "Bound to one build of glibc",
    "glibc-marker": "Needs an ABI marker of an unknown glibc",
    "libc": "Linked against another libc than declared",
    "arch": "For another architecture than declared",
    "interpreter": "Asks for a loader that other systems have not got",
    "search-path": "Looks for libraries in directories of one machine",
    "build-path": "Holds a path of the machine that built it",
    "external-library": "Needs a library that neither the tree nor the policy has",
    "forbidden-symbol": "Uses a symbol that not every system of the policy has",
    "isa": "Needs a newer CPU than declared",
    "musl": "Does not run on musl",
    "missing-library": "Needs a library that is not found",
    "unresolved-symbol": "Uses a symbol that no library of its closure defines",
    "tie": "Holds a path of the machine that built it",
    "exec-stack": "Wants an executable stack",
    "text-relocations": "Has relocations in its code",
    "writable-code": "Has code that may be written to",
    "set-id": "Sets the user or group ID",
    "world-writable": "May be written to by anybody",
    "exception-expired": "An exception of the policy is past its date",
    "unreadable": "Could not be read",
    "not-elf": "Not an ELF file",
}


def to_sarif(
    findings: Sequence[Finding],
    *,
    paths: Sequence[str] = (),
    baseline: Baseline | None = None,
    base: str = "",
) -> dict[str, Any]:
    """Return a SARIF log as JSON values.

    `paths` are those that the audit was given. `base` is the absolute directory that locations are told
    relative to, a repository's; with a `baseline`, results say whether they are new.
    """
    rules = sorted({item.rule for item in findings})
    driver: dict[str, Any] = {
        "name": "belljar",
        "semanticVersion": __version__,
        "rules": [_rule(name, findings) for name in rules],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True}],
        "columnKind": "unicodeCodePoints",
        "results": [
            _result(item, rules.index(item.rule), paths=paths, baseline=baseline, base=base)
            for item in findings
        ],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str, findings: Iterable[Finding]) -> dict[str, Any]:
    is_error = any(item.rule == name and item.severity is Severity.ERROR for item in findings)
    text = _ABOUT.get(name, name.replace("-", " ").capitalize())
    return {
        "id": name,
        "shortDescription": {"text": text},
        "defaultConfiguration": {"level": "error" if is_error else "note"},
    }


def _result(
    item: Finding, rule: int, *, paths: Sequence[str], baseline: Baseline | None, base: str
) -> dict[str, Any]:
    mark = fingerprint(item, paths)
    hint = f"\n{item.hint}" if item.hint else ""
    result: dict[str, Any] = {
        "ruleId": item.rule,
        "ruleIndex": rule,
        "level": "error" if item.severity is Severity.ERROR else "note",
        "message": {"text": plain(f"{item.path.rpartition('/')[2]}: {item.message}{hint}")},
        "locations": [_location(item, base)],
        "partialFingerprints": {"belljar/v1": mark},
    }
    if baseline is not None:
        result["baselineState"] = "unchanged" if mark in baseline.known else "new"
    waived = getattr(item, "waived", None)
    if waived:
        result["suppressions"] = [{"kind": "external", "justification": plain(waived)}]
    return result


def _location(item: Finding, base: str) -> dict[str, Any]:
    outer, _, inner = item.path.partition("!")
    region: dict[str, int] = {"startLine": 1}
    if item.offset is not None and not inner:
        region |= {"byteOffset": item.offset, "byteLength": 0}
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": uri_of(outer, base)}, "region": region}
    }
    if inner:
        location["logicalLocations"] = [{"fullyQualifiedName": plain(inner), "kind": "member"}]
    return location


def uri_of(path: str, base: str) -> str:
    """Return the URI of a file: relative where it is below `base` or was given so."""
    root = base.rstrip("/") + "/"
    relative = path.removeprefix(root) if base else path
    quoted = quote(relative.encode("utf-8", "surrogateescape"), safe="/+-._~@")
    return f"file://{quoted}" if relative.startswith("/") else quoted.removeprefix("./")


def plain(text: str) -> str:
    """Return text that any encoder takes: bytes that are not UTF-8 as U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
