"""`belljar edit`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from belljar.cli.talk import format_option, show
from belljar.errors import BelljarError, InputError, UsageError

if TYPE_CHECKING:
    from belljar.elf.edit import Edit
    from belljar.splice import Splice

Command = TypeVar("Command", bound=Callable[..., Any])


def _paths(command: Command) -> Command:
    """Add the options for search paths."""
    for option in reversed(
        (
            click.option(
                "--set-runpath", metavar="P", help="Search P (a:b:c) first, then what is there already."
            ),
            click.option("--replace", is_flag=True, help="Let --set-runpath drop what is there already."),
            click.option("--add-runpath", metavar="P", help="Search P last."),
            click.option("--remove-runpath", metavar="P", help="Search P no more; 'all': nothing at all."),
            click.option(
                "--rpath-tag",
                type=click.Choice(["keep", "rpath", "runpath"]),
                default="keep",
                show_default=True,
                help="The tag it stands under; a new one is a RUNPATH.",
            ),
        )
    ):
        command = option(command)
    return command


def _names(command: Command) -> Command:
    """Add the options for all other names."""
    for option in reversed(
        (
            click.option(
                "--replace-needed", metavar="OLD=NEW", multiple=True, help="Need NEW where OLD is needed."
            ),
            click.option("--add-needed", metavar="N", multiple=True, help="Need N, after the others."),
            click.option("--remove-needed", metavar="N", multiple=True, help="Need N no more."),
            click.option("--set-soname", metavar="N", help="Give a library another name."),
            click.option("--set-interpreter", metavar="P", help="Give a program another loader."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True)
)
@_paths
@_names
@click.option("--dry-run", is_flag=True, help="Say what would change, offset by offset; write nothing.")
@click.option(
    "--output", metavar="PATH", type=click.Path(path_type=Path), help="Write there; FILE stays as it is."
)
@format_option
def command(files: tuple[Path, ...], form: str, **options: Any) -> int:
    """Change what programs and libraries say to their loader; without a change, print it.

    Names are put in place where they fit, else into padding, else into one segment at the file's end,
    which later edits use again; the result survives strip, objcopy and patchelf. A file that needs no
    change is not written. A written one is a new inode with the owner, mode, times and attributes of the
    old one: programs that run go on, other hard links keep the old content. A file that cannot be
    edited is reported, the others are edited; exit status 3 then.

    \b
    Examples:
      belljar edit lib/libfoo.so
      belljar edit --set-runpath '$ORIGIN/../lib' bin/*
      belljar edit --replace-needed libssl.so.1.1=libssl.so.3 --dry-run lib/*.so
    """
    edits = _edits(options)
    if options["output"] is not None and len(files) != 1:
        raise UsageError("--output: takes exactly one FILE")
    lines: list[str] = []
    values, failed = {}, []
    for path in files:
        try:
            told, value = _edited(path, edits, options) if edits else _told(path)
        except InputError as error:
            failed.append(error)
            continue
        lines += told
        values[str(path)] = value
    if failed and len(files) == 1:
        raise failed[0]
    show(form, lines, {"files": values, "refused": [error.message for error in failed]})
    if failed:
        raise InputError("\n".join(error.message for error in failed), hint=_hint(failed))
    return 0


def _hint(errors: Sequence[BelljarError]) -> str | None:
    return next((error.hint for error in errors if error.hint), None)


def _edits(options: dict[str, Any]) -> "list[Edit]":
    """Return the edits that are asked for, in the order of the help text."""
    from belljar.elf import edit as elf

    tag = elf.PathTag(options["rpath_tag"])
    found: list[Edit] = []
    if options["set_runpath"] is not None:
        entries = tuple(options["set_runpath"].split(":"))
        found.append(elf.SetRunpath(entries=entries, tag=tag, replace=options["replace"]))
    elif options["replace"]:
        raise UsageError("--replace: goes with --set-runpath only")
    if options["add_runpath"] is not None:
        found.append(elf.AddRunpath(entries=tuple(options["add_runpath"].split(":")), tag=tag))
    if options["remove_runpath"] is not None:
        text = options["remove_runpath"]
        found.append(elf.RemoveRunpath(entries=() if text == "all" else tuple(text.split(":")), tag=tag))
    if tag is not elf.PathTag.KEEP and not found:
        found.append(elf.SetRunpath(entries=(), tag=tag))
    for pair in options["replace_needed"]:
        old, equals, new = pair.partition("=")
        if not equals:
            raise UsageError(f"--replace-needed {pair!r}: want OLD=NEW")
        found.append(elf.ReplaceNeeded(old=old, new=new))
    found += [elf.AddNeeded(name=name) for name in options["add_needed"]]
    found += [elf.RemoveNeeded(name=name) for name in options["remove_needed"]]
    if options["set_soname"] is not None:
        found.append(elf.SetSoname(name=options["set_soname"]))
    if options["set_interpreter"] is not None:
        found.append(elf.SetInterpreter(path=options["set_interpreter"]))
    return found


def _edited(path: Path, edits: "list[Edit]", options: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    from belljar.relocate.edit import edit_file

    splices = edit_file(path, edits, output=options["output"], write=not options["dry_run"])
    growth = sum(splice.growth for splice in splices)
    done = "would change" if options["dry_run"] else "changed"
    if not splices:
        return [f"{path}: as it should be"], {"changes": [], "growth": 0}
    lines = [f"{path}: {done}, {f'{growth:,} bytes longer' if growth else 'no byte longer'}"]
    if options["dry_run"]:
        lines += [f"  offset {item.offset:#x}: {_shown(item)}" for item in splices]
    changes = [
        {"offset": item.offset, "old_size": len(item.old), "new_size": len(item.new)} for item in splices
    ]
    return lines, {"changes": changes, "growth": growth}


def _shown(splice: "Splice") -> str:
    """Say in a line what a splice does."""
    if len(splice.new) > 80 or splice.growth:
        return f"{len(splice.old):,} bytes become {len(splice.new):,}"
    if any(byte >= 0x7F or 0 < byte < 0x20 for byte in splice.old + splice.new):
        return f"{splice.old.hex()} -> {splice.new.hex()}"
    return f"{splice.old!r} -> {splice.new!r}"


def _told(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Return what a file says now."""
    from belljar.elf import ElfError, read

    try:
        elf = read(path.read_bytes(), exports=False)
    except ElfError as error:
        raise InputError(f"{path}: {error.message}") from error
    except IsADirectoryError:
        raise InputError(f"{path}: not a regular file") from None
    dynamic = elf.dynamic
    value = {
        "interpreter": elf.interpreter,
        "soname": dynamic and dynamic.soname,
        "rpath": dynamic and dynamic.rpath,
        "runpath": dynamic and dynamic.runpath,
        "needed": list(dynamic.needed) if dynamic else [],
    }
    lines = [f"{path}:"] + [f"  {name}: {text}" for name, text in value.items() if isinstance(text, str)]
    return lines + [f"  needed: {name}" for name in value["needed"] or ()], value
