"""Carrying a plan out: make the outputs, run each step in its sandbox, look at what it left."""

import os
from collections.abc import Callable
from pathlib import Path

from belljar.errors import HostError, InputError
from belljar.hermetic import project, sight, tools
from belljar.hermetic.plan import Plan, Step
from belljar.hermetic.reached import Reached
from belljar.hermetic.record import Record
from belljar.hermetic.relay import relayed
from belljar.hermetic.request import MARK
from belljar.sandbox import Bind, Outcome, Policy, SandboxError, Trace
from belljar.sandbox import run as run_sandbox

SEED = "belljar"
RELEASE, PROCESSORS, MEMORY = "6.1.0", 2, 8 << 30
"""What `--clock` tells of the machine: a kernel's version, a number of CPUs, bytes of memory."""


def run(plan: Plan, *, identify: bool = True, told: Callable[[str], None] = lambda _: None) -> Record:
    """Carry out the steps of a plan up to the first that fails; the streams are the caller's.

    Without `identify` nobody asks what the tools are, and they are not hashed. `told` is called with the name
    of each step that begins. Raises HostError when this machine cannot run a sandbox, naming the setting to
    change; InputError when the program is not there.
    """
    before = _version_control(plan)
    disarmed: list[str] = []
    outcome, step = None, plan.build
    found: tuple[tools.Tool, ...] = ()
    seconds, reached = 0.0, Reached(inputs=plan.declared)
    for step in plan.steps:
        told(step.name)
        _prepare(plan, step)
        found = _tools(plan) if identify and step is plan.build else ()
        outcome = _execute(step, _policy(plan, step), reached)
        seconds += outcome.seconds
        disarmed += [path.removeprefix(f"{plan.project}/") for path in project.disarm(_writable(step))]
        if outcome.status != 0:
            break
    assert outcome is not None, "a plan has a step"
    return Record(
        plan=plan,
        status=outcome.status,
        seconds=seconds,
        step=step.name,
        tools=(*found, *(_executed(plan, reached, found) if identify else ())),
        reached=reached,
        disarmed=tuple(disarmed),
        planted=tuple(sorted(_version_control(plan) - before)),
    )


def _prepare(plan: Plan, step: Step) -> None:
    for place in step.make:
        place.mkdir(parents=True, exist_ok=True)
    project.make_outputs(plan.project, step.outputs)


def _policy(plan: Plan, step: Step) -> Policy:
    """Return what a supervisor does: the filter always, more where it is asked for.

    A fetch step has the real clock and real random numbers: certificates and keys need both.
    """
    trace = Trace.ASKED if plan.request.trace and step is plan.build else Trace.NOTHING
    if not plan.request.clock or step is not plan.build:
        return Policy(trace=trace)
    return Policy(
        trace=trace,
        epoch=_clock_start(plan),
        seed=SEED,
        release=RELEASE,
        processors=PROCESSORS,
        memory=MEMORY,
    )


def _clock_start(plan: Plan) -> int:
    return int(plan.build.sandbox.env["SOURCE_DATE_EPOCH"])


def _execute(step: Step, policy: Policy, reached: Reached) -> Outcome:
    program = sight.search(step.sandbox, step.command[0])
    if program is None and "/" not in step.command[0]:
        raise InputError(
            f"{step.command[0]}: not found in the sandbox",
            hint="it shows the machine's /usr without /usr/local; for tools elsewhere: --tools DIRECTORY",
        )
    try:
        with relayed() as streams:
            return run_sandbox(
                step.sandbox,
                [program or step.command[0], *step.command[1:]],
                stdout=streams.stdout,
                stderr=streams.stderr,
                policy=policy,
                on_event=reached,
            )
    except SandboxError as error:
        raise _explained(error) from error


def _explained(error: SandboxError) -> HostError | InputError:
    if error.step.startswith("start "):
        return InputError(f"{error.step.removeprefix('start ')}: cannot be started: {error.reason}")
    if error.step.startswith("bind") and error.number:
        return InputError(f"sandbox: {error}", hint=error.hint)
    if os.path.exists(MARK):
        return HostError(
            "sandbox: this is already inside a sandbox of belljar, which allows none of its own",
            hint="run the command as it is: what the outer one promises holds here",
        )
    return HostError(f"sandbox: {error}", hint=error.hint)


def _tools(plan: Plan) -> tuple[tools.Tool, ...]:
    box = plan.build.sandbox
    linker = ((plan.request.linker, "--version"),) if plan.request.linker else ()
    named = tools.identify_all(box, (*plan.profile.identity, *linker))
    own = plan.build.command[0]
    if own in {tool.name for tool in named}:
        return named
    first = tools.identify(box, own)
    return (*((first,) if first else ()), *named)


def _executed(plan: Plan, reached: Reached, known: tuple[tools.Tool, ...]) -> tuple[tools.Tool, ...]:
    """Identify what else was started, after the fact: what the command made itself may be gone again."""
    box, paths = plan.build.sandbox, {tool.path for tool in known}
    found = []
    for path in reached.executed():
        tool = tools.identify(box, path)
        if tool is not None and tool.path not in paths:
            paths.add(tool.path)
            found.append(tool)
    return tuple(found)


def _writable(step: Step) -> list[Path]:
    """Return the directories of the host that a step may write to."""
    binds = (item for item in step.sandbox.operations if isinstance(item, Bind) and item.writable)
    return [Path(item.source) for item in binds]


def _version_control(plan: Plan) -> set[str]:
    return {name for name in project.VERSION_CONTROL if os.path.lexists(Path(plan.project) / name)}
