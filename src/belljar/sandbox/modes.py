"""No file is armed: what would make one run as its owner or its group, for whoever starts it, is left out.

Inside, set-user-ID gives nothing. But what is mounted writable is a directory of the host: a program of the
caller's with such a bit runs there as the caller, for any user who can reach it, from the moment of the call
on, and for good where belljar is killed before it has tidied up.

So the supervisor carries out chmod(2) and its kin itself, on the file that the call means, without those
bits, and the call succeeds: `install -m 4755` and `tar -p` go on, and what was left out is told. A directory
gets the mode that was asked for; there the bits are about groups of new files. To make a file that is armed
from the start (open, mknod) is refused: installers change the mode of a file when it is complete.

Rejected: to refuse all of it (OpenSSH's `make install` fails), to let the call go on and take the bits off
then (somebody waits for just that moment), a look at the file and then the call (another thread changes what
the name means).
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping

from belljar.sandbox import notify
from belljar.sandbox.filter import ARMED, MADE, MAKING, MODES
from belljar.sandbox.lookups import HERE, signed
from belljar.sandbox.policy import Disarmed
from belljar.sandbox.processes import Processes

_NO_FOLLOW, _EMPTY_PATH = 0x100, 0x1000
_OWN = (b"/proc/self/fd/", b"/proc/thread-self/fd/", b"/dev/fd/")


class Modes:
    """Changes modes in place of the programs that ask for it."""

    def __init__(self, processes: Processes, memory: notify.Memory, tell: Callable[[Disarmed], None]) -> None:
        self._processes = processes
        self._memory = memory
        self._tell = tell

    def handlers(self) -> Mapping[str, Callable[[notify.Request], int | None]]:
        """Return what answers which call."""
        return {
            "chmod": lambda request: self._named(request, HERE, 6),
            "fchmod": lambda request: self._change(
                request, f"fd/{request[6] & 0xFFFFFFFF}", b"", 0, request[7]
            ),
            "fchmodat": lambda request: self._named(request, signed(request[6]), 7),
            "fchmodat2": lambda request: self._named(request, signed(request[6]), 7, request[9]),
        }

    def _named(self, request: notify.Request, directory: int, at: int, flags: int = 0) -> int:
        """Change the mode of what a path names; the word `at` of the request is its address."""
        path = self._memory.string(request[1], request[at])
        if path is None:
            return -errno.EFAULT
        if flags & ~(_NO_FOLLOW | _EMPTY_PATH):
            return -errno.EINVAL
        if not path and not flags & _EMPTY_PATH:
            return -errno.ENOENT
        base = "root" if path[:1] == b"/" else "cwd" if directory == HERE else f"fd/{directory}"
        for own in _OWN:  # "self" is the one who asks
            if path.startswith(own) and path.removeprefix(own).isdigit():
                base, path = f"fd/{path.removeprefix(own).decode()}", b""
        return self._change(request, base, path.lstrip(b"/"), flags, request[at + 1])

    def _change(self, request: notify.Request, base: str, path: bytes, flags: int, mode: int) -> int:
        try:
            file = self._processes.open(request[1], base)
        except OSError as error:
            return -(errno.EBADF if error.errno == errno.ENOENT else error.errno or errno.EPERM)
        try:
            if path:
                below, file = file, -1
                try:
                    file = notify.find(below, path, os.O_PATH | (os.O_NOFOLLOW if flags & _NO_FOLLOW else 0))
                finally:
                    os.close(below)
            return self._set(request, file, mode & 0o7777)
        except OSError as error:
            return -(error.errno or errno.EPERM)
        finally:
            if file >= 0:
                os.close(file)

    def _set(self, request: notify.Request, file: int, mode: int) -> int:
        info = os.fstat(file)
        if stat.S_ISLNK(info.st_mode):
            return -errno.EOPNOTSUPP
        if info.st_uid != os.geteuid():  # the supervisor may have rights that the program has not
            return -errno.EPERM
        is_directory = stat.S_ISDIR(info.st_mode)
        self._processes.change_mode(file, mode if is_directory else mode & ~ARMED)
        if not is_directory:
            program = self._processes.of(request[1]).program
            self._tell(Disarmed(path=self._processes.path_of(file), program=program))
        return 0


def arms(call: str, request: notify.Request) -> bool:
    """Tell whether a call would make a file that is armed."""
    if call in MADE:
        at = 6 + MADE[call]
        return bool(request[at] & MAKING and request[at + 1] & ARMED)
    return bool(call in MODES and request[6 + MODES[call]] & ARMED)
