"""Process 1 of a virtual machine: mounts what a system has, runs a command, says how it ended, and leaves.

The kernel's own first root cannot be left by pivot_root(2), which the sandbox does: so it is bound once more,
and that becomes the root, as on a real system.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct

_BIND, _MOVE = 0x1000, 0x2000
_MOUNTS = (
    *(("proc", "proc"), ("sysfs", "sys"), ("cgroup2", "sys/fs/cgroup"), ("devtmpfs", "dev")),
    *(("devpts", "dev/pts"), ("tmpfs", "dev/shm"), ("tmpfs", "tmp"), ("tmpfs", "root"), ("tmpfs", "run")),
)
_SIOCSIFFLAGS, _UP = 0x8914, 1
_AUTOBOOT = 0x01234567
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Be process 1; the machine ends with it."""
    os.mkdir("/top")
    _mount("/", "/top", None, _BIND)
    for kind, place in _MOUNTS:
        os.makedirs(f"/top/{place}", exist_ok=True)
        _mount(kind, f"/top/{place}", kind)
    os.chdir("/top")
    _mount(".", "/", None, _MOVE)
    os.chroot(".")
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP))
    status = _run()
    os.write(1, b"\nENDED %d\n" % status)
    _libc.reboot(_AUTOBOOT)


def _mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    words = (None if text is None else text.encode() for text in (source, target, kind))
    if _libc.mount(*words, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


def _run() -> int:
    """Run the command, and reap whatever ends, until it has."""
    with open("/command.json", encoding="utf-8") as file:
        command = json.load(file)
    env = {
        "PATH": "/usr/bin:/usr/sbin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": "/checkout/src:/opt",
    }
    child = os.posix_spawn(command[0], command, env)
    while True:
        process, status = os.wait()
        if process == child:
            return os.waitstatus_to_exitcode(status)


main()
