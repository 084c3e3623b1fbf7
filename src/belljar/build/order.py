"""What is to be built, and how: everything that the steps of a build share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from belljar.home import Home
from belljar.recipe import Lock, Recipe
from belljar.store import Store, StoreName
from belljar.types import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to build: number of parallel jobs (0: all CPUs), no network, whether to keep what failed.

    `prove` builds again under another prefix, and compares (belljar.build.prove). `real_clock` leaves the
    time to the machine (belljar.build.virtual).
    """

    jobs: int = 0
    offline: bool = False
    keep_failed: bool = False
    prove: bool = False
    real_clock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A recipe in `directory` with its lock, the inputs and the name that follow from them, and where to."""

    directory: Path
    recipe: Recipe
    lock: Lock
    inputs: Mapping[str, str]
    name: StoreName
    store: Store
    home: Home
    options: Options
    progress: Progress
