"""Rooms whose modules are loaded when what they show is asked for: PEP 562.

Who needs one table of an ELF file need not wait for the reader, who seals for no scanner.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def door(room: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a room's `__getattr__`; `modules` says for each name that it shows in which module it is."""

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{room}.{modules[name]}"), name)

    return find
