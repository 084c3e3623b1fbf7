"""Where things stand in an ELF file, for the editor: headers as rows that can be packed again.

The reader's records say what a file means; these say what its bytes are, every field of them, and are
read in one go: editing is to cost microseconds. Section headers are read too, since tools that come
after us (strip, objcopy, gdb) believe them; no address is taken from them.
"""

import struct
import sys
from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import NamedTuple, cast

from belljar.elf.const import Class, SegmentType, Type
from belljar.elf.errors import ElfError
from belljar.elf.names import EditRefused
from belljar.elf.reader import SECTION_HEADER, open_view
from belljar.elf.view import View

_HEADER = {False: "HHIIIIIHHHHHH", True: "HHIQQQIHHHHHH"}
_ROW = {False: "8I", True: "2I6Q"}
ENTRY = {False: "iI", True: "qQ"}
"""An entry of the dynamic segment: tag, value."""
# Field numbers of a 32-bit program header, in the order of a 64-bit one, and back.
_TO_WIDE, _TO_NARROW = (0, 6, 1, 2, 3, 4, 5, 7), (0, 2, 3, 4, 5, 6, 1, 7)
PHNUM_AT = {False: 44, True: 56}
"""Where in the ELF header e_phnum stands."""
SHOFF_AT = {False: 32, True: 40}
"""Where in the ELF header e_shoff stands."""
XNUM = 0xFFFF
PHDR, NULL_SEGMENT, GNU_PROPERTY = 6, 0, 0x6474E553
NOBITS, ALLOC = 8, 2
_SECTION_ENTRY = {False: 40, True: 64}


class Row(NamedTuple):
    """A program header; sizes in bytes."""

    type: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    align: int

    @property
    def end(self) -> int:
        """The offset of the first byte in the file after it."""
        return self.offset + self.file_size

    @property
    def memory_end(self) -> int:
        """The first address after it."""
        return self.address + self.memory_size


class SectionRow(NamedTuple):
    """A section header; sizes in bytes."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int

    @property
    def is_loaded(self) -> bool:
        """Whether it has bytes in the file that are loaded."""
        return bool(self.flags & ALLOC) and self.type != NOBITS and self.size > 0


# namedtuple's own _make checks the number of fields, which the formats guarantee: half of its time.
_as_row = partial(tuple.__new__, Row)
_as_section = partial(tuple.__new__, SectionRow)


class Layout:
    """The headers of one file and its dynamic entries (tag, value), without the DT_NULL that ends them."""

    def __init__(self, image: bytes | memoryview) -> None:
        self.view: View = open_view(image)
        self.wide = self.view.data[4] == Class.ELF64
        fields = self.view.record(_HEADER[self.wide], 16, "ELF header")
        self.kind, self.machine, _, _, self.table, self.section_table, _, _, size, count, *rest = fields
        self._section_size, self._section_count, _ = rest
        _demand_editable(self.kind, count)
        if count and size != self.row_size:
            raise ElfError(f"program headers: entries of {size} bytes", offset=self.table)
        rows = self.view.records(_ROW[self.wide], self.table, count, "program headers")
        self.rows = list(map(_as_row, rows if self.wide else ([row[i] for i in _TO_WIDE] for row in rows)))
        self.loads = [row for row in self.rows if row.type == SegmentType.LOAD]
        for row in self.loads:
            if row.end > len(self.view.data):
                raise ElfError("program headers: a segment ends beyond the file", offset=row.offset)
        self.dynamic = self._first(SegmentType.DYNAMIC)
        self.interpreter = self._first(SegmentType.INTERP)
        self.entries, self.capacity = self._read_entries()
        self.values = dict(self.entries)
        self._sections: list[SectionRow] | None = None
        self._loaded: list[tuple[int, SectionRow]] | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether the byte order is not this machine's."""
        return (self.view.order == "<") != (sys.byteorder == "little")

    @property
    def row_size(self) -> int:
        """The size of a program header."""
        return 56 if self.wide else 32

    @property
    def table_end(self) -> int:
        """The offset of the first byte after the program headers."""
        return self.table + len(self.rows) * self.row_size

    @property
    def sections(self) -> list[SectionRow]:
        """The section headers; none where the file has none."""
        if self._sections is None:
            self._sections = self._read_sections()
        return self._sections

    @property
    def loaded_sections(self) -> list[tuple[int, SectionRow]]:
        """The section headers, with their numbers, of what has bytes in the file that are loaded."""
        if self._loaded is None:
            every = enumerate(self.sections)
            self._loaded = [(number, row) for number, row in every if row[2] & ALLOC and row.is_loaded]
        return self._loaded

    def _read_sections(self) -> list[SectionRow]:
        if not self.section_table or not self._section_count:
            return []
        if self._section_size != _SECTION_ENTRY[self.wide]:
            raise ElfError("section headers: entries of an unknown size", offset=self.section_table)
        form = SECTION_HEADER[self.wide]
        rows = self.view.records(form, self.section_table, self._section_count, "section headers")
        return list(map(_as_section, rows))

    @property
    def sections_end(self) -> int:
        """The offset of the first byte after the section headers; 0 without any."""
        return self.section_table + self._section_count * self._section_size if self.sections else 0

    def offset_of(self, address: int, what: str) -> int:
        """Return where in the file an address is; raises ElfError when it is in no loaded segment."""
        for load in self.loads:
            if 0 <= address - load.address < load.file_size:
                return load.offset + address - load.address
        raise ElfError(f"{what}: address {address:#x} is in no loaded segment", offset=0)

    def available(self, address: int) -> int:
        """Return how many bytes of the file its segment has from an address on."""
        for load in self.loads:
            if 0 <= address - load.address < load.file_size:
                return load.file_size - (address - load.address)
        return 0

    def pack(self, form: str, rows: Iterable[Iterable[int]]) -> bytes:
        """Return records as bytes; raises ElfError where an address or a size is beyond its field."""
        fields = list(rows)
        try:
            return struct.pack(self.view.order + form * len(fields), *chain.from_iterable(fields))
        except struct.error as error:
            raise ElfError("addresses or sizes are beyond all measure", offset=self.table) from error

    def pack_rows(self, rows: Iterable[Row]) -> bytes:
        """Return program headers as bytes."""
        fields = (row if self.wide else [row[i] for i in _TO_NARROW] for row in rows)
        return self.pack(_ROW[self.wide], fields)

    def pack_section(self, row: SectionRow) -> bytes:
        """Return a section header as bytes."""
        return self.pack(SECTION_HEADER[self.wide], [row])

    def _first(self, kind: int) -> Row | None:
        return next((row for row in self.rows if row.type == kind and row.file_size), None)

    def _read_entries(self) -> tuple[list[tuple[int, int]], int]:
        """Return the entries, and how many there may be before the last DT_NULL."""
        if self.dynamic is None:
            return [], 0
        form = ENTRY[self.wide]
        count = self.dynamic.file_size // self.view.size(form)
        records = self.view.records(form, self.dynamic.offset, count, "dynamic segment")
        found = cast(list[tuple[int, int]], list(records))
        number = next((number for number, entry in enumerate(found) if not entry[0]), count)
        capacity = number
        while capacity + 1 < count and not found[capacity + 1][0]:
            capacity += 1
        return found[:number], capacity


def _demand_editable(kind: int, count: int) -> None:
    if kind not in (Type.EXEC, Type.DYN):
        what = {1: "an object file", 4: "a core dump"}.get(kind, f"a file of type {kind}")
        raise EditRefused(f"is {what}: only programs and libraries are edited")
    if count == XNUM:
        raise EditRefused("has more program headers than its ELF header can count")
