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

_MOST, _ROOM = 500_000, 1 << 27  # lookups, bytes of their names
HERE = -100
"""AT_FDCWD."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OWN = ("/proc/self/", "/proc/thread-self/")
_BY_NUMBER = (b"/proc/self/fd", b"/dev/fd")
Key = tuple[str, How, str, bytes]
"""A lookup: program, how, the directory that the path is relative to, the path as it was given."""


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
        self._told: set[Key] = set()
        self._absent: set[Key] = set()
        self._room = _ROOM

    def path(self, request: notify.Request, names: Names) -> bytes:
        """Return the path that a call names, as it is; empty where it names none."""
        address = request[6 + names.path]
        text = self._memory.string(request[1], address) if address else b""
        if text is None and notify.was_refused():
            program = self._processes.of(request[1]).program
            self._tell(Unseen(what="the paths of a program that may not be read", program=program))
        return text or b""

    def see(self, request: notify.Request, names: Names, path: bytes) -> None:
        """Tell of a call that names `path`, unless it was told."""
        how = names.how
        if how is How.READ and names.flags is not None:
            how = How.WRITE if request[6 + names.flags] & _WRITING else How.READ
        task = request[1]
        process = self._processes.of(task)
        try:
            base, path = self._place(request, names, path)
        except OSError:
            return  # a descriptor that is not open: the call fails
        key = (process.program, how, base, path)
        if not base and not path:
            return
        if key not in self._told:
            self._room -= len(base) + len(path)
            if len(self._told) >= _MOST or self._room < 0:
                self._tell(Unseen(what=f"more than {_MOST} lookups, or very long ones", program=""))
                return
            self._told.add(key)
        elif key not in self._absent:
            return
        self._add(process, task, key)

    def _place(self, request: notify.Request, names: Names, path: bytes) -> tuple[str, bytes]:
        """Return a directory and a path below it; what is executed by a descriptor is all directory."""
        if names.how is How.EXECUTE:
            way, _, number = path.rpartition(b"/")
            if way in _BY_NUMBER and number.isdigit():
                return self._processes.link(request[1], f"fd/{number.decode()}"), b""
            if not path and names.directory is not None:  # fexecve(3)
                return self._base(request, names), b""
        return ("" if path[:1] == b"/" or not path else self._base(request, names)), path

    def _base(self, request: notify.Request, names: Names) -> str:
        """Return the directory that a relative path is relative to."""
        task = request[1]
        if names.directory is None:
            return self._processes.cwd(task)
        number = signed(request[6 + names.directory])
        return self._processes.cwd(task) if number == HERE else self._processes.link(task, f"fd/{number}")

    def _add(self, process: Process, task: int, key: Key) -> None:
        """Tell of a lookup; of a program that was not there once more when it is."""
        _, how, base, name = key
        path = self._joined(base, os.fsdecode(name))
        found = not name or self._exists(task, path)
        if key in self._absent and not found:
            return
        if how is How.EXECUTE:
            (self._absent.discard if found else self._absent.add)(key)
        self._tell(Lookup(path=path, how=how, found=found, program=process.program, pid=process.pid))

    def _exists(self, task: int, path: str) -> bool:
        for own in _OWN:
            if path.startswith(own):  # "self" is the one who asks
                return self._processes.exists(task, path.removeprefix(own))
        try:
            os.stat(path)
        except (OSError, ValueError):
            return False
        return True

    def _joined(self, base: str, path: str) -> str:
        """Return an absolute path without "." and "//"; with ".." the links before it have to be followed.

        By the kernel: it gives up after 40 links. What a program can plant would keep Python busy for hours.
        """
        whole = os.path.join(base, path)
        if "/.." in whole:
            head, _, tail = whole.rpartition("/../")
            whole = os.path.join(self._real(f"{head}/.."), tail) if tail else self._real(whole)
        return os.path.normpath(whole).replace("//", "/")

    def _real(self, path: str) -> str:
        try:
            file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (OSError, ValueError):
            return path
        try:
            return self._processes.path_of(file)
        finally:
            os.close(file)


def signed(word: int) -> int:
    """Return an argument as an int of C."""
    low = word & 0xFFFFFFFF
    return low - ((low & 0x80000000) << 1)
