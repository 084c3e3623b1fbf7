"""References to the placeholder: finding them, rewriting them in place, copying a tree with both.

The table and what stands at a reference are in `belljar.references`. What this room shows is loaded when
it is asked for: sealing, say, needs the plan of a change and no scanner, whose import takes 50 ms.
"""

from typing import TYPE_CHECKING

from belljar.doors import door

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

__getattr__ = door(__name__, _ROOMS)
