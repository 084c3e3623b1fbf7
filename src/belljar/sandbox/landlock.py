"""Landlock: a process gives up, for itself and all that it starts, what it does not name: landlock(7).

It needs no namespace and no right. What it does not cover in any version: whether a path is there and what it
is (stat), the mode, owner and times of files that the user owns, and sockets that are files.
"""

import ctypes
import os
import struct
from collections.abc import Collection, Iterable

from belljar.sandbox import kernel

LEAST = 3
"""The oldest version that is enough, of Linux 6.2: before it, what can only be read could be truncated."""
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = 1, 2, 4, 8, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_DEVICES_MADE = 1 << 6 | 1 << 11  # character and block
_FS_RIGHTS = {3: (1 << 15) - 1, 4: (1 << 15) - 1}  # from 5 on one more
_TCP, _ABSTRACT_AND_SIGNALS = 3, 3


def version() -> int:
    """Return the kernel's version of Landlock, 0 where there is none."""
    found: int = kernel.call(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    return max(found, 0)


def restrict(
    *,
    read: Iterable[str],
    write: Iterable[str],
    use: Iterable[str],
    network: bool,
    plain: Collection[str] = (),
) -> None:
    """Leave this process what is at and below paths: to read and execute, to write too, or to use (devices).

    On the way to those that are also in `plain` no link is followed.

    Abstract sockets of others and signals to them are out of reach, and without `network` TCP, as far as the
    kernel's version knows these. Raises OSError. No new privileges must be set.
    """
    found = version()
    rights = _FS_RIGHTS.get(found, (1 << 16) - 1)
    net = _TCP if found >= 4 and not network else 0
    scoped = _ABSTRACT_AND_SIGNALS if found >= 6 else 0
    size = 24 if found >= 6 else 16 if found >= 4 else 8
    words = struct.pack("=QQQ", rights, net, scoped)[:size]
    ruleset = kernel.check(kernel.call(_CREATE_RULESET, words, size, 0), "landlock_create_ruleset")
    try:
        for path in read:
            _allow(ruleset, path, _READ, links=path not in plain)
        for path in write:
            _allow(ruleset, path, rights & ~(_DEVICES_MADE | _IOCTL_DEV), links=path not in plain)
        for path in use:
            _allow(ruleset, path, rights & (_READ_FILE | _WRITE_FILE | _IOCTL_DEV))
        kernel.check(kernel.call(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int, *, links: bool = True) -> None:
    place = kernel.find(path, links=links)
    try:
        if not os.path.isdir(f"/proc/self/fd/{place}"):
            rights &= _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place))
        kernel.check(kernel.call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), "landlock_add_rule", path)
    finally:
        os.close(place)
