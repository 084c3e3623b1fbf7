"""The result of an audit, and its JSON.

    {"version": 1,
     "paths": [str],                    what was audited, as given
     "passed": bool,                    no finding is an error
     "policy": {"glibc": str|null, "isa": str|null, "interpreter": str, "build_paths": [str]},
     "floor": {"glibc": str, "distributions": [str], "causes": [{"path", "library", "version", "symbols"}]}
              or null when no file needs glibc,
     "isa": {"declared": str|null, "level": "not checked"},
     "libraries": [{"name": str, "inside": bool, "libc": bool, "needed_by": [path]}],
     "findings": [{"rule", "severity": "error"|"note", "path", "message", "hint": str|null,
                   "symbols": [str], "version": str|null, "library": str|null, "offset": int|null}],
     "files": [{"path", "kind", "arch", "interpreter": str|null, "needed": [str], "soname": str|null,
                "rpath": str|null, "runpath": str|null, "floor": str|null, "defines_glibc": bool,
                "kernel": str|null, "build_id": str|null,
                "versions": [{"library", "version", "weak": bool, "required": bool, "symbols": [str]}],
                "leaks": [{"where", "text", "offset": int, "count": int}]}]}

`kernel` is the oldest Linux that the file's ABI note names; offsets are in bytes. Members may be
added within a version; none is renamed or removed. Names that are not UTF-8 keep their bytes as
surrogates, as Python's os.fsdecode gives them.
"""

from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from belljar.audit.checks import Finding, Severity
from belljar.audit.distributions import distributions
from belljar.audit.facts import FileFacts, VersionUse
from belljar.audit.glibc import GlibcVersion, is_family
from belljar.audit.policy import Policy

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library that files need: whether the tree has it, and whether glibc brings it."""

    name: str
    inside: bool
    libc: bool
    needed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The oldest glibc on which all files load, and which needs of which files set it."""

    glibc: GlibcVersion
    causes: tuple[tuple[str, VersionUse], ...]

    @property
    def distributions(self) -> tuple[str, ...]:
        """The first release of each distribution that has it."""
        return distributions(self.glibc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All files, in the order they were found, and what is to be said about them."""

    paths: tuple[str, ...]
    policy: Policy
    files: tuple[FileFacts, ...]
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was found that goes against the policy."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the audit fail."""
        return tuple(item for item in self.findings if item.severity is Severity.ERROR)

    @property
    def floor(self) -> Floor | None:
        """The floor of the whole; None when nothing needs glibc."""
        glibc = max((file.floor for file in self.files if file.floor), default=None)
        if glibc is None:
            return None
        causes = ((file.path, use) for file in self.files if file.floor == glibc for use in file.causes)
        return Floor(glibc=glibc, causes=tuple(causes))

    @property
    def libraries(self) -> tuple[Library, ...]:
        """The needed libraries by name. One that a file names by path is inside if that file is."""
        present = {PurePath(file.path).name for file in self.files} | {file.soname for file in self.files}
        needed: dict[str, list[str]] = {}
        for file in self.files:
            for name in file.needed:
                needed.setdefault(name, []).append(file.path)
        return tuple(
            Library(
                name=name, inside=PurePath(name).name in present, libc=is_family(name), needed_by=tuple(users)
            )
            for name, users in sorted(needed.items())
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; see the head of this module."""
        return {
            "version": VERSION,
            "paths": list(self.paths),
            "passed": self.passed,
            "policy": _policy_json(self.policy),
            "floor": _floor_json(self.floor),
            "isa": {"declared": self.policy.isa, "level": "not checked"},
            "libraries": [asdict(item) for item in self.libraries],
            "findings": [asdict(item) for item in self.findings],
            "files": [asdict(file) | {"floor": _text(file.floor)} for file in self.files],
        }


def _policy_json(policy: Policy) -> dict[str, Any]:
    return asdict(policy) | {"glibc": _text(policy.glibc)}


def _floor_json(floor: Floor | None) -> dict[str, Any] | None:
    if floor is None:
        return None
    causes = [
        {"path": path, "library": use.library, "version": use.version, "symbols": list(use.symbols)}
        for path, use in floor.causes
    ]
    return {"glibc": str(floor.glibc), "distributions": list(floor.distributions), "causes": causes}


def _text(version: GlibcVersion | None) -> str | None:
    return None if version is None else str(version)
