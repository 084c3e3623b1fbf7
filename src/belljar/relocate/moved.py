"""Trees that belljar made and a user moved: the store of a home whose name changed, an installed directory.

Nothing in such a tree says where it was; its files do. The first whole reference of an entry's table is
read, which gives the location that stands there, and all other references are compared with it before
anything is written. Then each entry is rewritten to where it is now, as a plan of its own
(belljar.relocate.moving): a crash leaves entries wholly done or with a journal, and the next run goes on.
Done entries keep no journal, for the table is one: to move back is to do this again.

Records and hashes need no change, since they are of canonical bytes (belljar.store); the links of an
installation, DIR/bin -> <tail>/<entry>/bin, are relative.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys, placeholder
from belljar.checksums import digests
from belljar.errors import InputError, IntegrityError
from belljar.references import Bound, Digest, Reference, Table, mismatch
from belljar.relocate import inode
from belljar.relocate.change import FileChange, LinkChange, NewFile, Plan
from belljar.relocate.copy import copy_tree
from belljar.relocate.edits import Edits
from belljar.relocate.moving import carry_out, resume
from belljar.relocate.root import Root, opened
from belljar.splice import Splice
from belljar.store import Store, StoreName
from belljar.types import Progress, quiet

_STAGING = ".staging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was done for one entry: the directory that its files named, and how many of them changed."""

    name: StoreName
    old: Path
    new: Path
    changed: int


def moved(directory: Path, *, output: Path | None = None, progress: Progress = quiet) -> tuple[Moved, ...]:
    """Let every entry of the store or installation at `directory` name the place where it is.

    With `output`, a copy that is at home there is made instead, links included, and `directory` is only
    read. Raises InputError when there is no such store, or its path will not do, IntegrityError when an
    entry's bytes are not those that its table says, HostError when it cannot be written.
    """
    store = Store(directory=directory)
    target = store if output is None else Store(directory=output)
    _ = target.location
    names = list(store.names())
    if not names:
        raise InputError(f"{directory}: neither a store of belljar nor an installation")
    if output is not None:
        _refuse_output(directory, output)
    shared = _location_of_any(store, names)
    done = [_move(store, target, name, shared, progress) for name in names]
    if output is not None:
        _copy_links(store, output)
    return tuple(done)


def faults(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the entries of a store or installation that do not name the place where it is, and what is wrong.

    Raises InputError when a table is damaged.
    """
    store = Store(directory=directory)
    for name in store.names():
        tree, table, here = store.path(name), store.table(name), store.location
        try:
            there = location_in(tree, table)
            if there not in (None, here):
                yield str(name), f"names {_directory(there or b'')}, not where it is: relocate it"
            else:
                plan_entry(tree, table, old=here, new=here)
        except IntegrityError as error:
            yield str(name), error.message


def location_in(tree: Path, table: Table) -> bytes | None:
    """Return the location that stands at an entry's first whole reference; None when it has none.

    Raises InputError when what stands there is no location.
    """
    with opened(tree) as root:
        for path, reference in _whole(table.files):
            with root.reading(path) as fd:
                return _as_location(os.pread(fd, placeholder.LENGTH, reference.offset), tree / path)
        for path, reference in _whole(table.links):
            target = root.readlink(path)
            return _as_location(target[reference.offset : reference.end], tree / path)
    return None


def plan_entry(tree: Path, table: Table, *, old: bytes, new: bytes) -> Plan:
    """Return the plan that turns an entry's references from `old` to `new`; nothing is written.

    Raises IntegrityError when `old` does not stand at one of them.
    """
    table.refuse(new)
    with opened(tree) as root:
        changes: list[FileChange | LinkChange | NewFile] = [
            *_file_changes(root, table, old, new),
            *_link_changes(root, table, old, new),
        ]
    return Plan(tree=tree, moves=((old, new),), changes=changes)


def _move(store: Store, target: Store, name: StoreName, shared: bytes | None, progress: Progress) -> Moved:
    tree, table = store.path(name), store.table(name)
    with target.lock(name):
        if target == store:
            resume(tree, keep=False, progress=progress)
        old = location_in(tree, table) or shared or target.location
        if target != store:
            changed = _copy_entry(store, target, name, old, progress)
        elif old != target.location:
            plan = plan_entry(tree, table, old=old, new=target.location)
            changed = carry_out(plan, keep=False, progress=progress).changed
        else:
            changed = 0
    return Moved(name=name, old=_directory(old), new=target.directory, changed=changed)


def _location_of_any(store: Store, names: list[StoreName]) -> bytes | None:
    """Return the location of the first entry that tells; those that hold only pieces were with it."""
    return next(
        (found for name in names if (found := location_in(store.path(name), store.table(name)))), None
    )


def _copy_entry(store: Store, target: Store, name: StoreName, old: bytes, progress: Progress) -> int:
    if name in target:
        return 0
    table = store.table(name)
    with fsys.staging(target.root / _STAGING) as stage:
        tree = stage / "tree"
        copy_tree(store.path(name), tree, table=table, old=old, new=target.location, progress=progress)
        target.add(
            tree,
            stage,
            record=store.record(name),
            table=table,
            manifest=store.manifest(name),
            audit=store.audit(name),
        )
    return len(table.files) + len(table.links)


def _copy_links(store: Store, output: Path) -> None:
    """Make the links of an installation again: those that lead into its store."""
    for path, goal in _links(store.directory):
        link = output / path.name
        with contextlib.suppress(FileExistsError):
            link.symlink_to(goal)
        if not link.is_symlink() or os.readlink(link) != goal:
            raise InputError(f"{link}: is in the way of a link to {goal}")


def _links(directory: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(directory.iterdir()):
        if path.is_symlink() and (goal := os.readlink(path)).startswith(placeholder.TAIL[1:] + "/"):
            yield path, goal


def _refuse_output(directory: Path, output: Path) -> None:
    place, source = output.resolve(), directory.resolve()
    if place == source or source in place.parents:
        raise InputError(f"{output}: lies in {directory}", hint="choose a directory outside of it")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is there already, and no directory")


def _whole(side: Mapping[str, Sequence[Reference]]) -> Iterator[tuple[str, Reference]]:
    return ((path, one) for path, references in side.items() for one in references if one.is_whole)


def _as_location(found: bytes, path: Path) -> bytes:
    """Return `found` if it is a location."""
    with contextlib.suppress(InputError):
        if len(found) == placeholder.LENGTH and placeholder.location(_directory(found)) == found:
            return found
    if found == placeholder.PLACEHOLDER.encode():
        return found
    raise InputError(
        f"{path}: no location stands where the relocation table has one",
        hint="the entry is damaged; take it from where it came",
    )


def _directory(location: bytes) -> Path:
    return Path(os.fsdecode(location[: placeholder.DIRECTORY_LIMIT].rstrip(b"/") or b"/"))


def _file_changes(root: Root, table: Table, old: bytes, new: bytes) -> Iterator[FileChange]:
    """Yield a change for each file, under the first of its names."""
    names: dict[tuple[int, int], list[str]] = {}
    for path in table.paths():
        info = root.lstat(path)
        names.setdefault((info.st_dev, info.st_ino), []).append(path)
    edits: dict[str, Edits] = {}
    for first, *aliases in names.values():
        splices = Edits.of(_splices(root, table, first, old, new, edits))
        edits |= dict.fromkeys((first, *aliases), splices)
        yield FileChange(path=first, kind="bytes", splices=splices, aliases=tuple(aliases))


def _splices(
    root: Root, table: Table, path: str, old: bytes, new: bytes, edits: Mapping[str, Edits]
) -> Iterator[Splice]:
    """Yield a file's edits; `edits` are those of the files that come before it (Table.paths)."""
    with root.reading(path) as fd:
        for place in table.places(path, root.path):
            current = os.pread(fd, place.end - place.offset, place.offset)
            if len(current) < place.end - place.offset or place.written(current, old) != current:
                raise mismatch(str(root.path / path), place.offset)
            if isinstance(place, Bound):
                after = _digest_after(root, place.digest, edits.get(place.digest.of, ()))
            else:
                after = place.written(current, new)
            yield Splice(offset=place.offset, old=current, new=after)


def _digest_after(root: Root, digest: Digest, splices: Sequence[Splice]) -> bytes:
    """Return the hash that a file will have once it is edited: that of an edited copy, on the disk."""
    with tempfile.TemporaryFile() as copy, root.reading(digest.of) as source:
        inode.fill(source, copy.fileno(), splices, subject=digest.of)
        return digests(Path(f"/proc/self/fd/{copy.fileno()}"), (digest.kind,))[digest.kind]


def _link_changes(root: Root, table: Table, old: bytes, new: bytes) -> Iterator[LinkChange]:
    for path, references in table.links.items():
        before = after = root.readlink(path)
        for one in references:
            current = before[one.offset : one.end]
            if one.written(current, old) != current:
                raise mismatch(str(root.path / path), one.offset)
            after = after[: one.offset] + one.written(current, new) + after[one.end :]
        yield LinkChange(path=path, old=before, new=after)
