"""Where files come from: one module per kind, each a `base.Kind`, loaded when it is needed."""

from importlib import import_module
from typing import cast

from belljar.recipe.sources.base import Kind

_MODULES = {"deb": "deb", "deb-src": "debsrc", "pypi": "pypi", "npm": "npm", "url": "url"}


def kind_named(name: str) -> Kind:
    """Return the module that resolves and fetches files of a kind; `name` is one of lock.KINDS."""
    return cast(Kind, import_module(f"belljar.recipe.sources.{_MODULES[name]}"))
