"""References inside compressed files: opened once, then rewritten as everywhere else (docs/containers.md)."""

from belljar.relocate.containers.inspect import Findings, inspect
from belljar.relocate.containers.opening import open_tree, opened

__all__ = ["Findings", "inspect", "open_tree", "opened"]
