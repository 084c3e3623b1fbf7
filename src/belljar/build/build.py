"""From a recipe to an artifact in the store.

    recipe + lock ─ fetch ─▶ environment, sources ─ sandbox ─▶ output ─ scan, audit ─▶ store entry

`build` is the list of steps. All work happens in one staging directory on the store's filesystem,
under the entry's lock; the store gets a finished tree or nothing. A crash leaves a staging directory
that the next build sweeps away.
"""

import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from belljar import fsys
from belljar.build import output
from belljar.build.environment import Environment, materialise
from belljar.build.guarantees import Evidence, GuaranteeError, examine
from belljar.build.inputs import inputs_of, name_of
from belljar.build.output import EPOCH
from belljar.build.sandboxed import BUILD, SCRIPT, SHELL, sandbox_of, variables
from belljar.errors import BuildError, HostError, InputError
from belljar.home import Home
from belljar.placeholder import PLACEHOLDER
from belljar.recipe import Lock, PathSource, Recipe, load, require_fresh
from belljar.recipe import lock as locks
from belljar.sandbox import Sandbox, SandboxError, run
from belljar.store import Record, Store, StoreName, describe
from belljar.types import Digest, Event, Progress, quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What a build gave: its name, where it is, what is recorded of it, what the audit found (JSON values).

    `cached` says that nothing was built because the store had it.
    """

    name: StoreName
    path: Path
    record: Record
    audit: Any
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to build: number of parallel jobs, no network, and whether to keep a failed build's directory."""

    jobs: int = 0
    offline: bool = False
    keep_failed: bool = False


# What is unpacked; any other file is put where the script finds it as it is.
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".tar.zst", ".zip", ".whl", ".deb")


@dataclass(slots=True, kw_only=True)
class _Stage:
    """One build's staging directory; `keep` is set when it is to outlive a failure."""

    path: Path
    keep: bool = False


def build(
    directory: Path, *, home: Home | None = None, options: Options | None = None, progress: Progress = quiet
) -> Artifact:
    """Build the recipe in `directory` and return the artifact, from the store when it is there.

    A recipe without a lock file is locked first. Raises SchemaError and InputError for what is wrong
    with the recipe, a stale lock or an archive, BuildError when the script fails, GuaranteeError when
    the output does not meet the recipe's [portability], IntegrityError when bytes are not the locked
    ones, HostError when this machine cannot run a sandbox.
    """
    home, options = home or Home.from_environment(), options or Options()
    store = Store(directory=home.store)
    location = store.location
    recipe, lock = _locked_recipe(directory, home, options, progress)
    inputs = inputs_of(recipe, lock, directory)
    name = name_of(recipe, inputs)
    if name in store:
        return _stored(store, name, cached=True)
    with ExitStack() as stack:
        stack.enter_context(
            store.lock(name, on_wait=lambda: progress(Event(stage="wait", subject=str(name))))
        )
        if name in store:
            return _stored(store, name, cached=True)
        stage = _Stage(path=Path())
        stage.path = stack.enter_context(fsys.staging(home.staging, keep=lambda: stage.keep))
        files = _fetch(lock, home, options, progress)
        environment = materialise(
            lock.environment, recipe.environment.links, files, home=home, progress=progress
        )
        _stage_sources(stage.path / "build", recipe, lock, files, directory, progress)
        try:
            _run_script(stage.path, recipe, name, lock.arch, environment, home, options, progress)
            evidence = examine(stage.path / "out", recipe, name, progress)
        except (BuildError, GuaranteeError, InputError) as error:
            if options.keep_failed:
                stage.keep = True
                error.hint = _how_to_enter(stage.path)
            raise
        _store(store, stage.path, name, recipe, inputs, evidence, location, progress)
    return _stored(store, name, cached=False)


def _locked_recipe(directory: Path, home: Home, options: Options, progress: Progress) -> tuple[Recipe, Lock]:
    recipe = load(directory)
    path = directory / locks.FILE
    if not path.exists():
        if options.offline:
            raise InputError(f"{path}: missing, and --offline was asked for", hint="run `belljar lock` first")
        from belljar.recipe.resolve import lock as resolve

        locks.write(path, resolve(recipe, home, progress=progress))
    lock = locks.read(path)
    require_fresh(recipe, lock)
    return recipe, lock


def _fetch(lock: Lock, home: Home, options: Options, progress: Progress) -> Mapping[Digest, Path]:
    from belljar.recipe.fetch import fetch

    return fetch(lock, home, offline=options.offline, progress=progress)


def _stored(store: Store, name: StoreName, *, cached: bool) -> Artifact:
    record = store.record(name)
    return Artifact(name=name, path=store.path(name), record=record, audit=store.audit(name), cached=cached)


def _stage_sources(
    place: Path,
    recipe: Recipe,
    lock: Lock,
    files: Mapping[Digest, Path],
    directory: Path,
    progress: Progress,
) -> None:
    """Put each source into a directory of its own, where the script finds it: /build/KEY."""
    from belljar.recipe.sources import path as path_source
    from belljar.recipe.unpack import unpack

    place.mkdir()
    for key, source in recipe.sources.items():
        progress(Event(stage="unpack", subject=key))
        target = place / key
        target.mkdir()
        if isinstance(source, PathSource):
            path_source.copy(directory / source.path, target, mtime=EPOCH)
            continue
        for item in lock.sources[key]:
            if item.file.endswith(_ARCHIVES):
                unpack(files[item.sha256], target, strip_top=True, mtime=EPOCH)
            else:
                shutil.copyfile(files[item.sha256], target / item.file)
    output.normalise(place)


def _run_script(
    stage: Path,
    recipe: Recipe,
    name: StoreName,
    arch: str,
    environment: Environment,
    home: Home,
    options: Options,
    progress: Progress,
) -> None:
    """Run the build script in its sandbox; its output goes to a log file."""
    (stage / "out").mkdir()
    output.normalise(stage / "out")
    box = sandbox_of(
        environment,
        build=stage / "build",
        output=stage / "out",
        name=name,
        env=variables(recipe, name, arch, options.jobs or os.cpu_count() or 1),
        script=recipe.build.script,
        cwd=_start(recipe, stage / "build"),
    )
    fsys.write_atomic(stage / "sandbox.json", box.to_json())
    log = home.logs / f"{name}.log"
    progress(Event(stage="build", subject=str(log)))
    status = _execute(box, log, progress)
    if status != 0:
        raise _failure(recipe, status, log)
    progress(Event(stage="build", done=1, total=1))


def _execute(box: Sandbox, log: Path, progress: Progress) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    temporary = log.with_name(f".{log.name}.{secrets.token_hex(4)}")
    with temporary.open("wb") as file:
        temporary.replace(log)
        fd = file.fileno()
        try:
            outcome = run(
                box,
                [SHELL, "-eu", SCRIPT],
                stdout=fd,
                stderr=fd,
                watch=lambda: progress(Event(stage="build", subject=_last_line(log))),
            )
        except SandboxError as error:
            raise sandbox_failed(error) from error
    return outcome.status


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
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
        text = file.read().decode("utf-8", "replace")
    return tuple(line for line in text.splitlines() if line.strip())[-count:]


def _failure(recipe: Recipe, status: int, log: Path) -> BuildError:
    how = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
    return BuildError(
        f"{recipe.package.name}: the build script failed: {how}",
        log=str(log),
        tail=_tail(log, 15),
        hint="`--keep-failed` keeps its directory and prints how to enter it",
    )


def _how_to_enter(stage: Path) -> str:
    words = [sys.executable, "-m", "belljar.sandbox", f"{stage}/sandbox.json", "--", SHELL]
    return f"kept in {stage}; enter it with: {shlex.join(words)}"


def _start(recipe: Recipe, place: Path) -> str:
    """Return the directory that the script starts in: the one source's, or the one that `in` names."""
    key = recipe.build.directory or (next(iter(recipe.sources)) if len(recipe.sources) == 1 else "")
    return f"{BUILD}/{key}" if key and (place / key).is_dir() else BUILD


def _store(
    store: Store,
    stage: Path,
    name: StoreName,
    recipe: Recipe,
    inputs: Mapping[str, str],
    evidence: Evidence,
    location: bytes,
    progress: Progress,
) -> None:
    """Point the output's references at the store and move it in."""
    from belljar.relocate import rewrite_tree

    progress(Event(stage="store", subject=str(name)))
    tree = stage / "out"
    manifest = describe(tree, evidence.table, PLACEHOLDER.encode())
    if not evidence.unsupported:
        rewrite_tree(tree, evidence.table, old=PLACEHOLDER.encode(), new=location)
        output.settle(tree)
    record = Record(
        name=name,
        content=manifest.digest,
        size=manifest.size,
        files=sum(line.kind in "fx" for line in manifest.lines),
        references=len(evidence.table),
        closure=tuple(sorted(evidence.names)),
        inputs=inputs,
        portability={
            key: str(value) for key, value in asdict(recipe.portability).items() if value is not None
        },
        relocatable=not evidence.unsupported,
        reason=evidence.unsupported[0] if evidence.unsupported else "",
    )
    store.add(tree, stage, record=record, table=evidence.table, manifest=manifest, audit=evidence.audit)
