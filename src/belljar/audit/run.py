"""Auditing: finding the ELF files in trees and archives, and looking into each.

Files on the disk are looked into in several processes where that pays; members of archives here, as
they come. The order is that in which they were found, however many processes there are.
"""

import datetime
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from belljar.audit import parallel
from belljar.audit.checks import Finding, Severity, check
from belljar.audit.content import content
from belljar.audit.facts import Content, FileFacts, Kind, facts_of
from belljar.audit.isa import Effort
from belljar.audit.policy import ANYTHING, Policy
from belljar.audit.profiles import sonames
from belljar.audit.report import Report
from belljar.audit.subjects import Subject, walk
from belljar.elf import ElfError, read
from belljar.elf.const import MAGIC
from belljar.errors import InputError
from belljar.types import Event, Progress, quiet

_PAYS = 8 << 20
"""How many bytes of ELF files are worth a second process."""

Outcome = FileFacts | Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An ELF file on the disk that is still to be looked into."""

    name: str
    place: Path
    size: int


def audit(
    paths: Sequence[Path | str],
    *,
    policy: Policy = ANYTHING,
    progress: Progress = quiet,
    effort: Effort | None = Effort.LOAD,
    jobs: int | None = None,
    stdin: BinaryIO | None = None,
) -> Report:
    """Say what ties the ELF files at `paths`, files, trees and archives, to a machine.

    Symbolic links are followed when they are named here, not within trees. A file that cannot be
    read or is damaged is a finding. `effort` says how much code is decoded: none, what certainly runs,
    or all of it, as it is whenever the policy declares a CPU level. `jobs` processes are used, by
    default as many as there are CPUs. `-` is `stdin`. Raises InputError when a path does not exist.
    """
    look = _Look(policy=policy, effort=Effort.FULL if effort and policy.isa else effort)
    found = _found(walk(paths, progress=progress, stdin=stdin), look)
    targets = [item for item in found if isinstance(item, Target)]
    pays = sum(target.size for target in targets) >= _PAYS
    outcomes = iter(
        parallel.each(
            functools.partial(_examine, look=look),
            targets,
            weight=lambda target: target.size,
            jobs=jobs or (parallel.cpus() if pays else 1),
            done=lambda number: progress(Event(stage="audit", done=number, total=len(targets))),
        )
    )
    results = [next(outcomes) if isinstance(item, Target) else item for item in found]
    files = _linked([item for item in results if isinstance(item, FileFacts)])
    troubles = [item for item in results if isinstance(item, Finding)]
    return Report(
        paths=tuple(map(str, paths)),
        policy=policy,
        files=files,
        findings=judged(files, troubles, policy),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How closely to look at each file."""

    policy: Policy
    effort: Effort | None

    @property
    def is_whole(self) -> bool:
        """Whether more is wanted of a file than what its loader looks at."""
        return self.effort is not None or bool(self.policy.build_paths)

    def facts(self, name: str, data: Content) -> FileFacts:
        elf = read(memoryview(data))
        return facts_of(name, data, elf, build_paths=self.policy.build_paths, effort=self.effort)


def judged(
    files: Sequence[FileFacts],
    troubles: Iterable[Finding],
    policy: Policy,
    *,
    today: datetime.date | None = None,
) -> tuple[Finding, ...]:
    """Return what all rules find in the files, and `troubles`, after the policy's exceptions."""
    inside = sonames(files)
    found = [finding for file in files for finding in check(file, policy, inside)]
    return waived([*troubles, *found], policy, today or datetime.datetime.now(datetime.UTC).date())


def waived(findings: Iterable[Finding], policy: Policy, today: datetime.date) -> tuple[Finding, ...]:
    """Apply the exceptions: what one covers is noted only; one that expired is an error itself."""
    expired = [item for item in policy.waivers if item.expires is not None and item.expires < today]
    valid = [item for item in policy.waivers if item not in expired]
    found = []
    for finding in findings:
        waiver = next((item for item in valid if item.covers(finding.rule, finding.path)), None)
        if waiver is not None and finding.severity is Severity.ERROR:
            finding = replace(finding, severity=Severity.NOTE, waived=waiver.reason)  # noqa: PLW2901
        found.append(finding)
    found += [
        Finding(
            rule="exception-expired",
            severity=Severity.ERROR,
            path=item.path,
            message=f"the exception for {item.rule} expired on {item.expires}: {item.reason}",
            hint="remove it, or give it a new date and reason",
        )
        for item in expired
    ]
    return tuple(found)


def _found(subjects: Iterable[Subject], look: _Look) -> list[Target | Outcome]:
    """Return what there is to look into, and what was seen in archives already."""
    found: list[Target | Outcome] = []
    for subject in subjects:
        if subject.trouble is not None:
            found.append(_unreadable(subject.name, subject.trouble))
        elif subject.is_file and subject.head.startswith(MAGIC):
            found.append(_target_or_facts(subject, look))
        elif subject.is_named:
            found.append(_not_elf(subject.name))
    return found


def _target_or_facts(subject: Subject, look: _Look) -> Target | Outcome:
    if subject.place is not None:
        return Target(name=subject.name, place=subject.place, size=subject.size)
    return _guarded(subject.name, lambda: look.facts(subject.name, subject.read()))


def _examine(target: Target, look: _Look) -> Outcome:
    """Return a file's facts, or why there are none."""

    def facts() -> FileFacts:
        with content(target.place, whole=look.is_whole) as data:
            return look.facts(target.name, data)

    return _guarded(target.name, facts)


def _guarded(name: str, look: Callable[[], FileFacts]) -> Outcome:
    try:
        return look()
    except ElfError as error:
        return _unreadable(name, f"damaged ELF file: {error.message}", error.offset)
    except InputError as error:
        return _unreadable(name, error.message)
    except OSError as error:
        return _unreadable(name, error.strerror or str(error))


def _linked(files: Sequence[FileFacts]) -> tuple[FileFacts, ...]:
    """Take from the objects of a static library what another of its objects defines."""
    defined: dict[str, set[str]] = {}
    for file in files:
        if file.kind is Kind.OBJECT:
            defined.setdefault(file.path.rpartition("!")[0], set()).update(file.defines)
    return tuple(
        file.without(defined[file.path.rpartition("!")[0]])
        if file.kind is Kind.OBJECT and "!" in file.path
        else file
        for file in files
    )


def _unreadable(path: str, message: str, offset: int | None = None) -> Finding:
    return Finding(rule="unreadable", severity=Severity.ERROR, path=path, message=message, offset=offset)


def _not_elf(path: str) -> Finding:
    return Finding(rule="not-elf", severity=Severity.NOTE, path=path, message="not an ELF file")
