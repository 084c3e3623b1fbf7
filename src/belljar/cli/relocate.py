"""`belljar relocate`."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from belljar.cli.talk import format_option, place, progress, show
from belljar.errors import BelljarError, HostError, InputError, UsageError

if TYPE_CHECKING:
    from belljar.relocate.change import Plan
    from belljar.relocate.foreign import Moves, Options

Lines = list[str]

_OPTIONS = {"old": "--from", "maps": "--map"}
_ACTIONS = ("check", "undo", "resume", "status")


@click.command()
@click.argument("tree", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--from", "old", metavar="OLD", help="The prefix that TREE was made for; default: found out.")
@click.option("--to", "new", metavar="NEW", help="Where it is to work; default: where it lies, or --output.")
@click.option("--map", "maps", metavar="OLD=NEW", multiple=True, help="Another prefix that moves, too.")
@click.option(
    "--output", metavar="DIR", type=click.Path(path_type=Path), help="Write a copy, leave TREE alone."
)
@click.option("--relative", is_flag=True, help="Prefer forms that name no prefix, where there are such.")
@click.option("--alias", metavar="PATH", type=click.Path(path_type=Path), help="A short link to go through.")
@click.option("--leave", metavar="GLOB", multiple=True, help="What may stay as it is where it must.")
@click.option("--dry-run", is_flag=True, help="Print every change and every refusal; write nothing.")
@click.option("--check", is_flag=True, help="Compare TREE with the record of its latest relocation.")
@click.option("--undo", is_flag=True, help="Take the latest relocation of TREE back.")
@click.option("--resume", is_flag=True, help="Complete what was interrupted on TREE, and do nothing else.")
@click.option("--status", is_flag=True, help="Print the relocations that TREE records, the first one first.")
@format_option
def command(tree: Path, dry_run: bool, form: str, **given: Any) -> int:
    """Rewrite TREE so that it works at NEW, whoever built it.

    All is planned before anything is written. What cannot be moved is refused with file, offset, section
    and reason, and then nothing is written: exit status 1. A relocation that was interrupted is completed
    by the same command; --undo takes it back.

    \b
    Examples:
      belljar relocate ./env --dry-run
      belljar relocate ./env --from /opt/conda --to ~/env --output ~/env
      belljar relocate ./tree --from /store/app-1 --map /store/dep-1=/store/dep-2
      belljar relocate ./tree --undo
    """
    asked = [name for name in _ACTIONS if given.pop(name)]
    if len(asked) + dry_run > 1:
        raise UsageError("--check, --undo, --resume, --status and --dry-run: only one of them makes sense")
    if asked and any(given.values()):
        raise UsageError(f"--{asked[0]}: goes by the record in TREE and takes no prefixes, nor --output")
    if asked:
        return {"check": _check, "undo": _undo, "resume": _resume, "status": _status}[asked[0]](tree, form)
    if _is_ours(tree):
        return _move_own(tree, dry_run=dry_run, form=form, **given)
    if not dry_run and given["output"] is None:
        _complete(tree)
    plan, found = _plan(tree, **given)
    if dry_run or plan.refusals:
        return _print(plan, found, form)
    return _apply(plan, given["output"], found, form)


def _is_ours(tree: Path) -> bool:
    """Whether the tree is a store, or a directory into which belljar installed something."""
    from belljar.store import Store

    store = Store(directory=place(tree))
    return store.root.is_dir() and any(store.names())


def _complete(tree: Path) -> None:
    """Complete a relocation that was begun on the tree and not finished."""
    from belljar.relocate import moving

    with progress() as shown:
        moving.resume(tree, progress=shown)


def _plan(
    tree: Path,
    *,
    old: str | None,
    new: str | None,
    maps: tuple[str, ...],
    output: Path | None,
    relative: bool,
    alias: Path | None,
    leave: tuple[str, ...],
) -> tuple["Plan", Lines]:
    """Return the plan, and how the old prefix was found."""
    from belljar.relocate import foreign

    target = os.fspath(place(Path(new))) if new else os.path.realpath(output or tree)
    found: Lines = []
    pairs = [_pair(item) for item in maps]
    if old is None and (new or not pairs):
        candidate = foreign.find(tree)
        found = ["the old prefix seems to be " + candidate.describe()[0], *candidate.describe()[1:]]
        old = os.fsdecode(candidate.prefix)
    if old is not None:
        pairs.insert(0, (old, target if alias is None else os.fspath(place(alias))))
    moves = foreign.Moves.of(pairs)
    options = foreign.Options(relative=relative, leave=leave, alias=None if alias is None else Path(target))
    return _planned(tree, moves, options), found


def _planned(tree: Path, moves: "Moves", options: "Options") -> "Plan":
    from belljar.relocate import foreign

    with progress() as shown:
        return foreign.plan(tree, moves, options, progress=shown)


def _pair(text: str) -> tuple[str, str]:
    old, mark, new = text.partition("=")
    if not mark:
        raise UsageError(f"--map {text}: wants OLD=NEW")
    return old, new


def _print(plan: "Plan", found: Lines, form: str) -> int:
    summary = f"{len(plan.changes)} changes, {len(plan.refusals)} refusals"
    notes = [f"note: {note}" for note in plan.notes]
    hint = []
    if any("longer" in item.reason or "fit in it" in item.reason for item in plan.refusals):
        hint = ["a link with a short path would help: --alias PATH, or a shorter NEW"]
    lines = [*found, *notes, *plan.describe(), summary, *hint]
    show(form, lines, plan.to_json() | {"found": found})
    return 1 if plan.refusals else 0


def _apply(plan: "Plan", output: Path | None, found: Lines, form: str) -> int:
    from belljar.relocate import moving

    with _alias(plan.alias), progress() as shown:
        done = moving.apply(plan, output=None if output is None else place(output), progress=shown)
    notes = [f"note: {note}" for note in done.notes]
    lines = [*found, *notes, f"{done.tree}: {done.changed} files and links changed"]
    show(form, lines, {"tree": str(done.tree), "changed": done.changed, "notes": list(done.notes)})
    return 0


@contextlib.contextmanager
def _alias(wanted: tuple[Path, Path] | None) -> Iterator[None]:
    """Make the link that the user agreed to, and remove it again when the work fails.

    One that leads elsewhere is not touched.
    """
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


def _check(tree: Path, form: str) -> int:
    from belljar.relocate import consistency

    with progress() as shown:
        found = consistency.check(tree, progress=shown)
    lines = [item.describe() for item in found] or ["consistent"]
    value = {"findings": [{"path": item.path, "offset": item.offset, "what": item.what} for item in found]}
    show(form, lines, value)
    return 1 if found else 0


def _undo(tree: Path, form: str) -> int:
    from belljar.relocate import moving

    with progress() as shown:
        done = moving.undo(tree, progress=shown)
    notes = [f"note: {note}" for note in done.notes]
    show(form, [*notes, f"{tree}: {done.changed} files and links are as before"], {"changed": done.changed})
    return 0


def _resume(tree: Path, form: str) -> int:
    from belljar.relocate import moving

    with progress() as shown:
        done = moving.resume(tree, progress=shown)
    show(form, [f"{tree}: {done.changed} files and links were still to be done"], {"changed": done.changed})
    return 0


def _status(tree: Path, form: str) -> int:
    from belljar.relocate import consistency

    found = consistency.status(tree)
    lines = [
        f"{item.number}. {item.phase}: {item.steps} files and links: {', '.join(_moves(item.moves))}"
        for item in found
    ]
    value = [
        {"number": item.number, "phase": item.phase, "steps": item.steps, "notes": list(item.notes)}
        | {"moves": [list(map(os.fsdecode, pair)) for pair in item.moves]}
        for item in found
    ]
    show(form, lines or [f"{tree}: records no relocation"], {"relocations": value})
    return 0


def _moves(moves: tuple[tuple[bytes, bytes], ...]) -> Iterator[str]:
    return (f"{os.fsdecode(old)} -> {os.fsdecode(new)}" for old, new in moves)


def _move_own(tree: Path, *, dry_run: bool, form: str, **given: Any) -> int:
    """Let what belljar built name the place where it is, or where its copy will be."""
    from belljar.relocate import moved as moving

    output = given["output"]
    for name in ("old", "maps", "relative", "alias", "leave"):
        if given[name]:
            raise UsageError(f"{tree}: belljar built it: it needs no {_OPTIONS.get(name, f'--{name}')}")
    target = place(output or tree)
    if given["new"] and place(Path(given["new"])) != target:
        raise UsageError(f"{tree}: belljar built it: it works where it lies; use --output {given['new']}")
    if dry_run:
        show(form, [f"every entry would name {target}"], {"directory": str(target)})
        return 0
    with progress() as shown:
        done = moving.moved(place(tree), output=None if output is None else target, progress=shown)
    lines = [f"{item.name}: {item.old} -> {item.new}: {item.changed} changes" for item in done]
    show(form, lines, {"moved": [{"name": str(item.name), "changed": item.changed} for item in done]})
    return 0
