"""What a program with an embedded loader says of itself: how belljar.seal sealed it.

The program's entry leads to a segment that holds the stub and, behind it, its configuration: a record, then
NUL-terminated strings (seal/stub/stub.c, `struct config`). Reading it takes nothing but the file.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from belljar.elf.const import SegmentType
from belljar.elf.errors import ElfError
from belljar.elf.layout import Layout
from belljar.elf.names import EditRefused
from belljar.elf.records import Elf, Segment

MAGIC = b"BELLJAR1"
CONFIG = struct.Struct("<8s3Q")
"""Magic, the record's own address, the program's entry, the number of the segment's program header."""
_WORD, _ENTRY_AT = struct.Struct("<Q"), 24
_PATH_LIMIT, _VARIABLE_LIMIT = 1024, 64
_SEGMENT_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a program is sealed with; paths are relative to the program's directory (`../lib/ld.so`).

    `directories` are searched for libraries before any other; `variables` are set to the absolute
    form of their paths when the program starts.
    """

    loader: str
    directories: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the configuration's strings as the stub reads them; raises ValueError for what it cannot."""
        names = [word for name, path in self.variables.items() for word in (f"{name}=", _slashed(path))]
        lists = [[_slashed(self.loader), *map(_slashed, self.directories)], names]
        words = [word.encode(errors="surrogateescape") for item in lists for word in [*item, ""]]
        if any(b"\0" in word or len(word) > _PATH_LIMIT for word in words):
            raise ValueError(f"a path of more than {_PATH_LIMIT} bytes, or with a NUL")
        if len(self.variables) > _VARIABLE_LIMIT or any("=" in name or not name for name in self.variables):
            raise ValueError("variables: too many, or names that are none")
        return b"".join(word + b"\0" for word in words)

    @classmethod
    def from_bytes(cls, data: bytes) -> "tuple[Seal, int]":
        """Read what `to_bytes` wrote; return it and its size. Raises ValueError where it is damaged."""
        lists: list[list[str]] = []
        at = 0
        while len(lists) < 2:  # paths, variables
            words = []
            while (end := data.index(b"\0", at)) > at:
                words.append(data[at:end].decode(errors="surrogateescape"))
                at = end + 1
            at += 1
            lists.append(words)
        (loader, *directories), names = lists
        pairs = dict(zip(names[::2], names[1::2], strict=True))
        return cls(
            loader=loader.removeprefix("/"),
            directories=tuple(item.removeprefix("/") for item in directories),
            variables={name.removesuffix("="): path.removeprefix("/") for name, path in pairs.items()},
        ), at


def _slashed(path: str) -> str:
    if not path or path.startswith("/"):
        raise ValueError(f"{path!r}: not relative to the program's directory")
    return f"/{path}"


def seal_of(image: bytes) -> Seal | None:
    """Return what a program is sealed with; None for one that is not."""
    try:
        found = find(image)
        return None if found is None else Seal.from_bytes(image[found + CONFIG.size :])[0]
    except (ElfError, EditRefused, ValueError):
        return None


def find(image: bytes) -> int | None:
    """Return the offset of the configuration in a sealed program, None in another; raises as Layout does."""
    layout = Layout(image)
    if not layout.wide:
        return None
    entry = _WORD.unpack_from(image, _ENTRY_AT)[0]
    for row in layout.loads:
        at = image.find(MAGIC, row.offset, row.end) if row.address == entry else -1
        if at >= 0 and at + CONFIG.size <= row.end:
            address = CONFIG.unpack_from(image, at)[1]
            return at if address == row.address + at - row.offset else None
    return None


def segment_of_seal(elf: Elf) -> Segment | None:
    """Return the segment that holds the seal if the program is sealed: where it is entered.

    So what a big program is sealed with can be read (`seal_in`) without the rest of it.
    """
    if elf.interpreter is not None or elf.dynamic is None or not elf.header.is_wide:
        return None
    loads = (item for item in elf.segments if item.type == SegmentType.LOAD)
    found = next((item for item in loads if 0 < item.address == elf.header.entry and item.flags & 1), None)
    return found if found is not None and found.file_size <= _SEGMENT_LIMIT else None


def seal_in(data: bytes, segment: Segment) -> Seal | None:
    """Return what the bytes of that segment say; None where they are not a seal's."""
    at = data.find(MAGIC)
    if at < 0 or at + CONFIG.size > len(data) or CONFIG.unpack_from(data, at)[1] != segment.address + at:
        return None
    try:
        return Seal.from_bytes(data[at + CONFIG.size :])[0]
    except ValueError:
        return None
