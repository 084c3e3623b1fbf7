"""The calls that the supervisor answers itself: the time, random numbers, what machine this is.

A handler returns the call's value, or minus an errno, or None where the call is to go on in the kernel.
"""

import contextlib
import errno
import fcntl
import os
import resource
import select
import struct
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from belljar.sandbox.clock import MONOTONIC_START, SECOND, TIMESPEC, Clock
from belljar.sandbox.listing import Listing
from belljar.sandbox.notify import Memory, Request
from belljar.sandbox.policy import SORTED, Policy, Unseen
from belljar.sandbox.processes import Processes, field

if TYPE_CHECKING:
    from belljar.sandbox.chance import Chance

Handler = Callable[[Request], int | None]

_TIMES_OF_DAY = {0, 5, 8, 11}  # CLOCK_REALTIME, _COARSE, _ALARM, CLOCK_TAI
_MONOTONIC = 1
_TIMER_ABSTIME = 1
_UTS = 65
_KEPT = 64
_INFO = struct.Struct("=q3Q6QHH4xQQI4x")  # struct sysinfo


class Answers:
    """What the supervisor answers, by the name of the call."""

    def __init__(
        self,
        policy: Policy,
        names: tuple[str, str],
        processes: Processes,
        memory: Memory,
        *,
        own: bool = True,
        tell: Callable[[Unseen], None],
    ) -> None:
        """`names` are those of the host and of the domain; `own`: so are the monotonic clock and the user."""
        self._policy = policy
        self._names = names
        self._own = own
        self._processes = processes
        self._memory = memory
        self._ahead = _ahead(processes) if own and policy.epoch is not None else 0
        self.clock = None if policy.epoch is None else Clock(policy.epoch)
        self.chance = None if policy.seed is None else _chance(policy.seed, processes)
        self._listing = Listing(policy.listing or SORTED, processes, memory, tell)

    def handlers(self) -> Mapping[str, Handler]:
        """Return what answers which call."""
        return {
            "clock_gettime": self._clock_gettime,
            "gettimeofday": self._gettimeofday,
            "time": self._time,
            "nanosleep": self._nanosleep,
            "clock_nanosleep": self._clock_nanosleep,
            "futex": self._futex,
            "getrandom": self._getrandom,
            "uname": self._uname,
            "sched_getaffinity": self._affinity,
            "sysinfo": self._sysinfo,
            "getgroups": self._groups,
            "getdents64": self._listing.answer,
        }

    def _write(self, request: Request, address: int, data: bytes, value: int = 0) -> int | None:
        number = self._memory.write(request[1], address, data)
        # What the supervisor may not write (EPERM: a program that may not be read) the kernel may.
        return value if number == 0 else None if number in {errno.EPERM, errno.ESRCH} else -number

    def _now(self, request: Request) -> int:
        assert self.clock is not None
        return self.clock.read(self._processes.of(request[1]))

    def _clock_gettime(self, request: Request) -> int | None:
        if request[6] & 0xFFFFFFFF not in _TIMES_OF_DAY:
            return None
        return self._write(request, request[7], TIMESPEC.pack(*divmod(self._now(request), SECOND)))

    def _gettimeofday(self, request: Request) -> int | None:
        seconds, rest = divmod(self._now(request), SECOND)
        if request[7]:
            number = self._memory.write(request[1], request[7], bytes(8))  # the time zone: UTC
            if number:
                return -number
        return self._write(request, request[6], TIMESPEC.pack(seconds, rest // 1000)) if request[6] else 0

    def _time(self, request: Request) -> int | None:
        seconds = self._now(request) // SECOND
        if not request[6]:
            return seconds
        return self._write(request, request[6], struct.pack("=q", seconds), seconds)

    def _nanosleep(self, request: Request) -> None:
        self._sleep(self._timespec(request, request[6]))

    def _clock_nanosleep(self, request: Request) -> None:
        clock, flags, address = request[6] & 0xFFFFFFFF, request[7], request[8]
        if not flags & _TIMER_ABSTIME:
            self._sleep(self._timespec(request, address))
        elif clock == _MONOTONIC:
            left = self._timespec(request, address) - time.monotonic_ns() - self._ahead
            # What is left depends on how fast the program came here: rounded, it is the same in each run.
            self._sleep(_rounded(left))
        elif clock in _TIMES_OF_DAY:
            self._sleep(self._translate(request, address))

    def _futex(self, request: Request) -> None:
        self._translate(request, request[9])

    def _translate(self, request: Request, address: int) -> int:
        assert self.clock is not None
        return self.clock.translate(self._processes.of(request[1]), request[1], address, self._memory)

    def _sleep(self, duration: int) -> None:
        assert self.clock is not None
        self.clock.sleep(duration)

    def _timespec(self, request: Request, address: int) -> int:
        data = self._memory.read(request[1], address, TIMESPEC.size)
        if len(data) < TIMESPEC.size:
            return 0
        seconds, rest = TIMESPEC.unpack(data)
        return int(seconds * SECOND + rest)

    def _getrandom(self, request: Request) -> int | None:
        assert self.chance is not None
        data = self.chance.draw(self._processes.of(request[1]), request[7])
        return self._write(request, request[6], data, len(data)) if data else 0

    def _uname(self, request: Request) -> int | None:
        if self._policy.release is None:
            return None
        words = ("Linux", self._names[0], self._policy.release, "#1 SMP", os.uname().machine, self._names[1])
        return self._write(
            request, request[6], b"".join(os.fsencode(word).ljust(_UTS, b"\0") for word in words)
        )

    def _affinity(self, request: Request) -> int | None:
        if self._policy.processors is None:
            return None
        if request[7] < 8:
            return -errno.EINVAL
        return self._write(request, request[8], struct.pack("=Q", (1 << self._policy.processors) - 1), 8)

    def _groups(self, _: Request) -> int | None:
        """Say that there are no supplementary groups: an ordinary caller cannot leave his."""
        return 0 if self._own else None

    def _sysinfo(self, request: Request) -> int | None:
        if self._policy.memory is None:
            return None
        most = self._policy.memory
        return self._write(
            request,
            request[6],
            _INFO.pack(MONOTONIC_START, 0, 0, 0, most, most // 2, 0, 0, 0, 0, 1, 0, 0, 0, 1),
        )


def _chance(seed: str, processes: Processes) -> "Chance":
    from belljar.sandbox.chance import Chance  # it loads OpenSSL

    return Chance(seed, processes)


def _ahead(processes: Processes) -> int:
    """Return by how much the monotonic clock inside is ahead of ours, in nanoseconds: time_namespaces(7)."""
    seconds, rest = field(processes.read(os.getpid(), "timens_offsets"), b"monotonic").split()
    return int(seconds) * SECOND + int(rest)


def _rounded(duration: int) -> int:
    """Return a duration that is a little short, in nanoseconds, as what was most likely meant."""
    step = SECOND // 100 if duration < SECOND // 10 else SECOND // 20 if duration < SECOND else SECOND // 10
    return -(-duration // step) * step


def uuid_of(data: bytes) -> bytes:
    """Return 16 bytes as the kernel writes a random UUID: RFC 9562, version 4, and a newline."""
    word = (int.from_bytes(data, "big") & ~(0xF << 76 | 0x3 << 62)) | 0x4 << 76 | 0x2 << 62
    text = f"{word:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])).encode() + b"\n"


class RandomFiles:
    """Descriptors that are given out for /dev/urandom: pipes that never run dry."""

    def __init__(self, poll: "select.poll") -> None:
        self._poll = poll
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] % 2**32
        self._most = max(limit - _KEPT, limit // 2)
        self._streams: dict[int, Callable[[], bytes]] = {}
        self._rest: dict[int, bytes] = {}

    def open(self, stream: Callable[[], bytes]) -> int:
        """Return the end to be read, which is the caller's to close; raises OSError where there are too many.

        Some descriptors are kept for everything else: without them the supervisor would be blind.
        """
        if len(self._streams) >= self._most:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writer, False)
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        self._streams[writer], self._rest[writer] = stream, b""
        self._poll.register(writer, select.POLLOUT)
        self.feed(writer)
        return reader

    def once(self, data: bytes) -> int:
        """Return the end to be read of a pipe that holds some bytes; it is the caller's to close."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.write(writer, data)
        os.close(writer)
        return reader

    def feed(self, writer: int) -> None:
        """Fill a pipe; close it when nobody can read it any more."""
        data = self._rest[writer] or self._streams[writer]()
        try:
            self._rest[writer] = data[os.write(writer, data) :]
        except BlockingIOError:
            self._rest[writer] = data
        except OSError:
            self._poll.unregister(writer)
            del self._streams[writer], self._rest[writer]
            with contextlib.suppress(OSError):
                os.close(writer)
