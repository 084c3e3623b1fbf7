"""What a sandbox consists of: values that can be printed, compared, stored and executed.

A sandbox starts from nothing: an empty, read-only tmpfs. Each operation adds one thing to it, shallow
targets first, so that a mount never hides what another operation put there.

An operation is executed in two halves. `take` picks up what it shows while the host is in sight, as
detached mounts; then the host is left for good; `put` places them. So whatever links a hostile tree
holds, the path of a target can lead nowhere but into the sandbox.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from belljar.sandbox import kernel
from belljar.sandbox.values import value

_QUIET = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_NAME_LIMIT = 64  # of a host name: uname(2)
_ID_LIMIT = 2**32 - 1  # which itself means "no change": chown(2)


class _Item:
    """One thing in a sandbox."""

    __slots__ = ()
    target: str

    def describe(self) -> str:
        """Say in one line what is done."""
        raise NotImplementedError

    def take(self) -> list[int]:
        """Pick up what it shows: descriptors of detached mounts."""
        return []

    def put(self, trees: list[int], target: str) -> None:
        """Add it to the sandbox, which is the root by now."""
        raise NotImplementedError


@value
class Bind(_Item):
    """Show a file or directory of the host, read-only unless `writable`, without its devices and setuid.

    Without `links` none is followed on the way to the source: where somebody has put one there meanwhile,
    the sandbox is not set up.
    """

    source: str
    target: str
    writable: bool = False
    links: bool = True

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"{'bind-rw' if self.writable else 'bind'} {self.source} -> {self.target}"

    def take(self) -> list[int]:
        """Pick up what it shows: descriptors of detached mounts."""
        attributes = _QUIET | (0 if self.writable else kernel.MOUNT_ATTR_RDONLY)
        return [kernel.take(self.source, attributes, links=self.links)]

    def put(self, trees: list[int], target: str) -> None:
        """Add it to the sandbox, which is the root by now."""
        if stat.S_ISDIR(os.fstat(trees[0]).st_mode):
            os.makedirs(target, exist_ok=True)
        else:
            _touch(target)
        kernel.place(trees[0], target)


@value
class Tmpfs(_Item):
    """An empty, writable directory in memory, gone with the sandbox."""

    target: str
    mode: int = 0o1777

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"tmpfs {self.target} mode={self.mode:o}"

    def take(self) -> list[int]:
        """Pick up what it shows: descriptors of detached mounts."""
        return [kernel.filesystem("tmpfs", _QUIET, mode=f"{self.mode:o}")]

    def put(self, trees: list[int], target: str) -> None:
        """Add it to the sandbox, which is the root by now."""
        os.makedirs(target, exist_ok=True)
        kernel.place(trees[0], target)


@value
class Proc(_Item):
    """The sandbox's own processes, but for process 1, which is the sandbox itself."""

    target: str = "/proc"

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"proc {self.target}"

    def take(self) -> list[int]:
        """Pick up what it shows: descriptors of detached mounts."""
        # A new proc may be mounted only while one is visible, hence not after the host is left.
        # `hidepid=invisible` shows everything to group 0, which the command is in when root called.
        return [kernel.filesystem("proc", _QUIET | kernel.MOUNT_ATTR_NOEXEC, hidepid="ptraceable")]

    def put(self, trees: list[int], target: str) -> None:
        """Add it to the sandbox, which is the root by now."""
        os.makedirs(target, exist_ok=True)
        kernel.place(trees[0], target)
        if os.stat(target).st_uid == os.getuid():
            _protect(target)


def _protect(proc: str) -> None:
    """Make what stands for the kernel in `proc` read-only.

    The user who is root outside, whatever he is called inside, may write to /proc/sys without any
    capability: core_pattern there names a program that the host executes as root.
    """
    with os.scandir(proc) as entries:
        found = [entry for entry in entries if not entry.name.isdigit() and not entry.is_symlink()]
    for entry in found:
        if entry.is_dir() or entry.stat().st_mode & stat.S_IWUSR:
            flags = _QUIET | kernel.MOUNT_ATTR_NOEXEC | kernel.MOUNT_ATTR_RDONLY
            kernel.place(kernel.take(entry.path, flags), entry.path)


@value
class Devices(_Item):
    """A small `/dev`: the six harmless nodes, a private `pts` and `shm`, and the usual links."""

    target: str = "/dev"

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"devices {self.target}"

    def take(self) -> list[int]:
        """Pick up what it shows: descriptors of detached mounts."""
        # A node cannot be made in a user namespace. Read-only still lets it be written to, but keeps
        # a caller who is root, and so owns the host's node, from changing its mode.
        node_flags = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC
        nodes = [kernel.take(f"/dev/{node}", node_flags) for node in _NODES]
        shm = kernel.filesystem("tmpfs", _QUIET, mode="1777")
        pts_flags = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC
        return [*nodes, shm, kernel.filesystem("devpts", pts_flags, ptmxmode="0666", mode="620")]

    def put(self, trees: list[int], target: str) -> None:
        """Add it to the sandbox, which is the root by now."""
        os.makedirs(target, exist_ok=True)
        for node in _NODES:
            _touch(f"{target}/{node}")
        for directory in ("shm", "pts"):
            os.mkdir(f"{target}/{directory}")
        for name, link in (("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx")):
            os.symlink(link, f"{target}/{name}")
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.symlink(f"/proc/self/fd/{number}", f"{target}/{name}")
        for tree, name in zip(trees, (*_NODES, "shm", "pts"), strict=True):
            kernel.place(tree, f"{target}/{name}")


@value
class Directory(_Item):
    """An empty directory that cannot be written to."""

    target: str

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"directory {self.target}"

    def put(self, trees: list[int], target: str) -> None:  # noqa: ARG002 - it takes nothing
        """Add it to the sandbox, which is the root by now."""
        os.makedirs(target, exist_ok=True)


@value
class Symlink(_Item):
    """A symbolic link."""

    target: str
    link: str

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"symlink {self.target} -> {self.link}"

    def put(self, trees: list[int], target: str) -> None:  # noqa: ARG002 - it takes nothing
        """Add it to the sandbox, which is the root by now."""
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(self.link, target)


@value
class File(_Item):
    """A small file with the given text."""

    target: str
    text: str

    def describe(self) -> str:
        """Say in one line what is done."""
        return f"file {self.target} {self.text!r}"

    def put(self, trees: list[int], target: str) -> None:  # noqa: ARG002 - it takes nothing
        """Add it to the sandbox, which is the root by now."""
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "xb") as file:
            file.write(self.text.encode("utf-8", "surrogateescape"))


Operation = Bind | Tmpfs | Proc | Devices | Directory | Symlink | File
KINDS = {kind.__name__.lower(): kind for kind in (Bind, Tmpfs, Proc, Devices, Directory, Symlink, File)}
"""What operations there are, by the names that a printed sandbox has for them."""
EMPTY_ROOT = Tmpfs(target="/", mode=0o755)
"""What the others are put into, and read-only in the end, unless one of them makes a root of its own."""


@value
class Sandbox:
    """Everything that a command run in it can see of the world, and who it is there.

    `nested` allows it user namespaces of its own, and with them much of the kernel that only root
    reaches otherwise. `network` leaves it in the caller's network, abstract sockets included.
    `fixed_addresses`: programs and their memory lie at the same addresses each time. `pids_before`: how many
    numbers of processes are used up before the command begins.
    """

    operations: tuple[Operation, ...]
    env: Mapping[str, str] = MappingProxyType({})
    cwd: str = "/"
    uid: int = 1000
    gid: int = 100
    hostname: str = "localhost"
    domain: str = "(none)"
    umask: int = 0o022
    nested: bool = False
    network: bool = False
    fixed_addresses: bool = True
    pids_before: int = 0

    def ordered(self) -> tuple[Operation, ...]:
        """Return the operations, shallow targets first; the first one makes the root."""
        ordered = sorted(self.operations, key=_depth)
        return tuple(ordered if ordered and ordered[0].target == "/" else [EMPTY_ROOT, *ordered])

    def describe(self) -> str:
        """Say what the sandbox consists of, one line each."""
        lines = [operation.describe() for operation in self.ordered()]
        lines += [f"env {name}={value!r}" for name, value in sorted(self.env.items())]
        who = f"uid {self.uid} gid {self.gid} host {self.hostname} umask {self.umask:04o} cwd {self.cwd}"
        nested = "nested" if self.nested else "no nested"
        network = "the caller's network" if self.network else "no network"
        addresses = "fixed addresses" if self.fixed_addresses else "random addresses"
        rights = f"{network}, no new privileges, no capabilities, {nested} namespaces, {addresses}"
        return "\n".join([*lines, who, rights])

    def faults(self) -> Iterator[str]:
        """Say what of it makes no sense, before anything is done with it."""
        for operation in self.operations:
            target = operation.target
            if not target.startswith("/") or target.startswith("//") or os.path.normpath(target) != target:
                yield f"{operation.describe()}: the target is not an absolute, normal path"
            if "\0" in operation.describe():
                yield f"{operation.describe()}: holds a NUL"
        for name, text in self.env.items():
            if not name or "=" in name or "\0" in name + text:
                yield f"env {name!r}: cannot be a variable"
        for name in ("hostname", "domain"):
            if len(getattr(self, name).encode("utf-8", "surrogateescape")) > _NAME_LIMIT:
                yield f"{name}: longer than {_NAME_LIMIT} bytes"
        for name, limit in (("uid", _ID_LIMIT), ("gid", _ID_LIMIT), ("umask", 0o1000), ("pids_before", 4096)):
            if not 0 <= getattr(self, name) < limit:
                yield f"{name} {getattr(self, name)}: out of range"


def _depth(operation: Operation) -> int:
    return 0 if operation.target == "/" else operation.target.count("/")


def _touch(path: str) -> None:
    """Make sure that there is something to mount on."""
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
