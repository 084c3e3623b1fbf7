"""The relocation table: every occurrence of the placeholder in a tree.

The table is made once, when an artifact is scanned, and travels with it; to install, move or verify
the artifact is to touch the recorded bytes. On disk it is JSON with one member per file:

    {"version": 1, "files": {"bin/hello": [8243, [9001, 40, 8]]}, "links": {"lib/current": [0]}}

An integer is the offset of a whole placeholder; a triple is (offset, k, n): bytes k..k+n of it.
Paths are text with undecodable bytes kept as surrogates; `links` are offsets into a link's target.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from belljar.errors import InputError
from belljar.placeholder import LENGTH

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Reference:
    """Bytes start..start+length of the placeholder, at `offset` bytes into a file or a link's target."""

    offset: int
    start: int = 0
    length: int = LENGTH

    @property
    def is_whole(self) -> bool:
        """Whether the whole placeholder stands there."""
        return self.start == 0 and self.length == LENGTH

    @property
    def piece(self) -> tuple[int, int, int]:
        """The (offset, k, n) that `placeholder.overwrite` takes."""
        return (self.offset, self.start, self.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All references of a tree, by path, in the order of their offsets."""

    files: Mapping[str, tuple[Reference, ...]]
    links: Mapping[str, tuple[Reference, ...]]

    def __len__(self) -> int:
        return sum(map(len, itertools.chain(self.files.values(), self.links.values())))

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON values, sorted by path."""
        return {"version": VERSION, "files": _encode(self.files), "links": _encode(self.links)}

    @classmethod
    def from_json(cls, value: Any) -> "Table":
        """Read what `to_json` wrote.

        Raises InputError when a member is missing, out of range, or of another version.
        """
        try:
            if value["version"] != VERSION:
                raise InputError(
                    f"relocation table: version {value['version']!r} is not known (want {VERSION})"
                )
            return cls(files=_decode(value["files"]), links=_decode(value["links"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"relocation table: damaged ({type(error).__name__}: {error})") from error


def _encode(side: Mapping[str, Iterable[Reference]]) -> dict[str, list[int | list[int]]]:
    return {
        path: [ref.offset if ref.is_whole else list(ref.piece) for ref in side[path]] for path in sorted(side)
    }


def _decode(side: Mapping[str, Iterable[int | list[int]]]) -> dict[str, tuple[Reference, ...]]:
    return {path: tuple(_decode_one(item) for item in items) for path, items in side.items()}


def _decode_one(item: int | list[int]) -> Reference:
    offset, start, length = (item, 0, LENGTH) if isinstance(item, int) else item
    if not all(type(number) is int for number in (offset, start, length)):
        raise ValueError(f"not a reference: {item!r}")
    if offset < 0 or start < 0 or length < 1 or start + length > LENGTH:
        raise ValueError(f"out of range: {item!r}")
    return Reference(offset=offset, start=start, length=length)
