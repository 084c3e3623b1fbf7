"""What an ELF file says, as frozen values.

Names are text with undecodable bytes kept as surrogates. Offsets count from the start of the file,
addresses are the virtual ones that the file was linked for.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, overload

from belljar.elf.const import HIDDEN, NoteType, SegmentType


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The ELF header; see belljar.elf.const for the numbers."""

    elf_class: int
    data: int
    os_abi: int
    type: int
    machine: int
    flags: int
    entry: int

    @property
    def is_wide(self) -> bool:
        """Whether addresses have 64 bits."""
        return self.elf_class == 2

    @property
    def is_big_endian(self) -> bool:
        """Whether the most significant byte comes first."""
        return self.data == 2


# What a file has dozens of is a tuple: a dataclass takes four times as long to make.
class Segment(NamedTuple):
    """One program header."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    align: int


class DynamicEntry(NamedTuple):
    """One entry of the dynamic segment, and where in the file it stands."""

    tag: int
    value: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """The dynamic segment: its entries as they stand, and those that name something."""

    entries: tuple[DynamicEntry, ...]
    needed: tuple[str, ...]
    soname: str | None
    rpath: str | None
    runpath: str | None
    flags: int
    flags_1: int

    def first(self, tag: int) -> DynamicEntry | None:
        """Return the first entry with that tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionNeed:
    """A version that a library must define before the file is loaded (LSB Core 10.7.2.3)."""

    library: str
    name: str
    hash: int
    index: int
    weak: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDefinition:
    """A version that the file defines, and the versions that it succeeds (LSB Core 10.7.2.2)."""

    name: str
    hash: int
    index: int
    flags: int
    parents: tuple[str, ...]


class Symbol(NamedTuple):
    """A dynamic symbol; `library` is set where its version is one that a library must define."""

    name: str
    binding: int
    type: int
    defined: bool
    version: str | None
    library: str | None
    version_index: int
    hidden: bool


@dataclass(frozen=True, kw_only=True)
class Symbols(Sequence[Symbol]):
    """The dynamic symbols in the order of their table, without the empty first one.

    Libraries have 100 000 of them, and who looks at all does so by columns: `names`; `infos` (st_info);
    `sections` (st_shndx, 0 for what others define); `marks` (DT_VERSYM). `versions` are names and
    libraries by version index. A Symbol is made where one is asked for.
    """

    names: tuple[str, ...] = ()
    infos: bytes = b""
    sections: tuple[int, ...] = ()
    marks: tuple[int, ...] = ()
    versions: Mapping[int, tuple[str, str | None]] = field(default_factory=dict, hash=False)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, number: int) -> Symbol: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Symbol]: ...
    def __getitem__(self, number: int | slice) -> Symbol | Sequence[Symbol]:
        return self._made[number]

    def __iter__(self) -> Iterator[Symbol]:
        return iter(self._made)

    @cached_property
    def _made(self) -> tuple[Symbol, ...]:
        return tuple(map(self._make, self.names, self.infos, self.sections, self.marks))

    def _make(self, name: str, info: int, section: int, mark: int) -> Symbol:
        index = mark & ~HIDDEN
        version, library = self.versions.get(index, (None, None))
        return Symbol(name, info >> 4, info & 15, section != 0, version, library, index, mark >= HIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note that is loaded with the file."""

    owner: str
    type: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """A whole file, as the kernel and the loader see it."""

    header: Header
    segments: tuple[Segment, ...]
    interpreter: str | None
    dynamic: Dynamic | None
    needs: tuple[VersionNeed, ...]
    definitions: tuple[VersionDefinition, ...]
    symbols: Symbols
    notes: tuple[Note, ...]

    def offset_of(self, address: int) -> int | None:
        """Return where in the file the byte at a virtual address is; None when it is in no segment."""
        for segment in self.segments:
            into = address - segment.address
            if segment.type == SegmentType.LOAD and 0 <= into < segment.file_size:
                return segment.offset + into
        return None

    @property
    def build_id(self) -> str | None:
        """The build id in hexadecimal."""
        content = self._gnu_note(NoteType.BUILD_ID)
        return None if content is None else content.hex()

    @property
    def kernel(self) -> tuple[int, int, int] | None:
        """The oldest Linux that the file says it runs on (NT_GNU_ABI_TAG)."""
        content = self._gnu_note(NoteType.ABI_TAG)
        if content is None or len(content) < 16:
            return None
        system, major, minor, patch = struct.unpack(
            ">4I" if self.header.is_big_endian else "<4I", content[:16]
        )
        return (major, minor, patch) if system == 0 else None

    def _gnu_note(self, kind: int) -> bytes | None:
        found = (note.content for note in self.notes if note.owner == "GNU" and note.type == kind)
        return next(found, None)
