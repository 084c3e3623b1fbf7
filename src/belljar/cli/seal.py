"""`belljar seal`."""

from pathlib import Path

import click

from belljar.cli.talk import format_option, progress, show


@click.command()
@click.argument("prefix", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--from-host", metavar="NAME", multiple=True, help="Leave a library to the host: libcuda.so.1.")
@click.option(
    "--launcher",
    type=click.Choice(["embedded", "static", "sh", "auto"]),
    help="How programs find their loader: by themselves (embedded, the default), by a small program or a"
    " script in their place; auto: embedded where that can be, else static.",
)
@click.option("--locale", "locales", metavar="NAME", multiple=True, help="Bundle a locale: de_DE.UTF-8.")
@click.option(
    "--root",
    default="/",
    show_default=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The system that libraries come from.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done; write nothing.")
@click.option("--check", is_flag=True, help="Say whether the seal of PREFIX is whole; write nothing.")
@format_option
def command(
    prefix: Path,
    from_host: tuple[str, ...],
    launcher: str | None,
    locales: tuple[str, ...],
    root: Path,
    dry_run: bool,
    check: bool,
    form: str,
) -> int:
    """Make the programs of PREFIX start on a loader and libc of their own, which lie in PREFIX.

    What they need is resolved as on the machine that this runs on and bundled in PREFIX/lib/belljar;
    each program finds its loader from its own directory. PREFIX then runs on other distributions, older
    and newer ones, after any move, and reads no library of the host. `belljar unseal` gives every byte back.
    Exit status 1: with --check, the seal is not whole.

    \b
    Examples:
      belljar seal ./prefix --dry-run
      belljar seal ./prefix --from-host libcuda.so.1
      belljar seal ./prefix --check
    """
    from belljar.seal import doing
    from belljar.seal.launcher import Form
    from belljar.seal.plan import Options, plan

    if check:
        faults = doing.check(prefix)
        lines = [f"{fault.path}: {fault.what}" for fault in faults] or [f"{prefix}: the seal is whole"]
        show(form, lines, {"faults": [{"path": item.path, "what": item.what} for item in faults]})
        return 1 if faults else 0
    wanted = None if launcher is None else Form(launcher)
    with progress() as watch:
        if not dry_run:
            doing.recover(prefix, progress=watch)
        options = Options(root=root, from_host=from_host, locales=locales, form=wanted)
        sealing = plan(prefix, options, progress=watch)
        if not dry_run:
            doing.seal(sealing, progress=watch)
    count = len(sealing.programs)
    value = {"plan": sealing.describe(), "programs": list(sealing.programs)}
    if dry_run:
        show(form, sealing.describe() or ["nothing to do"], value)
        return 1 if sealing.changes.refusals else 0
    files = len(sealing.bundle.files) if sealing.bundle else 0
    lines = [f"sealed {count} programs, {files} libraries bundled"] if count else ["nothing to do"]
    lines += [f"{item.path}: left alone: {item.reason}" for item in sealing.left]
    show(form, lines, value)
    return 0
