"""What the compressed formats have in common: parts, each a stream of bytes with checksums over it."""

from collections.abc import Callable
from dataclasses import dataclass

from belljar.checksums import SumKind

LIMIT = 128 << 20
"""How many bytes a container, or one part of it decompressed, may have to be opened."""


class Damaged(Exception):  # noqa: N818 - a word for a file, never shown as an error
    """A part cannot be read: it is damaged, larger than the limit, or of an unknown method."""


class Closed(Exception):  # noqa: N818 - the same
    """A container is sound, but is not one that can be opened; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes begin..end of a file, a stream that `decode` decompresses (raises Damaged).

    `name` is the member's, empty where there are none; `sums` are where checksums of the content stand.
    """

    name: str
    begin: int
    end: int
    decode: Callable[[memoryview], bytes]
    sums: tuple[tuple[int, SumKind], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format: how to find the parts of a file, how to write one, how to put them in their places.

    `parts` raises Damaged where the file is not of the format after all, Closed where it must not be
    touched. `encode` takes content and the (offset, size) ranges that are to stand raw. `assemble` takes
    the file and the new streams of some of its parts.
    """

    name: str
    parts: Callable[[memoryview], tuple[Part, ...]]
    encode: Callable[[Part, bytes, "Ranges"], bytes]
    assemble: Callable[[memoryview, "list[tuple[Part, bytes]]"], bytes]


Ranges = tuple[tuple[int, int], ...]
"""(offset, size) of bytes that are to stand as they are, ascending, apart from each other."""


def splice(data: memoryview, streams: list[tuple[Part, bytes]]) -> bytes:
    """Return the file with new streams in the places of the old ones; nothing else knows their sizes."""
    pieces: list[bytes | memoryview] = []
    done = 0
    for part, stream in streams:
        pieces += [data[done : part.begin], stream]
        done = part.end
    return b"".join([*pieces, data[done:]])
