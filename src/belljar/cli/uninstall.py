"""`belljar uninstall`."""

from pathlib import Path

import click

from belljar.cli.talk import format_option, place, show
from belljar.errors import InputError


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Print what would be removed; remove nothing.")
@format_option
def command(directory: Path, name: str | None, dry_run: bool, form: str) -> None:
    """Remove from DIR what `belljar install` put there; what else is in DIR stays.

    NAME chooses one when several artifacts are installed there.

    \b
    Examples:
      belljar uninstall ~/apps/hello
    """
    from belljar.relocate import install as doing
    from belljar.store import Store

    target = Store(directory=place(directory))
    names = [target.find(name)] if name else list(target.names())
    if not names:
        raise InputError(f"{directory}: belljar installed nothing there")
    if len(names) > 1:
        listing = "\n".join(f"  {item}" for item in names)
        raise InputError(
            f"{directory}: {len(names)} artifacts are installed there:\n{listing}", hint="name one of them"
        )
    if not dry_run:
        doing.uninstall(target.directory, names[0])
    verb = "would remove" if dry_run else "removed"
    show(form, [f"{verb} {names[0]} from {directory}"], {"name": str(names[0]), "directory": str(directory)})
