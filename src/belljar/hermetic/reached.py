"""What a command reached for: the events of a supervisor, by what they are about.

A path is the project's, an input's, a tool's (the system), private (the command's own home, /tmp, /dev,
/proc), or outside: a place that the sandbox does not show. What was looked for in the private home, in
/etc or outside and was not there is what the command would have taken from the machine.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from belljar.hermetic.request import HOME, PROJECT, TOOLS
from belljar.sandbox import Blocked, Event, How, Lookup, Unseen

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/etc/alternatives", TOOLS)
_PRIVATE = ("/tmp", "/dev", "/proc", "/sys", "/run", "/var/tmp")


class Kind(StrEnum):
    """What a path belongs to."""

    PROJECT = "project"
    INPUT = "input"
    SYSTEM = "system"
    HOME = "home"
    ETC = "etc"
    PRIVATE = "private"
    OUTSIDE = "outside"


def kind_of(path: str, inputs: Iterable[str] = ()) -> Kind:
    """Return what a path inside belongs to; `inputs` are the targets that were declared."""
    tops = (
        (Kind.PROJECT, (PROJECT,)),
        (Kind.INPUT, tuple(inputs)),
        (Kind.SYSTEM, _SYSTEM),
        (Kind.HOME, (HOME,)),
        (Kind.ETC, ("/etc",)),
        (Kind.PRIVATE, _PRIVATE),
    )
    for kind, below in tops:
        if any(path == top or path.startswith(f"{top}/") for top in below):
            return kind
    return Kind.OUTSIDE


@dataclass(slots=True, kw_only=True)
class Reached:
    """Gathers events: paths by what was wanted of them, calls that were denied, and gaps of the report."""

    inputs: tuple[str, ...] = ()
    paths: dict[tuple[str, How], bool] = field(default_factory=dict)
    blocked: list[Blocked] = field(default_factory=list)
    unseen: list[Unseen] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Lookup):
            key = os.path.normpath(event.path), event.how
            self.paths[key] = self.paths.get(key, False) or event.found
        elif isinstance(event, Blocked):
            self.blocked.append(event)
        else:
            self.unseen.append(event)

    def executed(self) -> tuple[str, ...]:
        """Return the programs that were started, by path inside."""
        return tuple(
            sorted(path for (path, how), found in self.paths.items() if how is How.EXECUTE and found)
        )

    def missed(self) -> tuple[str, ...]:
        """Return what was looked for and was not there, where a machine would have had something."""
        machine = (Kind.HOME, Kind.ETC, Kind.OUTSIDE)
        return tuple(
            sorted(
                {path for (path, _), found in self.paths.items() if not found}
                & {path for path, _ in self.paths if kind_of(path, self.inputs) in machine}
            )
        )

    def unused(self) -> tuple[str, ...]:
        """Return the declared inputs that nothing was looked up in."""
        used = {path for (path, _), found in self.paths.items() if found}
        return tuple(
            top for top in self.inputs if not any(path == top or path.startswith(f"{top}/") for path in used)
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "paths": [
                {"path": path, "how": how.value, "found": found, "kind": kind_of(path, self.inputs).value}
                for (path, how), found in sorted(self.paths.items())
            ],
            "executed": list(self.executed()),
            "missed": list(self.missed()),
            "unused": list(self.unused()),
        }
