"""Forms that name no prefix at all, so that a tree can be moved again without anybody's help.

`.pc` files know their directory as `${pcfiledir}`, CMake files as `${CMAKE_CURRENT_LIST_DIR}` (outside of
functions and macros, where it is the caller's). Links, first lines of scripts and the loader's search paths
are dealt with in `links`, `shebang` and `loader`. All else has no such form: libtool's `.la` (which asks for
absolute paths), `pyvenv.cfg` and activation scripts of virtual environments, strings in programs. It gets
the new prefix and is listed.
"""

import os
import re

from belljar.relocate.foreign.moves import Hit
from belljar.relocate.foreign.subject import Finding, Subject

_OWN_DIRECTORY = {".pc": b"${pcfiledir}", ".cmake": b"${CMAKE_CURRENT_LIST_DIR}"}
_CALLED = re.compile(rb"^\s*(?:function|macro)\s*\(", re.I | re.M)
_LIMIT = 1 << 20


def plan_relative(subject: Subject, finding: Finding, *, skip: int) -> bool:
    """Replace the tree's own prefix by a way from the file's directory; whether that was possible."""
    word = _OWN_DIRECTORY.get(os.path.splitext(subject.name)[1])
    if not any(not hit.doubt and hit.end > skip for hit in subject.hits):
        return True
    if word is None or _is_called(subject):
        finding.notes.append(f"{subject.path}: has no relative form: tied to the new prefix")
        return False
    way = word if subject.up() == "." else word + b"/" + subject.up().encode()
    for hit in subject.hits:
        if not hit.doubt and hit.end > skip:
            own = hit.pair == subject.moves.own and not hit.codec
            finding.replace(
                hit,
                way if own else hit.pair[1],
                f"relative to {word.decode()}" if own else "put the new prefix",
            )
    return True


def note_tied(subject: Subject, finding: Finding) -> None:
    """Say of a file whose strings keep their places that it stays tied to the new prefix."""
    if any(
        _is_own(subject, hit) and any(item.offset == hit.offset for item in finding.splices)
        for hit in subject.hits
    ):
        finding.notes.append(f"{subject.path}: has no relative form: tied to the new prefix")


def _is_own(subject: Subject, hit: Hit) -> bool:
    return hit.pair == subject.moves.own and not hit.doubt


def _is_called(subject: Subject) -> bool:
    return subject.name.endswith(".cmake") and bool(_CALLED.search(subject.read(0, _LIMIT)))
