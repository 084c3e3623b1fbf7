"""Finding all that ties a tree to the placeholder.

The placeholder in files and link targets makes the relocation table: whole, as UTF-16 or UTF-32, and in the
pieces into which compilers split it (belljar.relocate.pieces). What cannot be rewritten with certainty is
found too and reported with its place, so that no tree passes for relocatable which is not: pieces that are
not understood, the placeholder inside compressed files, the placeholder in a file's name.

Not found, here or by anybody: what is compressed twice, and escaped spellings of `/`. Nothing is changed.
"""

import itertools
import operator
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from belljar.errors import InputError
from belljar.fsys import Entry, walk
from belljar.placeholder import PLACEHOLDER
from belljar.references import Encoding, Reference, References, Sum, Table
from belljar.relocate import containers, digests, pieces
from belljar.relocate.pieces import aarch64
from belljar.relocate.search import HINTS, Run, Window
from belljar.types import Event, Progress, quiet

_NAME = re.compile(rb"/+([a-z2-7]{32}-[0-9A-Za-z+._~-]{1,200}(?<=[0-9A-Za-z+~]))")
_PLACEHOLDER = PLACEHOLDER.encode()
_CODE = (b"\x7fELF", b"!<arch>\n")
_HEAD = 20  # bytes: what says of which kind a file is
_TOO_MANY = f"more than {HINTS} traces of pieces"
_REPORT_EVERY = 1 << 24  # bytes; often enough for an eye, too seldom to cost time


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Unsupported:
    """A trace of the placeholder that cannot be rewritten: `what`, `offset` bytes into file, link or name.

    `section` is the ELF section that it lies in ("": none).
    """

    path: str
    offset: int
    what: str
    section: str = ""

    def describe(self) -> str:
        """Return one line for a person."""
        section = f"{self.section}: " if self.section else ""
        return f"{self.path}: {section}offset {self.offset}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a tree holds of the placeholder.

    `names` are the store entries (`<32 characters>-<name>-<version>`) that stand after a whole
    placeholder, one for each hash: the shortest, since where a string has no end mark what follows it in
    the file looks like a part of the name. Where there is but one such string, only its hash is certain.
    """

    table: Table
    unsupported: tuple[Unsupported, ...]
    names: frozenset[str]

    @property
    def is_relocatable(self) -> bool:
        """Whether the table is all there is."""
        return not self.unsupported


@dataclass(slots=True, kw_only=True)
class _Found:
    """What one file or link target holds."""

    references: References = field(default_factory=References)
    unsupported: list[tuple[int, str, str]] = field(default_factory=list)  # offset, what, section
    runs: list[Run] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    sums: list[Sum] = field(default_factory=list)


def scan(tree: Path, *, progress: Progress = quiet) -> Scan:
    """Find every reference in the regular files, symbolic links and names below `tree`.

    Memory is bounded whatever the size of files. Hard links are listed under each of their names.
    Raises InputError when something cannot be read.
    """
    try:
        return _scan(tree, list(walk(tree)), progress)
    except OSError as error:
        raise InputError(
            f"{error.filename or tree}: cannot be scanned: {error.strerror}",
            hint="scan it as the user who owns it, or give that user permission to read all of it",
        ) from error


def _scan(tree: Path, entries: list[Entry], progress: Progress) -> Scan:
    files, links = {}, {}
    names = {entry.path: _scan_name(entry.path) for entry in entries if "qz" in entry.path}
    for entry, found in _scan_files(tree, entries, progress):
        files[entry.path] = found
    for entry in entries:
        if entry.is_link:
            links[entry.path] = _scan_bytes(os.fsencode(os.readlink(os.path.join(tree, entry.path))))
    everything = [*files.items(), *links.items(), *names.items()]
    references = _references(files)
    sums = {path: tuple(found.sums) for path, found in files.items() if found.sums}
    return Scan(
        table=Table(
            files=references,
            links=_references(links),
            sums=digests.with_digests(sums, digests.find(tree, entries, references)),
        ),
        unsupported=tuple(
            sorted(
                Unsupported(path=path, offset=offset, what=what, section=section)
                for path, found in everything
                for offset, what, section in found.unsupported
            )
        ),
        names=_shortest(name for _, found in everything for name in found.names),
    )


def _references(found: dict[str, _Found]) -> dict[str, References]:
    return {path: one.references for path, one in found.items() if one.references}


def _shortest(names: Iterable[str]) -> frozenset[str]:
    """Return the shortest of the names that begin with the same hash."""
    by_hash: dict[str, str] = {}
    for name in sorted(names, key=len):
        by_hash.setdefault(name[:32], name)
    return frozenset(by_hash.values())


def _scan_files(tree: Path, entries: Iterable[Entry], progress: Progress) -> Iterator[tuple[Entry, _Found]]:
    """Scan each regular file once, however many names it has."""
    files = [entry for entry in entries if entry.is_file]
    total = sum(entry.info.st_size for entry in files)
    window, seen, done, reported = Window(), dict[tuple[int, int], _Found](), 0, 0
    for entry in files:
        inode = (entry.info.st_dev, entry.info.st_ino)
        if entry.info.st_nlink == 1:
            found = _scan_file(os.path.join(tree, entry.path), window)
        else:
            found = seen.get(inode) or seen.setdefault(
                inode, _scan_file(os.path.join(tree, entry.path), window)
            )
        yield entry, found
        done += entry.info.st_size
        if done >= reported + _REPORT_EVERY or done == total:
            progress(Event(stage="scan", subject=entry.path, done=done, total=total))
            reported = done


def _scan_file(path: str, window: Window) -> _Found:
    found = _Found()
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        head = os.pread(fd, _HEAD, 0)
        hints: list[int] = []
        is_aarch64 = aarch64.may_hold(head)
        for place in window.along(fd):
            _sort(place, found)
            if is_aarch64:
                hints += aarch64.hints(place)
        if found.runs or hints or window.hints or (found.references and head.startswith(_CODE)):
            _resolve(fd, sorted([*hints, *window.hints]), found)
        else:
            found.references = _disjoint(_ordered(found.references), found)
        _look_inside(fd, found)
    finally:
        os.close(fd)
    return found


def _resolve(fd: int, hints: list[int], found: _Found) -> None:
    """Turn the runs that are not whole into references, or report them."""
    if len(hints) >= HINTS or len(found.runs) >= HINTS:
        found.unsupported.append((found.runs[0].offset if found.runs else hints[0], _TOO_MANY, ""))
        return
    resolved = pieces.resolve(fd, sorted(found.references), sorted(found.runs), hints)
    found.references = _disjoint(sorted([*found.references, *resolved.references]), found)
    for trace in resolved.left:
        words = [_describe(trace.run)] if trace.run.length else []
        words += [trace.reason] if trace.reason else []
        found.unsupported.append((trace.run.offset, ", ".join(words), trace.section))


def _ordered(references: References) -> Iterable[Reference]:
    ascending = all(map(operator.le, references.offsets, itertools.islice(references.offsets, 1, None)))
    return references if ascending else sorted(references)


def _disjoint(references: Iterable[Reference], found: _Found) -> References:
    """Return the references in order; one that overlaps the one before it is reported instead."""
    kept, end = References(), 0
    for reference in references:
        if reference.offset < end:
            found.unsupported.append((reference.offset, "a piece within another reference", ""))
        else:
            kept.append(reference)
            end = reference.end
    return kept


def _look_inside(fd: int, found: _Found) -> None:
    """Find the checksums over references in a compressed file; report what is hidden in it."""
    inside = containers.inspect(fd, found.references)
    found.sums += inside.sums
    found.unsupported += [(0, what, "") for what in inside.hidden]


def _scan_bytes(content: bytes) -> _Found:
    found = _Found()
    _sort(Window().over(content), found)
    found.unsupported += [(run.offset, _describe(run), "") for run in found.runs]
    found.references = _disjoint(_ordered(found.references), found)
    return found


def _scan_name(path: str) -> _Found:
    """Return what the last component of a path holds; the others are entries themselves."""
    found = _Found()
    for run in Window().over(os.fsencode(os.path.basename(path))).runs():
        found.unsupported.append((run.offset, f"{_describe(run)}, in the name", ""))
    return found


def _sort(window: Window, found: _Found) -> None:
    """Sort what one window shows into references, names and what is not whole; after too much, nothing."""
    if len(found.runs) >= HINTS or len(window.hints) >= HINTS:
        return
    for run in window.runs():
        if not run.is_whole:
            if len(found.runs) < HINTS:
                found.runs.append(run)
        elif reference := _reference(window, run):
            found.references.append(reference)
            if name := _NAME.match(window.data, reference.end - window.base):
                found.names.add(name[1].decode())
        else:
            found.unsupported.append((run.offset, _describe(run), ""))


def _reference(window: Window, run: Run) -> Reference | None:
    """Return the reference that a run of whole characters is; None where wide ones are cut or mixed.

    Which byte order it is, its zeros outside the run say. Where both would do, as between other wide
    characters, the aligned one is taken; what is written is the same.
    """
    if run.width == 1:
        return Reference(offset=run.offset)
    little = Reference(offset=run.offset, encoding=Encoding(f"utf-{run.width * 8}-le"))
    shift = run.width - 1
    big = Reference(offset=run.offset - shift, encoding=Encoding(f"utf-{run.width * 8}-be"))
    order = (big, little) if run.offset % run.width == shift else (little, big)
    for reference in order if run.is_whole else ():
        begin = reference.offset - window.base
        current = bytes(window.data[max(0, begin) : begin + reference.size])
        if reference.written(current, _PLACEHOLDER) == current:
            return reference
    return None


def _describe(run: Run) -> str:
    letters = (
        "the placeholder"
        if run.is_whole
        else f"bytes {run.start}..{run.start + run.length} of the placeholder"
    )
    return letters if run.width == 1 else f"{letters} as UTF-{run.width * 8}"
