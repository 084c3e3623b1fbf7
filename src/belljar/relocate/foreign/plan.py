"""The whole of moving a foreign tree, planned by reading it once: every edit and every refusal.

Each file is searched in chunks; only those with a hit are looked at more, by their kind. Nothing of a file's
content is kept but the prefixes found and what takes their places. Refusals are collected, never raised, so
that a user sees all of them at once; a plan with one is not applied.

What depends on other files comes last: byte code and checksums of files that change (`sums`).
"""

import os
from collections.abc import Iterator
from pathlib import Path

from belljar.errors import InputError
from belljar.fsys import Entry, walk
from belljar.relocate.change import FileChange, LinkChange, NewFile, Plan, Refusal
from belljar.relocate.foreign import (
    binary,
    bytecode,
    elf,
    fixed,
    kinds,
    packed,
    relative,
    shebang,
    sums,
    text,
)
from belljar.relocate.foreign.kinds import Kind
from belljar.relocate.foreign.links import plan_link
from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.subject import Finding, Options, Subject
from belljar.relocate.journal import DIRECTORY
from belljar.splice import merged
from belljar.types import Event, Progress, quiet

_HEAD = 512
_REPORT_EVERY = 1 << 24  # bytes
_SYNTAX = frozenset(b" \t\"'`\\$&|<>*?[](){}#;!")

Change = FileChange | LinkChange | NewFile


def plan(tree: Path, moves: Moves, options: Options | None = None, *, progress: Progress = quiet) -> Plan:
    """Return all that moving `tree` takes, and all that stands against it; writes nothing.

    Raises InputError when something cannot be read, or when the new prefix lies in the old one and the tree
    has an entry of that name, so that moved and unmoved paths look alike.
    """
    chosen = options or Options()
    try:
        return _Planning(tree, moves, chosen).run(progress)
    except OSError as error:
        raise InputError(
            f"{error.filename or tree}: cannot be read: {error.strerror}",
            hint="plan as the user who owns the tree, or give that user permission to read all of it",
        ) from error


class _Planning:
    """One plan in the making."""

    def __init__(self, tree: Path, moves: Moves, options: Options) -> None:
        self.tree, self.moves, self.options = tree, moves, options
        self.changes: dict[str, Change] = {}
        self.refusals: list[Refusal] = []
        self.notes: list[str] = []

    def run(self, progress: Progress) -> Plan:
        """Look at everything in the tree, then at what depends on the changes."""
        self._check_nested()
        entries = list(walk(self.tree, enter=_is_content))
        self._note_syntax()
        for entry, names in self._each(entries, progress):
            if entry.is_link:
                self._link(entry)
            else:
                self._file(entry, names)
        sums.follow(self.tree, entries, self.changes, self.refusals)
        own = self.moves.own[1]
        return Plan(
            tree=self.tree,
            moves=self.moves.pairs,
            changes=tuple(self.changes[path] for path in sorted(self.changes, key=os.fsencode)),
            refusals=tuple(sorted(self.refusals, key=lambda item: (item.path, item.offset or 0))),
            notes=tuple(self.notes),
            alias=None if self.options.alias is None else (Path(os.fsdecode(own)), self.options.alias),
        )

    def _check_nested(self) -> None:
        for old, new in self.moves.pairs:
            rest = new[len(old) + 1 :]
            if new.startswith(old + b"/") and os.path.lexists(os.path.join(os.fsencode(self.tree), rest)):
                raise InputError(
                    f"{os.fsdecode(new)}: lies in {os.fsdecode(old)}, and the tree has"
                    f" {os.fsdecode(rest)} itself: moved and unmoved paths cannot be told apart",
                    hint="move it somewhere else first, then there",
                )

    def _note_syntax(self) -> None:
        new = self.moves.own[1]
        if bad := sorted({chr(byte) for byte in new if byte in _SYNTAX}):
            self.notes.append(
                f"{os.fsdecode(new)}: holds {' '.join(map(repr, bad))}: scripts that do not quote paths break"
            )

    def _each(self, entries: list[Entry], progress: Progress) -> Iterator[tuple[Entry, tuple[str, ...]]]:
        """Yield links, and regular files once each with their other names."""
        names: dict[tuple[int, int], list[str]] = {}
        for entry in entries:
            if entry.is_file and entry.info.st_nlink > 1:
                names.setdefault((entry.info.st_dev, entry.info.st_ino), []).append(entry.path)
        total = sum(entry.info.st_size for entry in entries if entry.is_file)
        done = reported = 0
        for entry in entries:
            others = names.get((entry.info.st_dev, entry.info.st_ino), [entry.path])
            if entry.is_link or (entry.is_file and others[0] == entry.path):
                yield entry, tuple(others[1:]) if entry.is_file else ()
            done += entry.info.st_size if entry.is_file else 0
            if done >= reported + _REPORT_EVERY:
                progress(Event(stage="plan", subject=entry.path, done=done, total=total))
                reported = done

    def _link(self, entry: Entry) -> None:
        target = os.fsencode(os.readlink(os.path.join(self.tree, entry.path)))
        change, note = plan_link(entry.path, target, self.moves, relative=self.options.relative)
        before, after = (b"/".join([own, os.fsencode(entry.path)]) for own in self.moves.own)
        if change is not None and change.new == after and target != before:
            self._refuse(entry.path, [Refusal(path=entry.path, reason="the link would lead to itself")])
        elif change is not None:
            self.changes[entry.path] = change
        if note:
            self.notes.append(note)

    def _file(self, entry: Entry, names: tuple[str, ...]) -> None:
        fd = os.open(os.path.join(self.tree, entry.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            finding = self._examine(entry, fd)
        finally:
            os.close(fd)
        if finding is None:
            return
        self.notes += finding.notes
        if self._refuse(entry.path, finding.refusals):
            return
        self._record(entry.path, finding, names)

    def _refuse(self, path: str, refusals: list[Refusal]) -> bool:
        """Keep refusals; True where the user lets the path stay as it is for them."""
        if refusals and self.options.leaves(path):
            self.notes += [f"left as it is, as you said: {item.describe()}" for item in refusals]
            return True
        self.refusals += refusals
        return False

    def _record(self, path: str, finding: Finding, names: tuple[str, ...]) -> None:
        if finding.splices:
            self.changes[path] = FileChange(
                path=path,
                kind=finding.kind,
                splices=merged(finding.splices),
                reasons=tuple(
                    f"{reason} ({count} times)" if count > 1 else reason
                    for reason, count in finding.reasons.items()
                ),
                aliases=names,
            )
        for new in finding.added:
            self.changes[new.path] = new

    def _examine(self, entry: Entry, fd: int) -> Finding | None:
        """Return what is to be done about a file; None when nothing in it matters."""
        head = os.pread(fd, _HEAD, 0)
        if kinds.has_zip_behind(fd, entry.info.st_size, head):
            self.notes.append(f"{entry.path}: holds a zip archive behind other content, not looked into")
        hits = tuple(hit for hit in self.moves.along(fd) if not hit.is_moved)
        if not hits and not head.startswith(b"\x7fELF") and kinds.packing(head) is None:
            return None
        subject = Subject(
            tree=self.tree,
            path=entry.path,
            fd=fd,
            size=entry.info.st_size,
            mode=entry.info.st_mode,
            head=head,
            hits=hits,
            moves=self.moves,
            options=self.options,
        )
        return examine(subject)


def _is_content(entry: Entry) -> bool:
    """Whether an entry is the tree's own, and not the record of an earlier relocation."""
    return entry.path != DIRECTORY


def examine(subject: Subject) -> Finding:
    """Return what is to be done about one file, or about content that is packed in one."""
    kind = kinds.kind_of(subject.name, subject.head, subject.fd, subject.hits)
    finding = Finding(kind=str(kind))
    _by_kind(kind, subject, finding)
    if subject.options.relative and kind not in (Kind.TEXT, Kind.WIDE):
        relative.note_tied(subject, finding)
    return finding


def _by_kind(kind: Kind, subject: Subject, finding: Finding) -> None:
    """Plan a file by what its content is."""
    match kind:
        case Kind.ELF:
            elf.plan_elf(subject, finding)
        case Kind.TEXT | Kind.WIDE:
            done = shebang.plan_shebang(subject, finding)
            if not (subject.options.relative and relative.plan_relative(subject, finding, skip=done)):
                text.plan_text(subject, finding, skip=done)
        case Kind.BYTECODE:
            bytecode.plan_bytecode(subject, finding)
        case Kind.PACKED:
            packed.plan_packed(subject, finding, examine)
        case Kind.FIXED:
            fixed.plan_fixed(subject, finding)
        case Kind.SORTED if subject.hits:
            fixed.plan_sorted(subject, finding)
        case _:
            binary.plan_bytes(subject, finding)
