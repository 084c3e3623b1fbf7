"""Which paths the programs inside ask for: from the arguments of their calls to events, each once.

A path is read from the caller's memory while the call waits; nothing keeps another thread from changing it
before the kernel reads it itself. So this is a report, and no protection: what is mounted protects.

Whether a path is there is looked up by the supervisor, whose root is the sandbox's, in the moment before the
call. What has been told is kept, at most `_MOST` entries, so that a program cannot fill the memory.
"""

import os
from collections.abc import Callable

from belljar.sandbox import notify
from belljar.sandbox.policy import Event, How, Lookup, Unseen
from belljar.sandbox.processes import Process, Processes
from belljar.sandbox.values import value

_MOST = 500_000
HERE = -100
"""AT_FDCWD."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OWN = ("/proc/self/", "/proc/thread-self/")


@value
class Names:
    """Where a call has a path: the argument, that of the directory (None: it has none), that of the flags."""

    path: int
    directory: int | None = None
    flags: int | None = None
    how: How = How.ASK


_ASK, _ASK_AT = Names(path=0), Names(path=1, directory=0)
CALLS = {
    "open": Names(path=0, flags=1, how=How.READ),
    "creat": Names(path=0, how=How.WRITE),
    "openat": Names(path=1, directory=0, flags=2, how=How.READ),
    "execve": Names(path=0, how=How.EXECUTE),
    "execveat": Names(path=1, directory=0, how=How.EXECUTE),
    **dict.fromkeys(("stat", "lstat", "access", "statfs", "readlink", "chdir"), _ASK),
    **dict.fromkeys(("newfstatat", "statx", "faccessat", "faccessat2", "readlinkat"), _ASK_AT),
}
"""By the call's name."""


class Lookups:
    """What has been told, and what is new."""

    def __init__(self, processes: Processes, memory: notify.Memory, tell: Callable[[Event], None]) -> None:
        self._processes = processes
        self._memory = memory
        self._tell = tell
        self._told: set[tuple[str, How, str, bytes]] = set()

    def path(self, request: notify.Request, names: Names) -> bytes:
        """Return the path that a call names, as it is; empty where it names none."""
        address = request[6 + names.path]
        return self._memory.string(request[1], address) or b"" if address else b""

    def see(self, request: notify.Request, names: Names, path: bytes) -> None:
        """Tell of a call that names `path`, unless it was told."""
        how = names.how
        if how is How.READ and names.flags is not None:
            how = How.WRITE if request[6 + names.flags] & _WRITING else How.READ
        task = request[1]
        process = self._processes.of(task)
        try:
            base = "" if path[:1] == b"/" else self._base(request, names)
        except OSError:
            return  # a descriptor that is not open: the call fails
        key = (process.program, how, base, path)
        if key in self._told or not path:
            return
        if len(self._told) >= _MOST:
            self._tell(Unseen(what=f"more than {_MOST} lookups", program=""))
            return
        self._told.add(key)
        self._add(process, task, how, _joined(base, os.fsdecode(path)))

    def _base(self, request: notify.Request, names: Names) -> str:
        """Return the directory that a relative path is relative to."""
        task = request[1]
        if names.directory is None:
            return self._processes.cwd(task)
        number = signed(request[6 + names.directory])
        return self._processes.cwd(task) if number == HERE else self._processes.link(task, f"fd/{number}")

    def _add(self, process: Process, task: int, how: How, path: str) -> None:
        self._tell(
            Lookup(
                path=path, how=how, found=self._exists(task, path), program=process.program, pid=process.pid
            )
        )

    def _exists(self, task: int, path: str) -> bool:
        for own in _OWN:
            if path.startswith(own):  # "self" is the one who asks
                return self._processes.exists(task, path.removeprefix(own))
        try:
            os.stat(path)
        except (OSError, ValueError):
            return False
        return True


def signed(word: int) -> int:
    """Return an argument as an int of C."""
    low = word & 0xFFFFFFFF
    return low - ((low & 0x80000000) << 1)


def _joined(base: str, path: str) -> str:
    """Return an absolute path without "." and "//"; with ".." the links before it have to be followed."""
    whole = os.path.join(base, path)
    if "/.." in whole:
        head, _, tail = whole.rpartition("/../")
        whole = os.path.join(os.path.realpath(f"{head}/.."), tail) if tail else os.path.realpath(whole)
    return os.path.normpath(whole).replace("//", "/")
