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
from belljar.build.refusal import GuaranteeError
from belljar.errors import InputError
from belljar.home import Home
from belljar.placeholder import DIRECTORY_LIMIT
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
    home = home or Home.from_environment()
    _require_location(home)
    order = order_of(directory, home, options or Options(), progress)
    store, name = order.store, order.name
    if _is_done(order):
        return _stored(store, name, cached=True)
    with store.lock(name, on_wait=lambda: progress(Event(stage="wait", subject=str(name)))):
        if _is_done(order):
            return _stored(store, name, cached=True)
        from belljar.build.making import make

        try:
            make(order)
        except GuaranteeError:
            store.remove(name)  # made before, without the proof that has now failed
            raise
    return _stored(store, name, cached=False)


def _is_done(order: Order) -> bool:
    """Whether the store has the entry, and its proof where one is asked for and can be made."""
    if order.name not in order.store or not order.options.prove:
        return order.name in order.store
    record = order.store.record(order.name)
    return record.proof is not None or not record.relocatable


def _require_location(home: Home) -> None:
    """Refuse a home whose path cannot be written into files, before any work is done for it."""
    try:
        _ = Store(directory=home.store).location
    except InputError as error:
        limit = DIRECTORY_LIMIT - len("/store")
        hint = f"set BELLJAR_HOME to a path of at most {limit} bytes: letters, digits and / . _ - + @"
        raise InputError(error.message, hint=hint) from error


def order_of(directory: Path, home: Home, options: Options, progress: Progress) -> Order:
    """Read the recipe and its lock, which is made now if it is missing, and return what is to be built."""
    recipe, lock = _locked_recipe(directory, home, options, progress)
    inputs = inputs_of(recipe, lock, directory, real_clock=options.real_clock)
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
