"""What sealing a prefix takes, as values: which programs, with which libraries, and why not.

For each program and library the closure is resolved as its loader would (belljar.ldso), for the oldest
processor, with the prefix's own `lib` in sight. What lies in the prefix stays there; everything else is
bundled, loader and libc with it. A program searches the private directory first, then where the prefix's own
libraries lie: never a directory of the host.

One loader and one libc serve a prefix. Programs of two machines, or of two libcs, are refused, as is a need
that leads nowhere: a prefix is sealed whole or not at all.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from belljar.elf import ElfError
from belljar.elf.edit import edit
from belljar.elf.names import EditRefused, PathTag, RemoveRunpath, SetRunpath
from belljar.elf.sealed import Seal
from belljar.errors import InputError
from belljar.relocate.change import FileChange, Plan, Refusal
from belljar.seal import record, scripts
from belljar.seal.bundle import LIBC, Bundle, licenses_of
from belljar.seal.embed import embed
from belljar.seal.launcher import HELPER, Form, Launch, content, helper, options_of
from belljar.seal.libc import VARIABLES
from belljar.seal.needs import Found, Options, closures, demand_names
from belljar.seal.padded import STUB, stub
from belljar.seal.record import PRIVATE
from belljar.seal.survey import Binary, Kind, is_own, place_of, survey
from belljar.seal.whole import faults
from belljar.seal.wrapped import Wrap, inner_of
from belljar.types import Progress, quiet

__all__ = ["SEALED", "Options", "Sealing", "plan"]

_GCONV, _LOCALE = "gconv", "locale"
_ALWAYS = "C.UTF-8"
_PADDED = "keeps its size: it carries data of its own"
SEALED = "program"
"""The kind of change that seals a program; another is to a library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """A plan for `prefix`: what is bundled, which files change, what is left alone or is sealed already.

    `wraps` are programs that get a launcher; `search` are the directories of the prefix that each program
    searches for libraries.
    """

    prefix: Path
    bundle: Bundle | None
    changes: Plan
    form: Form = Form.EMBEDDED
    wraps: tuple[Wrap, ...] = ()
    search: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left: tuple[Binary, ...] = ()
    sealed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def programs(self) -> tuple[str, ...]:
        """The paths of the programs that are sealed by it."""
        changes = (item for item in self.changes.changes if isinstance(item, FileChange))
        edited = (item.path for item in changes if item.kind == SEALED)
        return (*edited, *(item.path for item in self.wraps))

    def describe(self) -> list[str]:
        """Return the plan for a person."""
        lines = self.bundle.describe() if self.bundle else []
        lines += [*(item.describe() for item in self.wraps), *self.changes.describe()]
        lines += [f"{item.path}: left alone: {item.reason}" for item in self.left]
        lines += [f"note: {note}" for note in self.notes]
        return lines + [f"{path}: is sealed already" for path in self.sealed]


def plan(prefix: Path, options: Options | None = None, *, progress: Progress = quiet) -> Sealing:
    """Return what sealing a prefix takes; nothing is written.

    Raises InputError when the prefix cannot be read, or holds nothing to seal.
    """
    prefix = prefix.resolve()
    told = record.read(prefix)
    options = _as_before(options or Options(), told)
    form = _form(prefix, options, told)
    demand_names(options.from_host)
    try:
        binaries = tuple(survey(prefix))
    except OSError as error:
        raise InputError(f"{error.filename or prefix}: {error.strerror}") from error
    left = tuple(item for item in binaries if item.kind is Kind.LEFT)
    sealed = tuple(item.path for item in binaries if item.kind is Kind.SEALED)
    nothing = Sealing(
        prefix=prefix,
        bundle=None,
        changes=Plan(tree=prefix, moves=()),
        form=form,
        left=left,
        sealed=sealed,
    )
    if not _has_work(prefix, options, told, binaries):
        return nothing
    found = closures(prefix, binaries, options, _bundled(told), progress)
    found.refusals += _taken_places(prefix, told)
    bundle = None if found.refusals else _bundle(found, options, _bundled(told))
    changes: list[FileChange | Wrap | Refusal] = []
    if bundle is not None:
        changes += _changes(_Making(prefix, form, bundle, found), binaries)
    changes += _scripts(prefix, options, found)
    wraps = tuple(item for item in changes if isinstance(item, Wrap))
    if bundle is not None:
        bundle = replace(bundle, own=_own(changes, told, found.machine))
    refusals = found.refusals + [item for item in changes if isinstance(item, Refusal)]
    edits = [item for item in changes if isinstance(item, FileChange)]
    return replace(
        nothing,
        bundle=bundle,
        changes=Plan(tree=prefix, moves=(), changes=tuple(edits), refusals=tuple(sorted(refusals))),
        wraps=wraps,
        search=_searches(prefix, binaries, bundle, found),
        notes=(*found.notes, *_unlicensed(bundle)),
    )


def _own(
    changes: Iterable[FileChange | Wrap | Refusal], told: Mapping[str, Any] | None, machine: int
) -> dict[str, bytes]:
    """Return the files of belljar's that programs need, by their names."""
    names = {name for name, item in (told or {}).get("files", {}).items() if item["source"] == record.OWN}
    for item in changes:
        if isinstance(item, Wrap):
            names.add(HELPER)
        elif isinstance(item, FileChange) and _PADDED in item.reasons:
            names.add(STUB)
    every = {**helper(machine), **stub(machine)} if names else {}
    return {name: content for name, content in every.items() if name in names}


def _taken_places(prefix: Path, told: Mapping[str, Any] | None) -> Iterator[Refusal]:
    """Yield why the private directory cannot be where it belongs."""
    place, above = prefix / PRIVATE, (prefix / PRIVATE).parent
    if os.path.lexists(above) and not (above.is_dir() and above.resolve().is_relative_to(prefix)):
        yield Refusal(path=above.name, reason="is no directory of the prefix: what is bundled goes there")
    elif os.path.lexists(place) and (told is None or place.is_symlink()):
        yield Refusal(path=PRIVATE, reason="is there, and is not what belljar bundled: take it away")


def _as_before(options: Options, told: Mapping[str, Any] | None) -> Options:
    """Return what is asked for, and what was asked for when the prefix was sealed before."""
    if told is None:
        return options
    locales = [name.removeprefix(f"{_LOCALE}/") for name in told.get("trees", ()) if name != _GCONV]
    locales = [name for name in locales if name != _normalised(_ALWAYS)]
    return replace(
        options,
        locales=tuple(dict.fromkeys((*options.locales, *locales))),
        from_host=tuple(dict.fromkeys((*options.from_host, *told.get("host", ())))),
    )


def _bundled(told: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what was bundled before, and from where."""
    files = (told or {}).get("files", {}).items()
    return {name: item["source"] for name, item in files if item["source"] != record.OWN}


def _has_work(
    prefix: Path, options: Options, told: Mapping[str, Any] | None, binaries: Iterable[Binary]
) -> bool:
    """Whether there is something to seal or to mend, or more is asked for than before."""
    kinds = {item.kind for item in binaries}
    if told is None or Kind.PROGRAM in kinds or Kind.SEALED not in kinds:
        return Kind.PROGRAM in kinds
    wanted = {f"{_LOCALE}/{_normalised(name)}" for name in options.locales}
    wanted |= {path.name for path in options.opened if not path.resolve().is_relative_to(prefix)}
    has = {*told["files"], *told.get("trees", ())}
    tied = options.scripts and any(scripts.tied(prefix, prefix))
    return bool(wanted - has or options.suggested or tied or faults(prefix, told, tuple(binaries)))


def _searches(
    prefix: Path, binaries: Iterable[Binary], bundle: Bundle | None, found: Found
) -> dict[str, tuple[str, ...]]:
    """Return the directories that each program to be sealed searches, by each of its names."""
    programs = [item for item in binaries if item.kind is Kind.PROGRAM and bundle is not None]
    return {
        name: tuple(_search(prefix, item, bundle, found))
        for item in programs
        for name in item.names
        if bundle
    }


def _scripts(prefix: Path, options: Options, found: Found) -> Iterator[FileChange | Refusal]:
    """Yield the edits of scripts that name the prefix, or tell of them."""
    if options.scripts:
        yield from scripts.freed(prefix, prefix)
        return
    for entry in scripts.tied(prefix, prefix):
        found.notes.append(f"{entry.path}: names {prefix} in its first line, and does not move (--scripts)")


def _unlicensed(bundle: Bundle | None) -> Iterator[str]:
    """Say which bundled files no licence text was found for."""
    if bundle and bundle.unlicensed:
        names = ", ".join(bundle.unlicensed)
        yield f"no package says what licence these have, add their texts yourself: {names}"


def _form(prefix: Path, options: Options, told: Mapping[str, Any] | None) -> Form:
    """Return the form that is meant; raises InputError where the prefix is sealed otherwise."""
    before = None if told is None else Form(told["form"])
    wanted = options.form or before or Form.EMBEDDED
    if before is not None and before != (Form.EMBEDDED if wanted is Form.AUTO else wanted):
        raise InputError(
            f"{prefix}: is sealed in the form {before}, not {wanted}", hint=f"first: belljar unseal {prefix}"
        )
    if told is not None and (more := set(options.from_host).difference(told.get("host", ()))):
        raise InputError(
            f"{prefix}: is sealed so that no program looks for {', '.join(sorted(more))} on hosts",
            hint=f"first: belljar unseal {prefix}",
        )
    return wanted


def _bundle(found: Found, options: Options, before: Iterable[str]) -> Bundle | None:
    """Return the private directory's content; None, with refusals, when loader or libc are not one."""
    loaders = sorted({*found.loaders, *(name for name in before if name.startswith("ld-linux"))})
    if why := _why_not_one(loaders, found):
        found.refusals.append(Refusal(path=next(iter(found.loaders.values()), "."), reason=why))
        return None
    trees = _locales(found, options)
    files = {name: Path(place.host) for name, place in sorted(found.files.items())}
    modules = files[LIBC].parent / _GCONV
    if (modules / "gconv-modules").is_file():
        trees[_GCONV] = modules
    licenses, unlicensed = licenses_of(files, options.root.resolve())
    return Bundle(
        loader=loaders[0],
        files=files,
        trees=trees,
        host=tuple(sorted(options.from_host)),
        licenses=licenses,
        unlicensed=unlicensed,
    )


def _why_not_one(loaders: Sequence[str], found: Found) -> str:
    """Return why there is not one loader and one libc for all programs; nothing where there is."""
    if len(loaders) > 1:
        return f"is one of programs with different loaders: {', '.join(loaders)}"
    if loaders and LIBC in found.files:
        return ""
    used = {place for directories in found.own.values() for place in directories}
    if places := used.intersection(found.places.get(LIBC, ())):
        own = ", ".join(f"{place}/{LIBC}" for place in sorted(places))
        return f"would start on two libcs: the prefix has one, {own}; take it away, sealing bundles one"
    return "has a loader or libc that is not found"


def _locales(found: Found, options: Options) -> dict[str, Path]:
    """Return the directories of the locales that are asked for, and of C.UTF-8 where the system has it."""
    trees = {}
    top = options.root / "usr/lib/locale"
    for name in dict.fromkeys((_ALWAYS, *options.locales)):
        plain = _normalised(name)
        there = next((top / spelling for spelling in (name, plain) if (top / spelling).is_dir()), None)
        if there is not None:
            trees[f"{_LOCALE}/{plain}"] = there
        elif name != _ALWAYS:
            reason = f"locale {name}: not below {top}; make it with localedef --no-archive"
            found.refusals.append(Refusal(path="", reason=reason))
    return trees


def _normalised(locale: str) -> str:
    """Return the name by which a libc finds a locale whatever the spelling of its character set.

    As _nl_normalize_codeset of glibc's intl/l10nflist.c: letters, in lower case, and digits.
    """
    language, dot, rest = locale.partition(".")
    codeset, at, variant = rest.partition("@")
    letters = "".join(filter(str.isalnum, codeset)).lower()
    return f"{language}{dot}{'iso' if letters.isdecimal() else ''}{letters}{at}{variant}"


class _Making(NamedTuple):
    """What is known when the changes are made."""

    prefix: Path
    form: Form
    bundle: Bundle
    found: Found


def _changes(making: _Making, binaries: Iterable[Binary]) -> Iterator[FileChange | Wrap | Refusal]:
    """Yield the edits of programs and of libraries that have search paths, and what refuses to be edited."""
    for item in binaries:
        try:
            if item.kind is Kind.PROGRAM:
                yield from _sealed(making, item)
            elif item.kind is Kind.LIBRARY and item.search:
                yield from _retagged(making.prefix, item)
        except (ElfError, EditRefused) as error:
            yield Refusal(path=item.path, reason=error.message)


def _sealed(making: _Making, item: Binary) -> Iterator[FileChange | Wrap | Refusal]:
    """Yield how a program comes to start on its loader."""
    if making.form in (Form.STATIC, Form.SH):
        yield from _wrapped(making, item, making.form)
        return
    image = (making.prefix / item.path).read_bytes()
    places = tuple(_search(making.prefix, item, making.bundle, making.found))
    try:
        splices = embed(image, _seal(making.bundle, os.path.dirname(item.path), places))
    except EditRefused as error:
        if making.form is not Form.AUTO:
            raise EditRefused(f"{error.message} (--launcher auto starts such programs otherwise)") from error
        yield from _wrapped(making, item, Form.STATIC)
        return
    grows = any(splice.offset == len(image) for splice in splices)
    reasons = (f"starts on {PRIVATE}/{making.bundle.loader}", *(() if grows else (_PADDED,)))
    yield FileChange(path=item.path, kind=SEALED, splices=splices, reasons=reasons, aliases=item.names[1:])


def _wrapped(making: _Making, item: Binary, form: Form) -> Iterator[Wrap | Refusal]:
    """Yield a launcher for each of a program's names."""
    places = tuple(_search(making.prefix, item, making.bundle, making.found))
    ours = record.wrapped(record.read(making.prefix)).values()
    for name in item.names:
        inner = inner_of(name)
        if inner not in ours and (why := _taken(making.prefix, inner)):
            yield Refusal(path=name, reason=why)
            continue
        here, there = os.path.dirname(name), os.path.dirname(inner)
        seal = _seal(making.bundle, here, ())
        launch = Launch(
            loader=seal.loader,
            program=_from(here, inner),
            search=tuple(_from_origin(_from(there, place)) for place in places),
            options=options_of(making.bundle.files[making.bundle.loader].read_bytes()),
            variables=seal.variables,
        )
        yield Wrap(path=name, inner=inner, content=content(form, item.machine, launch))


def _taken(prefix: Path, inner: str) -> str:
    """Return why a program cannot move to a path of the prefix; nothing where it can."""
    place = prefix / inner
    if os.path.lexists(place):
        return f"would move to {inner}, which is there already"
    above = next(parent for parent in place.parents if os.path.lexists(parent))
    if above.resolve() != above or not above.is_dir():
        return f"would move to {inner}, but {above.relative_to(prefix)} is no directory of the prefix"
    return ""


def _search(prefix: Path, item: Binary, bundle: Bundle, found: Found) -> Iterator[str]:
    """Yield the directories of the prefix that a program searches, each once, in their order."""
    own = [path for path in ("lib", "lib64") if (prefix / path).is_dir()]
    hosts = sorted({os.path.dirname(name) for name in bundle.host_links}, key=len)
    places = [PRIVATE, *own, *_own_search(prefix, item), *found.own.get(item.path, ())]
    yield from dict.fromkeys([*places, *(f"{PRIVATE}/{name}" for name in hosts)])


def _seal(bundle: Bundle, directory: str, places: Iterable[str]) -> Seal:
    """Return the seal of a program in a directory of the prefix.

    There is a variable in any case: the stub needs the place of one (lend_variable in seal/stub/stub.c).
    """
    there = {_GCONV, *(name.partition("/")[0] for name in bundle.trees)}
    paths = {"LOCPATH": _LOCALE, "GCONV_PATH": _GCONV}
    return Seal(
        loader=_from(directory, f"{PRIVATE}/{bundle.loader}"),
        directories=tuple(_from(directory, place) for place in places),
        variables={
            VARIABLES[name]: _from(directory, f"{PRIVATE}/{path}")
            for name, path in paths.items()
            if path in there
        },
    )


def _from(directory: str, path: str) -> str:
    """Return how a path of the prefix is reached from a directory of the prefix."""
    return os.path.relpath(path or ".", directory or ".")


def _retagged(prefix: Path, item: Binary) -> Iterator[FileChange]:
    """Let a library's search path lead to the prefix only, and let that of the program count after it."""
    own = _own_search(prefix, item)
    directory = os.path.dirname(item.path)
    entries = tuple(_from_origin(_from(directory, place)) for place in own)
    wish = SetRunpath(entries=entries, tag=PathTag.RPATH, replace=True) if own else RemoveRunpath()
    splices = edit((prefix / item.path).read_bytes(), [wish])
    if splices:
        reason = f"searches {':'.join(entries) or 'no directory of its own'}, then those of the program"
        yield FileChange(
            path=item.path, kind="elf", splices=splices, reasons=(reason,), aliases=item.names[1:]
        )


def _from_origin(path: str) -> str:
    return "$ORIGIN" if path == "." else f"$ORIGIN/{path}"


def _own_search(prefix: Path, item: Binary) -> list[str]:
    """Return the directories of the prefix that a file searches, relative to the prefix."""
    here = prefix / os.path.dirname(item.path)
    own = [place_of(here, entry) for entry in item.search if is_own(prefix, here, entry)]
    return [str(place.relative_to(prefix)).removeprefix(".") for place in own]
