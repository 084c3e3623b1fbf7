"""Auditing trees: finding the ELF files in them, one after the other."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys
from belljar.audit.checks import Finding, Severity, check
from belljar.audit.facts import FileFacts, facts_of
from belljar.audit.policy import ANYTHING, Policy
from belljar.audit.report import Report
from belljar.elf import ElfError, read
from belljar.elf.const import MAGIC
from belljar.errors import InputError
from belljar.types import Event, Progress, quiet


def audit(paths: Sequence[Path], *, policy: Policy = ANYTHING, progress: Progress = quiet) -> Report:
    """Say what ties the ELF files at `paths`, files and trees, to a machine.

    Symbolic links are followed when they are named here, not within trees. A file that cannot be
    read or is damaged is a finding. Raises InputError when a path does not exist.
    """
    targets = [target for path in paths for target in _targets(path)]
    files: list[FileFacts] = []
    findings: list[Finding] = []
    for number, target in enumerate(targets):
        progress(Event(stage="audit", subject=str(target.path), done=number, total=len(targets)))
        outcome = target.trouble or _examine(target, policy)
        if isinstance(outcome, FileFacts):
            files.append(outcome)
            findings += check(outcome, policy)
        elif outcome is not None:
            findings.append(outcome)
    progress(Event(stage="audit", done=len(targets), total=len(targets)))
    return Report(paths=tuple(map(str, paths)), policy=policy, files=tuple(files), findings=tuple(findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A regular file to look into, or what hinders it; `is_named`: the user asked for this very file."""

    path: Path
    is_named: bool = False
    trouble: Finding | None = None


def _targets(path: Path) -> Iterator[_Target]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if stat.S_ISREG(mode):
        yield _Target(path=path, is_named=True)
    elif stat.S_ISDIR(mode):
        yield from _targets_below(path)
    else:
        raise InputError(f"{path}: neither a file nor a directory")


def _targets_below(root: Path) -> Iterator[_Target]:
    """Yield the regular files of a tree, and the directories that may not be looked into."""
    closed: list[Path] = []

    def enter(entry: fsys.Entry) -> bool:
        is_closed = entry.is_dir and not os.access(root / entry.path, os.R_OK | os.X_OK, effective_ids=True)
        if is_closed:
            closed.append(root / entry.path)
        return not is_closed

    try:
        for entry in fsys.walk(root, enter=enter):
            if entry.is_file:
                yield _Target(path=root / entry.path)
    except OSError as error:
        raise InputError(f"{error.filename or root}: {error.strerror}") from error
    for path in closed:
        yield _Target(path=path, trouble=_unreadable(path, "directory may not be read"))


def _examine(target: _Target, policy: Policy) -> FileFacts | Finding | None:
    """Return a file's facts, or why there are none; None for what is not ELF."""
    path = target.path
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return _not_elf(path) if target.is_named else None
            # Not mapped: a file that shrinks while it is read would end the process with SIGBUS.
            file.seek(0)
            data = file.read()
        return facts_of(str(path), data, read(data), build_paths=policy.build_paths)
    except ElfError as error:
        return _unreadable(path, f"damaged ELF file: {error.message}", error.offset)
    except OSError as error:
        return _unreadable(path, error.strerror or str(error))


def _unreadable(path: Path, message: str, offset: int | None = None) -> Finding:
    return Finding(rule="unreadable", severity=Severity.ERROR, path=str(path), message=message, offset=offset)


def _not_elf(path: Path) -> Finding:
    return Finding(rule="not-elf", severity=Severity.NOTE, path=str(path), message="not an ELF file")
