"""References to the placeholder: finding them, rewriting them in place, copying a tree with both.

The table and what stands at a reference are in `belljar.references`. What this room shows is loaded when
it is asked for: sealing, say, needs the plan of a change and no scanner, whose import takes 50 ms.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from belljar.relocate.apply import rewrite_tree
    from belljar.relocate.containers import open_tree
    from belljar.relocate.copy import copy_tree
    from belljar.relocate.scanner import Scan, Unsupported, scan

__all__ = ["Scan", "Unsupported", "copy_tree", "open_tree", "rewrite_tree", "scan"]

_ROOMS = {
    "Scan": "scanner",
    "Unsupported": "scanner",
    "copy_tree": "copy",
    "open_tree": "containers",
    "rewrite_tree": "apply",
    "scan": "scanner",
}


def __getattr__(name: str) -> Any:
    """Load the module that has a name of this room (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
