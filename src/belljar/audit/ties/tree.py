"""The ties and traits of whole trees, as findings.

Every byte of every file is read for it, not only what a loader looks at; so it is asked for, and files on
the disk are shared out among processes, some thousands at a time so that no list of a big tree is held.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from belljar.audit import parallel
from belljar.audit.checks import Finding, Severity
from belljar.audit.content import Content, content
from belljar.audit.subjects import Subject, walk
from belljar.audit.ties.patterns import Certainty, Kind
from belljar.audit.ties.places import Where
from belljar.audit.ties.scan import Scanner, Tie
from belljar.audit.ties.traits import traits_of
from belljar.elf import Elf, ElfError, read
from belljar.elf.const import MAGIC
from belljar.errors import InputError
from belljar.types import Event, Progress, quiet

_BATCH = 8192
_PAYS = 8 << 20
"""How many bytes are worth a second process."""

RULES = {
    Kind.GIVEN: "build-path",
    Kind.HOME: "home-path",
    Kind.TEMPORARY: "temporary-path",
    Kind.CI: "ci-path",
    Kind.STORE: "store-path",
    Kind.PACKAGER: "packager-path",
    Kind.LOCATION: "fixed-path",
    Kind.HOST: "host-path",
    Kind.NAME: "builder-name",
}
"""The rule of each kind, by which policies may except it."""

_MAP = "map it away: -ffile-prefix-map=DIR=. (C, C++), --remap-path-prefix (Rust), -trimpath (Go)"
_HINTS = {
    Where.RPATH: "link with paths relative to $ORIGIN",
    Where.RUNPATH: "link with paths relative to $ORIGIN",
    Where.SHEBANG: "#!/usr/bin/env NAME, or a launcher that finds its own directory",
    Where.LINK: "make the link relative",
    Where.PKG_CONFIG: "prefix=${pcfiledir}/../..",
    Where.LIBTOOL: "leave .la files out; pkg-config files do their work",
    Where.CMAKE: "use ${CMAKE_CURRENT_LIST_DIR}, or install(EXPORT) with relative destinations",
    Where.BYTE_CODE: "compile it where it is installed, or with python -m compileall -s DIR",
    Where.LOADED: _MAP,
    Where.DEBUG: _MAP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What to look for, from which certainty on, and whether the loader may be given fixed paths."""

    scanner: Scanner
    least: Certainty = Certainty.LIKELY
    fixed_paths: bool = True


def findings(
    paths: Sequence[Path | str],
    search: Search,
    *,
    progress: Progress = quiet,
    jobs: int = 1,
    stdin: BinaryIO | None = None,
) -> Iterator[Finding]:
    """Yield what ties all files at `paths` to their builder, and the traits that systems refuse.

    What cannot be read is passed over: belljar.audit.run says so. Raises as belljar.audit.subjects.walk.
    """
    done = 0
    for batch in _batches(walk(paths, stdin=stdin), search):
        targets = [item for item in batch if isinstance(item, _Target)]
        pays = sum(item.size for item in targets) >= _PAYS
        found = iter(
            parallel.each(
                functools.partial(_examine, search=search),
                targets,
                weight=lambda item: item.size,
                jobs=jobs if pays else 1,
                done=lambda _: None,
            )
        )
        for item in batch:
            yield from next(found) if isinstance(item, _Target) else item
        done += len(batch)
        progress(Event(stage="ties", done=done))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A file on the disk that is still to be looked into."""

    name: str
    place: Path
    size: int
    mode: int


def _batches(subjects: Iterable[Subject], search: Search) -> Iterator[list[_Target | tuple[Finding, ...]]]:
    """Yield what there is to look into on the disk, and what was found in archives on the way."""
    batch: list[_Target | tuple[Finding, ...]] = []
    for item in subjects:
        if item.is_file and item.place is not None:
            batch.append(_Target(name=item.name, place=item.place, size=item.size, mode=item.mode))
        else:
            batch.append(_of_subject(item, search))
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


def _examine(target: _Target, search: Search) -> tuple[Finding, ...]:
    try:
        with content(target.place, whole=True) as data:
            return _of_bytes(target.name, data, target.mode, search)
    except OSError:
        return ()


def _of_subject(item: Subject, search: Search) -> tuple[Finding, ...]:
    if item.trouble is not None:
        return ()
    if item.link is not None:
        return _told(search.scanner.ties_of_link(item.name, item.link), search)
    # The modes of data in archives for other systems mean nothing: jar files have 0666 for all.
    mode = item.mode if item.mode & 0o111 else item.mode & ~0o002
    try:
        return _of_bytes(item.name, item.read(), mode, search)
    except (InputError, OSError):
        return ()


def _of_bytes(name: str, data: Content, mode: int, search: Search) -> tuple[Finding, ...]:
    elf = _elf(data)
    # A given path in an ELF file is belljar.audit.checks.check_build_paths' business.
    ties = [tie for tie in search.scanner.ties_of(name, data, elf) if not (elf and tie.kind is Kind.GIVEN)]
    traits = tuple(
        Finding(rule=item.trait, severity=Severity.NOTE, path=name, message=item.evidence, hint=item.hint)
        for item in traits_of(elf, mode)
    )
    return (*traits, *_told(ties, search))


def _elf(data: Content) -> Elf | None:
    if data[: len(MAGIC)] != MAGIC:
        return None
    try:
        return read(memoryview(data))
    except ElfError:
        return None


def _told(ties: Iterable[Tie], search: Search) -> tuple[Finding, ...]:
    return tuple(_finding(tie, search) for tie in ties if tie.certainty >= search.least)


def _finding(tie: Tie, search: Search) -> Finding:
    is_gate = tie.where.is_read_by_loader and tie.kind is not Kind.HOST
    is_error = is_gate and (tie.kind is Kind.GIVEN or not search.fixed_paths)
    place = f"{tie.where} {tie.section}".rstrip()
    times = f" ({tie.count}x)" if tie.count > 1 else ""
    sure = {Certainty.CERTAIN: "", Certainty.LIKELY: ", likely", Certainty.POSSIBLE: ", possibly"}[
        tie.certainty
    ]
    return Finding(
        rule=RULES[tie.kind],
        severity=Severity.ERROR if is_error else Severity.NOTE,
        path=tie.path,
        message=f"{tie.kind} in {place}{times}{sure}: {tie.text}",
        hint=_HINTS.get(tie.where),
        offset=tie.offset,
    )
