"""Carrying a plan out: make the outputs, run each step in its sandbox, look at what it left."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from belljar.errors import HostError, InputError
from belljar.hermetic import project, sight
from belljar.hermetic.plan import Plan, Step
from belljar.hermetic.plan import plan as make_plan
from belljar.hermetic.reached import Reached
from belljar.hermetic.record import Record
from belljar.hermetic.relay import Streams, relayed
from belljar.hermetic.request import MARK, Request
from belljar.sandbox import SORTED, Bind, Outcome, Policy, SandboxError, Trace, Unseen, is_forbidden, machine
from belljar.sandbox import run as run_sandbox

if TYPE_CHECKING:
    from belljar.hermetic.tools import Inquiry, Tool

SEED = "belljar"
_OF_RUSTC = "rust-lld"
"""A linker that rustc finds where its toolchain is, and PATH does not."""


def run(
    plan: Plan,
    *,
    identify: bool = True,
    stdout: int = 1,
    stderr: int = 2,
    told: Callable[[str], None] = lambda _: None,
) -> Record:
    """Carry out the steps of a plan up to the first that fails.

    What is said goes to the descriptors `stdout` and `stderr`. Without `identify` nobody asks what the tools
    are, and they are not hashed. `told` is called with the name of each step that begins. Raises HostError
    when this machine cannot run a sandbox, naming the setting to change; InputError when the program is not
    there.
    """
    _require_linker(plan)
    before = _version_control(plan)
    disarmed: list[str] = []
    outcome, step = None, plan.build
    inquiries: list[Inquiry] = []
    seconds, reached = 0.0, Reached(inputs=plan.declared)
    for step in plan.steps:
        told(step.name)
        _prepare(plan, step)
        asks = identify and step is plan.build
        try:
            with relayed(stdout, stderr) as streams:
                outcome = _execute(
                    step,
                    plan,
                    streams,
                    reached,
                    meanwhile=(lambda: inquiries.append(_inquiry(plan))) if asks else None,
                )
        finally:  # however it ends, Ctrl-C included
            armed = project.disarm(_writable(step))
        seconds += outcome.seconds
        disarmed += [path.removeprefix(f"{plan.project}/") for path in armed]
        if outcome.status != 0:
            break
    assert outcome is not None, "a plan has a step"
    return Record(
        plan=plan,
        status=outcome.status,
        seconds=seconds,
        step=step.name,
        tools=_identified(plan, inquiries, reached),
        reached=reached,
        weaker=outcome.weaker,
        disarmed=tuple(sorted({*disarmed, *reached.left_out(plan.project)})),
        planted=tuple(sorted(_version_control(plan) - before)),
    )


def run_request(request: Request, *, identify: bool = True, stdout: int = 1, stderr: int = 2) -> Record:
    """Plan what a request asks for and carry it out: `run` of its `plan`."""
    return run(make_plan(request), identify=identify, stdout=stdout, stderr=stderr)


def _prepare(plan: Plan, step: Step) -> None:
    for place in step.make:
        place.mkdir(parents=True, exist_ok=True)
    project.make_outputs(plan.project, step.outputs)


def _policy(plan: Plan, step: Step) -> Policy:
    """Return what a supervisor does: what costs nothing always, more where it is asked for.

    A fetch step has the real clock and real random numbers: certificates and keys need both.
    """
    is_build = step is plan.build
    is_fixed = is_build and plan.request.clock
    return Policy(
        trace=_trace(plan.request) if is_build else Trace.NOTHING,
        listing=SORTED,
        release=machine.RELEASE,
        memory=machine.MEMORY,
        epoch=machine.CLOCK if is_fixed else None,
        seed=SEED if is_fixed else None,
        processors=machine.PROCESSORS if is_fixed else None,
    )


def _trace(request: Request) -> Trace:
    if request.trace:
        return Trace.ASKED
    return Trace.OPENED if request.opened else Trace.NOTHING


def _require_linker(plan: Plan) -> None:
    """Refuse a linker that is to be a program and is not there."""
    name = plan.request.linker
    if not name or not plan.profile.direct_linkers or name == _OF_RUSTC:
        return
    if sight.search(plan.build.sandbox, name) is None:
        raise InputError(f"--linker {name}: not found in the sandbox", hint=f"rustc brings {_OF_RUSTC}")


def _execute(
    step: Step, plan: Plan, streams: Streams, reached: Reached, *, meanwhile: Callable[[], None] | None
) -> Outcome:
    program = sight.search(step.sandbox, step.command[0])
    if program is None and "/" not in step.command[0]:
        hint = _where(step.command[0], plan.request.env.get("PATH"))
        raise InputError(f"{step.command[0]}: not found in the sandbox", hint=hint)
    try:
        return run_sandbox(
            step.sandbox,
            [program or step.command[0], *step.command[1:]],
            stdout=streams.stdout,
            stderr=streams.stderr,
            policy=_policy(plan, step),
            on_event=reached,
            allow_weaker=plan.request.allow_weaker,
            meanwhile=meanwhile,
        )
    except SandboxError as error:
        raise _explained(error, step) from error


def _where(program: str, path: str | None) -> str:
    """Say how a program that the caller has can be had."""
    import shutil

    here = shutil.which(program, path=path)
    if here is None:
        return "it shows the machine's /usr without /usr/local; for tools elsewhere: --tools DIRECTORY"
    real = Path(os.path.realpath(here))
    if real.name == "rustup":
        chosen = sorted((real.parents[2] / ".rustup/toolchains").glob("*"), reverse=True)
        return f"{here} is rustup; name a toolchain: --tools {chosen[0] if chosen else 'DIRECTORY'}"
    return f"it shows the machine's /usr without /usr/local; yours is {here}: --tools {_top_of(real)}"


def _explained(error: SandboxError, step: Step) -> HostError | InputError:
    if error.step.startswith("start "):
        program = error.step.removeprefix("start ")
        return InputError(f"{program}: cannot be started: {error.reason}", hint=_unstarted(step, error))
    if error.step.startswith("bind") and error.number:
        return InputError(f"sandbox: {error}", hint=error.hint)
    if os.path.exists(MARK):
        return HostError(
            "sandbox: this is already inside a sandbox of belljar, which allows none of its own",
            hint="run the command as it is: what the outer one promises holds here",
        )
    less = "; or accept a weaker promise: --allow-weaker (docs/sandbox.md)" if is_forbidden(error) else ""
    return HostError(f"sandbox: {error}", hint=f"{error.hint}{less}" if error.hint else None)


def _unstarted(step: Step, error: SandboxError) -> str | None:
    """Say what a program that is there needs to be started."""
    if error.number == errno.ENOEXEC:
        return "a script begins with a line like #!/bin/sh; or start it with its interpreter: sh SCRIPT"
    from belljar.hermetic.tools import interpreter

    program = sight.search(step.sandbox, step.command[0])
    place = sight.locate(step.sandbox, program) if program else None
    name = interpreter(place[1]) if place else None
    if not name or sight.locate(step.sandbox, name):
        return None
    if not os.path.exists(name):
        return f"it needs {name}, which this machine has not"
    return f"it needs {name}; to show that at its own path: --ro {_top_of(Path(name))}"


def _top_of(program: Path) -> Path:
    """Return the directory of which a program is part: where it is in `bin`, the one above."""
    return program.parent.parent if program.parent.name == "bin" else program.parent


def _inquiry(plan: Plan) -> "Inquiry":
    """Identify the tools that the profile names, and the command's program, as they are before it runs."""
    from belljar.hermetic.tools import Inquiry

    inquiry = Inquiry(box=plan.build.sandbox, versions=_identifies_all(plan.request))
    linker = ((plan.request.linker, "--version"),) if plan.request.linker else ()
    for words in (*plan.profile.identity, *linker):
        inquiry.add(words[0], words)
    inquiry.add(plan.build.command[0])
    return inquiry


def _identifies_all(request: Request) -> bool:
    return request.identified and (request.opened or request.trace)


def _identified(plan: Plan, inquiries: "list[Inquiry]", reached: Reached) -> "tuple[Tool, ...]":
    """Add what else was started, after the fact: what the command made itself may be gone again."""
    for inquiry in inquiries:
        for path in reached.executed() if _identifies_all(plan.request) else ():
            inquiry.add(path)
        for path in inquiry.unknown:
            reached(Unseen(what="what is in a program that may not be read, or is too large", program=path))
    return tuple(tool for inquiry in inquiries for tool in inquiry.found())


def _writable(step: Step) -> list[Path]:
    """Return the directories of the host that a step may write to."""
    binds = (item for item in step.sandbox.operations if isinstance(item, Bind) and item.writable)
    return [Path(item.source) for item in binds]


def _version_control(plan: Plan) -> set[str]:
    return {name for name in project.VERSION_CONTROL if os.path.lexists(Path(plan.project) / name)}
