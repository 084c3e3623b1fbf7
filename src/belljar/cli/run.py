"""`belljar run` for click: help, completion, and what is wrong with a command line (belljar.cli.runner)."""

from typing import Any

import click

from belljar.cli.options import declared
from belljar.cli.runner import OPTIONS, act


@click.command(context_settings={"allow_interspersed_args": False})
@declared(OPTIONS)
@click.argument("command_words", metavar="-- CMD...", nargs=-1, type=click.UNPROCESSED)
def command(**asked: Any) -> int:
    """Run CMD so that nothing but the project and what you declare affects it.

    CMD sees the project at /build, the machine's /usr read-only, and nothing of your home, of parent
    directories or of /etc. Its environment is empty but for fixed values; there is no network, no terminal
    and nothing on standard input. It can write to the profile's output directories only. The exit status
    is CMD's.

    \b
    Examples:
      belljar run -- cargo build --release
      belljar run --allow-env CFLAGS --report run.json -- make
      belljar run --fetch -- npm run build
      belljar run --reproduce -- make          what does its output depend on?
    """
    return act(**asked)
