"""The relocation table: every occurrence of the placeholder in a tree.

The table is made once, when an artifact is scanned, and travels with it; to install, move or verify
the artifact is to touch the recorded bytes. On disk it is JSON with one member per file:

    {"version": 1, "files": {"bin/hello": [8243, [9001, 40, 8]]}, "links": {"lib/current": [0]}}

An integer is the offset of a whole placeholder; a triple is (offset, k, n): bytes k..k+n of it.
Paths are text with undecodable bytes kept as surrogates; `links` are offsets into a link's target.
A table that was read is trusted no further than that: its paths stay inside the tree, its references
ascend without overlap; whether the bytes really stand there is checked wherever it is used.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar.errors import InputError, IntegrityError
from belljar.placeholder import LENGTH, PLACEHOLDER, overwrite

VERSION = 1
_PLACEHOLDER = PLACEHOLDER.encode()
CHUNK = 1 << 20
"""How many bytes are read at a time."""


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
    def end(self) -> int:
        """The offset of the first byte after it."""
        return self.offset + self.length

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
            files, links = _decode(value["files"]), _decode(value["links"])
            if both := sorted(files.keys() & links.keys()):
                raise ValueError(f"both a file and a link: {both[0]!r}")
            return cls(files=files, links=links)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"relocation table: damaged ({type(error).__name__}: {error})") from error


def read_canonical(path: Path, references: Iterable[Reference], location: bytes) -> Iterator[bytes]:
    """Yield a file's content in chunks of 1 MiB, its references turned from `location` to the placeholder.

    `references` are in the order of their offsets. Raises IntegrityError when other bytes than the
    location's stand at one of them, or the file ends before it; OSError when it cannot be read.
    """
    waiting = [reference.piece for reference in references][::-1]
    base = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            pieces = _take(waiting, base, base + len(chunk))
            yield rewritten(chunk, pieces, old=location, new=_PLACEHOLDER, subject=str(path), base=base)
            base += len(chunk)
    if waiting:
        raise mismatch(str(path), waiting[-1][0])


def rewritten(
    data: bytes,
    pieces: Iterable[tuple[int, int, int]],
    *,
    old: bytes,
    new: bytes,
    subject: str,
    base: int = 0,
) -> bytes:
    """Return `data` with bytes k..k+n of `new` instead of those of `old` at each (offset, k, n).

    Raises IntegrityError, which names `subject` and the offset counted from `base`, when bytes k..k+n
    of `old` do not stand there.
    """
    wanted = tuple(pieces)
    for offset, start, length in wanted:
        if data[offset : offset + length] != old[start : start + length]:
            raise mismatch(subject, base + offset)
    if not wanted:
        return data
    buffer = bytearray(data)
    overwrite(buffer, wanted, new)
    return bytes(buffer)


def mismatch(subject: str, offset: int) -> IntegrityError:
    """Return the error that says that a recorded reference does not stand at `offset` of `subject`."""
    return IntegrityError(
        f"{subject}: offset {offset}: the bytes are not those that the relocation table records",
        hint="the tree was changed after it was scanned; take it from the store or build it again",
    )


def _take(waiting: list[tuple[int, int, int]], begin: int, end: int) -> list[tuple[int, int, int]]:
    """Take what lies in bytes begin..end from the stack, counted from `begin`; one that goes on is cut."""
    taken = []
    while waiting and waiting[-1][0] < end:
        offset, start, length = waiting.pop()
        here = min(length, end - offset)
        if here < length:
            waiting.append((end, start + here, length - here))
        taken.append((offset - begin, start, here))
    return taken


def _encode(side: Mapping[str, Iterable[Reference]]) -> dict[str, list[int | list[int]]]:
    return {
        path: [ref.offset if ref.is_whole else list(ref.piece) for ref in side[path]] for path in sorted(side)
    }


def _decode(side: Mapping[str, list[int | list[int]]]) -> dict[str, tuple[Reference, ...]]:
    return {_decode_path(path): _decode_all(items) for path, items in side.items()}


def _decode_path(path: str) -> str:
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts or b"\0" in os.fsencode(path):
        raise ValueError(f"not a path inside the tree: {path!r}")
    return path


def _decode_all(items: list[int | list[int]]) -> tuple[Reference, ...]:
    if not isinstance(items, list):
        raise TypeError(f"not a list: {items!r}")
    references = tuple(map(_decode_one, items))
    for before, after in itertools.pairwise(references):
        if after.offset < before.end:
            raise ValueError(f"not ascending: {before.piece} and {after.piece}")
    return references


def _decode_one(item: int | list[int]) -> Reference:
    offset, start, length = (item, 0, LENGTH) if isinstance(item, int) else item
    if not all(type(number) is int for number in (offset, start, length)):
        raise ValueError(f"not a reference: {item!r}")
    if offset < 0 or start < 0 or length < 1 or start + length > LENGTH:
        raise ValueError(f"out of range: {item!r}")
    return Reference(offset=offset, start=start, length=length)
