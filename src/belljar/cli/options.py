"""The options of a command as data, so that a command line can be read without click.

`belljar run` stands before every command of a build, and click takes longer to load than a sandbox to start.
So the options of `run` are values: `read` understands what is usual; for the rest, help, completion and all
that is wrong, the same values become a click command (`declared`), which explains. A test holds that both
take each command line alike.

Rejected: argparse. It loads in 2 ms, but has other rules, and other words for help and mistakes than all
other commands, which are click's.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from belljar.sandbox import value

Command = TypeVar("Command", bound=Callable[..., Any])


@value
class Option:
    """An option: a switch, or where it has a `metavar` one that takes a word.

    `many`: it may be said again, and its value is a tuple. `off`: the name that turns the switch off, which
    is on without it. `directory`: a directory that must be there. `file`: a file to be written; `-` is none.
    """

    names: tuple[str, ...]
    dest: str
    help: str
    metavar: str = ""
    many: bool = False
    off: str = ""
    directory: bool = False
    file: bool = False
    default: str | None = None

    def initial(self) -> Any:
        """Return the value where it is not said."""
        if not self.metavar:
            return bool(self.off)
        return () if self.many else self.value(self.default)

    def value(self, word: str | None) -> Any:
        """Return the value that a word stands for."""
        return Path(word) if word is not None and (self.directory or self.file) else word

    def accepts(self, word: str) -> bool:
        """Tell whether there is nothing to complain of."""
        if self.directory:
            return os.path.isdir(word) and os.access(word, os.R_OK)
        if self.file and word != "-" and os.path.exists(word):
            return not os.path.isdir(word) and os.access(word, os.R_OK)
        return True


def read(options: Sequence[Option], words: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """Return the options' values and the words after them; None for what click is to explain."""
    known = {name: (option, True) for option in options for name in option.names}
    known |= {option.off: (option, False) for option in options if option.off}
    values = {option.dest: option.initial() for option in options}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        name, is_joined, joined = rest.pop(0).partition("=")
        if (name, is_joined) == ("--", ""):
            break
        option, is_on = known.get(name, (None, True))
        if option is None or (is_joined and not (option.metavar and name.startswith("--"))):
            return None
        if not option.metavar:
            values[option.dest] = is_on
            continue
        if not is_joined and not rest:
            return None
        word = joined if is_joined else rest.pop(0)
        if not option.accepts(word):
            return None
        values[option.dest] = (*values[option.dest], word) if option.many else option.value(word)
    return values, tuple(rest)


def declared(options: Sequence[Option]) -> Callable[[Command], Command]:
    """Return what gives a click command these options."""

    def give(command: Command) -> Command:
        for option in reversed(options):
            command = _declare(option, command)
        return command

    return give


def _declare(option: Option, command: Command) -> Command:
    import click

    if not option.metavar:
        names = [f"{option.names[0]}/{option.off}"] if option.off else [*option.names]
        return click.option(*names, option.dest, is_flag=True, default=option.initial(), help=option.help)(
            command
        )
    kinds = {
        "directory": click.Path(path_type=Path, file_okay=False, exists=True),
        "file": click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    }
    kind = next((kinds[name] for name in kinds if getattr(option, name)), click.STRING)
    more = {"multiple": True} if option.many else {"default": option.default}
    return click.option(
        *option.names, option.dest, metavar=option.metavar, type=kind, help=option.help, **more
    )(command)
