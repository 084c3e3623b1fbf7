"""The policy `sealed`: what closure proves of a tree that is to bring its own loader and libc.

Every program is sealed, in whatever form; it finds its loader and all libraries within its prefix; loader and
libc are private copies, and of one build with the rest of their family; no library's search path leads out
of the prefix; scripts ask for no interpreter that other machines have not got. What is declared to be the
host's (`seal --from-host`) is noted.

Closure says what is loaded at start. What is opened later, a run tells (belljar.audit.traced).
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from belljar.audit.checks import Finding, Severity
from belljar.audit.facts import FileFacts, Kind
from belljar.audit.floors.glibc import PRIVATE, is_family
from belljar.audit.floors.symbols import newest
from belljar.audit.seals import PRIVATE as PLACE
from belljar.audit.seals import Form, Record, beside, normal, private_directories
from belljar.elf.private import build_of, left_in_libc, left_in_loader
from belljar.ldso import Closure

LAUNCHER, WRAPPER = b"BELLJARL", b"#!/bin/sh\n# belljar: starts "
"""What a launcher has in it, and what a wrapper script begins with (belljar.seal.launcher)."""
STARTS = re.compile(
    rb"#!/bin/sh\n(?:# belljar: starts "
    rb"|(?:#\\\n|\f#/ 2>/dev/null; |':';// 2>/dev/null; "
    rb"|if \[ \"\$\{_bj-\}\" != \$\$ \]; then _bj=\$\$; export _bj; )?"
    rb"exec \"\$\(dirname -- \"\$\(readlink -f -- \"\$0\"\)\"\)\"/)"
)
"""How scripts begin that are wrappers, or find their prefix's interpreter themselves (`seal --scripts`)."""
_HEAD = 8192
_AGAIN = "belljar seal PREFIX"
_ONE_BUILD = "take all of glibc from one build"
_SHEBANG = re.compile(rb"#![ \t]*([^ \t\n\0]+)")
_EVERYWHERE = ("/bin/sh", "/usr/bin/env")
"""The interpreters of scripts that every system has."""
_HOST_LINK = re.compile(r"/host-[0-9]+/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A file that names its interpreter, and which."""

    path: str
    interpreter: str


def script_of(path: str, head: bytes, mode: int) -> Script | None:
    """Return a script that can be executed; one in an archive that does not say counts."""
    match = _SHEBANG.match(head)
    if match is None or (mode and not mode & 0o111):
        return None
    return Script(path=path, interpreter=match[1].decode("utf-8", "surrogateescape"))


def findings_of(
    files: Sequence[FileFacts],
    closures: Iterable[tuple[str, Closure | str]],
    *,
    records: Iterable[Record] = (),
    scripts: Iterable[Script] = (),
) -> Iterator[Finding]:
    """Yield what goes against the policy."""
    found = dict(closures)
    for record in records:
        yield from _record(record)
    for file in files:
        if file.kind is Kind.EXECUTABLE:
            yield from _program(file, found.get(file.path))
        if file.sealed is not None and not file.sealed.is_program:
            yield from _search(file)
    for directory, program in private_directories(files).items():
        yield from _copies(directory, program)
        yield from _family(directory, files)
    yield from _private_symbols(files, found)
    for script in scripts:
        yield from _script(script)


def _record(record: Record) -> Iterator[Finding]:
    """Yield what is wrong with what a prefix says of its seal: it is damaged, launchers are not there."""
    if record.form is None:
        yield _error("seal", record.path, "the record of the seal is damaged", _AGAIN)
    mark = WRAPPER if record.form is Form.SH else LAUNCHER
    for item in record.wrapped:
        path = os.path.join(os.path.dirname(record.path).removesuffix(PLACE), item.launcher)
        try:
            with open(path, "rb") as file:
                is_launcher = mark in file.read(_HEAD)
        except OSError:
            is_launcher = "!" in path
        if not is_launcher:
            yield _error("seal", path, f"is not what starts {item.program} any more", _AGAIN)


def _error(rule: str, path: str, message: str, hint: str | None = None) -> Finding:
    return Finding(rule=rule, severity=Severity.ERROR, path=path, message=message, hint=hint)


def _program(file: FileFacts, closure: Closure | str | None) -> Iterator[Finding]:
    """Yield what is wrong with a program: not sealed, or not with all that it needs."""
    if file.sealed is None:
        loader = f": it starts on {file.interpreter}" if file.interpreter else ""
        hint = "musl's loader cannot be sealed; link it statically" if file.is_for_musl else _AGAIN
        yield _error("unsealed", file.path, f"is not sealed{loader}", hint)
        return
    if closure is None or isinstance(closure, str):
        why = closure or "it lies in an archive"
        yield _error("seal", file.path, f"cannot be followed to its libraries: {why}", "unpack it first")
        return
    if not closure.loader_found:
        yield _error("seal", file.path, f"has no loader: {file.sealed.loader}", _AGAIN)
    yield from _outside(file, closure)


def _outside(file: FileFacts, closure: Closure) -> Iterator[Finding]:
    """Yield what a sealed program loads, or would, that is not of its prefix."""
    assert file.sealed is not None
    prefix = _prefix_of(closure.path, file)
    if not PurePath(closure.path).is_relative_to(prefix):
        yield _error("seal", file.path, f"is sealed with {prefix}, where it does not lie", _AGAIN)
    places = (beside(closure.path, directory) for directory in file.sealed.directories)
    outside = next((place for place in places if not PurePath(place).is_relative_to(prefix)), None)
    if outside is not None:
        yield _error("seal", file.path, f"searches {outside}, which is not of its prefix {prefix}", _AGAIN)
    for item in closure.objects:
        if PurePath(item.real).is_relative_to(prefix):
            continue
        if _HOST_LINK.search(item.path) and PurePath(os.path.normpath(item.path)).is_relative_to(prefix):
            message = f"takes {PurePath(item.path).name} from the host, as is declared: {item.real}"
            yield Finding(rule="seal", severity=Severity.NOTE, path=file.path, message=message)
        else:
            message = f"loads {item.real}, which is not of its prefix {prefix}"
            yield _error("seal", file.path, message, _AGAIN)


def _prefix_of(path: str, file: FileFacts) -> str:
    """Return the prefix of what is sealed: what holds the private directory."""
    assert file.sealed is not None
    private = os.path.dirname(beside(path, file.sealed.loader))
    return private.removesuffix(f"/{PLACE}") or "/"


def _search(file: FileFacts) -> Iterator[Finding]:
    """Yield the search paths of a library that lead out of the prefix."""
    prefix = _prefix_of(normal(file.path), file)
    here = os.path.dirname(normal(file.path))
    for entry in (*file.rpath, *file.runpath):
        text = entry.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", os.path.join(here, "."))
        place = os.path.normpath(text)
        if entry and "$" not in text and not PurePath(place).is_relative_to(prefix):
            hint = "name directories of the prefix, by $ORIGIN, and seal it again"
            yield _error("seal", file.path, f"searches {entry}, which is not of its prefix", hint)


def _copies(directory: str, program: FileFacts) -> Iterator[Finding]:
    """Yield what of a private loader and libc is not a private copy, or not of the loader's build."""
    assert program.sealed is not None
    loader = PurePath(program.sealed.loader).name
    builds = []
    for name, left in ((loader, left_in_loader), ("libc.so.6", left_in_libc)):
        path = os.path.join(directory, name)
        try:
            image = Path(path).read_bytes()
        except OSError:
            continue  # said where the closure is told, or where it lies in an archive
        builds.append(build_of(image))
        if (found := left(image)) is not None:
            message = f"is no private copy: it has the host's {found}"
            yield _error("seal", path, message, _AGAIN)
    if len(set(builds) - {None}) > 1:
        yield _error(
            "glibc-family", os.path.join(directory, loader), f"is {builds[0]}, the libc {builds[1]}", _AGAIN
        )


def _family(directory: str, files: Sequence[FileFacts]) -> Iterator[Finding]:
    """Yield the libraries of a glibc that are not of the private libc's release.

    The versions that a release of a library defines are known (belljar.audit.floors.symbols).
    """
    for file in files:
        sealed, name = file.sealed, file.soname or PurePath(file.path).name
        if sealed is None or sealed.glibc is None or not is_family(name) or file.release is None:
            continue
        if os.path.dirname(beside(normal(file.path), sealed.loader)) != directory:
            continue
        wanted = newest(name, file.arch, sealed.glibc)
        if file.release > sealed.glibc or (wanted is not None and file.release < wanted):
            message = f"is of another glibc than the libc, {sealed.glibc}:"
            message += f" its versions go to {file.release}, not to {wanted or sealed.glibc}"
            yield _error("glibc-family", file.path, message, _ONE_BUILD)


def _private_symbols(files: Iterable[FileFacts], found: Mapping[str, Closure | str]) -> Iterator[Finding]:
    """Yield the libraries of a glibc that refer to internals which the private libc has not got."""
    for file in files:
        closure = found.get(file.path)
        if file.sealed is None or file.kind is not Kind.SHARED or not isinstance(closure, Closure):
            continue
        lost = [item for item in closure.unresolved if item.version == PRIVATE]
        if lost:
            names = ", ".join(sorted({item.symbol or item.library or "" for item in lost})[:5])
            message = f"is of another glibc than the libc: it refers to {names} of {PRIVATE}"
            yield _error("glibc-family", file.path, message, _ONE_BUILD)


def _script(script: Script) -> Iterator[Finding]:
    """Yield what a script's interpreter ties it to."""
    if script.interpreter in _EVERYWHERE:
        return
    message = f"asks for the interpreter {script.interpreter}, which other machines have not got there"
    hint = "begin it with /bin/sh or /usr/bin/env, or have it find its prefix's interpreter"
    yield _error("shebang", script.path, message, hint)
