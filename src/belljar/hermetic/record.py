"""What there is to say of a run: what was let in, what was enforced, what was not, how it ended."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from belljar.hermetic.plan import Plan
from belljar.hermetic.reached import Outside, Reached, shortened
from belljar.sandbox import Bind, value

if TYPE_CHECKING:
    from belljar.hermetic.tools import Tool

_SHOWN = 8
VERSION = 1
"""Of the JSON form; raised when a key changes its meaning or goes."""
ENFORCED = (
    "files: only what `inputs` and `system` list, read-only but for `outputs`",
    "environment: empty, then `environment`",
    "network: own namespace with a loopback device and no other",
    "processes, IPC, control groups: own namespaces; everything ends with the command",
    "identity: uid 1000, gid 100, user build, host localhost, no capabilities, no new privileges",
    "system calls: only those of the filter, the others do not exist (docs/supervisor.md)",
    "umask 0022, limits, signals, no terminal, no inherited descriptors, no stdin, no address randomisation",
    "machine: memory, kernel version and what /proc tells of CPUs are fixed; directories list in order",
)
CLOCK = "clock, random numbers, number of CPUs: fixed where a program asks the kernel"
NO_CLOCK = "clock, random numbers, number of CPUs (--clock fixes them)"
NOT_ENFORCED = (
    "time stamps of files, inode numbers",
    "what a processor tells itself: its model, a counter of time, random numbers",
    "memory, disk and time used",
)
"""What reaches the command and may influence it: docs/hermetic.md and docs/limitations.md."""
WEAKER = (
    "files: nothing but the declared can be opened, only outputs and a private /tmp written (Landlock)",
    "system calls: only those of the filter, no looking into other processes, no System V IPC",
    "no capabilities, no new privileges; what the command leaves running is killed when it ends",
)
NOT_WEAKER = (
    "namespaces: user, host's processes, paths and what exists are the machine's (--allow-weaker)",
    "made files (/etc, /proc): not there; a read-only place within a writable one is writable",
    "signals to the user's other processes, before Linux 6.12",
)
"""What holds instead, and what does not, where namespaces are forbidden: belljar.sandbox.weaker."""


@value
class Record:
    """A plan that was carried out: exit status (negative: killed by that signal) and seconds.

    `disarmed` are files in the outputs that did not get, or keep, a setuid bit; `planted` what appeared in
    the project and may act later, outside. `weaker`: this machine forbids namespaces (--allow-weaker).
    """

    plan: Plan
    status: int
    seconds: float
    step: str
    reached: Reached
    tools: "tuple[Tool, ...]" = ()
    weaker: bool = False
    disarmed: tuple[str, ...] = ()
    planted: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """The status to end with: the command's, or 128+n when signal n killed it."""
        return self.status if self.status >= 0 else 128 - self.status

    def enforced(self) -> tuple[str, ...]:
        """Return what held."""
        network = self.plan.request.network
        clock = (CLOCK,) if self.plan.request.clock else ()
        if self.weaker:
            return (*WEAKER, *(() if network else ("network: no sockets but pairs",)), *clock)
        return (*(line for line in ENFORCED if not (network and line.startswith("network"))), *clock)

    def not_enforced(self) -> tuple[str, ...]:
        """Return what did not hold, or is not there."""
        more = (
            ("network: the caller's, with its abstract sockets (--net)",) if self.plan.request.network else ()
        )
        lock = ("lock file: not required (--unlocked)",) if self.plan.request.unlocked else ()
        clock = () if self.plan.request.clock else (NO_CLOCK,)
        more = (*NOT_WEAKER, *more) if self.weaker else more
        gaps = tuple(f"{item.what} ({item.program})" for item in self.reached.unseen)
        return (*more, *lock, *clock, *NOT_ENFORCED, *gaps)

    def to_json(self) -> dict[str, Any]:
        """Return the report; docs/hermetic.md has the schema."""
        plan, box = self.plan, self.plan.build.sandbox
        return {
            "kind": "run",
            "version": VERSION,
            "command": list(plan.build.command),
            "status": self.exit_status,
            "step": self.step,
            "seconds": round(self.seconds, 3),
            "profile": plan.profile.name,
            "lock": plan.lock,
            "steps": [
                {"name": step.name, "command": list(step.command), "network": step.sandbox.network}
                for step in plan.steps
            ],
            "project": {"source": str(plan.project), "target": box.cwd, "outputs": list(plan.build.outputs)},
            "inputs": list(_inputs(plan)),
            "environment": dict(sorted(box.env.items()))
            | {item.name: "(see allowed)" for item in plan.allowed if "sha256" in item.to_json()},
            "allowed": [item.to_json() for item in plan.allowed],
            "withheld": list(plan.withheld),
            "hidden": list(plan.hidden),
            "tools": [tool.to_json() for tool in self.tools],
            "enforced": list(self.enforced()),
            "not_enforced": list(self.not_enforced()),
            "blocked": [
                {"call": item.call, "why": item.why, "program": item.program, "count": item.count}
                for item in self.reached.blocked
            ],
            "trace": self.trace(),
            "disarmed": list(self.disarmed),
            "planted": list(self.planted),
        }

    def lines(self) -> tuple[str, ...]:
        """Return the closing words: one line, and one more for each thing that one should know."""
        plan = self.plan
        what = f"exit status {self.status}" if self.status >= 0 else f"killed by signal {-self.status}"
        where = f" in the {self.step} step" if len(plan.steps) > 1 else ""
        let_in = [item.name for item in plan.allowed if item.value is not None]
        let_in += map(self._short, (*plan.request.read, *plan.request.write, *plan.request.tools))
        fetched = ["the network for the fetch step"] if plan.request.fetch else []
        let_in += ["the network"] if plan.request.network else fetched
        words = [
            f"{what}{where}",
            f"profile {plan.profile.name}",
            f"let in: {', '.join(let_in) or 'nothing'}",
        ]
        words += [f"{len(self.tools)} tools identified"] if self.tools else []
        words.append(
            "clock fixed" if plan.request.clock else "clock, random numbers and CPU count are the machine's"
        )
        lines = ["; ".join(words)]
        lines += ["WEAKER: this machine forbids namespaces; see not_enforced"] if self.weaker else []
        kept = [*plan.withheld, *map(self._short, plan.hidden)]
        lines += [f"kept from it: {', '.join(kept)}"] if kept else []
        lines += self._reached() if self.watched else []
        lines += self._foreign() if self.status != 0 else []
        lines += [f"setuid bit left out: {_few(self.disarmed)}"] if self.disarmed else []
        lines += [f"look at it before you go on: {', '.join(self.planted)} appeared"] if self.planted else []
        return tuple(lines)

    def _foreign(self) -> list[str]:
        """Say what root may not expect: as other users, the command has no rights over others' files."""
        owner = os.stat(self.plan.project).st_uid
        if os.geteuid() != 0 or owner == 0:
            return []
        return [
            f"the project belongs to user {owner}: root can write to it outside, but not the command inside"
        ]

    def _short(self, path: str) -> str:
        home = self.plan.request.env.get("HOME")
        return f"~{path.removeprefix(home)}" if home and path.startswith(f"{home}/") else path

    @property
    def watched(self) -> bool:
        """Whether it was watched what the command reached for."""
        return self.plan.request.trace or self.plan.request.opened

    def trace(self) -> dict[str, Any] | None:
        """Return what was reached for as JSON values; every path where all was to be traced."""
        if not self.watched:
            return None
        reached, asked = self.reached, self.plan.request.trace
        return {
            "level": "asked" if asked else "opened",
            "executed": list(reached.executed()),
            "missed": list(reached.missed()),
            "outside": [item.to_json() for item in self._outside()],
            "unused": list(reached.unused()),
            **({"paths": list(reached.every_path())} if asked else {}),
        }

    def _outside(self) -> tuple[Outside, ...]:
        return self.reached.outside(
            self.plan.project, self.plan.request.env.get("HOME"), self.plan.request.system
        )

    def _reached(self) -> list[str]:
        outside, unused = shortened(self._outside()), self.reached.unused()
        denied = sorted({item.call for item in self.reached.blocked})
        lines = [f"reads outside: {_few(outside)}"] if outside else []
        lines += [f"declared and never used: {_few(unused)}"] if unused else []
        return lines + ([f"calls denied: {_few(denied)}"] if denied else [])


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _inputs(plan: Plan) -> Iterator[dict[str, Any]]:
    for operation in plan.build.sandbox.operations:
        if isinstance(operation, Bind) and not operation.target.startswith("/proc/"):
            yield {"source": operation.source, "target": operation.target, "writable": operation.writable}
