"""The relocation table: every occurrence of the placeholder in a tree.

The table is made once, when an artifact is scanned, and travels with it; to install, move or verify
the artifact is to touch the recorded bytes. On disk it is JSON with one member per file:

    {"version": 1, "files": {"bin/hello": [8243, [9001, 40, 8], [9100, 0, 96, "utf-16-le"]]}, "links": {}}

An integer is the offset of a whole placeholder; a triple is (offset, k, n): bytes k..k+n of it, and a
fourth member says how they are encoded. `Reference.written` is all that tells encodings apart.
Paths are text with undecodable bytes kept as surrogates; `links` are offsets into a link's target.
A table that was read is trusted no further than that: its paths stay inside the tree, its references
ascend without overlap; whether the bytes really stand there is checked wherever it is used.

What follows from references is in the table too, in a member `sums` that is left out when it is empty:
checksums inside a file (a `Sum`: the CRC-32 of a gzip file, which changes with the location) and hashes of
other files (a `Digest`: a line of RECORD). All are *places*: `written` says what stands there under a
location.

    "sums": {"man/hello.1.gz": [[1200, "crc32", "0a1b2c3d", [0, 96, "bytes", 2790123]]],
             "x.dist-info/RECORD": [[17, "sha256-base64url", "47DEQ...", "bin/hello"]]}
"""

import enum
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Protocol

from belljar.checksums import SUM_LENGTH, DigestKind, SumKind, Weight, digests
from belljar.errors import InputError, IntegrityError
from belljar.placeholder import LENGTH, PLACEHOLDER
from belljar.rows import Rows

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


class Place(Protocol):
    """Bytes offset..end of a file that follow from the location."""

    @property
    def offset(self) -> int:
        """How far into the file they stand."""

    @property
    def end(self) -> int:
        """The offset of the first byte after them."""

    def written(self, current: bytes, location: bytes) -> bytes:
        """Return what stands there under `location`, given the bytes that stand there."""


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

    def describe(self) -> str:
        """Say what stands there: all of the placeholder or which bytes of it, and how."""
        is_part = self.length < LENGTH
        part = f"bytes {self.start}..{self.start + self.length}" if is_part else "whole"
        return part if self.encoding == Encoding.BYTES else f"{part}, {self.encoding}"

    def to_json(self) -> int | list[int | str]:
        """Return it in its shortest form."""
        if self.is_whole:
            return self.offset
        encoding = [] if self.encoding == Encoding.BYTES else [self.encoding.value]
        return [self.offset, self.start, self.length, *encoding]


Shape = tuple[int, int, Encoding]
"""What references that differ in their offset only have in common: start, length, encoding."""


class References(Rows[Reference, Shape]):
    """References in a file or a link's target, in the order of their offsets."""

    __slots__ = ()

    @classmethod
    def of(cls, references: Iterable[Reference]) -> "References":
        """Keep references."""
        found = cls()
        for one in references:
            found.append(one)
        return found

    def append(self, one: Reference) -> None:
        """Put a reference behind the others."""
        self.add(one.offset, (one.start, one.length, one.encoding))

    def item(self, offset: int, shape: Shape) -> Reference:
        """Make the reference that a row stands for."""
        return Reference(offset=offset, start=shape[0], length=shape[1], encoding=shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """All references under a checksum that have one shape, and what their distances come to."""

    start: int
    length: int
    encoding: Encoding
    weight: Weight

    def standing(self, location: bytes) -> bytes:
        """Return what stands at each under `location`, in the bits that it changes."""
        shape = Reference(offset=0, start=self.start, length=self.length, encoding=self.encoding)
        return shape.written(bytes(shape.size), location)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """A checksum over content that holds references; `canonical` is what stands there for the placeholder."""

    offset: int
    kind: SumKind
    canonical: bytes
    terms: tuple[Term, ...]

    @property
    def end(self) -> int:
        """The offset of the first byte after it."""
        return self.offset + len(self.canonical)

    def written(self, _current: bytes, location: bytes) -> bytes:
        """Return the checksum under `location`; nothing is read for it."""
        value = self.canonical
        for term in self.terms:
            before, after = term.standing(_PLACEHOLDER), term.standing(location)
            value = self.kind.changed(value, before, after, term.weight)
        return value

    def to_json(self) -> list[Any]:
        """Return it as JSON values."""
        terms = [[term.start, term.length, term.encoding.value, *term.weight] for term in self.terms]
        return [self.offset, self.kind.value, self.canonical.hex(), *terms]


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """A hash of the whole file `of`, a path in the tree; `canonical` is that of the canonical file."""

    offset: int
    kind: DigestKind
    canonical: bytes
    of: str

    @property
    def end(self) -> int:
        """The offset of the first byte after it."""
        return self.offset + len(self.canonical)

    def to_json(self) -> list[Any]:
        """Return it as JSON values."""
        binary = self.kind in (DigestKind.CRC32_LITTLE, DigestKind.CRC32_BIG)
        canonical = self.canonical.hex() if binary else self.canonical.decode()
        return [self.offset, self.kind.value, canonical, self.of]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A digest in a tree: what it is elsewhere than in the canonical tree is read from the file it is of."""

    digest: Digest
    tree: Path

    @property
    def offset(self) -> int:
        """How far into the file it stands."""
        return self.digest.offset

    @property
    def end(self) -> int:
        """The offset of the first byte after it."""
        return self.digest.end

    def written(self, _current: bytes, location: bytes) -> bytes:
        """Return the hash; the other file must lie at `location` already. Raises IntegrityError."""
        if location == _PLACEHOLDER:
            return self.digest.canonical
        path = self.tree / self.digest.of
        if path.is_symlink() or not path.is_file():
            raise IntegrityError(f"{path}: its checksum is in the relocation table, but it is no file")
        return digests(path, (self.digest.kind,))[self.digest.kind]


Sums = Mapping[str, tuple[Sum | Digest, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All references of a tree, by path, in the order of their offsets, and the checksums over them."""

    files: Mapping[str, Sequence[Reference]]
    links: Mapping[str, Sequence[Reference]]
    sums: Sums = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, itertools.chain(self.files.values(), self.links.values())))

    def places(self, path: str, tree: Path) -> Sequence[Place]:
        """Return all that follows from the location in a file of `tree`, in the order of their offsets."""
        sums = self.sums.get(path, ())
        if not sums:
            return self.files.get(path, ())
        bound = [Bound(digest=item, tree=tree) if isinstance(item, Digest) else item for item in sums]
        return tuple(sorted([*self.files.get(path, ()), *bound], key=lambda place: place.offset))

    def paths(self) -> tuple[str, ...]:
        """Return the files that change; one that holds hashes of others comes after those."""
        every = dict.fromkeys([*self.files, *self.sums])
        order = TopologicalSorter({path: self._hashed(path) for path in self.sums}).static_order()
        last = [path for path in order if self._hashed(path)]
        return (*(path for path in every if not self._hashed(path)), *last)

    def _hashed(self, path: str) -> list[str]:
        return [item.of for item in self.sums.get(path, ()) if isinstance(item, Digest)]

    def refuse(self, location: bytes) -> None:
        """Raise InputError when the references cannot be written under `location`."""
        sides = itertools.chain(self.files.values(), self.links.values())
        if not location.isascii() and any(ref.is_wide for refs in sides for ref in refs):
            raise not_wide(location)

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON values, sorted by path."""
        sums = {path: [item.to_json() for item in self.sums[path]] for path in sorted(self.sums)}
        return {"version": VERSION, "files": _encode(self.files), "links": _encode(self.links)} | (
            {"sums": sums} if sums else {}
        )

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
            table = cls(files=files, links=links, sums=_decode_sums(value.get("sums", {})))
            table.check()
        except (CycleError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"relocation table: damaged ({type(error).__name__}: {error})") from error
        return table

    def check(self) -> None:
        """Raise ValueError where places overlap, hashes are of each other, or a path is two things."""
        if both := sorted((self.files.keys() | self.sums.keys()) & self.links.keys()):
            raise ValueError(f"both a file and a link: {both[0]!r}")
        self.paths()
        for path in self.sums:
            _refuse_overlaps(self.places(path, Path()))


def read_canonical(path: Path, places: Iterable[Place], location: bytes) -> Iterator[bytes]:
    """Yield a file's content in chunks of 1 MiB, its places turned from `location` to the placeholder.

    `places` are in the order of their offsets. Raises IntegrityError when other bytes than the
    location's stand at one of them, or the file ends before it; OSError when it cannot be read.
    """
    waiting = list(places)[::-1]
    base = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            here: list[Place] = []
            while waiting and waiting[-1].offset < base + len(chunk):
                here.append(waiting.pop())
            if here:
                chunk += file.read(max(0, here[-1].end - base - len(chunk)))
            yield rewritten(chunk, here, old=location, new=_PLACEHOLDER, subject=str(path), base=base)
            base += len(chunk)
    if waiting:
        raise mismatch(str(path), waiting[-1].offset)


def rewritten(
    data: bytes, places: Iterable[Place], *, old: bytes, new: bytes, subject: str, base: int = 0
) -> bytes:
    """Return `data`, which begins `base` bytes into a file, with its places turned from `old` to `new`.

    Raises IntegrityError, which names `subject` and the offset, when `old` does not stand there.
    """
    buffer = None
    for place in places:
        begin, end = place.offset - base, place.end - base
        current = data[begin:end]
        if place.written(current, old) != current:
            raise mismatch(subject, place.offset)
        buffer = buffer or bytearray(data)
        buffer[begin:end] = place.written(current, new)
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


def _decode(side: Mapping[str, list[Any]]) -> dict[str, References]:
    return {_decode_path(path): _decode_all(items) for path, items in side.items()}


def _decode_path(path: str) -> str:
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts or b"\0" in os.fsencode(path):
        raise ValueError(f"not a path inside the tree: {path!r}")
    return path


def _decode_all(items: list[Any]) -> References:
    if not isinstance(items, list):
        raise TypeError(f"not a list: {items!r}")
    references = References.of(map(_decode_one, items))
    _refuse_overlaps(references)
    return references


def _refuse_overlaps(places: Iterable[Place]) -> None:
    for before, after in itertools.pairwise(places):
        if after.offset < before.end:
            raise ValueError(f"not ascending: {before} and {after}")


def _decode_sums(side: Mapping[str, list[Any]]) -> Sums:
    return {_decode_path(path): tuple(map(_decode_sum, items)) for path, items in side.items()}


def _decode_sum(item: list[Any]) -> Sum | Digest:
    offset, kind, canonical, *rest = item
    if (
        type(offset) is not int
        or not 0 <= offset < 1 << 62
        or not isinstance(canonical, str)
        or not canonical
    ):
        raise ValueError(f"not a checksum: {item!r}")
    if kind in (DigestKind.CRC32_LITTLE, DigestKind.CRC32_BIG):
        value = bytes.fromhex(canonical)
    elif kind in tuple(SumKind):
        value = bytes.fromhex(canonical)
        terms = tuple(map(_decode_term, rest))
        if len(value) != SUM_LENGTH or any(len(term.weight) != SumKind(kind).numbers for term in terms):
            raise ValueError(f"not a checksum: {item!r}")
        return Sum(offset=offset, kind=SumKind(kind), canonical=value, terms=terms)
    else:
        value = canonical.encode("ascii")
    (of,) = rest
    if len(value) != DigestKind(kind).length:
        raise ValueError(f"not a checksum: {item!r}")
    return Digest(offset=offset, kind=DigestKind(kind), canonical=value, of=_decode_path(of))


def _decode_term(item: list[Any]) -> Term:
    start, length, encoding, *weight = item
    shape = _decode_one([0, start, length, encoding])
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in weight):
        raise ValueError(f"out of range: {item!r}")
    return Term(start=start, length=length, encoding=shape.encoding, weight=tuple(weight))


def _decode_one(item: Any) -> Reference:
    numbers: list[Any] = [item, 0, LENGTH] if isinstance(item, int) else item
    offset, start, length, *rest = numbers
    if not all(type(number) is int for number in (offset, start, length)) or len(rest) > 1:
        raise ValueError(f"not a reference: {item!r}")
    encoding = Encoding(rest[0]) if rest else Encoding.BYTES
    if not 0 <= offset < 1 << 62 or start < 0 or length < 1 or start + length > LENGTH:
        raise ValueError(f"out of range: {item!r}")
    if encoding == Encoding.IMM16 and length != _IMM16_LENGTH:
        raise ValueError(f"not {_IMM16_LENGTH} bytes: {item!r}")
    return Reference(offset=offset, start=start, length=length, encoding=encoding)
