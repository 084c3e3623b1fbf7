"""What of an ELF file can be edited, and the edits, as values: each edit turns names into other names.

`Names` is all that an edit sees. Whether the new names fit into the file, and where, is asked only
after the last edit of a sequence (`elf/edit.py`): a sequence costs one change of the file, and one that
ends where it began costs none.

Search paths are merged, not replaced, unless the edit says `replace`: a library found through an entry
that the linker wrote is found afterwards, too (replacing broke 4 of 260 programs in docs/elf-editing.md).
A file keeps the tag that it has, since DT_RPATH is searched before LD_LIBRARY_PATH and for the libraries
of libraries, DT_RUNPATH after it and not for them (ld.so(8)); a new entry is a DT_RUNPATH.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from belljar.errors import InputError

_LOADER = re.compile(rb"ld(64)?(-[^/]*)?\.so(\.\d+)?|ld-elf.*|libc\.musl-.*|libc\.so")
"""Sonames of loaders: glibc's of every machine, musl's as Alpine and as musl itself call it."""
PATH_MAX = 4096
"""Bytes that the kernel reads of a program interpreter's path, its NUL included."""


class EditRefused(InputError):  # noqa: N818 - a decision, not a fault: the file is sound
    """The file is sound, but this edit is not made; the message says why."""


class PathTag(StrEnum):
    """Which tag a search path is to stand under."""

    KEEP = "keep"
    RPATH = "rpath"
    RUNPATH = "runpath"


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names that a file has; `versioned` are the libraries of which it needs symbol versions."""

    needed: tuple[bytes, ...] = ()
    soname: bytes | None = None
    rpath: bytes | None = None
    runpath: bytes | None = None
    interpreter: bytes | None = None
    versioned: tuple[bytes, ...] = ()
    is_dynamic: bool = True
    is_program: bool = False

    @property
    def search_path(self) -> tuple[bytes, ...]:
        """The entries that the loader heeds: it ignores DT_RPATH beside DT_RUNPATH."""
        path = self.rpath if self.runpath is None else self.runpath
        return () if path is None else tuple(path.split(b":"))

    def with_search_path(self, entries: Sequence[bytes], tag: PathTag) -> "Names":
        """Return names with that search path under that tag; no entries: without one."""
        if entries and self.soname is not None and _LOADER.fullmatch(self.soname):
            raise EditRefused(f"{_text(self.soname)}: the loader itself gets no search path")
        path = b":".join(entries) if entries else None
        if path is None:
            return replace(self, rpath=None, runpath=None)
        if tag is PathTag.KEEP:
            if self.runpath is None and self.rpath is not None:
                return replace(self, rpath=path)
            return replace(self, runpath=path)
        if tag is PathTag.RPATH:
            return replace(self, rpath=path, runpath=None)
        return replace(self, rpath=None, runpath=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRunpath:
    """Search these entries first, then those that are there already; `replace`: instead of them."""

    entries: tuple[str, ...]
    tag: PathTag = PathTag.KEEP
    replace: bool = False

    def apply(self, names: Names) -> Names:
        """Return what the names become."""
        wanted = _entries(self.entries)
        kept = () if self.replace else tuple(item for item in names.search_path if item not in wanted)
        return _dynamic(names).with_search_path(wanted + kept, self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRunpath:
    """Search these entries last; those that are there already keep their place."""

    entries: tuple[str, ...]
    tag: PathTag = PathTag.KEEP

    def apply(self, names: Names) -> Names:
        """Return what the names become."""
        there = names.search_path
        added = tuple(item for item in _entries(self.entries) if item not in there)
        return _dynamic(names).with_search_path(there + added, self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRunpath:
    """Search these entries no more; without entries, none at all."""

    entries: tuple[str, ...] = ()
    tag: PathTag = PathTag.KEEP

    def apply(self, names: Names) -> Names:
        """Return what the names become."""
        unwanted, there = _entries(self.entries), names.search_path
        kept = tuple(item for item in there if item not in unwanted) if unwanted else ()
        if kept == there and self.tag is PathTag.KEEP:
            return names
        return names.with_search_path(kept, self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddNeeded:
    """Need a library, after those that are needed already; `first`: before them."""

    name: str
    first: bool = False

    def apply(self, names: Names) -> Names:
        """Return what the names become."""
        name = _name(self.name, "library")
        if name in names.needed:
            return names
        needed = (name, *names.needed) if self.first else (*names.needed, name)
        return replace(_dynamic(names), needed=needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceNeeded:
    """Need `new` where `old` is needed, also as the library that symbol versions are looked for in."""

    old: str
    new: str

    def apply(self, names: Names) -> Names:
        """Return what the names become; raises EditRefused when neither is needed."""
        old, new = _name(self.old, "library"), _name(self.new, "library")
        if old not in names.needed and old not in names.versioned:
            if new in names.needed:
                return names
            raise EditRefused(f"{self.old}: is not needed, so it cannot be replaced")
        needed = tuple(dict.fromkeys(new if item == old else item for item in names.needed))
        versioned = tuple(new if item == old else item for item in names.versioned)
        return replace(names, needed=needed, versioned=versioned)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNeeded:
    """Need a library no more; nothing changes where it is not needed."""

    name: str

    def apply(self, names: Names) -> Names:
        """Return what the names become; raises EditRefused when symbol versions of it are needed."""
        name = _name(self.name, "library")
        if name not in names.needed:
            return names
        if name in names.versioned:
            # glibc's _dl_check_map_versions ends the program when none of that name is loaded.
            raise EditRefused(
                f"{self.name}: symbol versions of it are needed",
                hint="replace it by a library that has them, or link without it",
            )
        return replace(names, needed=tuple(item for item in names.needed if item != name))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSoname:
    """Give a library another name; None takes it away."""

    name: str | None

    def apply(self, names: Names) -> Names:
        """Return what the names become; raises EditRefused for a program."""
        soname = None if self.name is None else _name(self.name, "soname")
        if soname is not None and soname != names.soname and names.is_program:
            raise EditRefused("a program gets no soname: only libraries are found by one")
        return names if soname == names.soname else replace(_dynamic(names), soname=soname)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetInterpreter:
    """Give a program another loader, by its absolute path."""

    path: str

    def apply(self, names: Names) -> Names:
        """Return what the names become; raises EditRefused for a file that has none."""
        path = _name(self.path, "interpreter")
        if not path.startswith(b"/"):
            raise EditRefused(f"{self.path}: the kernel takes an interpreter's absolute path only")
        if len(path) >= PATH_MAX:
            raise EditRefused(f"interpreter of {len(path)} bytes: the kernel takes {PATH_MAX - 1}")
        if names.interpreter is None:
            raise EditRefused("has no interpreter: it is a library, or a program that is linked statically")
        return replace(names, interpreter=path)


Edit = (
    SetRunpath
    | AddRunpath
    | RemoveRunpath
    | AddNeeded
    | ReplaceNeeded
    | RemoveNeeded
    | SetSoname
    | SetInterpreter
)
"""One wish; `edit` takes any number of them."""


def _dynamic(names: Names) -> Names:
    if not names.is_dynamic:
        raise EditRefused("has no dynamic segment (it is linked statically, or holds debug information only)")
    return names


def _entries(entries: Sequence[str]) -> tuple[bytes, ...]:
    """Return the entries of a search path, each once."""
    found = tuple(dict.fromkeys(_name(item, "search path entry") for item in entries))
    for item in found:
        if b":" in item:
            raise EditRefused(f"search path entry {_text(item)!r}: a colon would make two of it")
    return found


def _name(text: str, what: str) -> bytes:
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise EditRefused(f"{what} {text!r}: is no text") from None
    if not raw or b"\0" in raw:
        raise EditRefused(f"{what} {text!r}: is empty or holds a NUL")
    return raw


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
