"""What a caller asks for: the command line of `belljar run` as values, and where things lie inside."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from belljar.sandbox import value

PROJECT = "/build"
"""Where the command sees the project, whatever its path on the host: outputs cannot depend on that."""
HOME = "/home/build"
"""The command's home directory: in memory, empty, gone with it."""
TOOLS = "/tools"
"""Below it lie the directories of `--tools`, by number."""
MARK = "/run/belljar/run"
"""A file that tells a belljar that it runs inside another one."""
MACHINE = Path("/")


@value
class Request:
    """A command, the project it runs in, and what it is let have; `env` is the caller's whole environment."""

    command: tuple[str, ...]
    project: Path
    env: Mapping[str, str] = MappingProxyType({})
    profile: str | None = None
    allow_env: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    system: Path = MACHINE
    network: bool = False
    unlocked: bool = False
    fetch: bool = False
    remap: bool = False
    linker: str | None = None
    no_cc: bool = False
    opened: bool = False
    """Watch what is opened and started, so that there is something to say of reads outside."""
    identified: bool = True
    """Identify all that was started, where it is watched; else the command and what its profile names."""
    trace: bool = False
    """Watch what is looked for, too, and keep every path."""
    clock: bool = False
    allow_weaker: bool = False
    profiles: Path | None = None
    """The directory of the user's profiles."""
