"""What a terminal is shown: text that can do it no harm, in colour where that is wanted. Loads nothing."""

import os
import sys
from typing import Any


def colour(text: str, **style: Any) -> str:
    """Style text, unless NO_COLOR is set: https://no-color.org."""
    if os.environ.get("NO_COLOR"):
        return text
    import click

    return click.style(text, **style)


def printable(text: str) -> str:
    """Escape what file names and the output of others could do to a terminal, and bytes that are no text."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else ascii(char)[1:-1]


def say(text: str) -> None:
    """Print a plain line to standard error, where there is one."""
    if sys.stderr is not None:
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()


def say_styled(text: str) -> None:
    """Print text that is safe to standard error; its colours for terminals only, and not with NO_COLOR."""
    import click

    click.echo(text, err=True, color=None if not os.environ.get("NO_COLOR") else False)
