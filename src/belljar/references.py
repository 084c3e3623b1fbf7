"""The relocation table: every occurrence of the placeholder in a tree.

The table is made once, when an artifact is scanned, and travels with it; to install, move or verify
the artifact is to touch the recorded bytes. On disk it is JSON with one member per file:

    {"version": 1, "files": {"bin/hello": [8243, [9001, 40, 8], [9100, 0, 96, "utf-16-le"]]}, "links": {}}

An integer is the offset of a whole placeholder; a triple is (offset, k, n): bytes k..k+n of it, and a
fourth member says how they are encoded. `Reference.written` is all that tells encodings apart.
Paths are text with undecodable bytes kept as surrogates; `links` are offsets into a link's target.
A table that was read is trusted no further than that: its paths stay inside the tree, its references
ascend without overlap; whether the bytes really stand there is checked wherever it is used.
"""

import enum
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar.errors import InputError, IntegrityError
from belljar.placeholder import LENGTH, PLACEHOLDER

VERSION = 1
_PLACEHOLDER = PLACEHOLDER.encode()
CHUNK = 1 << 20
"""How many bytes are read at a time."""


class Encoding(enum.StrEnum):
    """How bytes of the placeholder stand in a file."""

    BYTES = "bytes"
    UTF_16_LE = "utf-16-le"
    UTF_16_BE = "utf-16-be"
    UTF_32_LE = "utf-32-le"
    UTF_32_BE = "utf-32-be"
    IMM16 = "imm16"
    """Two bytes in bits 5..20 of an aarch64 instruction, movz or movk (Arm ARM, C6.2, "MOVK")."""


_UNITS = {Encoding.UTF_16_LE: 2, Encoding.UTF_16_BE: 2, Encoding.UTF_32_LE: 4, Encoding.UTF_32_BE: 4}
_INSTRUCTION = 4
_IMM16_LENGTH, _IMM16_SHIFT, _IMM16_MASK = 2, 5, 0xFFFF << 5


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Reference:
    """Bytes start..start+length of the placeholder, at `offset` bytes into a file or a link's target."""

    offset: int
    start: int = 0
    length: int = LENGTH
    encoding: Encoding = Encoding.BYTES

    @property
    def is_whole(self) -> bool:
        """Whether the whole placeholder stands there, as it is."""
        return self.start == 0 and self.length == LENGTH and self.encoding == Encoding.BYTES

    @property
    def is_wide(self) -> bool:
        """Whether its characters have more than one byte."""
        return self.encoding in _UNITS

    @property
    def size(self) -> int:
        """How many bytes of the file it takes."""
        if self.encoding == Encoding.IMM16:
            return _INSTRUCTION
        return self.length * _UNITS.get(self.encoding, 1)

    @property
    def end(self) -> int:
        """The offset of the first byte after it."""
        return self.offset + self.size

    def written(self, current: bytes, location: bytes) -> bytes:
        """Return what stands at it under `location`, given the bytes that stand there.

        It stands under a location when `written(current, location) == current`. Raises InputError for a
        wide reference and a location that is not ASCII.
        """
        piece = location[self.start : self.start + self.length]
        match self.encoding:
            case Encoding.BYTES:
                return piece
            case Encoding.IMM16:
                word = int.from_bytes(current, "little") & ~_IMM16_MASK
                word |= int.from_bytes(piece, "little") << _IMM16_SHIFT
                return word.to_bytes(_INSTRUCTION, "little")
            case _:
                if not piece.isascii():
                    raise not_wide(location)
                return piece.decode("ascii").encode(self.encoding)

    def to_json(self) -> int | list[int | str]:
        """Return it in its shortest form."""
        if self.is_whole:
            return self.offset
        encoding = [] if self.encoding == Encoding.BYTES else [self.encoding.value]
        return [self.offset, self.start, self.length, *encoding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All references of a tree, by path, in the order of their offsets."""

    files: Mapping[str, tuple[Reference, ...]]
    links: Mapping[str, tuple[Reference, ...]]

    def __len__(self) -> int:
        return sum(map(len, itertools.chain(self.files.values(), self.links.values())))

    def refuse(self, location: bytes) -> None:
        """Raise InputError when the references cannot be written under `location`."""
        sides = itertools.chain(self.files.values(), self.links.values())
        if not location.isascii() and any(ref.is_wide for refs in sides for ref in refs):
            raise not_wide(location)

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
    waiting = list(references)[::-1]
    base = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            here: list[Reference] = []
            while waiting and waiting[-1].offset < base + len(chunk):
                here.append(waiting.pop())
            if here:
                chunk += file.read(max(0, here[-1].end - base - len(chunk)))
            yield rewritten(chunk, here, old=location, new=_PLACEHOLDER, subject=str(path), base=base)
            base += len(chunk)
    if waiting:
        raise mismatch(str(path), waiting[-1].offset)


def rewritten(
    data: bytes, references: Iterable[Reference], *, old: bytes, new: bytes, subject: str, base: int = 0
) -> bytes:
    """Return `data`, which begins `base` bytes into a file, with its references turned from `old` to `new`.

    Raises IntegrityError, which names `subject` and the offset, when `old` does not stand there.
    """
    buffer = None
    for reference in references:
        begin, end = reference.offset - base, reference.end - base
        current = data[begin:end]
        if reference.written(current, old) != current:
            raise mismatch(subject, reference.offset)
        buffer = buffer or bytearray(data)
        buffer[begin:end] = reference.written(current, new)
    return data if buffer is None else bytes(buffer)


def mismatch(subject: str, offset: int) -> IntegrityError:
    """Return the error that says that a recorded reference does not stand at `offset` of `subject`."""
    return IntegrityError(
        f"{subject}: offset {offset}: the bytes are not those that the relocation table records",
        hint="the tree was changed after it was scanned; take it from the store or build it again",
    )


def not_wide(location: bytes) -> InputError:
    """Return the error that says that wide strings cannot hold a location."""
    return InputError(
        f"{os.fsdecode(location)}: not ASCII, and the tree holds its path as UTF-16 or UTF-32",
        hint="choose a directory whose path is ASCII",
    )


def _encode(side: Mapping[str, Iterable[Reference]]) -> dict[str, list[int | list[int | str]]]:
    return {path: [reference.to_json() for reference in side[path]] for path in sorted(side)}


def _decode(side: Mapping[str, list[Any]]) -> dict[str, tuple[Reference, ...]]:
    return {_decode_path(path): _decode_all(items) for path, items in side.items()}


def _decode_path(path: str) -> str:
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts or b"\0" in os.fsencode(path):
        raise ValueError(f"not a path inside the tree: {path!r}")
    return path


def _decode_all(items: list[Any]) -> tuple[Reference, ...]:
    if not isinstance(items, list):
        raise TypeError(f"not a list: {items!r}")
    references = tuple(map(_decode_one, items))
    for before, after in itertools.pairwise(references):
        if after.offset < before.end:
            raise ValueError(f"not ascending: {before.to_json()} and {after.to_json()}")
    return references


def _decode_one(item: Any) -> Reference:
    numbers: list[Any] = [item, 0, LENGTH] if isinstance(item, int) else item
    offset, start, length, *rest = numbers
    if not all(type(number) is int for number in (offset, start, length)) or len(rest) > 1:
        raise ValueError(f"not a reference: {item!r}")
    encoding = Encoding(rest[0]) if rest else Encoding.BYTES
    if offset < 0 or start < 0 or length < 1 or start + length > LENGTH:
        raise ValueError(f"out of range: {item!r}")
    if encoding == Encoding.IMM16 and length != _IMM16_LENGTH:
        raise ValueError(f"not {_IMM16_LENGTH} bytes: {item!r}")
    return Reference(offset=offset, start=start, length=length, encoding=encoding)
