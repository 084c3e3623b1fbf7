"""Running one command in a sandbox: the caller's side.

Three processes. The *caller* forks the *keeper*, which leaves for new namespaces and forks *init*,
process 1 of the new PID namespace; init builds the new root, gives up every right, starts the
command and reaps (belljar.sandbox.inside). When the caller dies the keeper dies, when the keeper dies
init dies, when init dies the kernel kills everything inside: nothing is left behind, however it ends.

Init reports on a pipe. The pipe's end comes with the keeper's, who goes last: init and every process
inside are gone by then. A sandbox is ended early by asking the keeper (SIGTERM), not by killing it,
which would leave the rest dying unobserved.

Rejected: a helper binary (nothing to ship, nothing setuid) and a shell around unshare(1) (no
read-only binds without a race, no errors by name); a single clone(2) with all flags (it copies the
locks that other threads of the caller hold, which only fork(3) knows to avoid).
"""

import contextlib
import io
import itertools
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence

from belljar.sandbox import inside, kernel
from belljar.sandbox.diagnosis import SandboxError, Step, is_forbidden
from belljar.sandbox.operations import Sandbox
from belljar.sandbox.policy import Event, Policy, decode
from belljar.sandbox.signals import ask_to_end, pausing
from belljar.sandbox.values import replace, value

_WATCH_SECONDS = 0.2
_SIGNALS = signal.valid_signals()
_ATTEMPTS = 10
_GRACE_SECONDS = 10
_PATIENCE_SECONDS = 5
"""How long what is asked to end may take, before it is killed; a second Ctrl-C ends that."""


@value
class Outcome:
    """How a command ended: exit status (negative: killed by that signal), seconds, whether time ran out.

    `weaker`: there were no namespaces, as the caller had allowed.
    """

    status: int
    seconds: float
    timed_out: bool = False
    weaker: bool = False


def run(
    sandbox: Sandbox,
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int = 1,
    stderr: int = 2,
    timeout: float | None = None,
    interactive: bool = False,
    watch: Callable[[], None] | None = None,
    policy: Policy | None = None,
    on_event: Callable[[Event], None] | None = None,
    allow_weaker: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Outcome:
    """Run `argv` in the sandbox and wait for it and for everything that it started.

    `stdin`, `stdout` and `stderr` are file descriptors (None: /dev/null); `timeout` is in seconds;
    `interactive` leaves the command in the caller's session and on its terminal; `watch` is called
    five times a second while the command runs. With a `policy` system calls are filtered and a supervisor
    answers some (docs/supervisor.md); it calls `on_event` for what it sees. `argv[0]` is a path
    inside. Raises SandboxError when the sandbox cannot be set up or the program cannot be started. An
    exception in the caller kills everything inside before it goes on; at KeyboardInterrupt (Ctrl-C) what is
    inside is asked to end first, and has 5 seconds. Where the host forbids what namespaces need,
    `allow_weaker` has it run with less (belljar.sandbox.weaker); the outcome says so.
    `meanwhile` is called once, while the sandbox is set up; the command starts when it has returned.
    """
    job = inside.Job(
        sandbox=sandbox,
        argv=tuple(argv),
        streams=(stdin, stdout, stderr),
        interactive=interactive,
        policy=policy,
    )
    _check(job)
    _flush()
    try:
        return _run(job, timeout, watch, on_event, meanwhile)
    except SandboxError as error:
        if not allow_weaker or not is_forbidden(error):
            raise
        refusal = error
    try:
        return _run(replace(job, weaker=True), timeout, watch, on_event, None)
    except SandboxError as error:
        error.hint = error.hint or refusal.hint
        raise


def _run(
    job: inside.Job,
    timeout: float | None,
    watch: Callable[[], None] | None,
    on_event: Callable[[Event], None] | None,
    meanwhile: Callable[[], None] | None,
) -> Outcome:
    started = time.monotonic()
    keepers: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with Step("start"):
        pipes = _Pipes(on_event if job.policy is not None else None, held=meanwhile is not None)
    try:
        # Blocked until someone is there to clean up; blocked for good in the keeper and in init.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        caller = os.getpid()
        with Step("start"):
            # In one call: where another thread takes the signal, an exception can come in any line here.
            keepers.extend(itertools.starmap(_fork(), ((),)))
        if keepers == [0]:
            inside.keep(job, caller, pipes.theirs())
        pipes.close_theirs()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if meanwhile is not None:
            meanwhile()
            started = time.monotonic()
            pipes.start()
        try:
            with contextlib.nullcontext() if job.interactive else pausing(keepers[0]):
                report, timed_out = _listen(pipes.report[0], timeout, watch, pipes.events)
        except KeyboardInterrupt as interrupt:
            if not job.interactive:
                ask_to_end(keepers[0], interrupt)
                _listen(pipes.report[0], _PATIENCE_SECONDS, None, pipes.events)
            raise
    finally:
        _surely(lambda: _end(keepers, pipes.all(), mask))
    seconds = time.monotonic() - started
    if timed_out:
        return Outcome(status=-signal.SIGKILL, seconds=seconds, timed_out=True, weaker=job.weaker)
    return Outcome(status=_status(report), seconds=seconds, weaker=job.weaker)


def _fork() -> Callable[[], int]:
    """Return how to fork: os.fork is for processes with several threads, and takes longer."""
    return kernel.fork_alone if len(os.listdir("/proc/self/task")) == 1 else os.fork


def _check(job: inside.Job) -> None:
    """Refuse what makes no sense while it can be said plainly."""
    for fault in job.sandbox.faults():
        raise SandboxError("sandbox", fault)
    if job.policy is not None:
        for fault in job.policy.faults():
            raise SandboxError("policy", fault)
        with Step("supervisor"):
            from belljar.sandbox.supervisor import prepare

            prepare(job.policy, nested=job.sandbox.nested)
    if not job.argv:
        raise SandboxError("command", "empty")
    for name, fd in zip(("stdin", "stdout", "stderr"), job.streams, strict=True):
        if fd is not None:
            # The pipe must not come to lie where a closed stream was.
            with Step(f"{name}, descriptor {fd}"):
                os.fstat(fd)


def _flush() -> None:
    """Have what the caller printed come before what the command prints."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


class _Pipes:
    """The pipes between the caller and a sandbox; to close one twice does no harm."""

    def __init__(self, on_event: Callable[[Event], None] | None, *, held: bool) -> None:
        self.report = _pipe()
        self.events = None if on_event is None else _Events(on_event)
        self._word = _pipe() if held else None

    def theirs(self) -> inside.Ends:
        """Return the ends that the sandbox is to keep."""
        return inside.Ends(
            report=self.report[1].fileno(),
            events=None if self.events is None else self.events.writer.fileno(),
            word=None if self._word is None else self._word[0].fileno(),
        )

    def close_theirs(self) -> None:
        """Close the sandbox's ends, which it has copies of."""
        self.report[1].close()
        if self.events is not None:
            self.events.writer.close()
        if self._word is not None:
            self._word[0].close()

    def start(self) -> None:
        """Give the word; what has failed meanwhile does not hear it."""
        if self._word is not None:
            with contextlib.suppress(BrokenPipeError):
                self._word[1].write(b"!")

    def all(self) -> tuple[io.FileIO, ...]:
        """Return every end."""
        events = () if self.events is None else (self.events.reader, self.events.writer)
        return (*self.report, *events, *(self._word or ()))


def _pipe() -> tuple[io.FileIO, io.FileIO]:
    reader, writer = os.pipe()
    return io.FileIO(reader, "r"), io.FileIO(writer, "w")


class _Events:
    """A pipe by which the supervisor tells what it sees."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.reader, self.writer = _pipe()
        self._tell = tell
        self._rest = b""

    def read(self) -> bool:
        """Tell what has come; False at the end of the pipe."""
        chunk = self.reader.read(65536)
        events, self._rest = decode(self._rest + (chunk or b""))
        for event in events:
            self._tell(event)
        return bool(chunk)


def _listen(
    pipe: io.FileIO, timeout: float | None, watch: Callable[[], None] | None, events: _Events | None
) -> tuple[bytes, bool]:
    """Read init's report to the end of the pipe; True when `timeout` seconds pass first."""
    deadline = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if events is not None:
        poll.register(events.reader, select.POLLIN)
    report = b""
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if watch is not None:
            left = _WATCH_SECONDS if left is None else min(left, _WATCH_SECONDS)
        ready = [fd for fd, _ in poll.poll(None if left is None else left * 1000)]
        if events is not None and events.reader.fileno() in ready:
            if not events.read():
                poll.unregister(events.reader)
        elif ready:
            chunk = pipe.read(65536)
            if not chunk:
                return report, False
            report += chunk
        elif watch is not None and (deadline is None or time.monotonic() < deadline):
            watch()
        if deadline is not None and time.monotonic() >= deadline:
            return report, True


def _end(keepers: list[int], pipe: tuple[io.FileIO, ...], mask: set[signal.Signals | int]) -> None:
    """Kill what still lives in the sandbox and wait until it is gone; to be done again when interrupted."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for keeper in keepers:
        # Gone: a second time, or where the caller ignores SIGCHLD and the kernel has reaped it.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(keeper, signal.SIGTERM)
            for end in pipe:  # the supervisor may be about to write
                end.close()
            _wait(keeper)
    for end in pipe:
        end.close()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _wait(keeper: int) -> None:
    """Wait until the keeper has ended; one that cannot, whatever holds it, is killed, and all with it."""
    with contextlib.suppress(OSError):  # out of descriptors
        pidfd = os.pidfd_open(keeper)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_GRACE_SECONDS * 1000):
                os.kill(keeper, signal.SIGKILL)
        finally:
            os.close(pidfd)
    os.waitpid(keeper, 0)


def _surely(action: Callable[[], None]) -> None:
    """Do it to its end, and only then raise what came in between (Ctrl-C, impatiently)."""
    late: BaseException | None = None
    for _ in range(_ATTEMPTS):
        try:
            action()
            break
        except BaseException as error:  # noqa: BLE001 - a signal handler may raise anything
            late = error
    if late is not None:
        raise late


def _status(report: bytes) -> int:
    kind, *fields = report.decode("utf-8", "surrogateescape").split("\0")
    if kind == "ended":
        return int(fields[0])
    if kind != "failed":
        raise SandboxError("init", "died before it could report", hint="was the machine out of memory?")
    step, reason, number = fields
    raise SandboxError(step, reason, number=int(number))
