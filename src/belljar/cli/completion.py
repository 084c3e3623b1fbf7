"""`belljar completion SHELL`."""

import click
from click.shell_completion import get_completion_class

from belljar.errors import UsageError


@click.command(short_help="Print the shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Examples:
      eval "$(belljar completion bash)"
      belljar completion fish > ~/.config/fish/completions/belljar.fish
    """
    from belljar.cli.program import program

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"{shell}: no completion for this shell")
    click.echo(kind(program, {}, "belljar", "_BELLJAR_COMPLETE").source())
