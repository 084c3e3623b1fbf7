"""Content whose length is fixed: strings in programs, archives of objects, tables with offsets.

A prefix of the same length is overwritten. Behind a shorter one `/` fills the room, right where the prefix
ends: `/new////lib` is the same file to the kernel, and what follows does not move, so that merged strings
and strings whose length is compiled in stay right. A prefix that is all of a string ends in slashes then,
which a directory may. Nothing is ever shifted, no NUL is ever written, nothing longer is ever squeezed in.
"""

from belljar.relocate.foreign.moves import Hit, spelled
from belljar.relocate.foreign.subject import Finding, Subject


def plan_bytes(subject: Subject, finding: Finding) -> None:
    """Overwrite each prefix, and refuse those that have no room."""
    for hit in subject.hits:
        overwrite(subject, finding, hit)


def overwrite(
    subject: Subject, finding: Finding, hit: Hit, *, section: str = "", shared: int | None = None
) -> None:
    """Overwrite one prefix where the new one fits; else refuse it.

    `shared`: from this letter on, it is another string too, which must stay.
    """
    if hit.doubt:
        note_doubt(subject, finding, hit, section)
        return
    try:
        new = fitted(hit, shared)
    except UnicodeError:
        new = None
    if new is None and shared is not None and len(hit.pair[1]) <= len(hit.pair[0]):
        tail = hit.pair[0][shared:].decode(errors="replace")
        reason = f"its tail is another string, too: {tail!r}; a new prefix that ends so would do"
        finding.refuse(subject.path, reason, offset=hit.offset, section=section)
        return
    if new is None:
        excess = len(hit.pair[1]) - len(hit.pair[0])
        reason = (
            f"the new prefix is {excess} bytes longer; strings here cannot grow"
            if excess > 0
            else f"the new prefix cannot be spelled in {hit.codec}"
        )
        finding.refuse(subject.path, reason, offset=hit.offset, section=section)
        return
    equal = len(hit.pair[1]) == len(hit.pair[0])
    finding.replace(
        hit, new, "overwrite at equal length" if equal else "overwrite, filled with / behind the prefix"
    )


def note_doubt(subject: Subject, finding: Finding, hit: Hit, section: str = "") -> None:
    """Say of a prefix that may be a part of something longer that it is left, or that nobody can tell."""
    if hit.is_moved:
        return
    if hit.doubt == "goes on":
        finding.notes.append(
            f"{subject.path}: offset {hit.offset}: left alone: only the beginning of a longer name"
        )
        return
    finding.refuse(subject.path, f"not certain to be a path: {hit.doubt}", offset=hit.offset, section=section)


def fitted(hit: Hit, shared: int | None = None) -> bytes | None:
    """Return the new prefix at the old one's length, filled with `/`; None when it does not fit.

    From letter `shared` on the old one's letters must stay: the room is filled before them then.

    Raises UnicodeError when it cannot be spelled in the hit's codec.
    """
    old, new = hit.pair
    if shared is not None:
        room, tail = len(old) - len(new), old[shared:]
        place = new.rfind(b"/", 0, len(new) - len(tail) + 1)
        return new[:place] + b"/" * room + new[place:] if room >= 0 and new.endswith(tail) else None
    if not hit.codec:
        return new.ljust(len(old), b"/") if len(new) <= len(old) else None
    room = len(old.decode()) - len(new.decode())
    return spelled(new + b"/" * room, hit.codec) if room >= 0 else None
