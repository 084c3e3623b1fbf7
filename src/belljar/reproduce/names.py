"""Which names that only one side has are one thing under two names.

A build that writes a date, a host or a random number into a name makes something new each time: a file, a
member of an archive, a section of an object (`.gnu.lto_.decls.10e80e17`). Taken as one thing that is missing
and another that is there, each build would differ at spots of its own, and no search would come to its end.
So both are one, and it is called as in the usual build.
"""

import re
from collections.abc import Callable, Hashable, Mapping

_VARYING = re.compile(r"[0-9A-Za-z+]*[0-9][0-9A-Za-z+]*|[0-9A-Za-z]{10,}")
"""What numbers, dates and random texts in a name look like."""
_LIKE = 3
"""How many characters two names share at one end that are taken for one by that alone."""

Key = Callable[[str, Hashable], Hashable]


def paired(gone: Mapping[str, Hashable], new: Mapping[str, Hashable]) -> dict[str, str]:
    """Return which of the names that are gone is which of the new ones.

    The values say what bears a name. The same value in the same place is the same thing; then names that are
    the same but for their numbers are; then what is alone in its place, if it begins or ends alike.
    """
    found: dict[str, str] = {}
    for key, must_be_alone in ((_content, False), (_shape, False), (_place, True)):
        here, there = _grouped(gone, key, set(found)), _grouped(new, key, set(found.values()))
        for one in here.keys() & there.keys():
            names, others = here[one], there[one]
            if not must_be_alone or (len(names) == len(others) == 1 and _is_like(names[0], others[0])):
                found |= zip(names, others, strict=False)
    return found


def _grouped(names: Mapping[str, Hashable], key: Key, done: set[str]) -> dict[Hashable, list[str]]:
    groups: dict[Hashable, list[str]] = {}
    for name in sorted(names.keys() - done):
        groups.setdefault(key(name, names[name]), []).append(name)
    return groups


def _content(name: str, value: Hashable) -> Hashable:
    return _parent(name), value


def _shape(name: str, value: Hashable) -> Hashable:
    return _VARYING.sub("#", name), isinstance(value, tuple) and value[0]


def _place(name: str, value: Hashable) -> Hashable:
    return _parent(name), isinstance(value, tuple) and value[0]


def _parent(name: str) -> str:
    return re.split(r"[^/!]*$", name, maxsplit=1)[0]


def _is_like(one: str, other: str) -> bool:
    """Whether the last components of two names begin or end with the same characters."""
    one, other = one[len(_parent(one)) :], other[len(_parent(other)) :]
    return one[:_LIKE] == other[:_LIKE] or one[-_LIKE:] == other[-_LIKE:]
