"""A recipe as a subject: its locked sources and environment, its script; what it installs is compared.

The prefix stays the placeholder in all builds: that an output follows its prefix is what relocation is about,
and `belljar build --prove-relocation` shows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from belljar.build import output, staged
from belljar.build.build import order_of
from belljar.build.environment import Environment, materialise
from belljar.build.making import stage_sources
from belljar.build.order import Options, Order
from belljar.build.sandboxed import BUILD
from belljar.build.script import COMMAND, prepare
from belljar.home import Home
from belljar.recipe.fetch import fetch
from belljar.reproduce.subject import Ready, Subject
from belljar.reproduce.variation import PATHS
from belljar.types import Digest, Progress


@dataclass(frozen=True, kw_only=True)
class RecipeSubject(Subject):
    """A recipe that is ordered."""

    order: Order

    @property
    def title(self) -> str:
        """What it is called."""
        package = self.order.recipe.package
        return f"{package.name} {package.version}"

    @property
    def fixed(self) -> Mapping[str, str]:
        """What cannot be varied, and why."""
        names_it = BUILD in self.order.recipe.build.script
        return {"path": "the recipe's script says where its sources lie"} if names_it else {}

    @property
    def inputs(self) -> Mapping[str, str]:
        """What is held fast: builders of packages have one path for each package, or record it."""
        return {"path": f"a recipe is always built in {BUILD}; elsewhere: {PATHS}"}

    def prepare(self, place: Path) -> Ready:
        """Put the sources into a new directory `place`."""
        stage_sources(self.order, place / "build", self._files)
        box = prepare(self.order, place, self._environment)
        return Ready(sandbox=box, command=COMMAND, sources=place / "build", output=place / "out")

    def finish(self, ready: Ready) -> None:
        """Seal, where the recipe wants it, and take off what an artifact does not have."""
        staged.seal(self.order.recipe, ready.output, self._environment, self.order.progress)
        output.normalise(ready.output)

    @cached_property
    def _files(self) -> dict[Digest, Path]:
        order = self.order
        return dict(fetch(order.lock, order.home, offline=order.options.offline, progress=order.progress))

    @cached_property
    def _environment(self) -> Environment:
        order, links = self.order, self.order.recipe.environment.links
        packages = order.lock.environment
        return materialise(packages, links, self._files, home=order.home, progress=order.progress)


def of_recipe(directory: Path, home: Home, *, offline: bool, progress: Progress) -> RecipeSubject:
    """Return the recipe in a directory as a subject. Raises what `belljar build` does for a bad one."""
    order = order_of(directory, home, Options(offline=offline), progress)
    return RecipeSubject(order=order)
