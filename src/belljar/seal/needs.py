"""What the programs and libraries of a prefix need, and where that is: the first half of a plan.

Needs are those by name, those that a libc opens by itself, those that files tell of in a note
(`.note.dlopen`: required ones are demanded, recommended ones taken where they are), and those that a command
was seen to open. All but what lies in the prefix is to be bundled.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from belljar.errors import InputError
from belljar.ldso import Cache, Closure, Dlopened, Libc, Surroundings, resolve
from belljar.ldso.cpu import baseline
from belljar.ldso.root import Place
from belljar.relocate.change import Refusal
from belljar.seal.bundle import LIBC
from belljar.seal.launcher import Form
from belljar.seal.record import PRIVATE
from belljar.seal.survey import Binary, Kind
from belljar.types import Event, Progress

_SERVICES = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1")
"""What a libc opens by name when it is asked for users, hosts, or the end of a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for: the system that libraries come from, names that stay the host's, locales.

    `form` None is that in which the prefix was sealed before, else embedded. `search` are directories that
    libraries may come from besides those of the loader; `opened` are libraries that a program was seen to
    open; with `suggested`, libraries that files only suggest for themselves are taken too. `scripts`: let
    scripts find their interpreters themselves.
    """

    root: Path = Path("/")
    from_host: tuple[str, ...] = ()
    locales: tuple[str, ...] = ()
    form: Form | None = None
    search: tuple[Path, ...] = ()
    opened: tuple[Path, ...] = ()
    suggested: bool = False
    scripts: bool = False


@dataclass(slots=True, kw_only=True)
class Found:
    """What closures have shown so far; `files` are those to be bundled, by the name that is asked for.

    `places` are the directories of the prefix that have a file of a name, `kept` the names of what was
    bundled before.
    """

    places: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    machine: int = 0
    files: dict[str, Place] = field(default_factory=dict)
    loaders: dict[str, str] = field(default_factory=dict)
    own: dict[str, list[str]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def demand_names(names: Iterable[str]) -> None:
    """Raise InputError for what is no file name: links to what hosts have are made by name."""
    for name in names:
        if not name or set(name) & set("*?[/"):
            raise InputError(
                f"{name!r}: not the name of a library; patterns are not known, since hosts differ",
                hint="name each library that is to come from the host: libcuda.so.1",
            )


def closures(
    prefix: Path, binaries: Sequence[Binary], options: Options, before: Mapping[str, str], progress: Progress
) -> Found:
    """Resolve every program and library of the prefix; `before` is what was bundled, and from where."""
    wanted = [item for item in binaries if item.kind is not Kind.LEFT]
    found, cache = (
        Found(places=_places(wanted), kept=frozenset(before)),
        Cache(options.root, shown=prefix, libraries_only=True),
    )
    programs = [item for item in wanted if item.kind is not Kind.LIBRARY]
    machines = sorted({item.machine for item in programs})
    if len(machines) > 1:
        odd = next(item for item in programs if item.machine != programs[0].machine)
        found.refusals.append(
            Refusal(
                path=odd.path,
                reason=f"is for another machine than {programs[0].path}: one prefix, one machine",
            )
        )
        return found
    if not machines:
        return found
    found.machine = machines[0]
    search = _Search(prefix, cache, machines[0], options)
    opened = {path.name: str(path) for path in options.opened if not path.resolve().is_relative_to(prefix)}
    found.files |= {name: cache.root.locate(path) for name, path in opened.items()}
    for number, item in enumerate(wanted, 1):
        progress(Event(stage="resolve", subject=item.path, done=number, total=len(wanted)))
        if item.machine == machines[0]:
            _take(found, search, item, prefix / item.path)
    services = {name: found.files[name].path for name in _services(found, cache)}
    for name, path in (opened | services).items():
        _take_library(found, search, name, path)
    for name in sorted(before.keys() - found.files.keys()):
        if not _is_hosts(name, options):
            _keep(found, search, name, Path(before[name]))
    return found


class _Search(NamedTuple):
    """Where libraries are looked for, and for what."""

    prefix: Path
    cache: Cache
    machine: int
    options: Options


def _take(found: Found, search: _Search, item: Binary, path: Path) -> None:
    """Take from a file's closure what is to be bundled, and what it says that it may open."""
    places = [search.prefix / name for name in ("lib", "lib64")]
    own = ":".join(str(place) for place in (*places, *search.options.search) if place.is_dir())
    around = Surroundings(library_path=own, cpu=baseline(search.machine))
    closure = resolve(path, cache=search.cache, surroundings=around)
    _add(found, search.prefix, item, closure, search.cache, search.options)
    groups: dict[tuple[str, str, str], list[Dlopened]] = {}
    for wish in closure.dlopened:
        if wish.source == "note" and (wish.priority != "suggested" or search.options.suggested):
            groups.setdefault((wish.asker, wish.feature, wish.priority), []).append(wish)
    for wishes in groups.values():
        _add_opened(found, search, item, wishes)


def _keep(found: Found, search: _Search, name: str, source: Path) -> None:
    """Take what was bundled before and is not seen to be needed: a command opened it, or it was suggested."""
    root = search.options.root.resolve()
    try:
        _take_library(found, search, name, f"/{source.relative_to(root)}")
    except (OSError, ValueError):
        reason = f"was bundled from {source}, which is not there: unseal first, or take the --root of before"
        found.refusals.append(Refusal(path=f"{PRIVATE}/{name}", reason=reason))


def _take_library(found: Found, search: _Search, name: str, path: str) -> None:
    """Take a library that nobody needs by name, with its own needs."""
    library = Binary(names=(name,), kind=Kind.LIBRARY, machine=search.machine)
    _add_file(found, library, name, search.cache.root.locate(path))
    _take(found, search, library, Path(path))


def _add_opened(found: Found, search: _Search, item: Binary, wishes: Sequence[Dlopened]) -> None:
    """Take libraries that a file says it opens for one feature: several names may be alternatives.

    Source: systemd's uapi-group specification, "ELF dlopen metadata".
    """
    theirs = [wish for wish in wishes if not _is_hosts(os.path.basename(wish.name), search.options)]
    for wish in theirs:
        name = os.path.basename(wish.name)
        if wish.path is None:
            feature = f" for {wish.feature}" if wish.feature else ""
            words = f"{name} is not found, which {wish.asker} opens{feature} ({wish.priority})"
            if wish.priority == "required" and all(other.path is None for other in wishes):
                found.refusals.append(Refusal(path=item.path, reason=words))
            else:
                found.notes.append(f"{item.path}: {words}")
        elif Path(search.cache.root.locate(wish.path).host).is_relative_to(search.prefix):
            directory = os.path.dirname(os.path.relpath(wish.path, search.prefix))
            found.own.setdefault(item.path, []).append(directory)
        elif name not in found.files:
            _take_library(found, search, name, wish.path)


def _services(found: Found, cache: Cache) -> list[str]:
    """Add what the libc opens by itself, from where the libc comes from; return which there are."""
    libc = found.files.get(LIBC)
    there = []
    for name in _SERVICES if libc else ():
        with contextlib.suppress(OSError):
            place = cache.root.locate(f"{os.path.dirname(libc.path)}/{name}" if libc else name)
            found.files.setdefault(name, place)
            there.append(name)
    return there


def _add(found: Found, prefix: Path, item: Binary, closure: Closure, cache: Cache, options: Options) -> None:
    """Take from a closure what is to be bundled, and where the prefix's own libraries lie."""
    if item.kind is Kind.PROGRAM and closure.libc is not Libc.GLIBC:
        found.refusals.append(Refusal(path=item.path, reason=f"its loader is not there: {item.interpreter}"))
        return
    for edge in closure.edges:
        name = os.path.basename(edge.name)
        if _is_hosts(name, options):
            continue
        if edge.path is None:
            _add_missing(found, item, name, "" if edge.asker == str(prefix / item.path) else edge.asker)
        elif Path((place := cache.root.locate(edge.path)).host).is_relative_to(prefix):
            directory = os.path.dirname(os.path.relpath(edge.path, prefix))
            found.own.setdefault(item.path, []).append(directory)
        else:
            _add_file(found, item, name, place)
    if item.kind is Kind.PROGRAM and closure.loader:
        found.loaders[os.path.basename(closure.loader)] = item.path


def _add_missing(found: Found, item: Binary, name: str, asker: str) -> None:
    """Refuse a need that leads nowhere.

    Where the prefix has a file of that name, a library is left to those who load it: by then it is loaded, or
    is found by their search path. A program is given the directory, as its wrapper did with LD_LIBRARY_PATH.
    """
    if name in found.files or name in found.kept:  # it was seen to be opened
        return
    places = found.places.get(name, ())
    if item.kind is Kind.LIBRARY and places:
        return
    if len(places) == 1:
        found.own.setdefault(item.path, []).extend(places)
        return
    where = f": it is in {', '.join(places)}" if places else ""
    needed = f", which {asker} needs" if asker else ""
    found.refusals.append(Refusal(path=item.path, reason=f"{name} is not found{needed}{where}"))


def _places(binaries: Iterable[Binary]) -> dict[str, list[str]]:
    """Return in which directories there is a library, by its name."""
    places: dict[str, list[str]] = {}
    for item in binaries:
        for directory, name in map(os.path.split, item.names if item.kind is Kind.LIBRARY else ()):
            places.setdefault(name, []).append(directory)
    return places


def _add_file(found: Found, item: Binary, name: str, place: Place) -> None:
    before = found.files.setdefault(name, place)
    if before != place and Path(before.host).read_bytes() != Path(place.host).read_bytes():
        found.refusals.append(
            Refusal(path=item.path, reason=f"two libraries are called {name}: {before.path}, {place.path}")
        )


def _is_hosts(name: str, options: Options) -> bool:
    return name in options.from_host
