"""Sealing a prefix, taking it back, and looking whether a seal is whole.

The private directory is made beside its place and renamed in first: until a program is changed nothing leads
to it. Then the programs are changed, each wholly or not at all: edited (belljar.relocate.moving), or moved
behind a launcher (belljar.seal.wrapped). A crash in between leaves a prefix of which some programs are
sealed and all run, and directories under names that `recover` knows; sealing again completes it, `unseal`
goes back.
"""

import base64
import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar import fsys
from belljar.elf.names import EditRefused
from belljar.errors import HostError, InputError, IntegrityError
from belljar.relocate.change import FileChange, Plan, Refusal
from belljar.relocate.moving import carry_out, resume
from belljar.seal import bundle, record
from belljar.seal.embed import unembed
from belljar.seal.launcher import Form
from belljar.seal.plan import SEALED, Sealing
from belljar.seal.record import PRIVATE
from belljar.seal.survey import Kind, survey
from belljar.seal.whole import Fault, faults
from belljar.seal.wrapped import sweep, unwrap, wrap
from belljar.splice import Splice, inverse, spliced
from belljar.types import Progress, quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealing:
    """What taking a seal back takes: edits, and launchers (path, program) that go."""

    changes: Plan
    wrapped: tuple[tuple[str, str], ...] = ()

    @property
    def files(self) -> int:
        """How many files change."""
        return len(self.changes.changes) + len(self.wrapped)

    def describe(self) -> list[str]:
        """Return the plan for a person."""
        lines = [f"{path}: program: comes back from {inner}" for path, inner in self.wrapped]
        return lines + self.changes.describe()


def recover(prefix: Path, *, progress: Progress = quiet) -> None:
    """Complete what a killed `seal` or `unseal` began; to be called before a plan is made.

    Raises HostError when that cannot be written, or another process is at work on the prefix.
    """
    with _alone(prefix):
        _settle(prefix)
    resume(prefix, keep=False, progress=progress)


def seal(sealing: Sealing, *, progress: Progress = quiet) -> None:
    """Do what a plan says.

    Raises InputError when it has refusals, HostError when the prefix cannot be written; programs are then
    as they were.
    """
    if sealing.changes.refusals:
        listing = "\n".join(f"  {item.describe()}" for item in sealing.changes.refusals[:20])
        raise InputError(f"{sealing.prefix}: cannot be sealed:\n{listing}")
    resume(sealing.prefix, keep=False, progress=progress)
    with _alone(sealing.prefix):
        _settle(sealing.prefix)
        if sealing.bundle is not None:
            _place(sealing.bundle, sealing.prefix / PRIVATE, _record(sealing))
        if sealing.changes.changes:
            carry_out(sealing.changes, keep=False, progress=progress)
        for item in sealing.wraps:
            wrap(sealing.prefix, item)


def unseal_plan(prefix: Path) -> Unsealing:
    """Return the changes that take a seal back; raises InputError when the prefix holds none."""
    prefix = prefix.resolve()
    changes: list[FileChange] = []
    refusals = []
    told = record.read(prefix)
    wrapped = record.wrapped(told)
    for item in survey(prefix):
        if item.kind is not Kind.SEALED or item.path in wrapped.values():
            continue
        try:
            splices = unembed((prefix / item.path).read_bytes())
        except EditRefused as error:
            refusals.append(Refusal(path=item.path, reason=error.message))
            continue
        reasons = ("starts on the host's loader again",)
        names = item.names[1:]
        changes.append(
            FileChange(path=item.path, kind="elf", splices=splices, reasons=reasons, aliases=names)
        )
    changes += _restored(prefix, told or {})
    if not changes and not refusals and told is None:
        raise InputError(f"{prefix}: is not sealed")
    plan = Plan(tree=prefix, moves=(), changes=tuple(changes), refusals=tuple(refusals))
    return Unsealing(changes=plan, wrapped=tuple(sorted(wrapped.items())))


def unseal(unsealing: Unsealing, *, progress: Progress = quiet) -> None:
    """Take a seal back: programs and libraries as they were, the private directory gone.

    Raises InputError when the plan has refusals; nothing is changed then. HostError when the prefix cannot be
    written.
    """
    plan, prefix = unsealing.changes, unsealing.changes.tree
    if plan.refusals:
        listing = "\n".join(f"  {item.describe()}" for item in plan.refusals[:20])
        raise InputError(f"{prefix}: cannot be unsealed:\n{listing}")
    resume(prefix, keep=False, progress=progress)
    with _alone(prefix):
        # Programs first: as long as one is not sealed, sealing again looks at everything.
        for path, inner in unsealing.wrapped:
            unwrap(prefix, path, inner)
        if plan.changes:
            carry_out(plan, keep=False, progress=progress)
        if (prefix / PRIVATE).exists():
            (prefix / PRIVATE).rename(prefix / _GONE)
        _settle(prefix)


def check(prefix: Path) -> tuple[Fault, ...]:
    """Return what is wrong with a sealed prefix: files that are gone or changed, needs that lead nowhere.

    Raises InputError when it is not sealed.
    """
    prefix = prefix.resolve()
    told = record.read(prefix)
    if told is None:
        raise InputError(f"{prefix}: is not sealed")
    return faults(prefix, told, tuple(survey(prefix)))


def _record(sealing: Sealing) -> dict[str, Any]:
    """Return what is kept of a plan: how to give back what programs do not keep themselves."""
    prefix = sealing.prefix
    edits = {
        item.path: [_encode(splice) for splice in inverse(item.splices)]
        for item in sealing.changes.changes
        if isinstance(item, FileChange) and item.kind != SEALED
    }
    wrapped = {
        item.path: {"program": item.inner, "directories": list(sealing.search[item.path])}
        for item in sealing.wraps
    }
    made = {
        parent
        for item in sealing.wraps
        for parent in _parents(item.inner)
        if not os.path.lexists(prefix / parent)
    }
    before = record.read(prefix) or {}
    return {
        "version": record.VERSION,
        "form": Form.EMBEDDED if sealing.form is Form.AUTO else sealing.form,
        "libraries": before.get("libraries", {}) | edits,
        "wrapped": before.get("wrapped", {}) | wrapped,
        "made": sorted(made.union(before.get("made", ()))),
        "lib_is_new": before.get("lib_is_new", not (prefix / PRIVATE).parent.exists()),
    }


def _parents(path: str) -> Iterator[str]:
    while path := os.path.dirname(path):
        yield path


def _restored(prefix: Path, told: Mapping[str, Any]) -> Iterator[FileChange]:
    """Yield the changes that give libraries and scripts back; nothing for what is back, or is no more."""
    for path, edits in told.get("libraries", {}).items():
        splices = tuple(map(_decode, edits))
        try:
            image = (prefix / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        with contextlib.suppress(IntegrityError):
            spliced(image, inverse(splices), subject=path)
            continue
        reasons = ("is as it was before",)
        aliases = _aliases(prefix, path)
        yield FileChange(path=path, kind="elf", splices=splices, reasons=reasons, aliases=aliases)


def _aliases(prefix: Path, path: str) -> tuple[str, ...]:
    """Return the other names that a file has in the prefix."""
    info = (prefix / path).lstat()
    if info.st_nlink == 1:
        return ()
    same = (entry.path for entry in fsys.walk(prefix) if os.path.samestat(entry.info, info))
    return tuple(other for other in same if other != path)


def _encode(splice: Splice) -> list[int | str]:
    return [splice.offset, *(base64.b64encode(data).decode() for data in (splice.old, splice.new))]


def _decode(edit: list[Any]) -> Splice:
    offset, old, new = edit
    return Splice(offset=int(offset), old=base64.b64decode(old), new=base64.b64decode(new))


_NEW, _OLD, _GONE = "lib/.belljar.new", "lib/.belljar.old", ".belljar-gone"
"""A private directory in the making, one whose place another one is about to take, one that is removed."""


def _settle(prefix: Path) -> None:
    """Put the private directory back where a killed run left it aside; remove what is made ready."""
    place = prefix / PRIVATE
    try:
        if (prefix / _OLD).exists() and not place.exists():
            (prefix / _OLD).rename(place)
        _remove_made(prefix, record.read(prefix, _GONE) or {})
        for name in (_NEW, _OLD, _GONE):
            with contextlib.suppress(NotADirectoryError):  # the plan will refuse it
                fsys.remove_tree(prefix / name)
        sweep(prefix, record.wrapped(record.read(prefix)))
    except OSError as error:
        raise _explained(error, place) from error


def _remove_made(prefix: Path, told: Mapping[str, Any]) -> None:
    """Remove the directories that were made for a seal which is gone."""
    directories = [*told.get("made", ()), *(["lib"] if told.get("lib_is_new") else ())]
    for path in sorted(directories, key=len, reverse=True):
        with contextlib.suppress(OSError):  # somebody else put something there, or took it away
            (prefix / path).rmdir()


def _place(made: bundle.Bundle, place: Path, told: Mapping[str, Any]) -> None:
    """Make the private directory and rename it to its place; one that is there already goes."""
    prefix = place.parent.parent
    fresh, old = prefix / _NEW, prefix / _OLD
    try:
        place.parent.mkdir(exist_ok=True)
        bundle.write(made, fresh, told)
        if place.exists():
            place.rename(old)
        fresh.rename(place)
    except OSError as error:
        raise _explained(error, place) from error
    finally:
        _settle(prefix)


def _explained(error: OSError, path: Path) -> HostError:
    """Return what an OSError means to who seals a prefix."""
    told = fsys.explained(error, path)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return HostError(told.message, hint="do it as who owns the prefix, or seal a copy of it")
    return told


@contextlib.contextmanager
def _alone(prefix: Path) -> Iterator[None]:
    """Hold the right to seal a prefix: a lock on its directory, which goes with the process."""
    try:
        fd = os.open(prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _explained(error, prefix) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise HostError(
            f"{prefix}: another process seals or unseals it", hint="wait for it to end"
        ) from error
    except OSError as error:
        raise _explained(error, prefix) from error
    finally:
        os.close(fd)
