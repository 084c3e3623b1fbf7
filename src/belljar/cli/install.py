"""`belljar install`."""

from pathlib import Path

import click

from belljar.cli.talk import format_option, place, progress, show


@click.command()
@click.argument("artifact")
@click.option(
    "--to",
    "directory",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to: a directory whose path has at most 80 bytes; made when missing.",
)
@click.option(
    "--alias",
    metavar="LINK",
    type=click.Path(path_type=Path),
    help="Make LINK a short name of DIR and write that into files, where DIR is too long.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done; write nothing.")
@format_option
def command(artifact: str, directory: Path, alias: Path | None, dry_run: bool, form: str) -> None:
    """Install ARTIFACT into DIR, so that it runs from there: DIR/bin, DIR/share, ...

    ARTIFACT is a path into the store (./result), a store name or its beginning, or a package's name
    when there is one of it. References are rewritten at equal length: the bytes are those that a
    build for DIR would have given. `belljar uninstall DIR` undoes it.

    \b
    Examples:
      belljar install ./result --to ~/apps/hello
      belljar install hello --to /opt/hello --dry-run
      belljar install hello --to /projects/a/very/long/path --alias /opt/hello
    """
    from belljar.home import Home
    from belljar.relocate import install as doing
    from belljar.store import Store

    store = Store(directory=Home.from_environment().store)
    short = None if alias is None else place(alias)
    plan = doing.plan(store, store.find(artifact), place(directory), alias=short)
    value = {"name": str(plan.name), "directory": str(plan.target.directory), "tree": str(plan.tree)}
    if dry_run:
        show(form, plan.describe() or ["nothing to do"], value | {"plan": plan.describe()})
        return
    with progress() as shown:
        doing.install(plan, progress=shown)
    lines = [f"{plan.name.package} {plan.name.version} is in {plan.target.directory}"]
    show(form, lines, value | {"references": plan.references})
