"""Who made a call: the processes inside, as the host's /proc tells of them.

To ask /proc takes longer than all the rest of answering a call, so what it said is kept: until the process
executes a program, and for a few seconds at most, since the numbers of processes come again.
"""

import contextlib
import os
import time

_KEPT_SECONDS = 5.0
_MANY = 4096


class Process:
    """A process that runs one program, and what the supervisor keeps of it.

    `pid` is its number inside, `outside` that on the host. `reads` and `since` belong to its clock,
    `stream` and `drawn` to its random numbers.
    """

    __slots__ = ("drawn", "outside", "pid", "program", "reads", "since", "stream")

    def __init__(self, *, pid: int, outside: int, program: str) -> None:
        self.pid = pid
        self.outside = outside
        self.program = program
        self.reads = 0
        self.since: int | None = None
        self.stream: bytes | None = None
        self.drawn = 0


class Processes:
    """The processes inside, by the number of any of their threads on the host."""

    def __init__(self, proc: int) -> None:
        """`proc` is a descriptor of the host's /proc."""
        self._proc = proc
        self._tasks: dict[int, Process] = {}
        self._cwds: dict[int, str] = {}
        self._known: dict[tuple[int, bytes], Process] = {}
        self._expiry = 0.0

    def of(self, task: int) -> Process:
        """Return the process that a thread belongs to."""
        if time.monotonic() > self._expiry:
            self._tasks.clear()
            self._cwds.clear()
            self._expiry = time.monotonic() + _KEPT_SECONDS
        found = self._tasks.get(task)
        if found is None:
            found = self._tasks[task] = self._look(task)
        return found

    def cwd(self, task: int) -> str:
        """Return a thread's working directory as it is called inside; raises OSError."""
        found = self._cwds.get(task)
        if found is None:
            found = self._cwds[task] = self.link(task, "cwd")
        return found

    def moved(self) -> None:
        """Forget all working directories: some process changes its own."""
        self._cwds.clear()

    def executing(self, task: int) -> None:
        """Forget what a thread ran, which is about to execute another program."""
        self._tasks.pop(task, None)
        self._cwds.pop(task, None)

    def executed(self, task: int) -> Process:
        """Return the process that has just begun to run a program, as a new one."""
        self.executing(task)
        self._known.pop((task, self._start(task)), None)
        return self.of(task)

    def link(self, task: int, name: str) -> str:
        """Return where a link of a process's directory in /proc leads; raises OSError."""
        return os.readlink(f"{task}/{name}", dir_fd=self._proc)

    def open(self, task: int, name: str) -> int:
        """Return a descriptor (O_PATH) of what a link of a process's directory in /proc leads to."""
        return os.open(f"{task}/{name}", os.O_PATH | os.O_CLOEXEC, dir_fd=self._proc)

    def change_mode(self, file: int, mode: int) -> None:
        """Change the mode of what a descriptor (O_PATH) of ours is; raises OSError."""
        os.chmod(f"self/fd/{file}", mode, dir_fd=self._proc)

    def change_group(self, file: int, group: int) -> None:
        """Change the group of what a descriptor (O_PATH) of ours is; raises OSError."""
        os.chown(f"self/fd/{file}", -1, group, dir_fd=self._proc)

    def change_times(self, file: int, times: tuple[int, int] | None) -> None:
        """Change the times (access, change; in ns) of what a descriptor of ours is, None: to now."""
        os.utime(f"self/fd/{file}", ns=times, dir_fd=self._proc) if times else os.utime(
            f"self/fd/{file}", dir_fd=self._proc
        )

    def path_of(self, file: int) -> str:
        """Return the path of what a descriptor of ours is, "..." where it is longer than the kernel tells."""
        try:
            return os.readlink(f"self/fd/{file}", dir_fd=self._proc)
        except OSError:
            return "..."

    def exists(self, task: int, name: str) -> bool:
        """Return whether a process's directory in /proc has an entry."""
        try:
            os.stat(f"{task}/{name}", dir_fd=self._proc)
        except (OSError, ValueError):
            return False
        return True

    def read(self, task: int, name: str) -> bytes:
        """Return a file of a process's directory in /proc, empty where it cannot be read."""
        with contextlib.suppress(OSError):
            fd = os.open(f"{task}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
            try:
                return os.read(fd, 1 << 16)
            finally:
                os.close(fd)
        return b""

    def _look(self, task: int) -> Process:
        status = self.read(task, "status")
        outside = int(field(status, b"\nTgid:") or task)
        if outside != task:
            return self.of(outside)
        key = (outside, self._start(outside))
        known = self._known.get(key)
        program = ""
        with contextlib.suppress(OSError):
            program = self.link(task, "exe")
        if known is None:
            numbers = field(status, b"\nNSpid:").split() or [b"0"]
            known = Process(pid=int(numbers[-1]), outside=outside, program=program)
            self._inherit(known, int(field(status, b"\nPPid:") or 0))
            self._prune()
            self._known[key] = known
        known.program = program
        return known

    def _inherit(self, child: Process, parent: int) -> None:
        """Let a process that was only forked go on where its parent is: it has its variables."""
        before = self._tasks.get(parent)
        if before is not None and before.program == child.program:
            child.reads, child.since = before.reads, before.since

    def _start(self, process: int) -> bytes:
        """Return when a process began, which with its number tells it from all others."""
        fields = self.read(process, "stat").rpartition(b")")[2].split()
        return fields[19] if len(fields) > 19 else b""

    def _prune(self) -> None:
        if len(self._known) >= _MANY and len(self._known) % _MANY == 0:
            self._known = {key: item for key, item in self._known.items() if self.exists(key[0], "")}


def field(status: bytes, name: bytes) -> bytes:
    """Return a field of a process's `status` in /proc, empty where there is none; `name` after a newline."""
    at = status.find(name) + len(name)
    return b"" if at < len(name) else status[at : status.find(b"\n", at)]
