"""Whether a part of the placeholder goes on in others, to its first and last byte that vary.

A table over the 80 such bytes, filled once from all parts, so that many parts cost no more than few.
"""

from collections.abc import Collection, Iterable

from belljar.placeholder import DIRECTORY_LIMIT, LENGTH
from belljar.relocate.pieces.constants import BLOCK

_WORD = 8  # bytes
_NEAR = 15
"""How many bytes before the end of a part, which is a word or two, a copy of the rest may begin."""
_SIZE = LENGTH + 1


class Tiling:
    """Parts of the placeholder, as begin and end.

    `copied`: the bytes from which on code copies the rest from a whole one. `joints`: where in a block of
    constants wholes begin, any part of which a use may share.
    """

    def __init__(
        self,
        parts: Iterable[tuple[int, int]],
        *,
        copied: Collection[int] = (),
        joints: Collection[int] = (),
    ) -> None:
        self._before, self._after = bytearray(_SIZE), bytearray(_SIZE)
        for begin, end in set(parts):
            self._before[begin + 1 : end + 1] = b"\1" * (end - begin)
            self._after[begin:end] = b"\1" * (end - begin)
        self._copied, self._joints = frozenset(copied), frozenset(joints)

    def goes_on(self, begin: int, end: int) -> bool:
        """Whether others hold the bytes before this part and those after it, as far as they vary."""
        if any(-place % BLOCK in self._joints for place in (begin, end)):
            return True
        before = begin <= 1 or self._before[begin]
        after = end >= DIRECTORY_LIMIT or self._after[end]
        return bool(before and (after or not self._copied.isdisjoint(_continuing(end))))


def _continuing(end: int) -> range:
    """Return where a copy may begin that goes on after a part: after the first byte, if that has a word."""
    return range(max(int(end >= _WORD), end - _NEAR), end + 1)
