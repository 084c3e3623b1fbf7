"""An audit as JSON values; docs/audit-schema.json is the schema.

Members may be added within a version; none is renamed or removed. Names that are not UTF-8 keep their
bytes as surrogates, as Python's os.fsdecode gives them.
"""

from collections import defaultdict
from dataclasses import asdict
from typing import Any

from belljar.audit.checks import Finding
from belljar.audit.facts import FileFacts, VersionUse
from belljar.audit.policy import Policy
from belljar.audit.report import Cause, Report
from belljar.audit.seals import SealFacts

VERSION = 2


def to_json(report: Report) -> dict[str, Any]:
    """Return a report as JSON values."""
    found: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        found[finding.path].append(finding)
    return {
        "version": VERSION,
        "paths": list(report.paths),
        "verdict": "pass" if report.passed else "fail",
        "policy": _policy(report.policy),
        "profiles": list(report.profiles),
        "floors": asdict(report.floors),
        "distributions": list(report.distributions),
        "causes": [_cause(item) for item in report.causes],
        "libraries": [asdict(item) | {"needed_by": list(item.needed_by)} for item in report.libraries],
        "findings": [_finding(item) for item in report.findings],
        "files": [_file(file, found[file.path]) for file in report.files],
        "ties": [asdict(tie) | {"certainty": tie.certainty.name.lower()} for tie in report.ties],
        "probe": report.probe.to_json() if report.probe else None,
        "traced": [run.to_json() for run in report.traced],
        "closures": [closure.to_json() | {"file": name} for name, closure in report.closures],
    }


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name or None,
        "libc": policy.libc,
        "glibc": str(policy.glibc) if policy.glibc else None,
        "isa": policy.isa,
        "interpreter": policy.interpreter,
        "host_paths": policy.host_paths,
        "build_paths": list(policy.build_paths),
        "sealed": policy.sealed,
        "host_files": list(policy.host_files),
        "exceptions": [
            {"rule": item.rule, "path": item.path, "reason": item.reason, "expires": str(item.expires or "")}
            for item in policy.waivers
        ],
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "floor": cause.floor,
        "release": cause.release,
        "path": cause.path,
        "library": cause.use.library if cause.use else None,
        "version": cause.use.version if cause.use else None,
        "symbols": list(cause.use.symbols) if cause.use else [],
        "known": cause.use.known if cause.use else "note",
        "users": [asdict(item) | {"names": list(item.names)} for item in cause.users],
        "remedy": cause.remedy,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    evidence = {
        "symbols": list(finding.symbols),
        "version": finding.version,
        "library": finding.library,
        "offset": finding.offset,
        "detail": list(finding.detail),
    }
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "path": finding.path,
        "message": finding.message,
        "hint": finding.hint,
        "waived": finding.waived,
        "evidence": evidence,
    }


def _file(file: FileFacts, findings: list[Finding]) -> dict[str, Any]:
    return {
        "path": file.path,
        "kind": file.kind,
        "arch": file.arch,
        "interpreter": file.interpreter,
        "needed": list(file.needed),
        "soname": file.soname,
        "rpath": list(file.rpath),
        "runpath": list(file.runpath),
        "build_id": file.build_id,
        "defines_glibc": file.defines_glibc,
        "floors": asdict(file.floors),
        "isa": file.isa.to_json() if file.isa else None,
        "sealed": _sealed(file.sealed) if file.sealed else None,
        "musl": list(file.musl),
        "versions": [_use(use) for use in file.versions],
        "leaks": [asdict(leak) for leak in file.leaks],
        "findings": [_finding(item) for item in findings],
    }


def _sealed(sealed: SealFacts) -> dict[str, Any]:
    return {
        "form": sealed.form,
        "loader": sealed.loader,
        "directories": list(sealed.directories),
        "glibc": str(sealed.glibc) if sealed.glibc else None,
        "kernel": sealed.kernel,
        "bundled": sealed.is_bundled,
    }


def _use(use: VersionUse) -> dict[str, Any]:
    return asdict(use) | {"symbols": list(use.symbols)}
