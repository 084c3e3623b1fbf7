"""Sealing a prefix, taking it back, and looking whether a seal is whole.

The private directory is made beside its place and renamed in first: until a program is changed nothing leads
to it. Then the programs are changed, each wholly or not at all (belljar.relocate.moving). A crash in between
leaves a prefix of which some programs are sealed and all run; sealing again completes it, `unseal` goes back.
"""

import base64
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar import fsys
from belljar.elf.names import EditRefused
from belljar.elf.sealed import seal_of
from belljar.errors import InputError
from belljar.relocate.change import FileChange, Plan, Refusal
from belljar.relocate.moving import carry_out, resume
from belljar.seal import bundle
from belljar.seal.embed import unembed
from belljar.seal.plan import SEALED, Sealing
from belljar.seal.survey import PRIVATE, Kind, survey
from belljar.splice import Splice, inverse
from belljar.types import Progress, quiet

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a sealed prefix, and where."""

    path: str
    what: str


def seal(sealing: Sealing, *, progress: Progress = quiet) -> None:
    """Do what a plan says.

    Raises InputError when it has refusals, HostError when the prefix cannot be written; programs are then
    as they were.
    """
    if sealing.changes.refusals:
        listing = "\n".join(f"  {item.describe()}" for item in sealing.changes.refusals[:20])
        raise InputError(f"{sealing.prefix}: cannot be sealed:\n{listing}")
    resume(sealing.prefix, keep=False, progress=progress)
    if sealing.bundle is not None:
        _place(sealing.bundle, sealing.prefix / PRIVATE, _record(sealing))
    if sealing.changes.changes:
        carry_out(sealing.changes, keep=False, progress=progress)


def unseal_plan(prefix: Path) -> Plan:
    """Return the changes that take a seal back; raises InputError when the prefix holds none."""
    prefix = prefix.resolve()
    changes: list[FileChange] = []
    refusals = []
    for item in survey(prefix):
        if item.kind is not Kind.SEALED:
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
    changes += _restored(prefix)
    if not changes and not refusals and not (prefix / PRIVATE / bundle.RECORD).exists():
        raise InputError(f"{prefix}: is not sealed")
    return Plan(tree=prefix, moves=(), changes=tuple(changes), refusals=tuple(refusals))


def unseal(plan: Plan, *, progress: Progress = quiet) -> None:
    """Take a seal back: programs and libraries as they were, the private directory gone.

    Raises InputError when the plan has refusals; nothing is changed then.
    """
    if plan.refusals:
        listing = "\n".join(f"  {item.describe()}" for item in plan.refusals[:20])
        raise InputError(f"{plan.tree}: cannot be unsealed:\n{listing}")
    resume(plan.tree, keep=False, progress=progress)
    if plan.changes:
        carry_out(plan, keep=False, progress=progress)
    private = plan.tree / PRIVATE
    if private.exists():
        is_new = (read_record(plan.tree) or {}).get("lib_is_new", False)
        gone = plan.tree / f".belljar-{os.urandom(6).hex()}"
        private.rename(gone)
        if is_new:
            with contextlib.suppress(OSError):  # somebody else put something there
                private.parent.rmdir()
        fsys.remove_tree(gone)


def check(prefix: Path) -> tuple[Fault, ...]:
    """Return what is wrong with a sealed prefix: files that are gone or changed, needs that lead nowhere.

    Raises InputError when it is not sealed.
    """
    prefix = prefix.resolve()
    record = read_record(prefix)
    if record is None:
        raise InputError(f"{prefix}: is not sealed")
    return tuple(sorted([*_damage(prefix, record), *_wants(prefix)], key=lambda fault: fault.path))


def read_record(prefix: Path) -> dict[str, Any] | None:
    """Return what was recorded when a prefix was sealed; None when it was not.

    Raises InputError when the record is damaged.
    """
    path = prefix / PRIVATE / bundle.RECORD
    try:
        record = json.loads(path.read_bytes())
        if record["version"] != VERSION or not isinstance(record["files"], dict):
            raise ValueError(f"version {record['version']!r}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged: {error}", hint="seal the prefix again") from error
    found: dict[str, Any] = record
    return found


def _record(sealing: Sealing) -> dict[str, Any]:
    """Return what is kept of a plan: how to give libraries back what programs keep themselves."""
    edits = {
        item.path: [_encode(splice) for splice in inverse(item.splices)]
        for item in sealing.changes.changes
        if isinstance(item, FileChange) and item.kind != SEALED
    }
    before = read_record(sealing.prefix) or {}
    libraries = before.get("libraries", {}) | edits
    is_new = before.get("lib_is_new", not (sealing.prefix / PRIVATE).parent.exists())
    return {"version": VERSION, "form": "embedded", "libraries": libraries, "lib_is_new": is_new}


def _restored(prefix: Path) -> Iterator[FileChange]:
    """Yield the changes that give libraries their search paths back."""
    record = read_record(prefix) or {}
    for path, edits in record.get("libraries", {}).items():
        splices = tuple(map(_decode, edits))
        reasons = ("searches as it did before",)
        yield FileChange(path=path, kind="elf", splices=splices, reasons=reasons)


def _encode(splice: Splice) -> list[int | str]:
    return [splice.offset, *(base64.b64encode(data).decode() for data in (splice.old, splice.new))]


def _decode(edit: list[Any]) -> Splice:
    offset, old, new = edit
    return Splice(offset=int(offset), old=base64.b64decode(old), new=base64.b64decode(new))


def _place(made: bundle.Bundle, place: Path, record: dict[str, Any]) -> None:
    """Make the private directory and rename it to its place; one that is there already goes."""
    place.parent.mkdir(exist_ok=True)
    stem = place.with_name(f".belljar-{os.urandom(6).hex()}")
    fresh, old = stem.with_suffix(".new"), stem.with_suffix(".old")
    try:
        bundle.write(made, fresh, record)
        if place.exists():
            place.rename(old)
        fresh.rename(place)
    except OSError as error:
        raise fsys.explained(error, place) from error
    finally:
        for path in (fresh, old):
            if path.exists():
                fsys.remove_tree(path)


def _damage(prefix: Path, record: dict[str, Any]) -> Iterator[Fault]:
    for name, told in record["files"].items():
        path = prefix / PRIVATE / name
        if not path.is_file():
            yield Fault(path=f"{PRIVATE}/{name}", what="is gone")
        elif fsys.sha256(path) != told.get("sha256"):
            yield Fault(path=f"{PRIVATE}/{name}", what="is not what was bundled")


def _wants(prefix: Path) -> Iterator[Fault]:
    """Yield what is not sealed, and what a sealed program needs and does not find where it looks."""
    for item in survey(prefix):
        if item.kind is Kind.PROGRAM:
            yield Fault(path=item.path, what="is not sealed: it starts on the host's loader")
        found = seal_of((prefix / item.path).read_bytes()) if item.kind is Kind.SEALED else None
        if found is None:
            continue
        here = prefix / os.path.dirname(item.path)
        if not (here / found.loader).is_file():
            yield Fault(path=item.path, what=f"has no loader: {found.loader}")
        for name in item.needed:
            if not any((here / place / name).exists() for place in found.directories):
                yield Fault(path=item.path, what=f"needs {name}, which is in none of its directories")
