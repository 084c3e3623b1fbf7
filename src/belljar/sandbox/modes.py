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

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Mapping

from belljar.sandbox import notify
from belljar.sandbox.filter import ARMED, MADE, MAKING, MODES
from belljar.sandbox.lookups import HERE, signed
from belljar.sandbox.policy import Disarmed
from belljar.sandbox.processes import Processes
from belljar.sandbox.targets import Targets


class Modes:
    """Changes modes in place of the programs that ask for it."""

    def __init__(self, processes: Processes, targets: Targets, tell: Callable[[Disarmed], None]) -> None:
        self._processes = processes
        self._targets = targets
        self._tell = tell

    def handlers(self) -> Mapping[str, Callable[[notify.Request], int | None]]:
        """Return what answers which call."""
        named, held = self._targets.named, self._targets.held
        return {
            "chmod": lambda call: self._change(call, named(call, HERE, call[6]), call[7]),
            "fchmod": lambda call: self._change(call, held(call, call[6]), call[7]),
            "fchmodat": lambda call: self._change(call, named(call, signed(call[6]), call[7]), call[8]),
            "fchmodat2": lambda call: self._change(
                call, named(call, signed(call[6]), call[7], call[9]), call[8]
            ),
        }

    def _change(
        self, request: notify.Request, target: contextlib.AbstractContextManager[int], mode: int
    ) -> int:
        try:
            with target as file:
                return self._set(request, file, mode & 0o7777)
        except OSError as error:
            return -(error.errno or errno.EPERM)

    def _set(self, request: notify.Request, file: int, mode: int) -> int:
        info = os.fstat(file)
        if stat.S_ISLNK(info.st_mode):
            return -errno.EOPNOTSUPP
        if info.st_uid != os.geteuid():  # the supervisor may have rights that the program has not
            return -errno.EPERM
        is_directory = stat.S_ISDIR(info.st_mode)
        self._processes.change_mode(file, mode if is_directory else mode & ~ARMED)
        if mode & ARMED and not is_directory:
            program = self._processes.of(request[1]).program
            self._tell(Disarmed(path=self._processes.path_of(file), program=program))
        return 0


def arms(call: str, request: notify.Request) -> bool:
    """Tell whether a call would make a file that is armed."""
    if call in MADE:
        at = 6 + MADE[call]
        return bool(request[at] & MAKING and request[at + 1] & ARMED)
    return bool(call in MODES and request[6 + MODES[call]] & ARMED)
