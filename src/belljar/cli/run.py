"""`belljar run`."""

import os
from pathlib import Path
from typing import Any

import click

from belljar.cli.talk import printable
from belljar.errors import InputError, UsageError


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--profile", metavar="P", help="The build tool: cargo, make, ..., none. Default: by the project's files."
)
@click.option("--allow-env", "allow_env", metavar="NAME", multiple=True, help="Let a variable in.")
@click.option("--ro", "read", metavar="PATH", multiple=True, help="Show a file or directory, read-only.")
@click.option("--rw", "write", metavar="DIR", multiple=True, help="Let a directory be written to.")
@click.option(
    "--tools", metavar="DIR", multiple=True, help="Tools outside /usr: DIR, or DIR/bin, leads PATH."
)
@click.option(
    "--system",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default="/",
    help="Take /usr from this root instead of from the machine.",
)
@click.option(
    "--project",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    help="The project's directory. Default: where you are.",
)
@click.option("--net", "network", is_flag=True, help="Leave the machine's network on; the report says so.")
@click.option("--fetch", is_flag=True, help="First fetch what the lock file names, with network.")
@click.option("--locked/--unlocked", default=True, help="Require a lock file. Default: --locked.")
@click.option("--remap", is_flag=True, help="Have the compiler write relative paths into its output.")
@click.option("--linker", metavar="NAME", help="Force the linker.")
@click.option("--no-cc", "no_cc", is_flag=True, help="Forbid C compilers.")
@click.option("--trace", is_flag=True, help="Report every path that is looked up and every program started.")
@click.option("--clock", is_flag=True, help="Fix the clock, random numbers, CPU count and kernel version.")
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write a report as JSON: what was let in, enforced, started, reached for. To standard output with -,"
    " and CMD's output to standard error then.",
)
@click.option(
    "--reproduce",
    "again",
    is_flag=True,
    help="Run it in copies of the project, under varied conditions, and name what makes a difference.",
)
@click.option(
    "--allow-weaker", is_flag=True, help="Where namespaces are forbidden, make do with Landlock; it is said."
)
@click.option("--dry-run", "dry_run", is_flag=True, help="Print what the command would see, and stop.")
@click.option("--quiet", "-q", is_flag=True, help="No closing line.")
@click.argument("command_words", metavar="-- CMD...", nargs=-1, type=click.UNPROCESSED)
def command(
    *,
    report: Path | None,
    dry_run: bool,
    quiet: bool,
    locked: bool,
    again: bool,
    command_words: tuple[str, ...],
    **asked: Any,
) -> int:
    """Run CMD so that nothing but the project and what you declare affects it.

    CMD sees the project at /build, the machine's /usr read-only, and nothing of your home, of parent
    directories or of /etc. Its environment is empty but for fixed values; there is no network. It can
    write to the profile's output directories only. The exit status is CMD's.

    \b
    Examples:
      belljar run -- cargo build --release
      belljar run --allow-env CFLAGS --report run.json -- make
      belljar run --fetch -- npm run build
      belljar run --reproduce -- make          what does its output depend on?
    """
    from belljar.hermetic.plan import plan
    from belljar.hermetic.request import Request

    if "HOME" not in os.environ:
        _say("note: HOME is not set, so what lies there cannot be named as hidden")
    wish = Request(
        command=command_words,
        env=dict(os.environ),
        unlocked=not locked,
        opened=report is not None,
        profiles=user_profiles(),
        **asked,
    )
    made = plan(wish)
    if dry_run:
        for line in made.describe():
            click.echo(printable(line))
        return 0
    if report is not None and not report.absolute().parent.is_dir():
        raise UsageError(f"--report {report}: its directory does not exist")
    if again:
        from belljar.cli.reproduce import of_run

        return of_run(wish, report)
    return _carry_out(made, report, quiet=quiet)


def _carry_out(made: Any, report: Path | None, *, quiet: bool) -> int:
    from belljar.hermetic.run import run

    to_stdout = report is not None and str(report) == "-"
    place = None if report is None or to_stdout else os.stat(report.absolute().parent)
    record = run(made, identify=report is not None or not quiet, stdout=2 if to_stdout else 1)
    if report is not None:
        _write(record, None if to_stdout else report, place)
    if not quiet:
        for line in record.lines():
            _say(line)
    return record.exit_status


def _write(record: Any, path: Path | None, place: os.stat_result | None) -> None:
    """Write a report, unless the command has put something else, a link perhaps, in its directory's place."""
    import json

    from belljar import fsys

    text = json.dumps(record.to_json(), indent=2) + "\n"
    if path is None:
        click.echo(text, nl=False)
    elif place is not None and os.path.samestat(place, _stat(path.absolute().parent)):
        fsys.write_atomic(path, text)
    else:
        raise InputError(
            f"--report {path}: the command has replaced this directory, so nothing is written there"
        )


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def user_profiles() -> Path | None:
    """Return the directory of the user's own profiles, if there can be one."""
    top = os.environ.get("XDG_CONFIG_HOME") or os.path.join(
        os.environ.get("HOME") or "/nonexistent", ".config"
    )
    return Path(top) / "belljar" / "profiles" if os.path.isabs(top) else None


def _say(text: str) -> None:
    click.echo(printable(f"belljar run: {text}"), err=True)
