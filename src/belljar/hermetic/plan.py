"""A plan: one sandbox, made of what the request and its profile say, before anything is done.

Two steps at most. The *fetch* step has the network, the tool's own configuration, declared inputs (a mirror
may be a directory) and a writable cache, and the project read-only but for what the profile names: what it
brings is held against the lock file by the tool. The *build* step has the cache read-only, no configuration
and no network.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from belljar.errors import InputError, UsageError
from belljar.hermetic import project as projects
from belljar.hermetic import system, variables
from belljar.hermetic.profile import NONE, Profile, available, choose, locked_command, require_lock
from belljar.hermetic.reached import exists
from belljar.hermetic.request import HOME, PROJECT, TOOLS, Request
from belljar.hermetic.variables import Allowed
from belljar.sandbox import Bind, Operation, Sandbox, value

_OWN = ("/", "/dev", "/proc", "/sys", "/run", "/etc", "/usr", "/tmp", PROJECT, HOME)


@value
class Step:
    """One command in one sandbox; `make` are directories to be there first, `outputs` what it may write."""

    name: str
    sandbox: Sandbox
    command: tuple[str, ...]
    make: tuple[Path, ...] = ()
    outputs: tuple[str, ...] = ()


@value
class Plan:
    """What is going to be done, and what was decided on the way."""

    request: Request
    profile: Profile
    project: Path
    steps: tuple[Step, ...]
    lock: str
    allowed: tuple[Allowed, ...]
    withheld: tuple[str, ...]
    hidden: tuple[str, ...]

    @property
    def build(self) -> Step:
        """The step that the caller asked for, the last."""
        return self.steps[-1]

    @property
    def declared(self) -> tuple[str, ...]:
        """Where the declared inputs are shown."""
        names = (*self.request.read, *self.request.write)
        return tuple(_target(_existing(name, self.project), self.project) for name in names)

    def describe(self) -> tuple[str, ...]:
        """Say what is going to be done, one line each."""
        lines = []
        for step in self.steps:
            lines += [f"# {step.name}: {' '.join(step.command)}", *step.sandbox.describe().splitlines()]
        return tuple(lines)


def plan(request: Request) -> Plan:
    """Return what is to be done for a request; nothing is changed yet.

    Raises UsageError and InputError for what makes no sense, is ambiguous, or is not locked.
    """
    if not request.command or not request.command[0]:
        raise UsageError("run: no command is given", hint="belljar run [OPTIONS] -- CMD...")
    project = projects.check(request.project, request.env.get("HOME"))
    profile = _profile(request, project)
    lock = "" if request.unlocked else require_lock(profile, project)
    allowed = variables.allowed(request.allow_env, request.env)
    steps = (_fetch_step(request, profile, project),) if request.fetch else ()
    return Plan(
        request=request,
        profile=profile,
        project=project,
        steps=(*steps, _build_step(request, profile, project, allowed)),
        lock=lock,
        allowed=allowed,
        withheld=tuple(
            name
            for name in variables.matching(profile.variables, request.env)
            if name not in request.allow_env
        ),
        hidden=tuple(_hidden(request, profile, project)),
    )


def _profile(request: Request, project: Path) -> Profile:
    if request.profile == NONE:
        return Profile()
    known = available(request.profiles, project=project if request.profile is None else None)
    return choose(known, request.profile, project, request.command)


def _build_step(request: Request, profile: Profile, project: Path, allowed: tuple[Allowed, ...]) -> Step:
    inside, outside = _writable(request, project)
    outputs = (*profile.outputs, *inside)
    caches = [item for item in profile.caches if request.fetch or item.place(request.env).is_dir()]
    operations = (
        *_base(request, profile, network=request.network),
        *(system.without_compilers(request.system) if request.no_cc else ()),
        *(system.linker() if _is_direct(request, profile) else ()),
        *(Bind(source=str(item.place(request.env)), target=item.inside) for item in caches),
        *_declared(request.read, project),
        *outside,
        *projects.binds(project, outputs),
    )
    env = _environment(request) | dict(profile.env)
    env |= {} if request.network else dict(profile.offline)
    env |= dict(profile.remap) if request.remap else {}
    env |= _linker(request, profile)
    env |= {item.name: item.value for item in allowed if item.value is not None}
    return Step(
        name="build",
        sandbox=Sandbox(operations=_unique(operations), env=env, cwd=PROJECT, network=request.network),
        command=request.command if request.unlocked else locked_command(profile, request.command),
        outputs=outputs,
    )


def _fetch_step(request: Request, profile: Profile, project: Path) -> Step:
    if not profile.fetch:
        raise UsageError(f"--fetch: the profile {profile.name} has no fetch step")
    places = [(Path(os.path.realpath(item.place(request.env))), item.inside) for item in profile.caches]
    home = request.env.get("HOME") or "/nonexistent"
    seen = [(path.replace("~", home, 1), path.replace("~", HOME, 1)) for path in profile.fetch_sees]
    operations = (
        *_base(request, profile, network=True),
        *(Bind(source=str(place), target=inside, writable=True, links=False) for place, inside in places),
        *(
            Bind(source=os.path.realpath(path), target=inside)
            for path, inside in seen
            if os.path.isfile(path)
        ),
        *_declared(request.read, project),
        *projects.binds(project, profile.fetch_writes),
    )
    names = variables.matching((*profile.fetch_variables, *variables.NETWORK), request.env)
    env = _environment(request) | dict(profile.env) | dict(profile.fetch_env)
    env |= {name: request.env[name] for name in names}
    return Step(
        name="fetch",
        sandbox=Sandbox(
            operations=_unique(operations),
            env={name: value for name, value in env.items() if value},
            cwd=PROJECT,
            network=True,
        ),
        command=profile.fetch,
        make=tuple(place for place, _ in places),
        outputs=profile.fetch_writes,
    )


def _base(request: Request, profile: Profile, *, network: bool) -> Iterator[Operation]:
    if not (request.system / "usr").is_dir():
        raise InputError(f"{request.system}: holds no system: no usr in it")
    yield from system.operations(request.system, network=network)
    yield from system.extra(request.system, profile.host)
    for number, name in enumerate(request.tools):
        source = _existing(name, Path.cwd())
        if not os.path.isdir(source):
            raise UsageError(f"--tools {name}: not a directory", hint="name the one that it lies in")
        yield Bind(source=source, target=f"{TOOLS}/{number}")


def _environment(request: Request) -> dict[str, str]:
    own = []
    for number, name in enumerate(request.tools):
        below = "/bin" if os.path.isdir(os.path.join(name, "bin")) else ""
        own.append(f"{TOOLS}/{number}{below}")
    return {**variables.FIXED, "PATH": ":".join((*own, *system.PATH))}


def _linker(request: Request, profile: Profile) -> dict[str, str]:
    if request.linker is None:
        return {}
    if not profile.linker:
        raise UsageError(f"--linker: the profile {profile.name} knows no way to force a linker")
    direct = _is_direct(request, profile)
    name = system.LINKER if direct else request.linker
    more = {"BELLJAR_LINKER": request.linker} if direct else {}
    return more | {key: text.replace("{linker}", name) for key, text in profile.linker}


def _is_direct(request: Request, profile: Profile) -> bool:
    name = os.path.basename(request.linker or "")
    return bool(variables.matching(profile.direct_linkers, {name: ""})) if name else False


def _declared(names: tuple[str, ...], project: Path) -> Iterator[Bind]:
    for name in names:
        source = _existing(name, project)
        yield Bind(source=source, target=_target(source, project))


def _writable(request: Request, project: Path) -> tuple[tuple[str, ...], tuple[Bind, ...]]:
    """Split what `--rw` names into outputs below the project and directories elsewhere."""
    inside, outside = [], []
    for name in request.write:
        path = _path(name, project)
        below = os.path.relpath(path, project)
        if below == ".." or below.startswith("../"):
            source = _existing(name, project)
            real = os.path.realpath(source)  # the way that is gone again afterwards, by `disarm`
            outside.append(Bind(source=real, target=_target(source, project), writable=True, links=False))
        else:
            inside.append(below)
    return tuple(inside), tuple(outside)


def _path(name: str, start: Path) -> str:
    if not name:  # it would stand for all of the project
        raise UsageError("a path that is empty", hint="is it a variable of your shell that is not set?")
    return os.path.normpath(os.path.join(start, name))


def _existing(name: str, start: Path) -> str:
    path = _path(name, start)
    if not os.path.exists(path):
        raise UsageError(f"{name}: there is no such file or directory")
    return path


def _target(source: str, project: Path) -> str:
    """Return where a declared path is shown: at its own, or in the project's place."""
    if source == str(project) or source.startswith(f"{project}/"):
        return PROJECT + source.removeprefix(str(project))
    if source in _OWN or source.startswith(("/proc/", "/dev/", "/sys/", "/run/", f"{PROJECT}/")):
        raise UsageError(f"{source}: cannot be shown: the sandbox has its own, or it leads to the whole host")
    return source


def _unique(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Let what was said later take the place of what was said before about the same path."""
    found: dict[str, Operation] = {}
    for operation in operations:
        found.pop(operation.target, None)
        found[operation.target] = operation
    return tuple(found.values())


def _hidden(request: Request, profile: Profile, project: Path) -> Iterator[str]:
    """Yield the configuration that exists and that the tool would have read."""
    home = request.env.get("HOME")
    for pattern in profile.hidden:
        if pattern.startswith("../"):
            yield from filter(exists, (str(parent / pattern[3:]) for parent in project.parents))
        elif pattern.startswith("~/"):
            yield from filter(exists, [os.path.join(home, pattern[2:])] if home else [])
        elif exists(str(request.system / pattern[1:])):
            yield pattern
