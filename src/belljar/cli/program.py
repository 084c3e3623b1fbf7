"""The click program: all commands by name, each imported when it is called."""

import importlib

import click

from belljar import __version__
from belljar.cli.terminal import colour, say_styled

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


def call() -> int:
    """Run the command line; return its exit status, having said what is wrong with it. May raise anything."""
    try:
        result = program.main(standalone_mode=False, prog_name="belljar")
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort as stop:
        cause = stop.__cause__
        raise KeyboardInterrupt(*(cause.args if isinstance(cause, KeyboardInterrupt) else ())) from stop
    except click.ClickException as error:
        return _usage(error)
    return result if isinstance(result, int) else 0


def _usage(error: click.ClickException) -> int:
    say_styled(colour("error", fg="red", bold=True) + f": {error.format_message()}")
    context = getattr(error, "ctx", None)
    if context is not None:
        say_styled(colour("hint", bold=True) + f": `{context.command_path} --help` shows what it takes")
    return 2
