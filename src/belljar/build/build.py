"""From a recipe to an artifact in the store.

    recipe + lock ─ fetch ─▶ environment, sources ─ sandbox ─▶ output ─ scan, audit ─▶ store entry

What a build that has nothing to do needs is here, and must start fast; what makes an artifact is in
`making`, loaded when the store does not have it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar.build.inputs import inputs_of, name_of
from belljar.build.order import Options, Order
from belljar.errors import InputError
from belljar.home import Home
from belljar.recipe import Lock, Recipe, load, require_fresh
from belljar.recipe import lock as locks
from belljar.store import Record, Store, StoreName
from belljar.types import Event, Progress, quiet


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


def build(
    directory: Path, *, home: Home | None = None, options: Options | None = None, progress: Progress = quiet
) -> Artifact:
    """Build the recipe in `directory` and return the artifact, from the store when it is there.

    A recipe without a lock file is locked first. Raises SchemaError and InputError for what is wrong
    with the recipe, a stale lock or an archive, BuildError when the script fails, GuaranteeError when
    the output does not meet the recipe's [portability], IntegrityError when bytes are not the locked
    ones, HostError when this machine cannot run a sandbox.
    """
    order = order_of(directory, home or Home.from_environment(), options or Options(), progress)
    store, name = order.store, order.name
    _ = store.location  # refused now if the store's path is too long, not after the work
    if name in store:
        return _stored(store, name, cached=True)
    with store.lock(name, on_wait=lambda: progress(Event(stage="wait", subject=str(name)))):
        if name in store:
            return _stored(store, name, cached=True)
        from belljar.build.making import make

        make(order)
    return _stored(store, name, cached=False)


def order_of(directory: Path, home: Home, options: Options, progress: Progress) -> Order:
    """Read the recipe and its lock, which is made now if it is missing, and return what is to be built."""
    recipe, lock = _locked_recipe(directory, home, options, progress)
    inputs = inputs_of(recipe, lock, directory)
    return Order(
        directory=directory,
        recipe=recipe,
        lock=lock,
        inputs=inputs,
        name=name_of(recipe, inputs),
        store=Store(directory=home.store),
        home=home,
        options=options,
        progress=progress,
    )


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


def _stored(store: Store, name: StoreName, *, cached: bool) -> Artifact:
    record = store.record(name)
    return Artifact(name=name, path=store.path(name), record=record, audit=store.audit(name), cached=cached)
