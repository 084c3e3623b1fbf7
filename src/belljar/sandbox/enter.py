"""Entering a sandbox and running one command in it.

Three processes. The *caller* forks the *keeper*, which leaves for new namespaces and forks *init*,
process 1 of the new PID namespace; init builds the new root, gives up every right, starts the
command and reaps. When the caller dies the keeper dies, when the keeper dies init dies, when init
dies the kernel kills everything inside: nothing is left behind, however it ends.

All three hold the write end of one pipe. Init reports on it; the caller reads to its end, which
comes only when keeper and init, and so every process inside, are gone.

The command is started by posix_spawn from a process that has already given up everything, so
nothing needs to happen between its fork and its exec. Setting the root up takes the new mount API
(kernel.bind): mount(2) binds need a second call to become read-only and miss submounts.
Rejected: a helper binary (nothing to ship, nothing setuid) and a shell around unshare(1) (no
read-only binds without a race, no errors by name).
"""

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from belljar.sandbox import kernel
from belljar.sandbox.diagnosis import SandboxError, explain
from belljar.sandbox.operations import Bind, Sandbox

_NAMESPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWCGROUP
)
# A directory of the host to stand on while the new root is built; it is uncovered again by pivot_root.
_FOOTHOLDS = ("/tmp", "/var", "/mnt", "/usr")
_WATCH_SECONDS = 0.2
_LIMITS = {
    resource.RLIMIT_CORE: (0, 0),
    resource.RLIMIT_STACK: (8 << 20, resource.RLIM_INFINITY),
    resource.RLIMIT_NOFILE: (1024, 4096),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended: exit status (negative: killed by that signal), seconds, whether time ran out."""

    status: int
    seconds: float
    timed_out: bool = False


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
) -> Outcome:
    """Run `argv` in the sandbox and wait for it and for everything that it started.

    `stdin`, `stdout` and `stderr` are file descriptors (None: /dev/null); `timeout` is in seconds;
    `interactive` leaves the command in the caller's session and on its terminal; `watch` is called five
    times a second while the command runs. `argv[0]` is a path inside. Raises SandboxError when the sandbox cannot be set up or the program cannot be started.
    An exception in the caller (Ctrl-C) kills everything inside before it goes on.
    """
    started = time.monotonic()
    plan = _resolved(sandbox)
    read_end, write_end = os.pipe()
    _flush()
    keeper = os.fork()
    if keeper == 0:
        _keep(plan, argv, write_end, (stdin, stdout, stderr), interactive)
    os.close(write_end)
    try:
        report, timed_out = _listen(read_end, keeper, timeout, watch)
    except BaseException:
        _end(keeper)
        _drain(read_end)
        raise
    finally:
        os.close(read_end)
        os.waitpid(keeper, 0)
    seconds = time.monotonic() - started
    if timed_out:
        return Outcome(status=-signal.SIGKILL, seconds=seconds, timed_out=True)
    return Outcome(status=_status(report), seconds=seconds)


def _resolved(sandbox: Sandbox) -> Sandbox:
    """Follow the links in the sources of binds while the host's root is still the root."""
    import dataclasses

    operations = tuple(
        dataclasses.replace(operation, source=os.path.realpath(operation.source))
        if isinstance(operation, Bind)
        else operation
        for operation in sandbox.ordered()
    )
    return dataclasses.replace(sandbox, operations=operations)


# --- the caller -------------------------------------------------------------------------------


def _listen(
    pipe: int, keeper: int, timeout: float | None, watch: Callable[[], None] | None
) -> tuple[bytes, bool]:
    """Read init's report to the end of the pipe; kill everything when `timeout` seconds pass first."""
    deadline = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    report, timed_out = b"", False
    while True:
        left = None if deadline is None or timed_out else max(0.0, deadline - time.monotonic())
        if watch is not None:
            left = _WATCH_SECONDS if left is None else min(left, _WATCH_SECONDS)
        if not poll.poll(None if left is None else left * 1000):
            if deadline is not None and not timed_out and time.monotonic() >= deadline:
                timed_out = True
                _end(keeper)
            if watch is not None:
                watch()
            continue
        chunk = os.read(pipe, 65536)
        if not chunk:
            return report, timed_out
        report += chunk


def _end(keeper: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(keeper, signal.SIGKILL)


def _drain(pipe: int) -> None:
    """Wait until every process of the sandbox is gone."""
    while os.read(pipe, 65536):
        pass


def _status(report: bytes) -> int:
    try:
        value = json.loads(report)
    except ValueError:
        raise SandboxError("init", "died before it could report") from None
    if "status" in value:
        return int(value["status"])
    raise explain(value["step"], value["number"], value["reason"])


def _flush() -> None:
    """Empty the buffers that a fork would otherwise copy and write twice."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


# --- the keeper and init: neither returns ------------------------------------------------------


class _StepError(Exception):
    """A step of the set-up failed; raised from the OSError."""


@contextlib.contextmanager
def _step(name: str):  # type: ignore[no-untyped-def]  # typing.Generator would cost its import at start-up
    try:
        yield
    except OSError as error:
        raise _StepError(name) from error


def _keep(
    sandbox: Sandbox, argv: Sequence[str], pipe: int, streams: tuple[int | None, int, int], interactive: bool
) -> NoReturn:
    caller = os.getppid()
    try:
        with _step("namespaces"):
            ids = os.geteuid(), os.getegid()
            kernel.unshare(_NAMESPACES)
        with _step("identity"):
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{sandbox.uid} {ids[0]} 1")
            _write("/proc/self/gid_map", f"{sandbox.gid} {ids[1]} 1")
        _die_with(caller)
        init = os.fork()
        if init == 0:
            _init(sandbox, argv, pipe, streams, interactive)
        os.close(pipe)
        for signal_number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU):
            signal.signal(signal_number, signal.SIG_IGN)
        os.waitpid(init, 0)
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's to hear
        _report_failure(pipe, error)
    os._exit(125)


def _init(
    sandbox: Sandbox, argv: Sequence[str], pipe: int, streams: tuple[int | None, int, int], interactive: bool
) -> NoReturn:
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.blank_command_line()
        if not interactive:
            os.setsid()
        pipe = _keep_only(pipe, streams)
        with _step("names"):
            kernel.set_names(sandbox.hostname, sandbox.domain)
        with _step("loopback"):
            kernel.loopback_up()
        _build_root(sandbox)
        _give_up(sandbox)
        status = _spawn_and_reap(sandbox, argv)
        os.write(pipe, json.dumps({"status": status}).encode())
        os._exit(0)
    except BaseException as error:  # noqa: BLE001
        _report_failure(pipe, error)
    os._exit(125)


def _report_failure(pipe: int, error: BaseException) -> None:
    cause = error.__cause__ if isinstance(error, _StepError) else error
    number = (cause.errno or 0) if isinstance(cause, OSError) else 0
    reason = f"{cause.strerror}" if isinstance(cause, OSError) else repr(cause)
    if isinstance(cause, OSError) and cause.filename:
        reason = f"{reason}: {cause.filename}"
    step = str(error) if isinstance(error, _StepError) else "set-up"
    os.write(pipe, json.dumps({"step": step, "number": number, "reason": reason}).encode())


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies, also if it died a moment ago."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(125)


def _keep_only(pipe: int, streams: tuple[int | None, int, int]) -> int:
    """Put the three streams at 0, 1 and 2, the pipe at 3, and close every other descriptor."""
    null = os.open("/dev/null", os.O_RDONLY)
    wanted = [null if streams[0] is None else streams[0], streams[1], streams[2], pipe]
    high = [os.dup2(fd, 1000 + number) for number, fd in enumerate(wanted)]
    for number, fd in enumerate(high):
        os.dup2(fd, number, inheritable=number < 3)
    os.closerange(4, 1 << 20)
    return 3


def _build_root(sandbox: Sandbox) -> None:
    with _step("root"):
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        foothold = next((path for path in _FOOTHOLDS if os.path.isdir(path)), "/")
        kernel.mount("tmpfs", foothold, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
        os.chdir(foothold)
        os.mkdir("old")
        os.mkdir("new")
        kernel.mount("new", "new", "", kernel.MS_BIND)
        kernel.pivot_root(".", "old")
    os.umask(0o022)
    for operation in sandbox.ordered():
        with _step("proc" if type(operation).__name__ == "Proc" else operation.describe()):
            operation.execute("/old", "/new")
    with _step("pivot"):
        kernel.make_read_only("/new")
        os.chdir("/new")
        kernel.pivot_root(".", ".")
        kernel.detach(".")
        os.chdir(sandbox.cwd)


def _give_up(sandbox: Sandbox) -> None:
    """Fix what a program inherits, and give up every right for good."""
    os.umask(sandbox.umask)
    for limit, (soft, hard) in _LIMITS.items():
        ceiling = resource.getrlimit(limit)[1]
        within = ceiling if hard == resource.RLIM_INFINITY else hard
        if ceiling != resource.RLIM_INFINITY:
            within = min(within, ceiling)
            soft = min(soft, ceiling)
        resource.setrlimit(limit, (soft, within))
    kernel.fix_addresses()
    with _step("capabilities"):
        kernel.drop_capability_bounds()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def _spawn_and_reap(sandbox: Sandbox, argv: Sequence[str]) -> int:
    """Start the command, reap whatever ends, and return the command's own status."""
    every_signal = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
    with _step(f"start {argv[0]}"):
        command = os.posix_spawn(
            argv[0], list(argv), dict(sandbox.env), setsigdef=every_signal, setsigmask=set()
        )
    while True:
        pid, status = os.wait()
        if pid == command:
            return os.waitstatus_to_exitcode(status)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
