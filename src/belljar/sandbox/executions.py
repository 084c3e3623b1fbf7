"""Processes that are about to execute a program: each is stopped once, by ptrace, when it has.

ptrace(2) waits for whoever executes in the same process, and who executes waits for the other threads to be
reaped, which is for their tracer to do. So that nobody waits for ever, no more than one thread of a process
is seized at a time: a second one waits for its answer until the first has executed, failed or gone.
"""

import os
from collections.abc import Callable

from belljar.sandbox import notify, start
from belljar.sandbox.notify import Memory, Request
from belljar.sandbox.policy import Unseen
from belljar.sandbox.processes import Process, Processes, field

_EVENT_EXEC = 4


class Executions:
    """Who is seized, and who waits to be."""

    def __init__(
        self,
        processes: Processes,
        memory: Memory,
        *,
        hide_clock: bool,
        chance: Callable[[Process], bytes] | None,
        go_on: Callable[[Request], None],
        tell: Callable[[Unseen], None],
    ) -> None:
        """`chance` gives a process its 16 random bytes, `go_on` has a call carried out."""
        self._processes = processes
        self._memory = memory
        self._hide_clock = hide_clock
        self._chance = chance
        self._go_on = go_on
        self._tell = tell
        self._seized: dict[int, int] = {}
        self._waiting: dict[int, list[Request]] = {}

    def begin(self, request: Request) -> None:
        """Have a process stop when it has executed a program, and let it go on."""
        task = request[1]
        if self._hide_clock or self._chance is not None:
            status = self._processes.read(task, "status")  # all of /proc that is needed; each file takes long
            process = int(field(status, b"\nTgid:") or task)
            first = self._seized.get(process)
            if first is not None and first != task:
                notify.interrupt(first)  # it stops, at the latest where its attempt has failed
                self._waiting.setdefault(process, []).append(request)
                return
            if first is None and self._seize(task, field(status, b"\nTracerPid:").strip()):
                self._seized[process] = task
        self._processes.executing(task)
        self._go_on(request)

    def _seize(self, task: int, tracer: bytes) -> bool:
        """Seize a thread, unless another traces it, who lives inside, or it is gone."""
        ours = b"%d" % os.getpid()
        if tracer == b"0":
            try:
                notify.seize(task)
            except OSError:
                tracer = field(self._processes.read(task, "status"), b"\nTracerPid:").strip()
            else:
                return True
        if tracer == ours:
            return True
        if tracer or self._processes.exists(task, "status"):
            program = self._processes.of(task).program
            self._tell(Unseen(what="the clock of what a traced process executes", program=program))
        return False

    def changed(self, task: int, status: int) -> None:
        """Take note that a thread has stopped, which is let go, or ended: what waitpid(2) tells."""
        if os.WIFSTOPPED(status):
            event = status >> 16
            if event == _EVENT_EXEC:
                self._executed(task)
            notify.release(task, 0 if event else os.WSTOPSIG(status))
        for process, seized in list(self._seized.items()):
            if task in (process, seized):
                del self._seized[process]
                for request in self._waiting.pop(process, ()):
                    self.begin(request)

    def _executed(self, task: int) -> None:
        process, chance = self._processes.executed(task), self._chance
        bytes_ = None if chance is None else lambda: chance(process)
        if not start.prepare(task, self._memory, hide_clock=self._hide_clock, chance=bytes_):
            program = process.program
            self._tell(Unseen(what="the clock of a program that may not be read", program=program))
