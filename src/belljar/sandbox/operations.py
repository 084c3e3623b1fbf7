"""What a sandbox consists of: values that can be printed, compared, stored and executed.

A sandbox starts from nothing: an empty tmpfs. Each operation adds one thing to it. They are executed
in the order of their targets' depth, so that a mount never hides what another one put there first,
and the root is made read-only at the end.
"""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from belljar.sandbox import kernel

_RESERVED_MEMORY = "mode=0755"
_NODES = ("null", "zero", "full", "random", "urandom", "tty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """Show a file or directory of the host, read-only unless `writable`, without its devices and setuid."""

    source: str
    target: str
    writable: bool = False

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"{'bind-rw' if self.writable else 'bind'} {self.source} -> {self.target}"

    def execute(self, old: str, new: str) -> None:
        """Do it; `old` and `new` are the host's and the sandbox's roots."""
        source, target = old + self.source, new + self.target
        if stat.S_ISDIR(os.stat(source).st_mode):
            os.makedirs(target, exist_ok=True)
        else:
            _touch(target)
        read_only = 0 if self.writable else kernel.MOUNT_ATTR_RDONLY
        kernel.bind(source, target, kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV | read_only)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tmpfs:
    """An empty, writable directory in memory, gone with the sandbox."""

    target: str
    mode: int = 0o1777

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"tmpfs {self.target} mode={self.mode:o}"

    def execute(self, old: str, new: str) -> None:  # noqa: ARG002 - one signature for all operations
        """Do it; `old` and `new` are the host's and the sandbox's roots."""
        os.makedirs(new + self.target, exist_ok=True)
        flags = kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("tmpfs", new + self.target, "tmpfs", flags, f"mode={self.mode:o}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proc:
    """The sandbox's own processes; `hidepid` keeps process 1, which is the sandbox itself, out of sight."""

    target: str = "/proc"

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"proc {self.target}"

    def execute(self, old: str, new: str) -> None:  # noqa: ARG002
        """Do it; `old` and `new` are the host's and the sandbox's roots."""
        os.makedirs(new + self.target, exist_ok=True)
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        kernel.mount("proc", new + self.target, "proc", flags, "hidepid=2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """A small `/dev`: the six harmless nodes, a private `pts` and `shm`, and the usual links."""

    target: str = "/dev"

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"devices {self.target}"

    def execute(self, old: str, new: str) -> None:
        """Do it; `old` and `new` are the host's and the sandbox's roots."""
        dev = new + self.target
        for directory in ("pts", "shm"):
            os.makedirs(f"{dev}/{directory}", exist_ok=True)
        for node in _NODES:
            # A node cannot be made in a user namespace, and a bind of it must not be `nodev`.
            _touch(f"{dev}/{node}")
            kernel.bind(f"{old}/dev/{node}", f"{dev}/{node}", 0)
        for name, link in (("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx")):
            os.symlink(link, f"{dev}/{name}")
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.symlink(f"/proc/self/fd/{number}", f"{dev}/{name}")
        quiet = kernel.MS_NOSUID | kernel.MS_NOEXEC
        kernel.mount("tmpfs", f"{dev}/shm", "tmpfs", quiet | kernel.MS_NODEV, "mode=1777")
        kernel.mount("devpts", f"{dev}/pts", "devpts", quiet, "newinstance,ptmxmode=0666,mode=620")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """An empty directory that cannot be written to."""

    target: str

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"directory {self.target}"

    def execute(self, old: str, new: str) -> None:  # noqa: ARG002
        """Do it; `old` and `new` are the host's and the sandbox's roots."""
        os.makedirs(new + self.target, exist_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink:
    """A symbolic link."""

    target: str
    link: str

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"symlink {self.target} -> {self.link}"

    def execute(self, old: str, new: str) -> None:  # noqa: ARG002
        """Do it; `old` and `new` are the host's and the sandbox's roots."""
        os.makedirs(os.path.dirname(new + self.target), exist_ok=True)
        os.symlink(self.link, new + self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A small file with the given text."""

    target: str
    text: str

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"file {self.target} {self.text!r}"

    def execute(self, old: str, new: str) -> None:  # noqa: ARG002
        """Do it; `old` and `new` are the host's and the sandbox's roots."""
        os.makedirs(os.path.dirname(new + self.target), exist_ok=True)
        with open(new + self.target, "x", encoding="utf-8") as file:
            file.write(self.text)


Operation = Bind | Tmpfs | Proc | Devices | Directory | Symlink | File
_KINDS = {kind.__name__.lower(): kind for kind in (Bind, Tmpfs, Proc, Devices, Directory, Symlink, File)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """Everything that a command run in it can see of the world, and who it is there."""

    operations: tuple[Operation, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    uid: int = 1000
    gid: int = 100
    hostname: str = "localhost"
    domain: str = "(none)"
    umask: int = 0o022

    def ordered(self) -> tuple[Operation, ...]:
        """Return the operations, shallow targets first."""
        return tuple(sorted(self.operations, key=lambda operation: operation.target.count("/")))

    def describe(self) -> str:
        """Say what the sandbox consists of, one line each."""
        lines = [operation.describe() for operation in self.ordered()]
        lines += [f"env {name}={value!r}" for name, value in sorted(self.env.items())]
        who = f"uid {self.uid} gid {self.gid} host {self.hostname} umask {self.umask:04o} cwd {self.cwd}"
        return "\n".join([*lines, who, "no network, no new privileges, no capabilities, fixed addresses"])

    def to_json(self) -> str:
        """Return the sandbox as JSON, for `python -m belljar.sandbox`."""
        value = asdict(self)
        value["operations"] = [
            {"do": type(operation).__name__.lower(), **asdict(operation)} for operation in self.operations
        ]
        return json.dumps(value, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Sandbox":
        """Read what `to_json` wrote; raises ValueError, KeyError or TypeError where it did not."""
        value: dict[str, Any] = json.loads(text)
        items = [dict(item) for item in value.pop("operations")]
        return cls(operations=tuple(_KINDS[item.pop("do")](**item) for item in items), **value)


def _touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
