"""What a difference between a moved tree and a tree built there is.

Some bytes of an output are computed from others: a build id is a hash of the content, a linker may place
merged strings by their hashes. They differ though no reference was missed. Each kind is known by a check of
the bytes on both sides, not by the name of a section alone, so that a missed reference cannot pass for one.
What no check accepts is a missed reference.
"""

import base64
import enum
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from belljar import fsys
from belljar.build.compare import Aspect, Difference
from belljar.build.regions import Region, Regions

SIZE_LIMIT = 1 << 30
"""Up to which size, in bytes, a file is looked into; in a larger one every difference counts as missed."""

_BUILD_IDS = {".note.gnu.build-id": b"GNU\0", ".note.go.buildid": b"Go\0\0"}
_NOTE_OWNER = 4
_NOTE_HEADER = 16
"""Bytes before the value of a note whose name has at most 4 (gABI, "Note Section")."""
_OFFSET = 4
"""Bytes of an offset into a string table: st_name, DW_FORM_strp of DWARF32 (DWARF 5, 7.4)."""
_POINTER = 8
"""Bytes of an address."""
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_MD5 = 16
_SOURCE_HASH = (8, 16)
"""Where it stands in byte code that is checked by its source's hash (PEP 552)."""
_TOKEN = re.compile(rb"[0-9A-Za-z_+/-]{32,128}")
_DIGESTS: dict[int, Callable[[bytes], bytes]] = {
    32: lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest().encode(),
    40: lambda data: hashlib.sha1(data, usedforsecurity=False).hexdigest().encode(),
    43: lambda data: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"="),
    64: lambda data: hashlib.sha256(data).hexdigest().encode(),
    128: lambda data: hashlib.sha512(data).hexdigest().encode(),
}
"""How a file's hash is written, by the length of its text; 43 is that of RECORD (PEP 376, PEP 427)."""


class Kind(enum.StrEnum):
    """What a difference is."""

    MISSED = "missed reference"
    EXTRA = "rewritten, but not a reference"
    UNSTABLE = "differs at every build"
    BUILD_ID = "build id"
    STRINGS = "order of strings"
    SOURCE_SUM = "DWARF checksum of a source"
    FILE_SUM = "hash of a file"
    BYTE_CODE = "byte code's hash of its source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A file of the tree as it was built, of the same tree moved, and of the tree built there."""

    built: bytes
    moved: bytes
    there: bytes

    @classmethod
    def read(cls, path: str, built: Path, moved: Path, there: Path) -> "Pair":
        """Read the three; what is no file or too large is empty."""
        return cls(built=_read(built / path), moved=_read(moved / path), there=_read(there / path))


def _read(path: Path) -> bytes:
    regular = path.is_file() and not path.is_symlink() and path.stat().st_size <= SIZE_LIMIT
    return path.read_bytes() if regular else b""


class Sums:
    """The hashes of all files of the tree as built and of the one built there, made when they are needed."""

    def __init__(self, built: Path, there: Path) -> None:
        self._built, self._there = built, there

    @cached_property
    def pairs(self) -> frozenset[tuple[bytes, bytes]]:
        """The hash of each file that differs between the trees: as it was built, and there."""
        return frozenset(
            (make(one), make(two)) for one, two in self._contents() for make in _DIGESTS.values()
        )

    def of_source(self, byte_code: str, magic: bytes) -> tuple[bytes, bytes]:
        """Return the hashes, in both trees, of the source that a `.pyc` comes from (PEP 552, PEP 3147)."""
        from _imp import source_hash  # importlib.util has it for the byte code of one Python only

        directory, _, name = byte_code.rpartition("__pycache__/")
        source = f"{directory}{name.partition('.')[0]}.py"
        key = int.from_bytes(magic, "little")
        return source_hash(key, _read(self._built / source)), source_hash(key, _read(self._there / source))

    def _contents(self) -> Iterator[tuple[bytes, bytes]]:
        for entry in fsys.walk(self._built):
            one, two = _read(self._built / entry.path), _read(self._there / entry.path)
            if entry.is_file and one != two:
                yield one, two


class Explainer:
    """Tells the kinds of the differences of one file."""

    def __init__(self, path: str, pair: Pair, sums: Sums) -> None:
        self._path, self._pair, self._sums = path, pair, sums
        self._here, self._there = Regions(pair.moved), Regions(pair.there)

    def parts(self, difference: Difference) -> Iterator[tuple[Difference, Region | None]]:
        """Yield a difference by the parts of the file that it lies in: it may cross from one to the next."""
        begin = difference.offset
        while begin < difference.end:
            region, end = self._here.at(begin), self._here.next_border(begin, difference.end)
            if self._pair.moved[begin:end] != self._pair.there[begin:end] or not self._pair.moved:
                yield replace(difference, offset=begin, end=end), region
            begin = end
        if difference.offset == difference.end:
            yield difference, None

    def kind(self, difference: Difference) -> Kind:
        """Return what a difference is."""
        if difference.aspect != Aspect.CONTENT or not self._pair.moved:
            return Kind.MISSED
        span = slice(difference.offset, difference.end)
        if self._pair.built[span] == self._pair.there[span]:
            return Kind.EXTRA
        checks = (
            (Kind.BUILD_ID, self._is_build_id),
            (Kind.STRINGS, self._is_order_of_strings),
            (Kind.SOURCE_SUM, self._is_source_sum),
            (Kind.BYTE_CODE, self._is_hash_of_source),
            (Kind.FILE_SUM, self._is_file_sum),
        )
        return next((kind for kind, check in checks if check(span)), Kind.MISSED)

    def _is_build_id(self, span: slice) -> bool:
        """Whether it lies in the note of the build id, or where the same id is repeated (Go)."""
        for region in self._here.all:
            value = slice(region.start + _NOTE_HEADER, region.end)
            owner = self._pair.moved[value.start - _NOTE_OWNER : value.start]
            if region.is_note and owner == _BUILD_IDS.get(region.section):
                if value.start <= span.start and span.stop <= value.stop:
                    return True
                if _repeats(self._pair, value, span):
                    return True
        return False

    def _is_order_of_strings(self, span: slice) -> bool:
        region = self._here.at(span.start)
        if region is None or span.stop > region.end:
            return False
        tables = self._reordered.get(region.member, ())
        return region in tables if region.holds_strings else self._are_pointers(span, region, tables)

    @cached_property
    def _reordered(self) -> dict[str, list[Region]]:
        """The string tables, by member, that hold the same strings on both sides in another order."""
        found: dict[str, list[Region]] = {}
        for region in self._here.all:
            if region.holds_strings and region == self._there.at(region.start):
                here, there = (
                    data[region.start : region.end] for data in (self._pair.moved, self._pair.there)
                )
                if here != there and sorted(here.split(b"\0")) == sorted(there.split(b"\0")):
                    found.setdefault(region.member, []).append(region)
        return found

    def _are_pointers(self, span: slice, region: Region, tables: Sequence[Region]) -> bool:
        """Whether all that differs are numbers which lead to the same strings on both sides."""
        moved, there, at = self._pair.moved, self._pair.there, span.start
        while at < span.stop:
            if moved[at] == there[at]:
                at += 1
                continue
            starts = range(max(region.start, at - _POINTER + 1), at + 1)
            ends = (_end_of_pointer(self._pair, start, region, tables) for start in starts)
            at = max((end for end in ends if end > at), default=0)
            if not at:
                return False
        return True

    def _is_source_sum(self, span: slice) -> bool:
        """Whether it is as long as the MD5 that a line table has of a source (DWARF 5, 6.2.4.1)."""
        region = self._here.at(span.start)
        if region is None or region.holds_strings or not region.section.startswith(".debug_line"):
            return False
        text = self._pair.moved[span] + self._pair.there[span]
        return span.stop - span.start <= _MD5 and not text.isascii()

    def _is_hash_of_source(self, span: slice) -> bool:
        """Whether it is in the header of byte code, and the hash there is that of the source."""
        header = slice(*_SOURCE_HASH)
        here, there = self._pair.moved, self._pair.there
        if not self._path.endswith(".pyc") or span.start < header.start or span.stop > header.stop:
            return False
        return (here[header], there[header]) == self._sums.of_source(self._path, here[:4])

    def _is_file_sum(self, span: slice) -> bool:
        """Whether it is the hash of a file of the tree, on either side of that tree's own file."""
        begin = max(0, span.start - max(_DIGESTS))
        end = span.stop + max(_DIGESTS)
        here = _token(self._pair.moved[begin:end], span.start - begin, span.stop - begin)
        there = _token(self._pair.there[begin:end], span.start - begin, span.stop - begin)
        return len(here) in _DIGESTS and (here, there) in self._sums.pairs


def _repeats(pair: Pair, value: slice, span: slice) -> bool:
    """Whether the build id `value` of either side stands around `span`, at the same place."""
    moved, there = pair.moved[value].rstrip(b"\0"), pair.there[value].rstrip(b"\0")
    around = max(0, span.stop - len(moved))
    at = pair.moved.find(moved, around, span.start + len(moved)) if moved else -1
    return 0 <= at <= span.start and pair.there[at : at + len(moved)] == there


def _end_of_pointer(pair: Pair, at: int, region: Region, tables: Sequence[Region]) -> int:
    """Return where a pointer at `at` ends that leads to the same string on both sides; 0: there is none."""
    for table in tables:
        here = _strings(pair.moved, at, region, table)
        there = _strings(pair.there, at, region, table)
        for (first, size), (second, _) in zip(here, there, strict=True):
            # An address is one of many numbers, and an empty string will do; small offsets are common.
            if first == second and first is not None and (first or size == _POINTER):
                return at + size
    return 0


def _strings(data: bytes, at: int, region: Region, table: Region) -> Iterator[tuple[bytes | None, int]]:
    """Yield the string that each form of pointer at `at` leads to (None: to none), and the pointer's size.

    In code: relative to the next instruction, after which an operand of up to 4 bytes may come (Intel SDM,
    2.2.1.6). Elsewhere: an offset into the table, as in st_name or DW_FORM_strp, or an address.
    """
    word, wide = data[at : at + _OFFSET], data[at : at + _POINTER]
    if region.is_code:
        following = region.address + at - region.start + _OFFSET - table.address
        relative = int.from_bytes(word, "little", signed=True)
        yield from ((_string(data, table, following + relative + more), _OFFSET) for more in (0, 1, 2, 4))
        return
    for order in _ORDERS:
        address = int.from_bytes(wide, order) - table.address
        yield _string(data, table, address) if table.address else None, _POINTER
        offset = int.from_bytes(word, order) if region.holds_offsets else -1
        yield _string(data, table, offset), _OFFSET


def _string(data: bytes, table: Region, offset: int) -> bytes | None:
    start = table.start + offset
    end = data.find(b"\0", start, table.end) if 0 <= offset < table.end - table.start else -1
    return data[start:end] if end >= start else None


def _token(text: bytes, begin: int, end: int) -> bytes:
    """Return the word of letters and digits that text[begin:end] is in; nothing when there is none."""
    for match in _TOKEN.finditer(text):
        if match.start() <= begin and end <= match.end():
            return match[0]
    return b""
