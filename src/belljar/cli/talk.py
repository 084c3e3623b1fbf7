"""How commands talk: data on stdout as text or JSON, progress on stderr."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from belljar.cli.terminal import printable
from belljar.types import Event, Progress

Command = TypeVar("Command", bound=Callable[..., Any])

_STAGES = {
    "lock": "locking",
    "resolve": "resolving",
    "fetch": "fetching",
    "unpack": "unpacking",
    "wait": "waiting for another build of",
    "build": "building",
    "open": "opening compressed files of",
    "scan": "scanning",
    "compare": "comparing",
    "audit": "auditing",
    "plan": "planning",
    "relocate": "rewriting",
    "copy": "copying",
    "check": "checking",
    "closure": "resolving libraries",
    "store": "storing",
    "root": "adding root",
    "verify": "running on",
}


def format_option(command: Command) -> Command:
    """Add `--format text|json`."""
    option = click.option(
        "--format",
        "form",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How to print the result; JSON is versioned.",
    )
    return option(command)


def directory_argument(command: Command) -> Command:
    """Add `[DIR]`, the recipe's directory."""
    argument = click.argument(
        "directory",
        metavar="[DIR]",
        default=".",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
    )
    return argument(command)


def place(directory: Path) -> Path:
    """Return the absolute, normal path that the user means; links in it stay, unless `..` follows one."""
    return directory.resolve() if ".." in directory.parts else Path.cwd() / directory


def counted(number: int, noun: str) -> str:
    """Say how many of a thing there are: `1 change`, `2 changes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def show(form: str, lines: list[str], value: dict[str, Any]) -> None:
    """Print a result: the lines, or the value as JSON."""
    if form == "json":
        click.echo(json.dumps({"version": 1} | value, indent=2, sort_keys=True))
    else:
        for line in lines:
            click.echo(printable(line))


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Give a Progress that shows long work on stderr: one live line on a terminal, else a line a stage."""
    shown = _LiveLine() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else _Lines()
    try:
        yield shown
    finally:
        shown.close()


def _words(event: Event) -> str:
    return _STAGES.get(event.stage, event.stage)


class _Lines:
    """One line for each stage as it begins."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, event: Event) -> None:
        if event.stage != self._last:
            self._last = event.stage
            click.echo(printable(f"{_words(event)} {event.subject}".rstrip()), err=True)

    def close(self) -> None:
        """Nothing is left open."""


class _LiveLine:
    """One line that changes in place; no thread, since the sandbox forks."""

    def __init__(self) -> None:
        self._stage = ""
        self._since = time.monotonic()
        self._drawn = 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.stage != self._stage:
            self._finish(now)
            self._stage, self._since = event.stage, now
        elif now - self._drawn < 0.05:
            return
        self._drawn = now
        count = f" {event.done}/{event.total}" if event.total else ""
        text = f"{_words(event)}{count}  {now - self._since:.0f}s  {event.subject}"
        self._write(text[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        printable = "".join(letter if letter.isprintable() else " " for letter in text)
        sys.stderr.write(f"\r\x1b[K{printable}")
        sys.stderr.flush()

    def _finish(self, now: float) -> None:
        if self._stage and now - self._since >= 0.5:
            self._write(f"{_STAGES.get(self._stage, self._stage)}: {now - self._since:.1f}s")
            sys.stderr.write("\n")
        elif self._stage:
            self._write("")

    def close(self) -> None:
        """Leave the cursor on a new line."""
        self._finish(time.monotonic())
        self._stage = ""
        sys.stderr.flush()
