"""The supervisor: it hears of the calls that the filter tells of, reports them, and answers some itself.

It is the keeper (belljar.sandbox.inside), so that it is outside, where nothing inside can reach it, has every
right over the processes inside and none over others, and dies with the sandbox: when it dies, init dies, and
all with it. Its root is the sandbox's, since pivot_root takes it along; the host's /proc, where the numbers
of processes are the ones it knows, is kept open from before.

One loop, one thread, answers in turn. A call that is only reported goes on in the kernel as it was, so
signals, exit statuses and terminals behave as always. What it decides is only the time, randomness, what the
machine is, and what the filter denies; none of that is done by letting a call go on.

Cost: about 15 microseconds a call, most of it two switches of process. What is done often must not be told
of: `Trace.ALL` doubles the time of a compiler, which resolves every directory of every header.
"""

import contextlib
import errno
import functools
import importlib
import os
import select
import signal
from collections import Counter
from collections.abc import Callable, Iterator

from belljar.sandbox import notify
from belljar.sandbox.answers import Answers, Handler, RandomFiles, uuid_of
from belljar.sandbox.executions import Executions
from belljar.sandbox.filter import CLASSES, MACHINES, NESTING, Action, Rule, assemble, rules, this_machine
from belljar.sandbox.lookups import CALLS, Lookups, Names
from belljar.sandbox.modes import Modes, arms
from belljar.sandbox.policy import Blocked, Disarmed, Event, Policy, Unseen, encode
from belljar.sandbox.processes import Processes
from belljar.sandbox.signals import HEARD
from belljar.sandbox.stamps import Stamps
from belljar.sandbox.targets import Targets

ALL_CHILDREN = 0x40000000  # __WALL of waitpid(2): threads too
_BUFFERED = 1 << 15
_IDLE_MILLISECONDS = 200
_MOST_BLOCKED, _MOST_ONCE = 1000, 10_000
_UUID = b"/proc/sys/kernel/random/uuid"
_RANDOM_FILES = (b"/dev/urandom", b"/dev/random", _UUID)
_UNKNOWN = "not known to belljar"
_ARMING = CLASSES["node"].why


@functools.cache
def program_of(policy: Policy, *, nested: bool) -> bytes:
    """Return the filter that a policy needs, to be installed by notify.install.

    Made once, by the caller: what is forked from it has it at hand.
    """
    return assemble(_rules_of(policy, nested=nested), this_machine(), heard=True)


def prepare(policy: Policy, *, nested: bool) -> None:
    """Load and make what the keeper will need: it is outside the host's root, and cannot import any more."""
    program_of(policy, nested=nested)
    if policy.seed is not None:
        importlib.import_module("belljar.sandbox.chance")


def _rules_of(policy: Policy, *, nested: bool) -> tuple[Rule, ...]:
    allowed = NESTING if nested else ()
    return rules(this_machine(), told=policy.classes(), allowed=allowed, denied=policy.denied)


class Supervisor:
    """Answers the calls of all processes in a sandbox, until the last one is gone."""

    def __init__(
        self,
        policy: Policy,
        names: tuple[str, str],
        *,
        nested: bool,
        own: bool = True,
        listener: int,
        proc: int,
        events: int | None,
    ) -> None:
        """Begin to listen.

        `names` are those of the host and the domain, `own` says whether user and monotonic clock are those of
        namespaces, `proc` is a descriptor of the host's /proc, `events`
        that to which encoded events are written.
        """
        self._listener = notify.Listener(listener)
        self._memory = notify.Memory()
        self._processes = Processes(proc)
        self._answers = Answers(policy, names, self._processes, self._memory, own=own, tell=self._tell)
        self._lookups = Lookups(self._processes, self._memory, self._tell)
        targets = Targets(self._processes, self._memory, policy.fence)
        self._modes = Modes(self._processes, targets, self._tell)
        self._stamps = Stamps(self._processes, self._memory, targets)
        chance = self._answers.chance
        self._executions = Executions(
            self._processes,
            self._memory,
            hide_clock=policy.epoch is not None,
            chance=None if chance is None else lambda process: chance.draw(process, 16),
            go_on=self._listener.go_on,
            tell=self._tell,
        )
        self._architecture = MACHINES[this_machine()]
        self._rules = {rule.number: rule for rule in _rules_of(policy, nested=nested)}
        self._handlers = self._chosen(policy)
        self._events = events
        self._buffer: list[bytes] = []
        self._size = 0
        self._blocked: Counter[tuple[str, str, str]] = Counter()
        self._once: set[Event] = set()
        self._poll = select.poll()
        self.status = 0
        self._random_files = RandomFiles(self._poll)

    def _chosen(self, policy: Policy) -> dict[int, Callable[[notify.Request], None]]:
        """Return what is done at which number."""
        answers = {**self._answers.handlers(), **self._modes.handlers(), **self._stamps.handlers()}
        chosen: dict[int, Callable[[notify.Request], None]] = {}
        for rule in self._rules.values():
            if rule.action is not Action.NOTIFY:
                continue
            if rule.call in answers:
                chosen[rule.number] = self._answering(answers[rule.call])
            elif rule.call == "fchdir":
                chosen[rule.number] = self._moving
            elif rule.call in CALLS:
                chosen[rule.number] = self._seeing(rule, CALLS[rule.call], policy)
        return chosen

    def _answering(self, handler: Handler) -> Callable[[notify.Request], None]:
        def answer(request: notify.Request) -> None:
            value = handler(request)
            if value is None:
                self._listener.go_on(request)
            else:
                self._listener.answer(request, max(value, 0), max(-value, 0))

        return answer

    def _moving(self, request: notify.Request) -> None:
        self._processes.moved()
        self._listener.go_on(request)

    def _seeing(self, rule: Rule, names: Names, policy: Policy) -> Callable[[notify.Request], None]:
        traced = rule.kind in Policy(trace=policy.trace).classes()
        random = policy.seed is not None and rule.kind == "open"
        executes, moves = rule.kind == "execute", rule.kind == "move"

        def see(request: notify.Request) -> None:
            if arms(rule.call, request):
                self._deny(request, _ARMING)
                return
            path = self._lookups.path(request, names)
            if traced:
                self._lookups.see(request, names, path)
            if random and path in _RANDOM_FILES and self._open_random(request, names, path):
                return
            if executes:
                self._executions.begin(request)
                return
            if moves:
                self._processes.moved()
            self._listener.go_on(request)

        return see

    # --- the loop -------------------------------------------------------------------------------

    def guard(self, init: int, *, pass_on: Callable[[signal.Signals], None]) -> None:
        """Answer until init and all with it are gone; end it when the caller asks for that (SIGTERM).

        `pass_on` is called with other signals of the caller's.
        """
        signals = notify.signals(HEARD)
        self._poll.register(self._listener.fd, select.POLLIN)
        self._poll.register(signals, select.POLLIN)
        while True:
            ready = self._poll.poll(_IDLE_MILLISECONDS if self._buffer else None)
            if not ready:
                self._flush()
            for fd, event in ready:
                if fd == self._listener.fd:
                    self._hear(event)
                elif fd != signals:
                    self._random_files.feed(fd)
                else:
                    for number in _arrived(signals):
                        if number == signal.SIGTERM:
                            os.kill(init, signal.SIGKILL)
                        elif number != signal.SIGCHLD:
                            pass_on(number)
                    if self._reap(init):
                        self._finish()
                        return

    def _hear(self, event: int) -> None:
        if not event & select.POLLIN:
            self._poll.unregister(self._listener.fd)  # nobody is left to make calls
            return
        request = self._listener.receive()
        if request is None:
            return
        handler = self._handlers.get(request[3]) if request[4] == self._architecture else None
        try:
            (handler or self._deny)(request)
        except OSError:
            self._listener.go_on(request)  # the process is ending; what denies raises none

    def _deny(self, request: notify.Request, why: str = "") -> None:
        rule = self._rules.get(request[3]) if request[4] == self._architecture else None
        call = rule.call if rule else f"system call {request[3]}"
        if request[4] != self._architecture:
            call = "system calls of another ABI"
        why = why or (rule.why or "not in this sandbox" if rule else _UNKNOWN)
        with contextlib.suppress(OSError):
            self._count(call, why, self._processes.of(request[1]).program)
        denied = rule is not None and rule.action is Action.ERRNO
        number = rule.errno if rule and denied else errno.EPERM if rule else errno.ENOSYS
        self._listener.answer(request, 0, number)

    def _count(self, call: str, why: str, program: str) -> None:
        """Count a call that was denied; a program can make up no more of them than can be told."""
        key = call, why, program
        if key not in self._blocked and len(self._blocked) >= _MOST_BLOCKED:
            key = "other calls", _UNKNOWN, ""
        self._blocked[key] += 1

    def _reap(self, init: int) -> bool:
        """Let go whoever has stopped; True when init has ended."""
        while True:
            try:
                task, status = os.waitpid(-1, os.WNOHANG | ALL_CHILDREN)
            except ChildProcessError:
                return True
            if task == 0:
                return False
            if task == init and not os.WIFSTOPPED(status):
                self.status = os.waitstatus_to_exitcode(status)
                return True
            self._executions.changed(task, status)

    def _open_random(self, request: notify.Request, names: Names, path: bytes) -> bool:
        """Give out random numbers that follow from the seed, where they are opened to be read."""
        flags = request[6 + names.flags] if names.flags is not None else os.O_WRONLY
        chance = self._answers.chance
        if chance is None or flags & (os.O_ACCMODE | os.O_PATH | os.O_DIRECTORY):
            return False
        process = self._processes.of(request[1])
        try:
            if path == _UUID:
                reader = self._random_files.once(uuid_of(chance.draw(process, 16)))
            else:
                reader = self._random_files.open(lambda: chance.draw(process, 4096))
        except OSError as error:  # the device itself would be another answer
            self._listener.answer(request, 0, error.errno or errno.ENFILE)
            return True
        self._listener.hand(request, reader, flags)
        os.close(reader)
        return True

    # --- telling ----------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        if self._events is None:
            return
        if isinstance(event, Unseen | Disarmed):
            if event in self._once or len(self._once) > _MOST_ONCE:
                return
            if len(self._once) == _MOST_ONCE:
                event = Unseen(
                    what=f"more than {_MOST_ONCE} files that were to be armed, or gaps", program=""
                )
            self._once.add(event)
        data = encode(event)
        self._buffer.append(data)
        self._size += len(data)
        if self._size > _BUFFERED:
            self._flush()

    def _flush(self) -> None:
        rest = memoryview(b"".join(self._buffer))
        self._buffer.clear()
        self._size = 0
        try:
            while rest and self._events is not None:
                rest = rest[os.write(self._events, rest) :]
        except BrokenPipeError:
            self._events = None  # the caller listens no more

    def _finish(self) -> None:
        for (call, why, program), count in sorted(self._blocked.items()):
            self._tell(Blocked(call=call, why=why, program=program, count=count))
        self._flush()


def _arrived(fd: int) -> Iterator[signal.Signals]:
    """Yield which signals have come."""
    data = os.read(fd, 128 * 16)
    for at in range(0, len(data), 128):
        yield signal.Signals(int.from_bytes(data[at : at + 4], "little"))
