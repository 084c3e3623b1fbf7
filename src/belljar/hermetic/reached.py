"""What a command reached for: the events of a supervisor, by what they are about.

A path is the project's, an input's, a tool's (the system), private (the command's own home, /tmp, /dev,
/proc), or outside: a place that the sandbox does not show. What was looked for in the private home, in
/etc, /usr/local or outside and was not there is what the command would have taken from the machine.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from belljar.hermetic.request import HOME, MACHINE, PROJECT, TOOLS
from belljar.sandbox import Blocked, Disarmed, Event, How, Lookup, Unseen, value

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/etc/alternatives", TOOLS)
_PRIVATE = ("/tmp", "/dev", "/proc", "/sys", "/run", "/var/tmp")
_LOCAL = ("/usr/local",)
_LIBC = ("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/locale.alias")
"""What glibc looks for in every program: that says nothing of a build, whose locale is fixed."""
_TOPS = ("boot", "home", "media", "mnt", "nix", "opt", "root", "selinux", "snap", "srv", "var")
"""What a root directory holds besides what is shown; other names there are files of a project's parent."""


class Kind(StrEnum):
    """What a path belongs to."""

    PROJECT = "project"
    INPUT = "input"
    SYSTEM = "system"
    HOME = "home"
    ETC = "etc"
    LOCAL = "local"
    """What an administrator put into /usr/local."""
    PRIVATE = "private"
    OUTSIDE = "outside"


def kind_of(path: str, inputs: Iterable[str] = ()) -> Kind:
    """Return what a path inside belongs to; `inputs` are the targets that were declared."""
    tops = (
        (Kind.PROJECT, (PROJECT,)),
        (Kind.INPUT, tuple(inputs)),
        (Kind.LOCAL, _LOCAL),
        (Kind.SYSTEM, _SYSTEM),
        (Kind.HOME, (HOME,)),
        (Kind.ETC, ("/etc",)),
        (Kind.PRIVATE, _PRIVATE),
    )
    for kind, below in tops:
        if any(path == top or path.startswith(f"{top}/") for top in below):
            return kind
    return Kind.OUTSIDE


class Reached:
    """Gathers events: paths by what was wanted of them, calls that were denied, and gaps of the report."""

    def __init__(self, inputs: tuple[str, ...] = ()) -> None:
        """Begin with nothing; `inputs` are the targets that were declared."""
        self.inputs = inputs
        self.paths: dict[tuple[str, How], bool] = {}
        self.blocked: list[Blocked] = []
        self.disarmed: list[Disarmed] = []
        self.unseen: list[Unseen] = []

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Lookup):
            key = os.path.normpath(event.path), event.how
            self.paths[key] = self.paths.get(key, False) or event.found
        elif isinstance(event, Blocked):
            self.blocked.append(event)
        elif isinstance(event, Disarmed):
            self.disarmed.append(event)
        else:
            self.unseen.append(event)

    def left_out(self, project: Path) -> set[str]:
        """Return the files that are there and did not get a setuid bit; the project's are relative to it."""
        found = {item.path.removeprefix(f"{PROJECT}/").removeprefix(f"{project}/") for item in self.disarmed}
        stay = {
            path for path in found if not path.startswith("/") or kind_of(path, self.inputs) is Kind.INPUT
        }
        return {path for path in stay if os.path.lexists(project / path)}

    def executed(self) -> tuple[str, ...]:
        """Return the programs that were started, by path inside."""
        return tuple(
            sorted(path for (path, how), found in self.paths.items() if how is How.EXECUTE and found)
        )

    def missed(self) -> tuple[str, ...]:
        """Return what was looked for and was not there, where a machine would have had something.

        What the command makes itself in its empty home it does not miss.
        """
        machine = (Kind.HOME, Kind.ETC, Kind.OUTSIDE, Kind.LOCAL)
        lacked = {path for (path, _), found in self.paths.items() if not found}
        made = {path for path, how in self.paths if how is How.WRITE}
        return tuple(sorted(path for path in lacked - made if kind_of(path, self.inputs) in machine))

    def outside(self, project: Path, home: str | None, system: Path) -> tuple["Outside", ...]:
        """Return what was missed, as the caller knows it; what he has, and was hidden, comes first."""
        found = {_outside(path, project, home) for path in self.missed() if path not in _LIBC}
        found |= set(self._behind_links()) if system == MACHINE else set()
        return tuple(sorted(found, key=lambda item: (not item.hidden, item.path)))

    def _behind_links(self) -> Iterator["Outside"]:
        """Yield what links of the system lead to that is not shown: Debian's JDK has its settings in /etc."""
        for (path, _), found in self.paths.items():
            if found or kind_of(path, self.inputs) is not Kind.SYSTEM or not os.path.exists(path):
                continue
            real = os.path.realpath(path)
            if kind_of(real, self.inputs) in (Kind.ETC, Kind.OUTSIDE) and real not in _LIBC:
                yield Outside(path=real, hidden=True, inside=path)

    def unused(self) -> tuple[str, ...]:
        """Return the declared inputs that nothing was looked up in."""
        used = {path for (path, _), found in self.paths.items() if found}
        return tuple(
            top for top in self.inputs if not any(path == top or path.startswith(f"{top}/") for path in used)
        )

    def every_path(self) -> Iterator[dict[str, Any]]:
        """Yield all lookups as JSON values."""
        for (path, how), found in sorted(self.paths.items()):
            kind = kind_of(path, self.inputs).value
            yield {"path": path, "how": how.value, "found": found, "kind": kind}


@value
class Outside:
    """Something that the command looked for and that is not shown to it.

    `path`: as the caller would write it; `../x` is in any of the project's parents, for inside they are one.
    `hidden`: it is on the caller's machine; else it is absent there, too. `inside`: what was looked up.
    """

    path: str
    hidden: bool
    inside: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"path": self.path, "state": "hidden" if self.hidden else "absent", "inside": self.inside}

    def __str__(self) -> str:
        return f"{self.path} ({'hidden' if self.hidden else 'absent'})"


def shortened(items: Iterable[Outside]) -> tuple[str, ...]:
    """Say each, but together what is absent below a directory of /usr/local: compilers always look there."""
    lines, many = [], Counter[str]()
    for item in items:
        if not item.hidden and kind_of(item.inside) is Kind.LOCAL:
            many["/".join(item.path.split("/")[:4])] += 1
        else:
            lines.append(str(item))
    counted = ((top, f", {count} times" if count > 1 else "") for top, count in many.items())
    return (*lines, *(f"{top} (absent{times})" for top, times in counted))


def _outside(inside: str, project: Path, home: str | None) -> Outside:
    """Say what a path inside means outside.

    Inside, the project's one parent is the root: what is looked for there and is no directory of the
    system's is what tools look for in every parent.
    """
    if inside.startswith(f"{HOME}/"):
        below = inside.removeprefix(f"{HOME}/")
        if below.startswith(".cache/"):  # no configuration, and full of names that say nothing
            below = "/".join(below.split("/")[:2])
            inside = f"{HOME}/{below}"
        return Outside(path=f"~/{below}", hidden=bool(home) and exists(f"{home}/{below}"), inside=inside)
    below = inside.removeprefix("/")
    if kind_of(inside) is not Kind.OUTSIDE or below.split("/")[0] in _TOPS:
        return Outside(path=inside, hidden=exists(inside), inside=inside)
    hidden = any(exists(str(parent / below)) for parent in project.parents)
    return Outside(path=f"../{below}", hidden=hidden, inside=inside)


def exists(path: str) -> bool:
    """Tell whether there is something at a path of this machine; directories without any file are nothing."""
    if not os.path.isdir(path):
        return os.path.lexists(path)
    return any(names for _, _, names in os.walk(path))
