"""The system calls that Python's `os` does not offer (in 3.11), each raising OSError on failure.

Numbers are those of the kernel's include/uapi/asm-generic/unistd.h; from 424 on they are the same
on every architecture.
"""

import ctypes
import errno
import fcntl
import os
import signal
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWTIME = 0x00000080

MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8

_ADDR_NO_RANDOMIZE = 0x0040000
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1
_FSOPEN_CLOEXEC = 1
_KEYCTL_JOIN_SESSION_KEYRING = 1
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_MNT_DETACH = 2
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOVE_MOUNT_T_SYMLINKS = 0x10
_MS_PRIVATE = 1 << 18
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_RESOLVE_NO_SYMLINKS = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_PDEATHSIG = 1
_PTRACE_DETACH = 17

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT, _SYS_CAPSET, _SYS_KEYCTL = {"x86_64": (155, 126, 250), "aarch64": (41, 91, 219)}.get(
    os.uname().machine, (-1, -1, -1)
)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_held = ctypes.PyDLL(None, use_errno=True)  # calls without letting go of the interpreter's lock


class _MountAttributes(ctypes.Structure):
    """`struct mount_attr` of mount_setattr(2)."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def call(number: int, *words: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call by its number; return its value, or -1."""
    result: int = _libc.syscall(number, *words)
    return result


def check(result: int, call: str, path: str | None = None) -> int:
    """Return what a call returned; raises OSError where it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", path)
    return result


# --- processes ----------------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` (CLONE_NEW*) names for new ones: unshare(2)."""
    check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def fork_alone() -> int:
    """Fork a process that has one thread only: fork(2) without what os.fork does for the other threads.

    That is to run the hooks that modules have registered (threading, logging, random), for 0.3 ms.
    """
    return check(_held.fork(), "fork")


def close_range(first: int, last: int) -> None:
    """Close every descriptor from `first` to `last`, both included: close_range(2), Linux 5.9."""
    # os.closerange calls close(2) a million times where Python was built for an older libc.
    if first <= last:
        check(_libc.syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), 0), "close_range")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent's thread ends: prctl(2)."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def stop_tracing(process: int, signal_number: int) -> None:
    """Let a child that has stopped go on with its signal: it made this process its tracer (PTRACE_TRACEME).

    The SIGTRAP that tells a tracer of an exec would kill it.
    """
    _libc.ptrace(_PTRACE_DETACH, process, None, 0 if signal_number == signal.SIGTRAP else signal_number)


def adopt_orphans() -> None:
    """Be the parent of what this process's descendants leave behind: PR_SET_CHILD_SUBREAPER of prctl(2)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def leave_keyring() -> None:
    """Change to an empty session keyring; the caller's may hold keys to his files: session-keyring(7)."""
    try:
        check(_libc.syscall(_SYS_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")
    except OSError as error:
        # A kernel without keys, or a filter (Docker's) that forbids them to the command as well.
        if error.errno not in {errno.ENOSYS, errno.EPERM}:
            raise


def fix_addresses(*, fixed: bool = True) -> None:
    """Switch address space randomisation off, or on, for what is executed from here on: personality(2)."""
    check(_libc.personality(ctypes.c_ulong(_ADDR_NO_RANDOMIZE if fixed else 0)), "personality")


def give_up_rights(*, own: bool = True) -> None:
    """Give up all capabilities, ways to new ones, and being looked into by others: capabilities(7).

    `own`: in a user namespace of its own, where a process may give up the bounding set, too.
    """
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    past = {errno.EINVAL} if own else {errno.EINVAL, errno.EPERM}
    if ctypes.get_errno() not in past:  # EINVAL: this kernel does not know so many
        check(-1, "prctl PR_CAPBSET_DROP")
    header, none = struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0), bytes(24)
    check(_libc.syscall(_SYS_CAPSET, header, none), "capset")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)


def allow_supervision() -> None:
    """Let the supervisor look into this process: it has no other right to it yet.

    give_up_rights forbids it, and so does what a caller was as another user for a while (seteuid): prctl(2).
    """
    _prctl(_PR_SET_DUMPABLE, 1)


def _prctl(option: int, value: int) -> None:
    check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


# --- mounts -------------------------------------------------------------------------------------


def find(path: str, *, links: bool = True) -> int:
    """Return a descriptor of what a path names (O_PATH); without `links` any in the path is an error.

    That is a question for the kernel, openat2(2): whoever looked first could be shown something else then.
    """
    if links:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    found = _libc.syscall(_SYS_OPENAT2, _AT_FDCWD, os.fsencode(path), how, len(how))
    return check(found, "openat2", path)


def take(source: str, attributes: int, *, links: bool = True) -> int:
    """Return a detached copy of `source`, submounts included, with MOUNT_ATTR_* set on all of them.

    Unlike with a bind of mount(2), the attributes hold from the first moment and for every submount:
    open_tree(2), mount_setattr(2) (Linux 5.12). `links` as in `find`.
    """
    flags = _AT_RECURSIVE | _AT_EMPTY_PATH | _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    place, name = (_AT_FDCWD, os.fsencode(source)) if links else (find(source, links=False), b"")
    try:
        tree = check(_libc.syscall(_SYS_OPEN_TREE, place, name, flags), "open_tree", source)
    finally:
        if place >= 0:
            os.close(place)
    try:
        _set(tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, _MountAttributes(attr_set=attributes), source)
    except OSError:
        os.close(tree)
        raise
    return tree


def filesystem(kind: str, attributes: int, **options: str) -> int:
    """Return a new filesystem as a detached mount: fsopen(2), fsconfig(2), fsmount(2)."""
    context = check(_libc.syscall(_SYS_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC), f"fsopen {kind}")
    try:
        for name, value in options.items():
            setting = (_FSCONFIG_SET_STRING, name.encode(), value.encode(), 0)
            check(_libc.syscall(_SYS_FSCONFIG, context, *setting), f"fsconfig {kind} {name}={value}")
        check(_libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), f"fsconfig {kind}")
        return check(_libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes), f"fsmount {kind}")
    finally:
        os.close(context)


def place(tree: int, target: str) -> None:
    """Mount a detached tree at `target`, following links, and close it: move_mount(2)."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_SYMLINKS
    try:
        moved = _libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), flags)
        check(moved, "move_mount", target)
    finally:
        os.close(tree)


def make_private(path: str) -> None:
    """Keep what is mounted at and below `path` from being seen elsewhere, and the reverse."""
    _set(_AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, _MountAttributes(propagation=_MS_PRIVATE), path)


def make_read_only(path: str) -> None:
    """Make the one mount at `path` read-only."""
    _set(_AT_FDCWD, os.fsencode(path), 0, _MountAttributes(attr_set=MOUNT_ATTR_RDONLY), path)


def _set(directory: int, path: bytes, flags: int, value: _MountAttributes, subject: str) -> None:
    size = ctypes.sizeof(value)
    done = _libc.syscall(_SYS_MOUNT_SETATTR, directory, path, flags, ctypes.byref(value), size)
    check(done, "mount_setattr", subject)


def change_root(new: str) -> None:
    """Make the mount at `new` the root and take the old root, with all below it, out of sight.

    pivot_root(2), under "pivot_root(".", ".")": the old root comes to lie on the new one.
    """
    os.chdir(new)
    check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root", new)
    check(_libc.umount2(b".", _MNT_DETACH), "umount2", "/")
    os.chdir("/")


# --- names and network --------------------------------------------------------------------------


def set_names(host: str, domain: str) -> None:
    """Set the host and the NIS domain name of the UTS namespace."""
    check(_libc.sethostname(host.encode(), len(host.encode())), "sethostname")
    check(_libc.setdomainname(domain.encode(), len(domain.encode())), "setdomainname")


def loopback_up() -> None:
    """Switch on the loopback device of the network namespace: netdevice(7), SIOCSIFFLAGS."""
    af_inet, sock_dgram, siocsifflags, up_loopback_running = 2, 2, 0x8914, 0x1 | 0x8 | 0x40
    sock = check(_libc.socket(af_inet, sock_dgram | os.O_CLOEXEC, 0), "socket")
    try:
        fcntl.ioctl(sock, siocsifflags, struct.pack("16sh14x", b"lo", up_loopback_running))
    finally:
        os.close(sock)
