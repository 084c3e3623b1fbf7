"""What of a tree is sealed: which files run on a private loader and libc, and on which release of it.

A program with an embedded loader says so itself. One that a launcher or a wrapper script starts does not:
the record of the prefix (`lib/belljar/seal.json`) tells its form, and the program that is meant is the inner
one. A library is served by a private libc where it lies beside it, or where a sealed program of the same
prefix needs it by name. All others, plug-ins and libraries for foreign callers, are the host's to serve:
whoever loads them is not known.

What a private libc meets is no need of the host: it sets no floor. Its loader's kernel does.
"""

import enum
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import starmap
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from belljar.audit.floors.glibc import GlibcVersion
from belljar.audit.floors.series import number
from belljar.elf.sealed import Seal

if TYPE_CHECKING:
    from belljar.audit.facts import FileFacts

PRIVATE = "lib/belljar"
"""Where in a prefix the private directory is."""
RECORD = f"{PRIVATE}/seal.json"
RECORD_LIMIT = 16 << 20
"""Bytes of a record that are read."""
LIBC = "libc.so.6"
_LOADER = re.compile(r"ld(64|-linux.*)?\.so\.[0-9]")


class Form(enum.StrEnum):
    """How a file comes to run on a private libc."""

    EMBEDDED = "embedded"
    """It has the stub that finds the loader."""
    STATIC = "static"
    """A launcher starts it."""
    SH = "sh"
    """A script starts it."""
    LIBRARY = "library"
    """Sealed programs load it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealFacts:
    """How a file is sealed; paths are relative to its directory.

    `glibc` is the release of the private libc, `kernel` the oldest Linux that it, its loader and the file
    accept; None where they are not there or do not say. `is_bundled`: it lies in the private directory.
    """

    form: Form
    loader: str
    directories: tuple[str, ...]
    glibc: GlibcVersion | None = None
    kernel: str | None = None
    is_bundled: bool = False

    @property
    def seal(self) -> Seal:
        """The same as a loader is told."""
        return Seal(loader=self.loader, directories=self.directories)

    @property
    def is_program(self) -> bool:
        """Whether it is a program that is sealed, not a library for one."""
        return self.form is not Form.LIBRARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A program that a launcher starts; paths are relative to the prefix, as the record has them."""

    launcher: str
    program: str
    directories: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a prefix says of its seal; `path` is that of the record.

    `form` is that of the programs that launchers start (those with an embedded loader tell it themselves),
    None where the record is damaged; `loader` is its name in the private directory.
    """

    path: str
    form: Form | None
    loader: str = ""
    wrapped: tuple[Wrapped, ...] = ()

    @property
    def prefix(self) -> str:
        """The prefix, normal."""
        return os.path.normpath(normal(self.path).removesuffix(RECORD) or ".")


def parse_record(path: str, text: bytes) -> Record:
    """Read a record (belljar.seal.record says what is in it); whatever its bytes are."""
    try:
        value = json.loads(text)
        form = Form(value["form"])
        return Record(
            path=path,
            form=form if form is Form.SH else Form.STATIC,
            loader=next(filter(_is_loader, value["files"])),
            wrapped=tuple(starmap(_wrapped, value.get("wrapped", {}).items())),
        )
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        return Record(path=path, form=None)


def _wrapped(launcher: str, told: Mapping[str, Any]) -> Wrapped:
    paths = launcher, told["program"], *told["directories"]
    for path in paths:
        if os.path.isabs(path) or ".." in path.split("/"):
            raise ValueError(f"{path!r} is not a path of the prefix")
    return Wrapped(launcher=launcher, program=told["program"], directories=tuple(told["directories"]))


def embedded(seal: Seal) -> SealFacts:
    """Return what a program with an embedded loader says of itself."""
    return SealFacts(form=Form.EMBEDDED, loader=seal.loader, directories=seal.directories)


Load = Callable[[str], "FileFacts | None"]
"""Gives the facts of a file that was not audited, by its path; None where there is none."""


def settled(files: Sequence["FileFacts"], records: Sequence[Record], load: Load) -> tuple["FileFacts", ...]:
    """Return the files with what is sealed marked, and by which libc they are served."""
    if not records and all(file.sealed is None for file in files):
        return tuple(files)
    tree = _Tree(load=load, files={normal(file.path): file for file in files})
    for record in records:
        tree.add_inner(record)
    for path, file in list(tree.files.items()):
        if file.sealed is not None:
            tree.serve_program(path, file)
    for path in list(tree.files):
        tree.serve_bundled(path)
    marked = ((file, tree.files[normal(file.path)]) for file in files)
    return tuple(
        replace(file, sealed=found.sealed, kernel=found.kernel, musl=found.musl) for file, found in marked
    )


def normal(path: str) -> str:
    """Return a path without detours; the members of an archive are below it."""
    is_member = "!" in path and not os.path.lexists(path)
    return os.path.normpath(path.replace("!", "!/") if is_member else path)


@dataclass(slots=True, kw_only=True)
class _Tree:
    """The files by their normal paths, while it is found out what serves them; `private` are directories."""

    load: Load
    files: dict[str, "FileFacts"]
    private: dict[str, SealFacts] = field(default_factory=dict)
    inside: dict[str, list[str]] = field(default_factory=dict)
    """By directory, the files in it."""

    def __post_init__(self) -> None:
        for path in self.files:
            self.inside.setdefault(os.path.dirname(path), []).append(path)

    def add_inner(self, record: Record) -> None:
        """Mark the programs that the launchers of a prefix start."""
        for item in record.wrapped:
            path = os.path.normpath(os.path.join(record.prefix, item.program))
            file = self.files.get(path)
            if file is None or file.sealed is not None or record.form is None:
                continue
            here = os.path.relpath(os.path.dirname(path), record.prefix)
            sealed = SealFacts(
                form=record.form,
                loader=os.path.relpath(f"{PRIVATE}/{record.loader}", here),
                directories=tuple(os.path.relpath(place, here) for place in item.directories),
            )
            self.files[path] = replace(file, sealed=sealed)

    def serve_program(self, path: str, file: "FileFacts") -> None:
        """Complete what is known of a sealed program, and mark the libraries that it needs by name."""
        sealed = file.sealed
        assert sealed is not None
        loader = beside(path, sealed.loader)
        private = os.path.dirname(loader)
        libc, found = self.look(os.path.join(private, LIBC)), self.look(loader)
        kernels = [item.kernel for item in (file, libc, found) if item is not None and item.kernel]
        served = replace(
            sealed,
            glibc=libc.libc if libc is not None else None,
            kernel=max(kernels, key=number, default=None),
        )
        self.files[path] = replace(file, sealed=served, kernel=served.kernel, musl=())
        self.private.setdefault(private, _moved(served, os.path.dirname(path), private))
        places = tuple(beside(path, place) for place in sealed.directories)
        self._serve_needed(file, places, private)

    def _serve_needed(self, file: "FileFacts", places: tuple[str, ...], private: str) -> None:
        by_name = {name: path for path, name in self._names(places)}
        pending = list(file.needed)
        seen: set[str] = set()
        while pending:
            name = PurePath(pending.pop()).name
            path = by_name.get(name)
            if path is None or path in seen:
                continue
            seen.add(path)
            pending += self.files[path].needed
            self._serve(path, private, is_bundled=False)

    def _names(self, places: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Yield the libraries in directories, each with its names; those of the first directory last."""
        for place in reversed(places):
            for path in self.inside.get(place, ()):
                yield path, PurePath(path).name
                if soname := self.files[path].soname:
                    yield path, soname

    def serve_bundled(self, path: str) -> None:
        """Mark what lies in a private directory."""
        sealed = self.files[path].sealed
        for private in self.private:
            if path.startswith(f"{private}/") and (sealed is None or not sealed.is_program):
                self._serve(path, private, is_bundled=True)

    def _serve(self, path: str, private: str, *, is_bundled: bool) -> None:
        file = self.files[path]
        if file.sealed is None or is_bundled:
            moved = _moved(self.private[private], private, os.path.dirname(path))
            sealed = replace(moved, form=Form.LIBRARY, is_bundled=is_bundled, kernel=file.kernel)
            self.files[path] = replace(file, sealed=sealed, musl=())

    def look(self, path: str) -> "FileFacts | None":
        """Return the facts of a file, audited or not."""
        return self.files.get(path) or self.load(path)


def _moved(sealed: SealFacts, old: str, new: str) -> SealFacts:
    """Return the same with paths that are relative to another directory."""

    def moved(path: str) -> str:
        return os.path.relpath(os.path.join(old, path), new or ".")

    return replace(sealed, loader=moved(sealed.loader), directories=tuple(map(moved, sealed.directories)))


def beside(path: str, relative: str) -> str:
    """Return what a path that is relative to a file's directory leads to; the file's is normal."""
    return os.path.normpath(os.path.join(os.path.dirname(path), relative))


def _is_loader(path: str) -> bool:
    return _LOADER.fullmatch(PurePath(path).name) is not None


def private_directories(files: Iterable["FileFacts"]) -> Mapping[str, "FileFacts"]:
    """Return the private directories that sealed programs use, each with the first of them."""
    found: dict[str, FileFacts] = {}
    for file in files:
        if file.sealed is not None and file.sealed.is_program:
            found.setdefault(os.path.dirname(beside(normal(file.path), file.sealed.loader)), file)
    return found
