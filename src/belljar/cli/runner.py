"""`belljar run`: its options, and what is done with them; all that stands between a shell and the command.

It is on the way of every command that runs so: what is imported here, imports little (`belljar.cli.options`).
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from belljar.cli.options import Option, read
from belljar.cli.terminal import printable, say
from belljar.errors import InputError, UsageError

if TYPE_CHECKING:
    from belljar.hermetic.plan import Plan

OPTIONS = (
    Option(
        names=("--profile",),
        dest="profile",
        metavar="P",
        help="The build tool: cargo, make, ..., none. Default: by the project's files.",
    ),
    Option(names=("--allow-env",), dest="allow_env", metavar="NAME", many=True, help="Let a variable in."),
    Option(
        names=("--ro",), dest="read", metavar="PATH", many=True, help="Show a file or directory, read-only."
    ),
    Option(names=("--rw",), dest="write", metavar="DIR", many=True, help="Let a directory be written to."),
    Option(
        names=("--tools",),
        dest="tools",
        metavar="DIR",
        many=True,
        help="Tools outside /usr: DIR, or DIR/bin, leads PATH.",
    ),
    Option(
        names=("--system",),
        dest="system",
        metavar="DIR",
        directory=True,
        default="/",
        help="Take /usr from this root instead of from the machine.",
    ),
    Option(
        names=("--project",),
        dest="project",
        metavar="DIR",
        directory=True,
        default=".",
        help="The project's directory. Default: where you are.",
    ),
    Option(names=("--net",), dest="network", help="Leave the machine's network on; the report says so."),
    Option(names=("--fetch",), dest="fetch", help="First fetch what the lock file names, with network."),
    Option(
        names=("--locked",),
        dest="locked",
        off="--unlocked",
        help="Require a lock file. Default: --locked.",
    ),
    Option(names=("--remap",), dest="remap", help="Have the compiler write relative paths into its output."),
    Option(names=("--linker",), dest="linker", metavar="NAME", help="Force the linker."),
    Option(names=("--no-cc",), dest="no_cc", help="Forbid C compilers."),
    Option(
        names=("--trace",),
        dest="trace",
        help="Report every path that is looked up and every program started.",
    ),
    Option(
        names=("--clock",),
        dest="clock",
        help="Fix the clock, random numbers and the number of CPUs, too.",
    ),
    Option(
        names=("--report",),
        dest="report",
        metavar="FILE",
        file=True,
        help="Write a report as JSON: what was let in, enforced, started, reached for. To standard output"
        " with -, and CMD's output to standard error then.",
    ),
    Option(
        names=("--reproduce",),
        dest="again",
        help="Run it in copies of the project, under varied conditions, and name what makes a difference.",
    ),
    Option(
        names=("--allow-weaker",),
        dest="allow_weaker",
        help="Where namespaces are forbidden, make do with Landlock; it is said.",
    ),
    Option(names=("--dry-run",), dest="dry_run", help="Print what the command would see, and stop."),
    Option(names=("--quiet", "-q"), dest="quiet", help="No closing line."),
)


def called(words: Sequence[str]) -> int | None:
    """Do what `belljar run` is asked for by `words`; None for what click is to explain."""
    asked = read(OPTIONS, words)
    return None if asked is None else act(command_words=asked[1], **asked[0])


def act(
    *,
    report: Path | None,
    dry_run: bool,
    quiet: bool,
    locked: bool,
    again: bool,
    command_words: tuple[str, ...],
    **asked: Any,
) -> int:
    """Run a command hermetically, say how it was, and return its exit status."""
    from belljar.hermetic.plan import plan
    from belljar.hermetic.request import Request

    if "HOME" not in os.environ:
        _say("note: HOME is not set, so what lies there cannot be named as hidden")
    wish = Request(
        command=command_words,
        env=dict(os.environ),
        unlocked=not locked,
        opened=report is not None or not quiet,
        identified=report is not None or bool(asked["trace"]),
        profiles=user_profiles(),
        **asked,
    )
    made = plan(wish)
    if dry_run:
        for line in made.describe():
            print(printable(line))
        return 0
    if report is not None and not report.absolute().parent.is_dir():
        raise UsageError(f"--report {report}: its directory does not exist")
    if again:
        from belljar.cli.reproduce import of_run

        return of_run(wish, report)
    return _carry_out(made, report, quiet=quiet)


def _carry_out(made: "Plan", report: Path | None, *, quiet: bool) -> int:
    from belljar.hermetic.run import run

    put = None if report is None else _destination(report)
    to_stdout = report is not None and str(report) == "-"
    record = run(made, identify=report is not None or not quiet, stdout=2 if to_stdout else 1)
    if not quiet:
        for line in record.lines():
            _say(line)
    if put is not None:
        import json

        put(json.dumps(record.to_json(), indent=2) + "\n")
    return record.exit_status


def _destination(path: Path) -> Callable[[str], None]:
    """Return where a report goes, as it is before the command runs, which may put a link in its place."""
    from belljar import fsys

    if str(path) == "-":
        return lambda text: print(text, end="")
    put, place = fsys.destination(path), _stat(path.absolute().parent)

    def write(text: str) -> None:
        if not os.path.samestat(place, _stat(path.absolute().parent)):
            raise InputError(
                f"--report {path}: the command has replaced this directory, so nothing is written there"
            )
        put(text)

    return write


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
    say(f"belljar run: {text}")
