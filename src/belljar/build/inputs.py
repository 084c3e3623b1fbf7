"""What an artifact follows from: every input by key, and the name that they give it.

The name of a store entry is the hash of all that can affect the build: the recipe's words, the
content of each source, each tool, and FORMAT, which stands for what belljar itself does. Nothing of
the machine is in it: no path, no user, no time, no number of CPUs.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from belljar.build.environment import digest_of
from belljar.recipe import Lock, PathSource, Recipe, tree_digest
from belljar.store import StoreName
from belljar.types import Digest

FORMAT = 2
"""Raised whenever the same inputs would give another output: sandbox, clock, variables, normalisation."""


def inputs_of(recipe: Recipe, lock: Lock, directory: Path, *, real_clock: bool = False) -> dict[str, str]:
    """Return the inputs of a build by key; `path` sources are read and hashed now.

    What was built by the real clock is another artifact: it may hold the time.
    """
    found = {
        "belljar": f"format {FORMAT}",
        "package": f"{recipe.package.name} {recipe.package.version}",
        "arch": lock.arch,
        "environment": digest_of(lock.environment, recipe.environment.links),
        "build.script": _hash(recipe.build.script),
        "build.env": _hash(dict(recipe.build.env)),
        "build.in": recipe.build.directory,
        "portability": _hash(asdict(recipe.portability)),
    }
    if real_clock:
        found["clock"] = "real"
    if recipe.toolchain is not None:
        from belljar.stage.plan import FORMAT as WRAPPERS

        found["toolchain"] = _hash([WRAPPERS, asdict(recipe.toolchain)])
    for key, source in recipe.sources.items():
        if isinstance(source, PathSource):
            found[f"sources.{key}"] = tree_digest(directory / source.path)
        else:
            found[f"sources.{key}"] = _hash([[item.file, item.sha256] for item in lock.sources[key]])
    return found


def name_of(recipe: Recipe, inputs: Mapping[str, str]) -> StoreName:
    """Return the store name that the inputs give."""
    return StoreName.make(recipe.package.name, recipe.package.version, Digest(_hash(dict(inputs))))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
