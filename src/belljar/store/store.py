"""A store: artifacts below one location, under names that follow from their inputs.

    DIRECTORY/<tail>/                          the store root (belljar.placeholder)
        <hash>-<name>-<version>/               a tree, read-only, its references pointing here
        .records/<hash>-<name>-<version>/      what is known of it (belljar.store.record)
        .records/<hash>-<name>-<version>.lock  held by whoever makes or removes the entry

An entry exists when its record exists; the record is renamed in after the tree. A crash in between
leaves a tree without a record: garbage, which the next `add` of that name replaces. Everything is
staged on the same filesystem, complete and read-only, before it is renamed in, so that a reader
sees a whole entry or none. Two builds of one name: the second waits at the lock and finds the entry.

`belljar install --to DIR` makes a store of DIR, so an installed tree can be verified like any other.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from belljar import fsys, placeholder
from belljar.errors import InputError, IntegrityError
from belljar.references import Table
from belljar.store.manifest import Line, Manifest, describe
from belljar.store.name import StoreName
from belljar.store.record import Record, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One entry of a tree that is not what the manifest says; `what` is missing, changed or added."""

    path: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The store whose location is `directory`; making the value touches nothing."""

    directory: Path

    @property
    def root(self) -> Path:
        """The directory that holds the entries."""
        return placeholder.store_root(self.directory)

    @property
    def location(self) -> bytes:
        """What stands for `root` in files; raises InputError when the directory's path will not do."""
        return placeholder.location(self.directory)

    def path(self, name: StoreName) -> Path:
        """Return where the entry's tree is or would be."""
        return self.root / str(name)

    def record_path(self, name: StoreName) -> Path:
        """Return the directory of what is known of the entry."""
        return self.root / ".records" / str(name)

    def lock(
        self, name: StoreName, on_wait: Callable[[], None] | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """Hold the right to make or remove an entry; `on_wait` is called when somebody else has it."""
        return fsys.locked(self.root / ".records" / f"{name}.lock", on_wait=on_wait)

    def __contains__(self, name: StoreName) -> bool:
        return (self.record_path(name) / "record.json").is_file() and self.path(name).is_dir()

    def names(self) -> Iterator[StoreName]:
        """Yield the names of all entries, sorted by package, version and hash."""
        try:
            found = os.listdir(self.root / ".records")
        except FileNotFoundError:
            return
        names = [name for item in found if (name := _name(item)) is not None]
        yield from (name for name in sorted(names) if name in self)

    def record(self, name: StoreName) -> Record:
        """Return what is known of an entry; raises InputError when there is none."""
        self._require(name)
        path = self.record_path(name) / "record.json"
        try:
            return Record.from_json(read_json(path))
        except InputError as error:
            hint = f"remove {path.parent} and build it again"
            raise InputError(f"{name}: {error.message}", hint=hint) from error

    def _require(self, name: StoreName) -> None:
        if name not in self:
            raise InputError(f"{name}: not in the store {self.directory}")

    def table(self, name: StoreName) -> Table:
        """Return an entry's references."""
        return Table.from_json(read_json(self.record_path(name) / "table.json"))

    def manifest(self, name: StoreName) -> Manifest:
        """Return an entry's content, as recorded."""
        path = self.record_path(name) / "manifest"
        try:
            return Manifest.from_bytes(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error

    def audit(self, name: StoreName) -> Any:
        """Return what the audit found when the entry was made, as JSON values."""
        return read_json(self.record_path(name) / "audit.json")

    def add(
        self, tree: Path, stage: Path, *, record: Record, table: Table, manifest: Manifest, audit: Any
    ) -> Path:
        """Move a staged tree, whose references point here already, into the store; return where it is.

        `stage` is a private directory on the store's filesystem. The caller holds the entry's lock.
        """
        fsys.make_read_only(tree)
        _write_record(stage / "record", record, table, manifest, audit)
        self.remove(record.name)
        target = self.path(record.name)
        # A directory must be writable while it changes its parent.
        tree.chmod(0o755)
        tree.rename(target)
        target.chmod(0o555)
        (stage / "record").rename(self.record_path(record.name))
        return target

    def remove(self, name: StoreName) -> None:
        """Remove an entry, or what a crash left of it; record.json goes first, and with it the entry."""
        (self.record_path(name) / "record.json").unlink(missing_ok=True)
        fsys.remove_tree(self.record_path(name))
        fsys.remove_tree(self.path(name))

    def forget_locks(self) -> None:
        """Remove the directory of records if no entry is made, removed or recorded in it just now."""
        records = self.root / ".records"
        for lock in records.glob("*.lock"):
            fsys.remove_lock(lock)
        records.rmdir()

    def verify(self, name: StoreName) -> tuple[Damage, ...]:
        """Read an entry whole and return how it differs from its manifest: nothing, when it is sound.

        Raises InputError when there is no such entry.
        """
        self._require(name)
        try:
            record, manifest = self.record(name), self.manifest(name)
            if manifest.digest != record.content:
                return (Damage(path="", what="the manifest does not have the recorded content hash"),)
            found = describe(self.path(name), self.table(name), self.location)
        except (InputError, IntegrityError) as error:
            return (Damage(path="", what=error.message),)
        return tuple(_differences(manifest, found))

    def find(self, text: str) -> StoreName:
        """Return the one entry that `text` means: a path, a name, the beginning of a hash, a package.

        Raises InputError when there is none, or more than one.
        """
        path = Path(text)
        if "/" in text or path.is_symlink():
            found = locate(path)
            if found is not None and found[0].directory.resolve() == self.directory.resolve():
                return found[1]
            raise InputError(f"{text}: not in the store {self.directory}")
        matches = [
            name
            for name in self.names()
            if text in {str(name), name.package, f"{name.package}-{name.version}"}
        ] or [name for name in self.names() if len(text) >= 4 and str(name).startswith(text)]
        if len(matches) == 1:
            return matches[0]
        if not matches:
            raise InputError(
                f"{text}: no such entry in the store", hint="`belljar store list` shows them all"
            )
        listing = "\n".join(f"  {name}" for name in matches)
        raise InputError(f"{text}: {len(matches)} entries match:\n{listing}", hint="name one of them whole")


def locate(path: Path) -> tuple[Store, StoreName] | None:
    """Return the store and the entry that a path is or lies in, links followed; None when it is in none."""
    resolved = path.resolve()
    tail = placeholder.TAIL[1:]
    for place in (resolved, *resolved.parents):
        if place.parent.name == tail and not place.name.startswith("."):
            store, name = Store(directory=place.parent.parent), _name(place.name)
            return (store, name) if name is not None and name in store else None
    return None


def _name(text: str) -> StoreName | None:
    """Return the entry's name that a file name is; None when it is something else: a lock, a stray file."""
    with contextlib.suppress(InputError):
        return StoreName.parse(text)
    return None


def _write_record(where: Path, record: Record, table: Table, manifest: Manifest, audit: Any) -> None:
    fsys.write_atomic(where / "manifest", manifest.to_bytes(), mode=0o444)
    for name, value in (("table", table.to_json()), ("audit", audit), ("record", record.to_json())):
        text = json.dumps(value, indent=None if name == "table" else 1, sort_keys=True) + "\n"
        fsys.write_atomic(where / f"{name}.json", text, mode=0o444)


def _differences(recorded: Manifest, found: Manifest) -> Iterator[Damage]:
    before: dict[str, Line] = {line.path: line for line in recorded.lines}
    after: dict[str, Line] = {line.path: line for line in found.lines}
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            yield Damage(path=path, what="missing")
        elif path not in before:
            yield Damage(path=path, what="added")
        elif before[path] != after[path]:
            yield Damage(path=path, what="changed")
