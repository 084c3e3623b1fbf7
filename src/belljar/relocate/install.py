"""Installing an artifact into a directory of the user's choice.

The directory becomes the location of a store of its own (belljar.store): the tree lies at
DIR/<tail>/<hash>-<name>-<version>, with its references rewritten to that, byte for byte as a build
there would have written them. Links make DIR look like the prefix that people expect:
DIR/bin -> <tail>/<hash>-hello-2.10/bin. Everything is checked before anything is written; the tree
is staged beside its place and renamed in, the links come last. To undo it, `uninstall`.

Rejected: rewriting the whole prefix (placeholder and store name) to DIR itself. It would be one
directory less, but the tail of each path would no longer be the same everywhere, and what compilers
split off the end of a literal could not be told apart.
"""

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from belljar import fsys
from belljar.errors import InputError
from belljar.relocate.copy import copy_tree
from belljar.store import Store, StoreName
from belljar.types import Progress, quiet

_STAGING = ".staging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What an installation does: which tree goes where, the links to it, how many references change."""

    name: StoreName
    source: Store
    target: Store
    links: tuple[tuple[str, str], ...]
    references: int
    present: bool
    alias_of: Path | None = None
    """The long directory for which the target's is a short name; None when there is no such link to make."""

    @property
    def tree(self) -> Path:
        """Where the tree will lie."""
        return self.target.path(self.name)

    def describe(self) -> list[str]:
        """Say what is done, one line each."""
        place = self.target.directory
        lines = [] if self.alias_of is None else [f"link {place} -> {self.alias_of}"]
        lines += [] if self.present else [f"copy {self.source.path(self.name)}", f"  to {self.tree}"]
        lines += [f"rewrite {self.references} references to {place}"] if not self.present else []
        return [*lines, *(f"link {place / link} -> {target}" for link, target in self.links)]


def plan(source: Store, name: StoreName, directory: Path, *, alias: Path | None = None) -> Installation:
    """Return what installing an entry into `directory` takes; nothing is written.

    With `alias`, a link of that name to the directory is made, and files name the link: a way out where the
    directory's path is too long. Raises InputError when the path is too long or of a kind that cannot be
    written into files, when the entry cannot be relocated, or when something else is in the way.
    """
    if alias is not None:
        if alias.is_symlink() and os.readlink(alias) == str(directory):
            return plan(source, name, alias)
        if os.path.lexists(alias):
            raise InputError(f"{alias}: is there already", hint="choose another alias")
        _refuse_what_is_taken(directory, source.path(name))
        return replace(plan(source, name, alias), alias_of=directory)
    target = Store(directory=directory)
    _require_location(target)
    _refuse_the_source(source, directory)
    record = source.record(name)
    if not record.relocatable:
        raise InputError(f"{name}: cannot be moved: {record.reason}")
    # By hash: in a string without an end mark, what follows a name looks like a part of it.
    foreign = [other for other in record.closure if not other.startswith(name.hash)]
    if foreign:
        raise InputError(
            f"{name}: refers to other entries, which would have to be installed first: {foreign}"
        )
    if not target.location.isascii():
        source.table(name).refuse(target.location)
    links, wrong = [], []
    tree = target.path(name)
    for entry in sorted(os.listdir(source.path(name))):
        link, goal = directory / entry, os.path.relpath(tree / entry, directory)
        if link.is_symlink() and os.readlink(link) == goal:
            continue
        if os.path.lexists(link):
            wrong.append(entry)
        links.append((entry, goal))
    if wrong:
        raise InputError(
            f"{directory}: has {', '.join(wrong)} already, which {name.package} would put there",
            hint="install into an empty directory, or remove what is there",
        )
    return Installation(
        name=name,
        source=source,
        target=target,
        links=tuple(links),
        references=record.references,
        present=name in target,
    )


def _require_location(target: Store) -> None:
    """Refuse a path that cannot be written into files; a long one may have a short name."""
    try:
        _ = target.location
    except InputError as error:
        if "too long" in error.message:
            error.hint = "choose a shorter directory, or name it by a short link: --alias /short/path"
        raise


def _refuse_what_is_taken(directory: Path, tree: Path) -> None:
    """Refuse a directory that has already what an alias of it would show."""
    taken = [entry for entry in sorted(os.listdir(tree)) if os.path.lexists(directory / entry)]
    if taken:
        raise InputError(
            f"{directory}: has {', '.join(taken)} already, and no alias leads to it",
            hint="install into an empty directory",
        )


def _refuse_the_source(source: Store, directory: Path) -> None:
    """Refuse to install into the store, whose directories hold nothing but entries."""
    place, own = directory.resolve(), source.directory.resolve()
    if place == own or own in place.parents:
        raise InputError(f"{directory}: lies in the store", hint="choose a directory outside of it")


def install(installation: Installation, *, progress: Progress = quiet) -> Path:
    """Do what the plan says and return the directory; what is there already is left alone.

    Raises IntegrityError when the entry's bytes are not where its table says, HostError when the
    directory cannot be written; nothing is installed then.
    """
    directory = installation.target.directory
    _make_alias(installation)
    is_new = not directory.exists()
    try:
        with installation.target.lock(installation.name):
            if installation.name not in installation.target:
                _copy(installation, progress)
        for link, goal in installation.links:
            (directory / link).symlink_to(goal)
    except BaseException as error:
        _tidy(installation.target)
        if installation.alias_of is not None:
            directory.unlink(missing_ok=True)
        elif is_new:
            with contextlib.suppress(OSError):
                directory.rmdir()
        if isinstance(error, OSError):
            raise fsys.explained(error, directory) from error
        raise
    return directory


def _make_alias(installation: Installation) -> None:
    """Make the short name of a long directory, and the directory."""
    alias, directory = installation.target.directory, installation.alias_of
    if directory is None:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        alias.parent.mkdir(parents=True, exist_ok=True)
        alias.symlink_to(directory)
    except OSError as error:
        raise fsys.explained(error, alias) from error


def _copy(installation: Installation, progress: Progress) -> None:
    target, name, source = installation.target, installation.name, installation.source
    table = source.table(name)
    with fsys.staging(target.root / _STAGING) as stage:
        tree = stage / "tree"
        old, new = source.location, target.location
        copy_tree(source.path(name), tree, table=table, old=old, new=new, progress=progress)
        target.add(
            tree,
            stage,
            record=source.record(name),
            table=table,
            manifest=source.manifest(name),
            audit=source.audit(name),
        )


def uninstall(directory: Path, name: StoreName) -> None:
    """Remove an installed entry and the links that lead to it; what else lies in the directory stays."""
    target = Store(directory=directory)
    tree = target.path(name)
    with target.lock(name):
        for link in directory.iterdir():
            if link.is_symlink() and os.readlink(link) == os.path.relpath(tree / link.name, directory):
                link.unlink()
        target.remove(name)
    _tidy(target)


def _tidy(target: Store) -> None:
    """Remove the store below an installation when nothing is in it; somebody at work there keeps it."""
    if not target.root.is_dir() or any(target.names()):
        return
    with contextlib.suppress(OSError):
        fsys.sweep(target.root / _STAGING)
        (target.root / _STAGING).rmdir()
    with contextlib.suppress(OSError):
        target.forget_locks()
        target.root.rmdir()
