"""Symbolic links: an absolute target moves with its prefix, whatever its length and whether it exists.

A relative target that leaves the tree means another file from the new place. Where that file moves too
(a dependency that is replaced), the link is led to it; else it stays and is noted: what lies outside
the tree may be moved along by other means.
"""

import os
import posixpath
import re

from belljar.relocate.change import LinkChange
from belljar.relocate.foreign.moves import Moves, inside


def plan_link(path: str, target: bytes, moves: Moves, *, relative: bool) -> tuple[LinkChange | None, str]:
    """Return how a link's target changes, and a note about one that stays ("": none)."""
    old, new = moves.own
    place = posixpath.dirname(os.fsencode(path))
    if target.startswith(b"/"):
        moved = moves.path(_plain(target))
        if moved is None or moved == target:
            return None, ""
        if relative and inside(moved, new):
            way = posixpath.relpath(moved, posixpath.join(new, place))
            return _change(path, target, way, "a relative target, since it is in the tree"), ""
        return _change(path, target, moved, "the target moves"), ""
    meant = posixpath.normpath(posixpath.join(old, place, target))
    climbs = posixpath.normpath(posixpath.join(place, target)).startswith(b"..")
    if inside(meant, old):
        way = posixpath.relpath(meant, posixpath.join(old, place))
        return (_change(path, target, way, "a way that stays in the tree"), "") if climbs else (None, "")
    moved = moves.path(meant)
    if moved is None:
        return None, f"{path}: leads out of the tree, to {os.fsdecode(target)}: left as it is"
    if posixpath.normpath(posixpath.join(new, place, target)) == moved:
        return None, ""
    way = posixpath.relpath(moved, posixpath.join(new, place))
    return _change(path, target, way, "the target outside of the tree moves"), ""


def _plain(target: bytes) -> bytes:
    """Return a target without doubled slashes, as a prefix is written."""
    return re.sub(rb"/+", b"/", target)


def _change(path: str, old: bytes, new: bytes, reason: str) -> LinkChange:
    return LinkChange(path=path, old=old, new=new, reason=reason)
