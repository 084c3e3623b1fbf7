"""Whether the files of a tree find all that they need: the closure of each, as findings.

Every program of the tree is resolved as its loader would (belljar.ldso), in a root: what it needs and
does not get, and what it refers to and nothing defines. A library is resolved for itself only where no
program of the tree loads it: what the program brings (its search path, its symbols) counts then. Symbols
that such a library leaves open are noted: a plug-in takes them from whoever loads it.
"""

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar.audit import parallel
from belljar.audit.checks import Finding, Severity
from belljar.audit.facts import FileFacts, Kind
from belljar.elf.sealed import Seal
from belljar.errors import BelljarError, UsageError
from belljar.ldso import Cache, Closure, resolve
from belljar.types import Event, Progress

_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """A file to resolve: its name in the report, and its path inside the root."""

    name: str
    path: str
    root: Path
    seal: Seal | None = None


def closures(
    files: Iterable[FileFacts], *, root: Path, jobs: int, progress: Progress
) -> tuple[tuple[str, Closure | str], ...]:
    """Return, by the names of the files, the closure of each program and of each library that none loads.

    Words stand for a closure that could not be told. Members of archives are passed over. Raises
    UsageError when a file is not below `root`.
    """
    _cache.cache_clear()  # files may have changed since an earlier audit, or their inodes been used again
    programs = [_task(file, root) for file in files if file.kind is Kind.EXECUTABLE and _is_on_disk(file)]
    libraries = [_task(file, root) for file in files if file.kind is Kind.SHARED and _is_on_disk(file)]
    found = _resolved(programs, jobs, progress)
    loaded = {item.real for _, closure in found if isinstance(closure, Closure) for item in closure.objects}
    left = [task for task in libraries if task.path not in loaded]
    return (*found, *_resolved(left, jobs, progress))


def _is_on_disk(file: FileFacts) -> bool:
    return "!" not in file.path or os.path.lexists(file.path)


def _task(file: FileFacts, root: Path) -> _Task:
    path = Path(file.path).resolve()
    try:
        inside = path.relative_to(root.resolve())
    except ValueError:
        hint = "audit the tree where it lies in that root, or leave --root out"
        raise UsageError(f"{file.path}: not below {root}", hint=hint) from None
    seal = file.sealed.seal if file.sealed is not None else None
    return _Task(name=file.path, path=f"/{inside}", root=root, seal=seal)


def _resolved(tasks: Sequence[_Task], jobs: int, progress: Progress) -> tuple[tuple[str, Closure | str], ...]:
    def done(number: int) -> None:
        progress(Event(stage="closure", done=number, total=len(tasks)))

    found = parallel.each(_resolve, tasks, weight=lambda _: 1, jobs=jobs, done=done)
    return tuple(zip((task.name for task in tasks), found, strict=True))


@functools.cache
def _cache(root: Path) -> Cache:
    return Cache(root)


def _resolve(task: _Task) -> Closure | str:
    try:
        return resolve(Path(task.path), cache=_cache(task.root), seal=task.seal)
    except BelljarError as error:
        return error.message


def findings_of(files: Sequence[FileFacts], found: Iterable[tuple[str, Closure | str]]) -> Iterator[Finding]:
    """Yield what closures say: missing libraries, symbols that nothing defines."""
    kinds = {file.path: file.kind for file in files}
    sealed = {file.path for file in files if file.sealed is not None}
    for name, closure in found:
        if isinstance(closure, str):
            yield Finding(rule="closure", severity=Severity.NOTE, path=name, message=closure)
        else:
            yield from _missing(name, closure, is_sealed=name in sealed)
            yield from _unresolved(name, closure, is_program=kinds[name] is Kind.EXECUTABLE)


def _missing(name: str, closure: Closure, *, is_sealed: bool) -> Iterator[Finding]:
    hint = "bring it along and name its directory by $ORIGIN in the RUNPATH"
    for edge in closure.missing:
        yield Finding(
            rule="missing-library",
            severity=Severity.ERROR,
            path=name,
            message=f"does not get {edge.name}, needed by {edge.asker}",
            hint="seal the prefix again: sealed files search the prefix only" if is_sealed else hint,
            library=edge.name,
            detail=(edge.describe(),),
        )


def _unresolved(name: str, closure: Closure, *, is_program: bool) -> Iterator[Finding]:
    """Yield the symbols that nothing defines, those of one file together."""
    by_file: dict[str, list[str]] = {}
    for item in closure.unresolved:
        version = f"@{item.version}" if item.version else ""
        by_file.setdefault(item.path, []).append((item.symbol or item.library or "") + version)
    for path, symbols in by_file.items():
        more = len(symbols) - _SHOWN
        shown = ", ".join(symbols[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        yield Finding(
            rule="unresolved-symbol",
            severity=Severity.ERROR if is_program else Severity.NOTE,
            path=name,
            message=f"refers to what nothing that it loads defines: {shown} (in {path})",
            symbols=tuple(symbols),
        )
