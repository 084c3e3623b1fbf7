"""`belljar unseal`."""

from pathlib import Path

import click

from belljar.cli.talk import counted, format_option, progress, show


@click.command()
@click.argument("prefix", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--dry-run", is_flag=True, help="Print what would be done; write nothing.")
@format_option
def command(prefix: Path, dry_run: bool, form: str) -> int:
    """Take the seal of PREFIX back: its programs as they were, byte for byte, what was bundled gone.

    \b
    Examples:
      belljar unseal ./prefix
    """
    from belljar.seal import doing

    with progress() as watch:
        if not dry_run:
            doing.recover(prefix, progress=watch)
        plan = doing.unseal_plan(prefix)
        if not dry_run:
            doing.unseal(plan, progress=watch)
    lines = plan.describe() if dry_run else [f"unsealed {counted(plan.files, 'file')} of {prefix}"]
    show(form, lines or ["nothing to do"], {"plan": plan.describe()})
    return 1 if plan.changes.refusals else 0
