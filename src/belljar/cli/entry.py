"""The program: finds the command, runs it, and turns whatever happens into words and an exit status."""

import contextlib
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from belljar import __version__
from belljar.cli.talk import colour, printable
from belljar.errors import BelljarError, BuildError

# Command: the line that --help shows. Each is a module of this room, imported when it is called.
COMMANDS = {
    "build": "Build a recipe in the sandbox and put the result into the store.",
    "lock": "Resolve a recipe's sources and tools to exact hashes: belljar.lock.",
    "fetch": "Download and check what belljar.lock names.",
    "run": "Run any command so that only what you declare affects it.",
    "reproduce": "Build again under varied conditions and name what makes a difference.",
    "audit": "Say what ties programs and libraries to a machine.",
    "scan": "List the references that relocation rewrites.",
    "relocate": "Rewrite any tree so that it works at another path.",
    "install": "Install an artifact into any directory.",
    "edit": "Change what programs and libraries say to their loader.",
    "stage": "Set up a shell to build for a chosen glibc.",
    "seal": "Let programs carry their own loader and libc.",
    "unseal": "Take a seal back.",
    "uninstall": "Remove what install put into a directory.",
    "verify": "Run a command of a tree on real systems.",
    "root": "Keep the root filesystems that verify uses.",
    "store": "Look at the store and check it.",
    "completion": "Print the shell's completion script.",
}


class _Commands(click.Group):
    """A group whose commands are imported when they are called, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"belljar.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="State lives in $BELLJAR_HOME, else in the XDG directories. "
    "Exit status: 0 done; 1 the verdict is negative; 2 usage; 3 bad input; 4 this host cannot; "
    "5 the build failed; 6 integrity; 7 remote; 70 a bug of belljar.",
)
@click.version_option(__version__, message="belljar %(version)s")
def program() -> None:
    """Build software in a sealed environment, run the result from anywhere, and prove it."""


def main() -> NoReturn:
    """Run the program and exit."""
    status = _run()
    # What a reader that went away did not take must not become a traceback at exit.
    with contextlib.suppress(BrokenPipeError):
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
        # All is said and done: an interrupt of the interpreter's last steps would change the exit status.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(status)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status or 141)


def _run() -> int:
    try:
        result = program.main(standalone_mode=False, prog_name="belljar")
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _usage(error)
    except BelljarError as error:
        return _explain(error)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        from belljar import fsys

        return _explain(fsys.explained(error, Path(str(error.filename or "."))))
    except Exception:  # noqa: BLE001 - the last resort: say that it is our bug and how to report it
        return _our_bug()
    return result if isinstance(result, int) else 0


def _usage(error: click.ClickException) -> int:
    _say(colour("error", fg="red", bold=True) + f": {error.format_message()}")
    context = getattr(error, "ctx", None)
    if context is not None:
        _say(colour("hint", bold=True) + f": `{context.command_path} --help` shows what it takes")
    return 2


def _explain(error: BelljarError) -> int:
    _say(colour("error", fg="red", bold=True) + f": {_plain(error.message)}")
    if isinstance(error, BuildError):
        for line in error.tail:
            _say(f"  | {_plain(line)}")
        _say(f"  whole log: {error.log}")
    if error.hint:
        _say(colour("hint", bold=True) + f": {_plain(error.hint)}")
    return error.exit_code


def _plain(text: str) -> str:
    """Return a message of several lines, safe to show on a terminal."""
    return "\n".join(map(printable, text.split("\n")))


def _our_bug() -> int:
    import traceback

    _say(traceback.format_exc().rstrip())
    _say(colour("error", fg="red", bold=True) + ": this is a bug of belljar, not of what you gave it")
    _say(
        colour("hint", bold=True)
        + f": please report it with the lines above, the command, and: belljar {__version__},"
        f" Python {sys.version.split()[0]}, Linux {os.uname().release}"
    )
    return 70


def _say(text: str) -> None:
    click.echo(text, err=True, color=None if not os.environ.get("NO_COLOR") else False)
