"""The keeper and init, the two processes between a caller and the command; neither returns.

The command is started by posix_spawn from a process that has already given up everything, so
nothing needs to happen between its fork and its exec.

Both are copies of the caller: they must not run the caller's signal handlers (every signal is
blocked before the fork and stays so), its finalizers (no garbage collection, no ordinary exit), nor
keep its descriptors open. Once the host's root is left nothing can be imported: what is used after
`_build_root` is loaded before.
"""

import contextlib
import fcntl
import gc
import os
import resource
import select
import signal
from collections.abc import Mapping
from typing import NoReturn

from belljar.sandbox import kernel
from belljar.sandbox.diagnosis import SandboxError, Step
from belljar.sandbox.operations import EMPTY_ROOT, Sandbox
from belljar.sandbox.policy import Policy
from belljar.sandbox.signals import HEARD, PASSED_ON, pass_on
from belljar.sandbox.values import value

_NAMESPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWCGROUP
)
# A directory of the host for the new root to be mounted on; in this namespace only, and left at once.
_FOOTHOLDS = ("/tmp", "/var", "/mnt", "/usr")
_ALL = resource.RLIM_INFINITY
# Soft and hard, as far as the caller's hard ones reach; not of processes and signals, which the memory sets.
_LIMITS = {
    resource.RLIMIT_CORE: (1, 1),  # 0 would still start a program that core_pattern names: core(5)
    resource.RLIMIT_STACK: (8 << 20, _ALL),
    resource.RLIMIT_NOFILE: (1024, 4096),
    resource.RLIMIT_MEMLOCK: (8 << 20, 8 << 20),
    resource.RLIMIT_MSGQUEUE: (819200, 819200),
    **dict.fromkeys((resource.RLIMIT_NICE, resource.RLIMIT_RTPRIO), (0, 0)),
    **dict.fromkeys((resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_RSS), (_ALL, _ALL)),
    **dict.fromkeys((resource.RLIMIT_CPU, resource.RLIMIT_RTTIME, resource.RLIMIT_FSIZE), (_ALL, _ALL)),
}
_SI_USER = 0  # sigaction(2)
PIPE = 3
_EVERY_FD = 2**32 - 1


@value
class Job:
    """What is to be run: a command, its three streams (None: /dev/null), in which sandbox, how supervised."""

    sandbox: Sandbox
    argv: tuple[str, ...]
    streams: tuple[int | None, int, int]
    interactive: bool
    policy: Policy | None = None
    weaker: bool = False


@value
class Ends:
    """Descriptors of pipes to the caller: to report, to tell events, to hear the word to start."""

    report: int
    events: int | None = None
    word: int | None = None


def keep(job: Job, caller: int, ends: Ends) -> NoReturn:
    """Be the keeper: leave for new namespaces, start init there, and outlive it."""
    pipe = ends.report
    try:
        gc.disable()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would take the exit statuses away
        if not job.interactive:
            os.setsid()  # what is sent to the caller's group is for the caller to answer
        with Step("streams"):
            ends = _keep_only(job.streams, ends)
        pipe = ends.report
        if job.weaker:
            from belljar.sandbox import weaker

            weaker.keep(job, caller, ends)
        line = None if job.policy is None else _Line()
        _enter_namespaces(job)
        # Not before: a change of identity would undo it.
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() != caller:
            os._exit(125)
        with Step("init"):
            keeper = os.pidfd_open(os.getpid())
            init = kernel.fork_alone()
        if init == 0:
            _init(job, keeper, line, ends.word)
        if line is None:
            _guard(init)
        else:
            line.supervise(job, init, ends.events)
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's to hear
        report_failure(pipe, error)
    os._exit(125)


class _Line:
    """Between the keeper and init: how the keeper gets to listen to what the filter tells of."""

    def __init__(self) -> None:
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._numbers, self._answers = os.pipe(), os.pipe()

    def hand_over(self, job: Job) -> None:
        """In init: install the filter, and wait until the keeper has its listener."""
        from belljar.sandbox import notify
        from belljar.sandbox.supervisor import program_of

        assert job.policy is not None
        kernel.allow_supervision()  # _give_up takes it back
        listener = notify.install(program_of(job.policy, nested=job.sandbox.nested))
        os.write(self._numbers[1], b"%d" % listener)
        os.close(self._answers[1])
        os.read(self._answers[0], 1)
        # The listener stays open: when the keeper dies calls wait, until this process has died, too.
        for fd in (self._proc, *self._numbers, self._answers[0]):
            os.close(fd)

    def supervise(self, job: Job, init: int, events: int | None) -> None:
        """In the keeper: take the listener, and answer until init ends."""
        from belljar.sandbox import notify
        from belljar.sandbox.supervisor import Supervisor

        assert job.policy is not None
        os.close(self._numbers[1])
        number = os.read(self._numbers[0], 16)
        if not number:
            _guard(init)  # it has failed, and said why
            return
        with Step("supervisor"):
            listener = notify.fetch(init, int(number))
            names = job.sandbox.hostname, job.sandbox.domain
            keeper = Supervisor(
                job.policy,
                names,
                nested=job.sandbox.nested,
                listener=listener,
                proc=self._proc,
                events=events,
            )
            os.write(self._answers[1], b"!")
        keeper.guard(init, pass_on=lambda number: os.kill(init, number))


def _keep_only(streams: tuple[int | None, int, int], ends: Ends) -> Ends:
    """Put the streams at 0, 1 and 2, the report at 3, the others behind, and close every other descriptor.

    Others are closed first: so it works at the limit of open files, and no matter which is where.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each mount is a descriptor for a while
    names = [name for name in ("report", "events", "word") if getattr(ends, name) is not None]
    wanted = (*streams, *(getattr(ends, name) for name in names))
    before = -1
    for fd in sorted({fd for fd in wanted if fd is not None}):
        kernel.close_range(before + 1, fd - 1)
        before = fd
    kernel.close_range(before + 1, _EVERY_FD)
    kept = [os.open("/dev/null", os.O_RDONLY) if fd is None else os.dup(fd) for fd in wanted]
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(wanted)) for fd in kept]
    for number, fd in enumerate(high):
        os.dup2(fd, number, inheritable=number < PIPE)
    kernel.close_range(len(wanted), _EVERY_FD)
    return Ends(**{name: PIPE + number for number, name in enumerate(names)})


def _enter_namespaces(job: Job) -> None:
    sandbox = job.sandbox
    virtual = job.policy is not None and job.policy.epoch is not None
    ids = os.geteuid(), os.getegid()
    with Step("namespaces"):
        # An ordinary user cannot leave his groups; inside they have no names.
        with contextlib.suppress(PermissionError):
            os.setgroups([])
        kernel.leave_keyring()
        kernel.unshare(_NAMESPACES & ~(kernel.CLONE_NEWNET if sandbox.network else 0))
    with Step("identity"):
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{sandbox.uid} {ids[0]} 1")
        _write("/proc/self/gid_map", f"{sandbox.gid} {ids[1]} 1")
    if virtual:
        from belljar.sandbox.clock import offsets

        with Step("clock"):
            kernel.unshare(kernel.CLONE_NEWTIME)
            _write("/proc/self/timens_offsets", offsets())
    with Step("nesting"):
        if not sandbox.nested:
            _write("/proc/sys/user/max_user_namespaces", "0")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _guard(init: int) -> None:
    """Wait for init to end; kill it when the caller asks for that, and pass on the rest."""
    while os.waitpid(init, os.WNOHANG)[0] == 0:
        number = signal.sigwait(HEARD)
        if number != signal.SIGCHLD:
            os.kill(init, signal.SIGKILL if number == signal.SIGTERM else number)


def report_failure(pipe: int, error: BaseException) -> None:
    """Tell the caller why nothing was run."""
    if not isinstance(error, SandboxError):
        error = SandboxError("set-up", repr(error))
    words = (error.step, error.reason, str(error.number))
    text = "\0".join(["failed", *(word.replace("\0", "\\0") for word in words)])
    os.write(pipe, text.encode("utf-8", "surrogateescape"))


def _init(job: Job, keeper: int, line: _Line | None, word: int | None) -> NoReturn:
    try:
        kernel.die_with_parent(signal.SIGKILL)
        if _has_ended(keeper):
            os._exit(125)
        os.close(keeper)
        if not job.interactive:
            os.setsid()
        with Step("names"):
            kernel.set_names(job.sandbox.hostname, job.sandbox.domain)
        if not job.sandbox.network:
            with Step("loopback"):
                kernel.loopback_up()
        _build_root(job.sandbox)
        if job.streams[0] is None:
            _shield_input()
        _use_up_numbers(job.sandbox.pids_before)
        limit(job.sandbox)  # the filter lets nobody change all of it
        if line is not None:
            with Step("supervisor"):
                line.hand_over(job)
        _give_up(job.sandbox)
        wait_for(word)
        status = _spawn_and_reap(job)
        os.write(PIPE, b"ended\0%d" % status)
        os._exit(0)
    except BaseException as error:  # noqa: BLE001
        report_failure(PIPE, error)
    os._exit(125)


def _use_up_numbers(count: int) -> None:
    """Have the next process get another number: there is no other way without rights over the namespace."""
    for _ in range(count):
        child = kernel.fork_alone()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _shield_input() -> None:
    """Read nothing from the sandbox's own null device, which is read-only: the host's is root's to change.

    Whoever owns a file can change its mode by a descriptor, too. Without devices it is a pipe that has ended.
    """
    with Step("stdin"):
        try:
            null = os.open("/dev/null", os.O_RDONLY)
        except FileNotFoundError:
            null, end = os.pipe()
            os.close(end)
        os.dup2(null, 0)
        os.close(null)


def _build_root(sandbox: Sandbox) -> None:
    operations = sandbox.ordered()
    os.umask(0o022)
    with Step("root"):
        kernel.make_private("/")
    taken = []
    for operation in operations:
        with Step(operation.describe()):
            taken.append(operation.take())
    with Step("root"):
        foothold = next(path for path in _FOOTHOLDS if os.path.isdir(path))
        operations[0].put(taken[0], foothold)
        kernel.change_root(foothold)
    for operation, trees in zip(operations[1:], taken[1:], strict=True):
        with Step(operation.describe()):
            operation.put(trees, operation.target)
    with Step("root"):
        if operations[0] is EMPTY_ROOT:
            kernel.make_read_only("/")
    with Step(f"working directory {sandbox.cwd}"):
        os.chdir(sandbox.cwd)


def limit(sandbox: Sandbox) -> None:
    """Fix what a program inherits of a process."""
    os.umask(sandbox.umask)
    with Step("limits"):
        for what, (soft, hard) in _LIMITS.items():
            ceiling = resource.getrlimit(what)[1]
            resource.setrlimit(what, (_least(soft, ceiling), _least(hard, ceiling)))


def _give_up(sandbox: Sandbox) -> None:
    """Fix where a program's memory lies, and give up every right for good."""
    with Step("addresses"):
        kernel.fix_addresses(fixed=sandbox.fixed_addresses)
    with Step("capabilities"):
        kernel.give_up_rights()


def wait_for(word: int | None) -> None:
    """Wait until the caller lets the command start; when he does not, end."""
    if word is not None:
        if not os.read(word, 1):
            os._exit(125)
        os.close(word)


def _least(*limits: int) -> int:
    """Return the least of limits, of which RLIM_INFINITY (-1) is the greatest."""
    return min(limits, key=lambda limit: limit % 2**64)


def _spawn_and_reap(job: Job) -> int:
    """Start the command, reap whatever ends, and return the command's own status."""
    program = job.argv[0]
    with Step(f"start {program}"):
        try:
            command = _spawn(job) if job.policy is None else _fork(job)
        except FileNotFoundError:
            if os.path.exists(program):
                raise ValueError("its interpreter (#! line, or ELF loader) is not in the sandbox") from None
            raise
    while True:
        heard = signal.sigwaitinfo(HEARD)
        # Of the keeper: who is inside has a number, and cannot have kill(2) say that he has none.
        if heard.si_pid == 0 and heard.si_code == _SI_USER and heard.si_signo in PASSED_ON:
            pass_on(-1, heard.si_signo)
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if os.WIFSTOPPED(ended[1]):
                kernel.stop_tracing(ended[0], os.WSTOPSIG(ended[1]))
            elif ended[0] == command:
                return os.waitstatus_to_exitcode(ended[1])


def _spawn(job: Job) -> int:
    env = dict(job.sandbox.env)
    return os.posix_spawn(job.argv[0], job.argv, env, setsigdef=_RESET, setsigmask=())


def _fork(job: Job) -> int:
    """Start the command from a process that the supervisor may look into, which init is not."""
    reader, writer = os.pipe()
    command = kernel.fork_alone()
    if command == 0:
        _become(job, writer)
    os.close(writer)
    number = os.read(reader, 16)
    os.close(reader)
    if number:
        raise OSError(int(number), os.strerror(int(number)))
    return command


def _become(job: Job, failure: int) -> NoReturn:
    try:
        kernel.allow_supervision()
        become(job.argv, dict(job.sandbox.env))
    except OSError as error:
        os.write(failure, b"%d" % (error.errno or 0))
    finally:
        os._exit(125)


def become(argv: tuple[str, ...], env: Mapping[str, str]) -> NoReturn:
    """Execute a program as it expects to begin: with default, unblocked signals; raises OSError."""
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(argv[0], argv, env)


_RESET = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
