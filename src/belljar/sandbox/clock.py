"""A clock that does not depend on when and how fast a build runs, and yet advances.

Each program that begins sees the epoch. From there its clock advances
- by 50 microseconds with each reading, about what a reading costs, so that busy waiting ends in due time;
- by whatever anybody sleeps, at once, for all;
- by 10 seconds for each 10 seconds in which it has really been running since its first reading, so that
  waiting otherwise (select, poll, other processes) ends too;
- by a second for each 100,000 readings by anybody, so that waiting in a shell's loop ends.
So a program that neither sleeps nor reads the clock 10 seconds after it read it for the first time sees the
same times in each run, whatever runs beside it.

Only the time of day is like that. The monotonic clock counts from the start of the sandbox (a time
namespace) and is real, since the kernel measures timeouts by it. Where a timeout is a time of day (futex,
clock_nanosleep), it is rewritten, in the caller's memory, to the real time that is as far away.

Rejected: time that stands still (programs hang), one clock for all readings (with `make -j` the order of
readings would show), a slowed real clock (differs from run to run).
"""

import struct
import time

from belljar.sandbox.notify import Memory
from belljar.sandbox.processes import Process

SECOND = 10**9
_READ = 50_000
_PATIENCE = 10 * SECOND
_CROWD = 100_000
TIMESPEC = struct.Struct("=qq")
MONOTONIC_START = 1000
"""What the monotonic clock shows at the start, in seconds."""


class Clock:
    """The time of day inside, in nanoseconds since 1970."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch * SECOND
        self._slept = 0
        self._readings = 0

    def read(self, process: Process) -> int:
        """Return the time, and let it advance a little."""
        process.reads += 1
        self._readings += 1
        if process.since is None:
            process.since = time.monotonic_ns()
        return self._now(process)

    def _now(self, process: Process) -> int:
        waited = 0 if process.since is None else time.monotonic_ns() - process.since
        patience = waited // _PATIENCE * _PATIENCE
        shared = self._slept + self._readings // _CROWD * SECOND
        return self._epoch + shared + patience + process.reads * _READ

    def sleep(self, duration: int) -> None:
        """Let time pass: nanoseconds."""
        self._slept += max(0, min(duration, 10**6 * SECOND))

    def translate(self, process: Process, task: int, address: int, memory: Memory) -> int:
        """Rewrite a time of day, up to which a process waits, to the real one; return how long it waits."""
        data = memory.read(task, address, TIMESPEC.size)
        if len(data) < TIMESPEC.size:
            return 0
        seconds, rest = map(int, TIMESPEC.unpack(data))
        deadline, real, now = seconds * SECOND + rest, time.time_ns(), self._now(process)
        # A loop may come again with what was rewritten: that is years from the virtual time.
        if seconds < 0 or abs(deadline - real) <= abs(deadline - now):
            return 0
        left = max(0, deadline - now)
        memory.write(task, address, TIMESPEC.pack(*divmod(real + left, SECOND)))
        return left


def offsets() -> str:
    """Return what makes the monotonic clocks of a new time namespace begin: time_namespaces(7)."""
    lines = []
    for name, clock in (("monotonic", time.CLOCK_MONOTONIC), ("boottime", time.CLOCK_BOOTTIME)):
        seconds, rest = divmod(MONOTONIC_START * SECOND - time.clock_gettime_ns(clock), SECOND)
        lines.append(f"{name} {seconds} {rest}\n")
    return "".join(lines)
