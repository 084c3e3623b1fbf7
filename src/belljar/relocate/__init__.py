"""References to the placeholder: finding them, rewriting them in place, copying a tree with both.

The table and what stands at a reference are in `belljar.references`.
"""

from belljar.relocate.apply import rewrite_tree
from belljar.relocate.containers import open_tree
from belljar.relocate.copy import copy_tree
from belljar.relocate.scanner import Scan, Unsupported, scan

__all__ = ["Scan", "Unsupported", "copy_tree", "open_tree", "rewrite_tree", "scan"]
