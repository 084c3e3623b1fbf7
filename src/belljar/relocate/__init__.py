"""References to the placeholder: finding them, rewriting them in place, copying a tree with both.

The operation itself is in `belljar.placeholder`; where it applies, the table, in `belljar.references`.
"""

from belljar.relocate.apply import rewrite_tree
from belljar.relocate.copy import copy_tree
from belljar.relocate.scanner import Scan, Unsupported, scan

__all__ = ["Scan", "Unsupported", "copy_tree", "rewrite_tree", "scan"]
