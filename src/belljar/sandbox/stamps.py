"""Owners and times of files, changed by the supervisor where a program asks for it: within a fence.

A mount that is read-only keeps them as they are; Landlock does not know them. So where a sandbox has no
mounts of its own its supervisor carries out chown(2), utimensat(2) and their kin itself, on the file that the
call means (belljar.sandbox.targets), with the rights that the program has: its own file may get other times,
and a group that it is in.

Sources: chown(2), utime(2), utimensat(2), futimesat(2).
"""

import contextlib
import errno
import os
import struct
import time
from collections.abc import Callable, Mapping

from belljar.sandbox import notify
from belljar.sandbox.lookups import HERE, signed
from belljar.sandbox.processes import Processes
from belljar.sandbox.targets import NO_FOLLOW, Targets

_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2  # UTIME_NOW, UTIME_OMIT
_KEEP = 0xFFFFFFFF  # an owner or group of -1
_SECOND = 10**9


class Stamps:
    """Changes owners and times in place of the programs that ask for it."""

    def __init__(self, processes: Processes, memory: notify.Memory, targets: Targets) -> None:
        self._processes = processes
        self._memory = memory
        self._targets = targets

    def handlers(self) -> Mapping[str, Callable[[notify.Request], int]]:
        """Return what answers which call."""
        return {
            "chown": lambda call: self._own(self._targets.named(call, HERE, call[6]), call[7:9]),
            "lchown": lambda call: self._own(self._targets.named(call, HERE, call[6], NO_FOLLOW), call[7:9]),
            "fchown": lambda call: self._own(self._targets.held(call, call[6]), call[7:9]),
            "fchownat": lambda call: self._own(
                self._targets.named(call, signed(call[6]), call[7], call[10]), call[8:10]
            ),
            "utime": lambda call: self._touch(call, self._at(call, HERE, call[6]), call[7], "=2q", _SECOND),
            "utimes": lambda call: self._touch(call, self._at(call, HERE, call[6]), call[7], "=4q", 1000),
            "futimesat": lambda call: self._touch(
                call, self._at(call, signed(call[6]), call[7]), call[8], "=4q", 1000
            ),
            "utimensat": lambda call: self._touch(
                call, self._at(call, signed(call[6]), call[7], call[9]), call[8], "=4q", 1
            ),
        }

    def _at(
        self, call: notify.Request, directory: int, path: int, flags: int = 0
    ) -> contextlib.AbstractContextManager[int]:
        """Open what is meant; without a path, the descriptor itself."""
        if path:
            return self._targets.named(call, directory, path, flags)
        return self._targets.held(call, directory)

    def _own(self, target: contextlib.AbstractContextManager[int], ids: tuple[int, ...]) -> int:
        owner, group = (number & _KEEP for number in ids)
        try:
            with target as file:
                info = self._owned(file)
                mine = {_KEEP, info.st_gid, os.getegid(), *os.getgroups()}
                if owner not in (_KEEP, info.st_uid) or group not in mine:
                    return -errno.EPERM
                if group not in (_KEEP, info.st_gid):
                    self._processes.change_group(file, group)
        except OSError as error:
            return -(error.errno or errno.EPERM)
        return 0

    def _touch(
        self,
        call: notify.Request,
        target: contextlib.AbstractContextManager[int],
        address: int,
        form: str,
        unit: int,
    ) -> int:
        size = struct.calcsize(form)
        data = self._memory.read(call[1], address, size) if address else b""
        if address and len(data) < size:
            return -errno.EFAULT
        try:
            with target as file:
                info = self._owned(file)
                times = _times(struct.unpack(form, data), unit, info) if address else None
                self._processes.change_times(file, times)
        except (OSError, OverflowError) as error:
            return -(getattr(error, "errno", None) or errno.EINVAL)
        return 0

    def _owned(self, file: int) -> os.stat_result:
        """Return what a file is; the supervisor may have rights over others' that the program has not."""
        info = os.fstat(file)
        if info.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "not the caller's")
        return info


def _times(words: tuple[int, ...], unit: int, info: os.stat_result) -> tuple[int, int]:
    """Return nanoseconds of access and of change. Raises OSError for what is no time."""
    if len(words) == 2:
        return words[0] * _SECOND, words[1] * _SECOND
    now = time.time_ns()
    found = []
    for seconds, rest, kept in zip(
        words[::2], words[1::2], (info.st_atime_ns, info.st_mtime_ns), strict=True
    ):
        if unit == 1 and rest in (_NOW, _OMIT):
            found.append(now if rest == _NOW else kept)
        elif not 0 <= rest * unit < _SECOND:
            raise OSError(errno.EINVAL, "times")
        else:
            found.append(seconds * _SECOND + rest * unit)
    return found[0], found[1]
