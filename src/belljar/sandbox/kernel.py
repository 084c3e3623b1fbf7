"""The system calls that Python's `os` does not offer (in 3.11), each raising OSError on failure.

Numbers are those of the kernel's include/uapi/asm-generic/unistd.h; from 424 on they are the same
on every architecture.
"""

import ctypes
import fcntl
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

ADDR_NO_RANDOMIZE = 0x0040000

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _MountAttributes(ctypes.Structure):
    """`struct mount_attr` of mount_setattr(2)."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _check(result: int, call: str, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", path)
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` (CLONE_NEW*) names for new ones: unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount a new filesystem, or change an existing mount: mount(2)."""
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() or None)
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), f"mount {kind}", target)


def detach(path: str) -> None:
    """Take a mount and all below it away at once: umount2(2) with MNT_DETACH."""
    _check(_libc.umount2(os.fsencode(path), MNT_DETACH), "umount2", path)


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root and put the old one at `old`: pivot_root(2)."""
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(number, os.fsencode(new), os.fsencode(old)), "pivot_root", new)


def bind(source: str, target: str, attributes: int) -> None:
    """Show `source` at `target`, submounts included, with the MOUNT_ATTR_* of `attributes` set on all.

    Unlike a bind of mount(2), the attributes hold from the first moment and for every submount:
    open_tree(2), mount_setattr(2) (Linux 5.12), move_mount(2).
    """
    flags = _AT_RECURSIVE | _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    tree = _check(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags), "open_tree", source)
    try:
        if attributes:
            _set_attributes(tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, attributes, source)
        moved = _libc.syscall(
            _SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH
        )
        _check(moved, "move_mount", target)
    finally:
        os.close(tree)


def make_read_only(path: str) -> None:
    """Make the one mount at `path` read-only."""
    _set_attributes(_AT_FDCWD, os.fsencode(path), 0, MOUNT_ATTR_RDONLY, path)


def _set_attributes(directory: int, path: bytes, flags: int, attributes: int, subject: str) -> None:
    value = _MountAttributes(attr_set=attributes)
    size = ctypes.sizeof(value)
    done = _libc.syscall(_SYS_MOUNT_SETATTR, directory, path, flags, ctypes.byref(value), size)
    _check(done, "mount_setattr", subject)


def prctl(option: int, value: int) -> None:
    """Change one property of the calling thread: prctl(2)."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def drop_capability_bounds() -> None:
    """Make sure that no program executed from here on can have a capability: capabilities(7)."""
    # In bytes: a codec may be imported at its first use, and Python's library is out of sight by now.
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        last = int(file.read())
    for capability in range(last + 1):
        prctl(PR_CAPBSET_DROP, capability)


def fix_addresses() -> None:
    """Switch address space randomisation off for what is executed from here on: personality(2)."""
    _check(_libc.personality(ctypes.c_ulong(ADDR_NO_RANDOMIZE)), "personality")


def set_names(host: str, domain: str) -> None:
    """Set the host and the NIS domain name of the UTS namespace."""
    _check(_libc.sethostname(host.encode(), len(host.encode())), "sethostname")
    _check(_libc.setdomainname(domain.encode(), len(domain.encode())), "setdomainname")


def loopback_up() -> None:
    """Switch on the loopback device of the network namespace: netdevice(7), SIOCSIFFLAGS."""
    af_inet, sock_dgram, siocsifflags, up_loopback_running = 2, 2, 0x8914, 0x1 | 0x8 | 0x40
    sock = _check(_libc.socket(af_inet, sock_dgram | os.O_CLOEXEC, 0), "socket")
    try:
        fcntl.ioctl(sock, siocsifflags, struct.pack("16sh14x", b"lo", up_loopback_running))
    finally:
        os.close(sock)


def blank_command_line() -> None:
    """Overwrite this process's own arguments and environment, which `/proc/PID/cmdline` would show inside.

    Where they lie in memory is what fields 48 to 51 of /proc/self/stat say: proc(5).
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    arguments, arguments_end, environment, environment_end = map(int, fields[45:49])
    ctypes.memset(arguments, 0, arguments_end - arguments)
    ctypes.memset(environment, 0, environment_end - environment)
