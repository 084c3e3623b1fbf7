"""What a user asks for: a tree is to work at another path. Behind the command and `belljar.api` alike.

What was begun is completed first, since a tree that is half moved tells little. Then the old prefix is found
where it was not given, all is planned, and the plan carried out, with the short link that it may rely on.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from belljar.errors import BelljarError, HostError, InputError
from belljar.relocate import consistency, moved, moving
from belljar.relocate.change import Plan
from belljar.relocate.consistency import Finding
from belljar.relocate.moving import Applied
from belljar.store import Store
from belljar.types import Progress, quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """Which prefixes move where, and what the user allows.

    `old` is the prefix that the tree was made for (default: found out), `new` where it is to work (default:
    where the copy will be, or the tree lies). `maps` are other (old, new) prefixes that move, too. `relative`
    prefers forms that name no prefix, `alias` is a short link to `new` to go through, `leave` are patterns of
    what may stay as it is where it must.
    """

    old: str | None = None
    new: Path | None = None
    maps: tuple[tuple[str, str], ...] = ()
    relative: bool = False
    alias: Path | None = None
    leave: tuple[str, ...] = ()


def relocate(
    tree: Path, wanted: Relocation | None = None, *, output: Path | None = None, progress: Progress = quiet
) -> Applied:
    """Rewrite a tree, whoever built it, so that it works elsewhere; with `output`, a copy of it.

    Raises InputError, with the refusals in it and nothing changed, when something cannot be moved; else
    as `plan_relocation` and `moving.apply`. `undo` takes it back.
    """
    if output is None:
        moving.resume(tree, progress=progress)
    plan = plan_relocation(tree, wanted, output=output, progress=progress)
    return carry_out(plan, output=output, progress=progress)


def plan_relocation(
    tree: Path, wanted: Relocation | None = None, *, output: Path | None = None, progress: Progress = quiet
) -> Plan:
    """Plan by reading only; what cannot be moved is among the plan's refusals.

    Raises InputError when the prefixes make no sense, none can be found, something cannot be read, or
    belljar built the tree itself (`moved` is for those).
    """
    from belljar.relocate.foreign.moves import Moves
    from belljar.relocate.foreign.plan import plan
    from belljar.relocate.foreign.subject import Options

    asked = wanted or Relocation()
    if is_own(tree):
        raise InputError(f"{tree}: belljar built it", hint="it needs no prefixes: `moved` goes by its table")
    target = os.path.abspath(asked.new) if asked.new else os.path.realpath(output or tree)
    old, found = asked.old, tuple[str, ...]()
    if old is None and (asked.new or not asked.maps):
        old, found = _found(tree)
    through = target if asked.alias is None else os.path.abspath(asked.alias)
    own = [] if old is None else [(old, through)]
    options = Options(
        relative=asked.relative, leave=asked.leave, alias=None if asked.alias is None else Path(target)
    )
    moves = Moves.of([*own, *asked.maps])
    return replace(plan(tree, moves, options, progress=progress), found=found)


def _found(tree: Path) -> tuple[str, tuple[str, ...]]:
    """Return the likely old prefix, and what speaks for it."""
    from belljar.relocate.foreign.prefix import find

    candidate = find(tree)
    first, *rest = candidate.describe()
    return os.fsdecode(candidate.prefix), (f"the old prefix seems to be {first}", *rest)


def carry_out(plan: Plan, *, output: Path | None = None, progress: Progress = quiet) -> Applied:
    """Do what a plan says, in place or on a copy at `output`, and make the link that it relies on."""
    with _link(None if plan.refusals else plan.alias):
        return moving.apply(plan, output=output, progress=progress)


def check(tree: Path, *, progress: Progress = quiet) -> tuple[Finding, ...]:
    """Compare a tree with its latest record, or what belljar built with its tables; () when all is right.

    Raises InputError when there is nothing to compare with, or it is damaged; HostError when something cannot
    be read.
    """
    if is_own(tree):
        return tuple(
            Finding(path=path, what=what) for path, what in moved.faults(Path(os.path.abspath(tree)))
        )
    if not consistency.status(tree):
        raise InputError(f"{tree}: records no relocation: there is nothing to compare it with")
    return consistency.check(tree, progress=progress)


def undo(tree: Path, *, progress: Progress = quiet) -> Applied:
    """Take the latest relocation of a tree back: as `moving.undo`, which see for what it raises.

    A link that it went through (`alias`) stays, as others may use it by now; a note says so.

    Raises InputError also for what belljar built: no record is kept of its moves.
    """
    if is_own(tree):
        raise InputError(
            f"{tree}: belljar built it: its table is the record, and nothing is kept to undo",
            hint="move it back (mv), then relocate it again",
        )
    records = consistency.status(tree)
    done = moving.undo(tree, progress=progress)
    targets = sorted({os.fsdecode(new) for _, new in records[-1].moves}) if records else []
    notes = [f"{path}: the link stays; others may go through it" for path in targets if os.path.islink(path)]
    return replace(done, notes=(*done.notes, *notes))


def is_own(tree: Path) -> bool:
    """Whether the tree is a store, or a directory into which belljar installed something."""
    store = Store(directory=Path(os.path.abspath(tree)))
    return store.root.is_dir() and any(store.names())


@contextlib.contextmanager
def _link(wanted: tuple[Path, Path] | None) -> Iterator[None]:
    """Make a link, and remove it again when the work fails; one that leads elsewhere is not touched."""
    if wanted is None or (wanted[0].is_symlink() and os.readlink(wanted[0]) == os.fspath(wanted[1])):
        yield
        return
    link, target = wanted
    if os.path.lexists(link):
        raise InputError(f"{link}: is there already, and is not a link to {target}")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    except OSError as error:
        raise HostError(f"{link}: cannot be made: {error.strerror}", hint="choose another --alias") from error
    try:
        yield
    except BelljarError:
        link.unlink(missing_ok=True)
        raise
