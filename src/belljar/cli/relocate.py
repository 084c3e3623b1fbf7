"""`belljar relocate`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from belljar.cli.talk import counted, format_option, place, progress, show
from belljar.errors import UsageError

if TYPE_CHECKING:
    from belljar.relocate.change import Plan
    from belljar.relocate.moving import Applied
    from belljar.relocate.request import Relocation

Lines = list[str]

_OPTIONS = {"old": "--from", "new": "--to", "maps": "--map"}
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
    if empty := next((name for name in ("old", "new") if given[name] == ""), None):
        raise UsageError(f"{_OPTIONS[empty]}: is empty; is a variable not set?")
    asked = [name for name in _ACTIONS if given.pop(name)]
    if len(asked) + dry_run > 1:
        raise UsageError("--check, --undo, --resume, --status and --dry-run: only one of them makes sense")
    if asked and any(given.values()):
        raise UsageError(f"--{asked[0]}: goes by the record in TREE and takes no prefixes, nor --output")
    if asked:
        return {"check": _check, "undo": _undo, "resume": _resume, "status": _status}[asked[0]](tree, form)
    from belljar.relocate import moving, request

    if request.is_own(place(tree)):
        return _move_own(tree, dry_run=dry_run, form=form, **given)
    output = given.pop("output")
    with progress() as shown:
        if not dry_run and output is None:
            moving.resume(tree, progress=shown)
        plan = request.plan_relocation(tree, _wanted(**given), output=output, progress=shown)
    if dry_run or plan.refusals:
        return _print(plan, form)
    return _apply(plan, output, form)


def _wanted(
    old: str | None,
    new: str | None,
    maps: tuple[str, ...],
    alias: Path | None,
    **rest: Any,
) -> "Relocation":
    """Return what the options ask for; paths as the user means them."""
    from belljar.relocate.request import Relocation

    return Relocation(
        old=old,
        new=None if new is None else place(Path(new)),
        maps=tuple(map(_pair, maps)),
        alias=None if alias is None else place(alias),
        **rest,
    )


def _pair(text: str) -> tuple[str, str]:
    old, mark, new = text.partition("=")
    if not mark:
        raise UsageError(f"--map {text}: wants OLD=NEW")
    return old, new


def _print(plan: "Plan", form: str) -> int:
    summary = f"{counted(len(plan.changes), 'change')}, {counted(len(plan.refusals), 'refusal')}"
    notes = [f"note: {note}" for note in plan.notes]
    hint = []
    if any("longer" in item.reason or "fit in it" in item.reason for item in plan.refusals):
        hint = ["a link with a short path would help: --alias PATH, or a shorter NEW"]
    show(form, [*plan.found, *notes, *plan.describe(), summary, *hint], plan.to_json())
    return 1 if plan.refusals else 0


def _apply(plan: "Plan", output: Path | None, form: str) -> int:
    from belljar.relocate import request

    with progress() as shown:
        done = request.carry_out(plan, output=None if output is None else place(output), progress=shown)
    lines = [*plan.found, *_notes(done), f"{done.tree}: {_steps(done.changed)} changed"]
    show(form, lines, {"tree": str(done.tree), "changed": done.changed, "notes": list(done.notes)})
    return 0


def _notes(done: "Applied") -> Lines:
    return [f"note: {note}" for note in done.notes]


def _steps(number: int) -> str:
    return "1 file or link" if number == 1 else f"{number:,} files and links"


def _check(tree: Path, form: str) -> int:
    from belljar.relocate import request

    with progress() as shown:
        found = request.check(tree, progress=shown)
    lines = [item.describe() for item in found] or ["consistent"]
    value = {"findings": [{"path": item.path, "offset": item.offset, "what": item.what} for item in found]}
    show(form, lines, value)
    return 1 if found else 0


def _undo(tree: Path, form: str) -> int:
    from belljar.relocate import request

    with progress() as shown:
        done = request.undo(tree, progress=shown)
    verb = "is" if done.changed == 1 else "are"
    lines = [*_notes(done), f"{tree}: {_steps(done.changed)} {verb} as before"]
    show(form, lines, {"changed": done.changed, "notes": list(done.notes)})
    return 0


def _resume(tree: Path, form: str) -> int:
    from belljar.relocate import moving

    with progress() as shown:
        done = moving.resume(tree, progress=shown)
    verb = "was" if done.changed == 1 else "were"
    show(form, [f"{tree}: {_steps(done.changed)} {verb} still to be done"], {"changed": done.changed})
    return 0


def _status(tree: Path, form: str) -> int:
    from belljar.relocate import consistency

    found = consistency.status(tree)
    lines = [
        f"{item.number}. {item.phase}: {_steps(item.steps)}: {', '.join(_moves(item.moves))}"
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
    lines = [f"{item.name}: {item.old} -> {item.new}: {_steps(item.changed)}" for item in done]
    show(form, lines, {"moved": [{"name": str(item.name), "changed": item.changed} for item in done]})
    return 0
