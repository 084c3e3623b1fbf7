"""What a build would do, without doing it: `belljar build --dry-run`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar.build.build import order_of
from belljar.build.environment import Environment, digest_of
from belljar.build.order import Options
from belljar.build.sandboxed import BUILD, sandbox_of, variables
from belljar.errors import InputError
from belljar.home import Home
from belljar.recipe import downloads, load
from belljar.recipe import lock as locks
from belljar.store import StoreName
from belljar.types import quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What a build would do: the entry it would make or has, what it follows from, what must be fetched."""

    name: StoreName
    path: Path
    cached: bool
    inputs: dict[str, str]
    downloads: tuple[str, ...]
    sandbox: str

    def describe(self) -> list[str]:
        """Say it in lines."""
        if self.cached:
            return [f"nothing to do: {self.path} is in the store"]
        return [
            f"would build {self.path}",
            "inputs:",
            *(f"  {key}: {value}" for key, value in sorted(self.inputs.items())),
            f"to download: {len(self.downloads)} files",
            *(f"  {item}" for item in self.downloads),
            "sandbox:",
            *(f"  {line}" for line in self.sandbox.splitlines()),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": str(self.name),
            "path": str(self.path),
            "cached": self.cached,
            "inputs": self.inputs,
            "downloads": list(self.downloads),
            "sandbox": self.sandbox.splitlines(),
        }


def foresee(directory: Path, *, home: Home | None = None, options: Options | None = None) -> Foresight:
    """Return what `build` would do; nothing is written and no network is used.

    Raises what `build` raises for a recipe or a lock that is wrong, and InputError when there is no lock.
    """
    home, options = home or Home.from_environment(), options or Options()
    path = directory / locks.FILE
    load(directory)  # what is wrong with the recipe comes before what is missing beside it
    if not path.exists():
        raise InputError(
            f"{path}: missing, so what would be built is not known yet", hint="run `belljar lock`"
        )
    order = order_of(directory, home, options, quiet)
    recipe, lock, name = order.recipe, order.lock, order.name
    digest = digest_of(lock.environment, recipe.environment.links)
    environment = Environment(path=home.environments / digest, digest=digest)
    box = sandbox_of(
        environment if environment.path.is_dir() else None,
        build=home.staging / "ID" / "build",
        output=home.staging / "ID" / "out",
        name=name,
        env=variables(recipe, name, lock.arch, options.jobs or 1),
        script=recipe.build.script,
        cwd=BUILD,
    )
    return Foresight(
        name=name,
        path=order.store.path(name),
        cached=name in order.store,
        inputs=dict(order.inputs),
        downloads=tuple(item.file for item in lock.files if downloads.find(item, home) is None),
        sandbox=box.describe(),
    )
