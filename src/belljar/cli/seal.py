"""`belljar seal`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from belljar.cli.talk import counted, format_option, progress, show
from belljar.errors import UsageError

if TYPE_CHECKING:
    from belljar.seal.plan import Options, Sealing


@click.command()
@click.argument("prefix", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--launcher",
    type=click.Choice(["embedded", "static", "sh", "auto"]),
    help="How programs find their loader: by themselves (embedded, the default), by a small program or a"
    " script in their place; auto: embedded where that can be, else static.",
)
@click.option("--from-host", metavar="NAME", multiple=True, help="Leave a library to the host: libcuda.so.1.")
@click.option("--locale", "locales", metavar="NAME", multiple=True, help="Bundle a locale: de_DE.UTF-8.")
@click.option("--trace", "command", metavar="CMD", help="Run CMD, and bundle the libraries that it opens.")
@click.option("--suggested", is_flag=True, help="Bundle libraries that files only suggest (.note.dlopen).")
@click.option("--scripts", is_flag=True, help="Let scripts find their interpreter in PREFIX by themselves.")
@click.option(
    "--root",
    default="/",
    show_default=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The system that libraries come from.",
)
@click.option("--venv", is_flag=True, help="PREFIX is a Python virtual environment: make a copy that moves.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where that copy goes.")
@click.option("--dry-run", is_flag=True, help="Print what would be done; write nothing.")
@click.option("--check", is_flag=True, help="Say whether the seal of PREFIX is whole; write nothing.")
@format_option
def command(prefix: Path, form: str, **wishes: Any) -> int:
    """Make the programs of PREFIX start on a loader and libc of their own, which lie in PREFIX.

    What they need is resolved as on the machine that this runs on and bundled in PREFIX/lib/belljar;
    each program finds its loader from its own directory. PREFIX then runs on other distributions, older
    and newer ones, after any move, and reads no library of the host. `belljar unseal` gives every byte back.
    Exit status 1: with --check, the seal is not whole.

    \b
    Examples:
      belljar seal ./prefix --dry-run
      belljar seal ./prefix --launcher auto --from-host libcuda.so.1
      belljar seal ./prefix --trace './prefix/bin/app --selftest'
      belljar seal ./prefix --check
      belljar seal --venv ./.venv --output ./app
    """
    if wishes["check"]:
        return _check(prefix, form)
    if wishes["venv"]:
        return _venv(prefix, form, wishes)
    if wishes["output"]:
        raise UsageError("--output goes with --venv", hint="a prefix is sealed in its place")
    return _seal(prefix, form, wishes)


def _check(prefix: Path, form: str) -> int:
    from belljar.seal import doing

    faults = doing.check(prefix)
    lines = [f"{fault.path}: {fault.what}" for fault in faults] or [f"{prefix}: the seal is whole"]
    show(form, lines, {"faults": [{"path": item.path, "what": item.what} for item in faults]})
    return 1 if faults else 0


def _seal(prefix: Path, form: str, wishes: dict[str, Any]) -> int:
    from belljar.seal import doing
    from belljar.seal.plan import plan

    with progress() as watch:
        if not wishes["dry_run"]:
            doing.recover(prefix, progress=watch)
        options, notes = _options(prefix, wishes)
        sealing = plan(prefix, options, progress=watch)
        if not wishes["dry_run"]:
            doing.seal(sealing, progress=watch)
    value = {"plan": sealing.describe(), "programs": list(sealing.programs)}
    if wishes["dry_run"]:
        show(form, [*sealing.describe(), *notes] or ["nothing to do"], value)
        return 1 if sealing.changes.refusals else 0
    show(form, [*_summary(sealing), *notes], value)
    return 0


def _venv(path: Path, form: str, wishes: dict[str, Any]) -> int:
    from belljar.seal import venv

    if wishes["output"] is None or wishes["dry_run"]:
        raise UsageError(
            "--venv makes a copy: say where with --output; there is no --dry-run",
            hint="the environment itself is not changed",
        )
    with progress() as watch:
        options, notes = _options(path, wishes)
        made = venv.make(venv.read(path), wishes["output"], options, progress=watch)
    lines = [f"made {made.path}", *_summary(made.sealing), *made.notes, *notes]
    show(form, lines, {"path": str(made.path), "programs": list(made.sealing.programs)})
    return 0


def _options(prefix: Path, wishes: dict[str, Any]) -> "tuple[Options, list[str]]":
    """Return what is asked for; with a command to be traced, it is run now."""
    from belljar.seal.launcher import Form
    from belljar.seal.plan import Options
    from belljar.seal.traced import trace

    if wishes["command"] and wishes["root"] != Path("/"):
        raise UsageError("--trace runs on this machine: it does not go with --root")
    traced = trace(wishes["command"], prefix) if wishes["command"] else None
    options = Options(
        root=wishes["root"],
        from_host=wishes["from_host"],
        locales=wishes["locales"],
        form=None if wishes["launcher"] is None else Form(wishes["launcher"]),
        suggested=wishes["suggested"],
        scripts=wishes["scripts"],
        opened=traced.libraries if traced else (),
    )
    home = prefix.resolve()
    outside = [path for path in traced.by_path if not path.is_relative_to(home)] if traced else []
    notes = [f"{path}: was opened by its path: it stays the host's" for path in outside]
    gone = traced.gone if traced else ()
    return options, [*notes, *(f"{name}: the command had one of its own, which is gone" for name in gone)]


def _summary(sealing: "Sealing") -> list[str]:
    done = f"sealed {counted(len(sealing.programs), 'program')}" if sealing.programs else "mended"
    lines = ["nothing to do"]
    if sealing.bundle:
        count = len(sealing.bundle.files)
        lines = [f"{done}, {count:,} {'library' if count == 1 else 'libraries'} bundled"]
    lines += [f"{item.path}: left alone: {item.reason}" for item in sealing.left]
    return [*lines, *sealing.notes]
