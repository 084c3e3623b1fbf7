"""Recipes, lock files and the sources they name.

What a build that has nothing to do needs is here: recipe, lock, hashes. Resolving and fetching are
in `resolve` and `fetch`, to be imported when they are needed.
"""

from belljar.recipe.lock import Change, Lock, LockedFile, check, require_fresh
from belljar.recipe.recipe import Recipe, load
from belljar.recipe.sources.path import tree_digest
from belljar.recipe.specs import PathSource

__all__ = [
    "Change",
    "Lock",
    "LockedFile",
    "PathSource",
    "Recipe",
    "check",
    "load",
    "require_fresh",
    "tree_digest",
]
