"""What a prefix holds that sealing is about: its programs, its libraries, and what is left alone, and why."""

import enum
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from belljar import fsys
from belljar.elf import Elf, ElfError, read
from belljar.elf.const import MAGIC, Type
from belljar.elf.sealed import seal_of
from belljar.fsys import Entry
from belljar.seal import record
from belljar.seal.record import PRIVATE
from belljar.seal.wrapped import inner_programs, is_made_ready, is_wrapped

_SET_ID = stat.S_ISUID | stat.S_ISGID


class Kind(enum.StrEnum):
    """What sealing does with a file."""

    PROGRAM = "program"
    """It is sealed."""
    LIBRARY = "library"
    """Its libraries are bundled, its search path is made to lead to them."""
    SEALED = "sealed"
    """It was sealed before."""
    LEFT = "left alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """An ELF file of the prefix; `names` are its hard links, `search` is its RUNPATH or RPATH.

    `reason` says why a file is left alone.
    """

    names: tuple[str, ...]
    kind: Kind
    machine: int
    interpreter: str | None = None
    search: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    reason: str = ""

    @property
    def path(self) -> str:
        """The path of the file in the prefix."""
        return self.names[0]


def outside(prefix: Path, item: Binary) -> tuple[str, ...]:
    """Return the entries of a file's search path that lead out of the prefix, or nobody knows where."""
    here = prefix / os.path.dirname(item.path)
    return tuple(entry for entry in item.search if not is_own(prefix, here, entry))


def is_own(prefix: Path, here: Path, entry: str) -> bool:
    """Whether an entry of the search path of a file in `here` is a directory of the prefix."""
    place = place_of(here, entry)
    return place.is_absolute() and "$" not in str(place) and place.is_relative_to(prefix)


def place_of(here: Path, entry: str) -> Path:
    """Return what an entry of the search path of a file in `here` names."""
    return Path(os.path.normpath(entry.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(here))))


def survey(prefix: Path) -> Iterator[Binary]:
    """Yield the ELF files of a prefix in the order of their paths; what is damaged is left alone.

    A launcher is none of them; the program that it starts is. Raises OSError when something cannot be read,
    InputError for a prefix with a damaged seal.
    """
    wrapped = record.wrapped(record.read(prefix))
    inner = inner_programs(prefix, wrapped)
    hidden = set(wrapped.values()) - inner
    entries = [entry for entry in fsys.walk(prefix, enter=_is_theirs) if entry.is_file]
    names: dict[tuple[int, int], list[str]] = {}
    for entry in entries:
        if entry.path not in hidden:
            names.setdefault((entry.info.st_dev, entry.info.st_ino), []).append(entry.path)
    for entry in entries:
        own = names.get((entry.info.st_dev, entry.info.st_ino), [""])
        if own[0] != entry.path or not _is_elf(prefix / entry.path) or is_wrapped(prefix / entry.path):
            continue
        outer = tuple(name for name in own if name not in inner)
        binary = _binary(outer or tuple(own), entry, prefix / entry.path)
        yield binary if outer else replace(binary, kind=Kind.SEALED, reason="")


def _is_theirs(entry: Entry) -> bool:
    name = entry.path.rpartition("/")[2]
    is_ours = entry.path == PRIVATE or entry.path.startswith((".belljar-", "lib/.belljar."))
    return not is_ours and not is_made_ready(name)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _binary(names: tuple[str, ...], entry: Entry, path: Path) -> Binary:
    image = path.read_bytes()
    try:
        elf = read(image, exports=False)
    except ElfError as error:
        return Binary(names=names, kind=Kind.LEFT, machine=0, reason=f"damaged: {error.message}")
    kind, reason = _kind(elf, entry, image)
    if kind is Kind.PROGRAM and _has_capabilities(path):
        kind, reason = Kind.LEFT, "has capabilities: its libraries could be chosen by a link to it"
    dynamic = elf.dynamic
    search = (dynamic.runpath or dynamic.rpath or "") if dynamic else ""
    return Binary(
        names=names,
        kind=kind,
        machine=elf.header.machine,
        interpreter=elf.interpreter,
        search=tuple(item for item in search.split(":") if item),
        needed=dynamic.needed if dynamic else (),
        reason=reason,
    )


def _kind(elf: Elf, entry: Entry, image: bytes) -> tuple[Kind, str]:
    """Return what is done with a file, and why where that is nothing."""
    if elf.header.type not in (Type.EXEC, Type.DYN):
        return Kind.LEFT, "neither a program nor a library"
    if seal_of(image) is not None:
        return Kind.SEALED, ""
    if elf.dynamic is None:
        return Kind.LEFT, "static: it needs no loader"
    if elf.interpreter is None:
        return Kind.LIBRARY, ""
    if entry.info.st_mode & _SET_ID:
        return Kind.LEFT, "set-user-ID or set-group-ID: its libraries could be chosen by a link to it"
    if not os.path.basename(elf.interpreter).startswith("ld-linux"):
        return Kind.LEFT, f"its loader is not glibc's: {elf.interpreter}"
    is_program = entry.is_executable and (elf.header.type == Type.EXEC or not elf.dynamic.soname)
    return (Kind.PROGRAM if is_program else Kind.LIBRARY), ""


def _has_capabilities(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:  # it has none, or the filesystem knows none
        return False
