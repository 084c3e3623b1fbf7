"""Running the build script in its sandbox; what it says goes to a log file."""

import os
import shutil
from pathlib import Path

from belljar import fsys
from belljar.build import output, staged
from belljar.build.environment import Environment
from belljar.build.order import Order
from belljar.build.sandboxed import BUILD, SCRIPT, SHELL, sandbox_of, variables
from belljar.build.virtual import policy_of
from belljar.errors import BuildError, HostError, InputError
from belljar.placeholder import PLACEHOLDER
from belljar.recipe import Recipe
from belljar.sandbox import Blocked, Disarmed, Policy, Sandbox, SandboxError, run
from belljar.sandbox import Event as Seen
from belljar.sandbox.spec import Spec
from belljar.types import Event, Progress

COMMAND = (SHELL, "-eu", SCRIPT)
"""How the script is run."""
_FULL = 1 << 16  # bytes


def run_script(
    order: Order, stage: Path, environment: Environment, *, store_root: str = PLACEHOLDER, log: str = ""
) -> None:
    """Run the script with the sources of `stage`/build; its prefix is `stage`/out, seen below `store_root`.

    What it says goes to a log that is called after the entry and `log`.

    Raises BuildError, with the last lines of the log, when it fails; HostError when this machine cannot
    run a sandbox; InputError when the environment has no shell.
    """
    box = prepare(order, stage, environment, store_root=store_root)
    recipe = order.recipe
    policy = policy_of(real_clock=order.options.real_clock)
    fsys.write_atomic(stage / "sandbox.json", Spec(sandbox=box, policy=policy).to_json())
    path = order.home.logs / f"{order.name}{log}.log"
    order.progress(Event(stage="build", subject=str(path)))
    status = _execute(box, policy, path, order.progress)
    if status != 0:
        raise _failure(recipe, status, path, stage)
    staged.seal(recipe, stage / "out", environment, order.progress)
    order.progress(Event(stage="build", done=1, total=1))


def prepare(order: Order, stage: Path, environment: Environment, *, store_root: str = PLACEHOLDER) -> Sandbox:
    """Make what the script needs besides its sources, and return the sandbox that `COMMAND` is to run in."""
    (stage / "out").mkdir()
    output.normalise(stage / "out")
    recipe, jobs = order.recipe, order.options.jobs or os.cpu_count() or 1
    env = variables(recipe, order.name, order.lock.arch, jobs, store_root=store_root)
    wrappers = staged.stage_of(recipe, env["PREFIX"], order.lock.arch)
    return sandbox_of(
        environment,
        build=stage / "build",
        output=stage / "out",
        name=order.name,
        env=env,
        script=recipe.build.script,
        cwd=_start(recipe, stage / "build"),
        store_root=store_root,
        toolchain=staged.put(wrappers, environment, stage / "toolchain"),
    )


def _execute(box: Sandbox, policy: Policy, log: Path, progress: Progress) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    temporary = log.with_name(f".{log.name}.{os.urandom(4).hex()}")
    with temporary.open("wb") as file:
        temporary.replace(log)
        fd, denied = file.fileno(), list[Seen]()
        try:
            outcome = run(
                box,
                COMMAND,
                stdout=fd,
                stderr=fd,
                watch=lambda: progress(Event(stage="build", subject=_last_line(log))),
                policy=policy,
                on_event=denied.append,
            )
        except SandboxError as error:
            raise sandbox_failed(error) from error
        for event in denied:
            file.write(_words(event).encode("utf-8", "surrogateescape"))
    return outcome.status


def _words(event: Seen) -> str:
    """Say in the log what was denied to whom: a script that fails by it would not know."""
    if isinstance(event, Disarmed):
        return f"belljar: left out: the setuid bit of {event.path}, for {event.program}\n"
    if not isinstance(event, Blocked):
        return f"belljar: {event}\n"
    times = "once" if event.count == 1 else f"{event.count} times"
    return f"belljar: denied {times}: {event.call} ({event.why}), to {event.program}\n"


def sandbox_failed(error: SandboxError) -> HostError | InputError:
    """Return what a sandbox that could not be set up means to the user."""
    if error.step.startswith("start "):
        program = error.step.removeprefix("start ")
        return InputError(
            f"{program}: cannot be started in the sandbox: {error.reason}",
            hint="is the package that holds it, or its interpreter, among environment.packages?",
        )
    return HostError(f"sandbox: {error}", hint=error.hint)


def _last_line(log: Path) -> str:
    lines = _tail(log, 1)
    return lines[0] if lines else ""


def _tail(log: Path, count: int) -> tuple[str, ...]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()  # somebody tidied up; to show progress must not end a build
    return tuple(line for line in text.splitlines() if line.strip())[-count:]


def _failure(recipe: Recipe, status: int, log: Path, stage: Path) -> BuildError:
    how = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
    if shutil.disk_usage(stage).free < _FULL:
        # What the script had to say about it could not be written either.
        how += f"; the disk that holds {stage.parent} is full"
    return BuildError(
        f"{recipe.package.name}: the build script failed: {how}",
        log=str(log),
        tail=_tail(log, 15),
        hint="`--keep-failed` keeps its directory and prints how to enter it",
    )


def _start(recipe: Recipe, place: Path) -> str:
    """Return the directory that the script starts in: the one source's, or the one that `in` names."""
    key = recipe.build.directory or (next(iter(recipe.sources)) if len(recipe.sources) == 1 else "")
    return f"{BUILD}/{key}" if key and (place / key).is_dir() else BUILD
