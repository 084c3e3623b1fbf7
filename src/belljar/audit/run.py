"""Auditing: finding the ELF files in trees and archives, and looking into each.

Files on the disk are looked into in several processes where that pays; members of archives here, as
they come. The order is that in which they were found, however many processes there are.
"""

import datetime
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from belljar.audit import libraries, parallel, sealing, traces
from belljar.audit.checks import Finding, Severity, check
from belljar.audit.content import content, pages
from belljar.audit.facts import Content, FileFacts, Kind, facts_of
from belljar.audit.isa import Effort
from belljar.audit.isa.source import Source, source_of
from belljar.audit.policy import ANYTHING, Policy
from belljar.audit.profiles import inside_of
from belljar.audit.report import Report
from belljar.audit.seals import RECORD, RECORD_LIMIT, Record, parse_record, settled
from belljar.audit.subjects import Subject, walk
from belljar.audit.ties import Scanner, Tie, traits_of
from belljar.elf import Elf, ElfError, read
from belljar.elf.const import MAGIC
from belljar.elf.sealed import Seal, seal_in, segment_of_seal
from belljar.errors import InputError
from belljar.types import Event, Progress, quiet

_PAYS = 8 << 20
"""How many bytes are worth a second process, where all are looked at; _MANY: files, where only tables are."""
_MANY = 1000
_WHOLE = ("/ld-", "/libc.so.6", "/libc-2.")
_AT_ONCE = 8 << 20
"""Up to how many bytes a file is read at once for its code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was seen of one file: facts where it is ELF, what is wrong with it, traces of its builder."""

    facts: FileFacts | None = None
    findings: tuple[Finding, ...] = ()
    ties: tuple[Tie, ...] = ()
    record: Record | None = None
    """What it says of a sealed prefix, where it is the record of one."""
    script: sealing.Script | None = None
    """How it is started, where it is a script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A file on the disk that is still to be looked into; no Path, since there may be a million of them."""

    name: str
    size: int
    mode: int
    is_elf: bool


def audit(
    paths: Sequence[Path | str],
    *,
    policy: Policy = ANYTHING,
    progress: Progress = quiet,
    effort: Effort | None = Effort.LOAD,
    root: Path | None = None,
    ties: bool = False,
    jobs: int | None = None,
    stdin: BinaryIO | None = None,
) -> Report:
    """Say what ties the ELF files at `paths`, files, trees and archives, to a machine.

    Symbolic links are followed when they are named here, not within trees. A file that cannot be
    read or is damaged is a finding. `effort` says how much code is decoded: none, what certainly runs,
    or all of it, as it is whenever the policy declares a CPU level. `jobs` processes are used, by
    default as many as there are CPUs. With a `root`, each program's libraries are resolved in it. With
    `ties`, every file is searched for paths of whoever built it. `-` is `stdin`. Raises InputError
    when a path does not exist.
    """
    look = _Look(
        policy=policy,
        effort=Effort.FULL if effort and policy.isa else effort,
        scanner=Scanner(prefixes=policy.build_paths) if ties else None,
    )
    found = _found(walk(paths, progress=progress, stdin=stdin), look)
    results = _looked_into(found, look, jobs, progress)
    records = [item.record for item in results if item.record is not None]
    files = settled(_linked([item.facts for item in results if item.facts is not None]), records, _facts_at)
    root = Path("/") if root is None and policy.sealed else root
    found_closures = (
        ()
        if root is None
        else libraries.closures(files, root=root, jobs=jobs or parallel.cpus(), progress=progress)
    )
    found_ties = tuple(tie for item in results for tie in item.ties)
    troubles = [finding for item in results for finding in item.findings]
    troubles += libraries.findings_of(files, found_closures)
    if policy.sealed:
        scripts = [item.script for item in results if item.script is not None]
        troubles += sealing.findings_of(files, found_closures, records=records, scripts=scripts)
    troubles += traces.findings_of(found_ties, policy)
    return Report(
        paths=tuple(map(str, paths)),
        policy=policy,
        files=files,
        findings=judged(files, troubles, policy),
        ties=found_ties,
        closures=tuple((name, item) for name, item in found_closures if not isinstance(item, str)),
    )


def _looked_into(
    found: Sequence["Target | Outcome"], look: "_Look", jobs: int | None, progress: Progress
) -> list[Outcome]:
    """Return what there is to see of all files, in several processes where that pays."""
    targets = [item for item in found if isinstance(item, Target)]
    pays = sum(target.size for target in targets) >= _PAYS if look.is_whole else len(targets) >= _MANY
    outcomes = iter(
        parallel.each(
            functools.partial(_examine, look=look),
            targets,
            weight=lambda target: target.size,
            jobs=jobs or (parallel.cpus() if pays else 1),
            done=lambda number: progress(Event(stage="audit", done=number, total=len(targets))),
        )
    )
    return [next(outcomes) if isinstance(item, Target) else item for item in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How closely to look at each file."""

    policy: Policy
    effort: Effort | None
    scanner: Scanner | None

    @property
    def is_whole(self) -> bool:
        """Whether more is wanted of a file than what its loader looks at."""
        return self.effort is not None or self.scanner is not None or bool(self.policy.build_paths)

    def is_whole_of(self, target: Target) -> bool:
        """Whether all bytes of a file are wanted at once; the code of a big one is read by pages."""
        # A loader tells by its code which kernel it wants, a libc by a constant which release it is.
        is_own = any(mark in target.name for mark in _WHOLE)
        if self.scanner is not None or self.policy.build_paths or is_own:
            return True
        return self.effort is not None and target.size <= _AT_ONCE

    def at(self, name: str, data: Content, mode: int, *, is_elf: bool, code: Source | None = None) -> Outcome:
        """Return what there is to see of a file with these bytes; raises ElfError."""
        # What a file exports matters to its code only.
        elf = read(memoryview(data), exports=self.effort is not None) if is_elf else None
        facts = None
        if elf is not None:
            facts = facts_of(
                name,
                data,
                elf,
                build_paths=self.policy.build_paths,
                effort=self.effort,
                code=code,
                seal=_seal_of(name, data, elf),
            )
        if self.scanner is None:
            return Outcome(facts=facts)
        return Outcome(
            facts=facts,
            findings=tuple(traces.findings_of_traits(name, traits_of(elf, mode))),
            ties=self.scanner.ties_of(name, data, elf),
        )


def judged(
    files: Sequence[FileFacts],
    troubles: Iterable[Finding],
    policy: Policy,
    *,
    today: datetime.date | None = None,
) -> tuple[Finding, ...]:
    """Return what all rules find in the files, and `troubles`, after the policy's exceptions."""
    inside = inside_of(files)
    found = [finding for file in files for finding in check(file, policy, inside(file))]
    return waived([*troubles, *found], policy, today or datetime.datetime.now(datetime.UTC).date())


def waived(findings: Iterable[Finding], policy: Policy, today: datetime.date) -> tuple[Finding, ...]:
    """Apply the exceptions: what one covers is noted only; one that expired is an error itself."""
    expired = [item for item in policy.waivers if item.expires is not None and item.expires < today]
    found = list(excused(findings, policy, today))
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


def excused(
    findings: Iterable[Finding], policy: Policy, today: datetime.date | None = None
) -> Iterator[Finding]:
    """Yield findings, as notes where an exception that has not expired covers them."""
    day = today or datetime.datetime.now(datetime.UTC).date()
    valid = [item for item in policy.waivers if item.expires is None or item.expires >= day]
    for finding in findings:
        waiver = next((item for item in valid if item.covers(finding.rule, finding.path)), None)
        if waiver is not None and finding.severity is Severity.ERROR:
            yield replace(finding, severity=Severity.NOTE, waived=waiver.reason)
        else:
            yield finding


def _found(subjects: Iterable[Subject], look: _Look) -> list[Target | Outcome]:
    """Return what there is to look into, and what was seen in archives already."""
    found: list[Target | Outcome] = []
    for subject in subjects:
        is_elf = subject.head.startswith(MAGIC)
        if subject.trouble is not None:
            found.append(_unreadable(subject.name, subject.trouble))
        elif subject.link is not None:
            found.append(_link(subject, look))
        elif is_elf or look.scanner is not None:
            found.append(_target_or_outcome(subject, look, is_elf=is_elf))
        if subject.is_file and not is_elf:
            found += _sealing(subject)
        if subject.is_named and subject.is_file and not is_elf:
            found.append(Outcome(findings=(_not_elf(subject.name),)))
    return found


def _sealing(subject: Subject) -> Iterator[Outcome]:
    """Yield what a file that is not ELF says of a sealed prefix: its record, a script."""
    if subject.name.endswith(RECORD):
        yield _guarded(subject.name, lambda: Outcome(record=_record(subject)))
    script = sealing.script_of(subject.name, subject.head, subject.mode)
    if script is not None:
        yield Outcome(script=script)


def _record(subject: Subject) -> Record:
    text = subject.read() if subject.size <= RECORD_LIMIT else b""
    return parse_record(subject.name, bytes(text))


def _link(subject: Subject, look: _Look) -> Outcome:
    if look.scanner is None or subject.link is None:
        return Outcome()
    return Outcome(ties=look.scanner.ties_of_link(subject.name, subject.link))


def _target_or_outcome(subject: Subject, look: _Look, *, is_elf: bool) -> Target | Outcome:
    name, mode = subject.name, subject.mode
    if subject.place is not None:
        return Target(name=name, size=subject.size, mode=mode, is_elf=is_elf)
    return _guarded(name, lambda: look.at(name, subject.read(), mode, is_elf=is_elf))


def _examine(target: Target, look: _Look) -> Outcome:
    """Return what there is to see of a file on the disk, or why there is nothing."""

    def outcome() -> Outcome:
        path = Path(target.name)
        with (
            content(path, whole=look.is_whole_of(target)) as data,
            pages(path) if target.size > _AT_ONCE else nullcontext() as code,
        ):
            return look.at(target.name, data, target.mode, is_elf=target.is_elf, code=code)

    return _guarded(target.name, outcome)


def _facts_at(path: str) -> FileFacts | None:
    """Return the facts of a file on the disk that is not audited; None where there is none."""
    if not os.path.isfile(path):
        return None
    target = Target(name=path, size=os.path.getsize(path), mode=0, is_elf=True)
    return _examine(target, _Look(policy=ANYTHING, effort=None, scanner=None)).facts


def _seal_of(name: str, data: Content, elf: Elf) -> Seal | None:
    """Return what a program is sealed with; read from the disk where `data` is what its loader looks at."""
    segment = segment_of_seal(elf)
    if segment is None:
        return None
    extent = slice(segment.offset, segment.offset + segment.file_size)
    found = seal_in(source_of(data)[extent], segment)
    if found is not None or not os.path.isfile(name):
        return found
    with pages(Path(name)) as source:
        return seal_in(source[extent], segment)


def _guarded(name: str, look: Callable[[], Outcome]) -> Outcome:
    try:
        return look()
    except ElfError as error:
        return _unreadable(name, f"damaged ELF file: {error.message}", error.offset)
    except InputError as error:
        return _unreadable(name, error.message)
    except OSError as error:
        return _unreadable(name, error.strerror or str(error))


def _linked(files: Sequence[FileFacts]) -> tuple[FileFacts, ...]:
    """Take from the objects of a tree the needs that another object of it meets: libpgport.a's strlcpy."""
    defined = frozenset(name for file in files for name in file.defines)
    return tuple(file.without(defined) if file.kind is Kind.OBJECT else file for file in files)


def _unreadable(path: str, message: str, offset: int | None = None) -> Outcome:
    finding = Finding(rule="unreadable", severity=Severity.ERROR, path=path, message=message, offset=offset)
    return Outcome(findings=(finding,))


def _not_elf(path: str) -> Finding:
    return Finding(rule="not-elf", severity=Severity.NOTE, path=path, message="not an ELF file")
