"""A file as it lies in memory: what is executable, what a pointer slot will hold, what runs first.

A slot is a word that the loader fills: calls to other files and, in shared libraries, to exported
functions of the file itself go through one. A weak symbol's slot is left unresolved: another file's
copy may be bound there.
"""

import itertools
import struct
from array import array
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from belljar.audit.isa.functions import Functions
from belljar.audit.isa.names import Names
from belljar.audit.isa.slots import Fill, Fills
from belljar.audit.isa.source import Source
from belljar.elf import Elf, Segment
from belljar.elf.const import Binding, Flag1, Machine, SegmentType, Tag

_EXECUTE, _WRITE = 1, 2
_PREINIT_ARRAY, _PREINIT_ARRAYSZ, _INIT, _INIT_ARRAY, _INIT_ARRAYSZ = 32, 33, 12, 25, 27
_RELACOUNT = 0x6FFFFFF9
_SYMBOLIC = 16
FUNCTION, _IFUNC = 2, 10
"""Types of symbols."""
_SYMBOL = struct.Struct("<IBBHQQ")
_ROWS = 1 << 16
_SECTION_SYMTAB = 2
_ROOT_NAMES = ("PyInit_", "JNI_OnLoad")
_PROGBITS, _SECTION_EXECUTE = 1, 4
GAP_LEAST = 16
"""Shorter gaps are padding."""
NAMES_LIMIT = 2_000_000
"""How many symbols of `.symtab` are read at most."""


class _Kinds(NamedTuple):
    absolute: int
    relative: int
    irelative: int


# Source: the psABIs of both.
_RELOCATIONS = {
    Machine.X86_64: _Kinds(absolute=1, relative=8, irelative=37),
    Machine.AARCH64: _Kinds(absolute=257, relative=1027, irelative=1032),
}


class Slot(NamedTuple):
    """What a slot will hold: a function of this file (`address`), one of another (`name`), or neither."""

    address: int
    name: str


class Root(NamedTuple):
    """A function that certainly runs, and what runs it."""

    name: str
    address: int


NOTHING = Slot(0, "")
_ADDRESSES = 1 << 64
_BEYOND = (1 << 80, 1 << 80)  # damaged segments may end beyond 64 bits


class Image:
    """One 64-bit little-endian file; addresses in, addresses out."""

    def __init__(self, data: Source, elf: Elf) -> None:
        self.data = data
        self.elf = elf
        self.functions = Functions(data, elf)
        self.executable = tuple(
            item
            for item in elf.segments
            if item.type == SegmentType.LOAD
            and item.flags & _EXECUTE
            and item.offset + item.file_size <= len(data)
            and item.address + item.file_size <= _ADDRESSES  # what a damaged file has beyond cannot run
        )
        self._kinds = _RELOCATIONS[Machine(elf.header.machine)]

    def offset(self, address: int) -> int | None:
        """Return where in the file the code at an address is; None when it is not executable."""
        segment = self.segment(address)
        return None if segment is None else address - segment.address + segment.offset

    def segment(self, address: int) -> Segment | None:
        """Return the executable segment that holds an address."""
        for segment in self.executable:
            if 0 <= address - segment.address < segment.file_size:
                return segment
        return None

    @cached_property
    def writable(self) -> tuple[int, int]:
        """Where variables and slots begin and end."""
        found = [item for item in self.elf.segments if item.type == SegmentType.LOAD and item.flags & _WRITE]
        ends = [item.address + item.memory_size for item in found]
        return min((item.address for item in found), default=0), max(ends, default=0)

    def is_writable(self, address: int) -> bool:
        """Whether an address is that of a variable."""
        low, high = self.writable
        return low <= address < high

    @property
    def is_program(self) -> bool:
        """Whether it is started and not loaded by another."""
        dynamic = self.elf.dynamic
        return self.elf.header.type == 2 or bool(
            self.elf.interpreter or (dynamic and dynamic.flags_1 & Flag1.PIE)
        )

    @cached_property
    def code(self) -> tuple[tuple[int, int], ...]:
        """Start and end of what is code: executable sections, whole segments where there are none.

        Older linkers put read-only data into the executable segment.
        """
        found = []
        for kind, flags, address, size in self._sections():
            segment = self.segment(address)
            if kind != _PROGBITS or not flags & _SECTION_EXECUTE or segment is None:
                continue
            if size and address + size <= segment.address + segment.file_size:
                found.append((address, address + size))
        if not found:
            found = [(item.address, item.address + item.file_size) for item in self.executable]
        return _merged(found)

    @cached_property
    def gaps(self) -> tuple[tuple[int, int], ...]:
        """Start and end of code that is in no function: hand-written assembly, padding, tables."""
        found = []
        rows = iter(self.functions.ranges)
        begin, end = next(rows, _BEYOND)
        for start, stop in self.code:
            at = start
            while at < stop:
                while end <= at:
                    begin, end = next(rows, _BEYOND)
                if begin > at:
                    found.append((at, min(begin, stop)))
                at = end
        return tuple(pair for pair in found if pair[1] - pair[0] >= GAP_LEAST)

    def exported(self, kind: int) -> Iterator[int]:
        """Yield the addresses of the dynamic symbols of a type that this file defines."""
        symbols = self.elf.symbols
        for address, info, section in zip(self._values, symbols.infos, symbols.sections, strict=False):
            if info & 15 == kind and section and address:
                yield address

    @cached_property
    def _values(self) -> memoryview:
        """The values of the dynamic symbols, without the empty first one."""
        size = 24 * (len(self.elf.symbols) + 1)
        at = self._table(Tag.SYMTAB, size)
        return memoryview(b"" if at is None else self.data[at + 24 : at + size]).cast("Q")[1::3]

    @cached_property
    def imports(self) -> frozenset[str]:
        """The names that other files must define."""
        symbols = self.elf.symbols
        return frozenset(
            name for name, section in zip(symbols.names, symbols.sections, strict=True) if not section
        )

    @cached_property
    def names(self) -> Names:
        """The names of functions: exported ones, and local ones where the file is not stripped."""
        return Names(self.data, itertools.chain(self._local_names(), self._exported_names()))

    def _exported_names(self) -> Iterator[tuple[int, int]]:
        """Yield address and where the name stands of every dynamic symbol that this file defines."""
        table, strings = (self.elf.offset_of(self._number(tag)) for tag in (Tag.SYMTAB, Tag.STRTAB))
        if table is None or strings is None or strings > len(self.data) or not self._values:
            return
        for name, _, _, section, address, _ in self._rows(table, len(self._values) + 1):
            if section and address:
                yield address, strings + name

    def _rows(self, offset: int, count: int) -> Iterator[tuple[int, ...]]:
        """Yield the entries of a symbol table."""
        for first in range(0, count, _ROWS):
            start = offset + 24 * first
            yield from _SYMBOL.iter_unpack(self.data[start : start + 24 * min(_ROWS, count - first)])

    def name_of(self, address: int) -> str:
        """Return a function's name, its address when it has none."""
        return self.names.at(address) or f"{address:#x}"

    def resolve(self, slot: int) -> Slot:
        """Return what the slot at an address will hold."""
        fill = self._fills.at(slot)
        if fill is not None:
            return self._bind(fill.symbol) if fill.symbol else Slot(fill.value, "")
        relative = self._relative(slot)
        if relative is not None:
            return Slot(relative, "")
        return Slot(self._word(slot), "") if self.elf.dynamic is not None else NOTHING

    def pointed(self) -> Iterator[int]:
        """Yield the addresses of code that some word of the file will hold."""
        low = min((item.address for item in self.executable), default=0)
        high = max((item.address + item.file_size for item in self.executable), default=0)
        rows = self._relative_rows
        yield from (value for value in rows[2::3] if low <= value < high)
        yield from (self._bound[fill.symbol] if fill.symbol else fill.value for fill in self._fills)
        yield from map(self._word, self._relr())

    @cached_property
    def span(self) -> int:
        """How far any two addresses of the file are from each other."""
        loads = [item for item in self.elf.segments if item.type == SegmentType.LOAD]
        ends = [item.address + item.memory_size for item in loads]
        return max(ends, default=0) - min((item.address for item in loads), default=0)

    @cached_property
    def resolvers(self) -> frozenset[int]:
        """The functions that pick an implementation when the file is loaded (IFUNC)."""
        found = {
            addend for _, info, addend in self._relocations() if info & 0xFFFFFFFF == self._kinds.irelative
        }
        return frozenset(found.union(self.exported(_IFUNC)))

    def roots(self) -> Iterator[Root]:
        """Yield the functions that run when the file is loaded, imported or started."""
        entries = {entry.tag: entry.value for entry in self.elf.dynamic.entries} if self.elf.dynamic else {}
        for name, tag, size in (
            ("preinit_array", _PREINIT_ARRAY, _PREINIT_ARRAYSZ),
            ("init_array", _INIT_ARRAY, _INIT_ARRAYSZ),
        ):
            for number in range(min(entries.get(size, 0) // 8, len(self.data) // 8)):
                address = self.resolve(entries.get(tag, 0) + 8 * number).address
                if self.segment(address) is not None:
                    yield Root(f"{name}[{number}]", address)
        if entries.get(_INIT):
            yield Root("_init", entries[_INIT])
        symbols = self.elf.symbols
        for name, info, section, address in zip(
            symbols.names, symbols.infos, symbols.sections, self._values, strict=False
        ):
            if name.startswith(_ROOT_NAMES) and info & 15 == FUNCTION and section:
                yield Root(name, address)
        if self.is_program and self.segment(self.elf.header.entry) is not None:
            yield Root("entry", self.elf.header.entry)

    @cached_property
    def _fills(self) -> Fills:
        """Slots that are filled by symbol, or by an IFUNC (which holds nothing that could be known)."""
        return Fills(self._filled())

    def _filled(self) -> Iterator[tuple[int, Fill]]:
        for at, info, addend in self._relocations():
            kind, number = info & 0xFFFFFFFF, info >> 32
            if kind == self._kinds.relative:
                yield at, Fill(0, addend)
            elif number:
                yield at, Fill(min(number, len(self._bound) - 1), 0)
            elif kind == self._kinds.irelative:
                yield at, Fill(0, 0)

    def _bind(self, number: int) -> Slot:
        address, symbols = self._bound[number], self.elf.symbols
        if number > len(symbols) or (symbols.sections[number - 1] and not address):
            return NOTHING
        return Slot(address, symbols.names[number - 1])

    @cached_property
    def _bound(self) -> "array[int]":
        """By number, the address to which a dynamic symbol is bound; 0 where not known, and at the end."""
        found = array("Q", [0])
        symbols = self.elf.symbols
        for address, info, section in zip(self._values, symbols.infos, symbols.sections, strict=False):
            is_ours = self._binds_itself or info >> 4 == Binding.GLOBAL
            found.append(address if section and is_ours and info & 15 != _IFUNC else 0)
        found.extend([0] * (len(symbols) + 2 - len(found)))
        return found

    @cached_property
    def _binds_itself(self) -> bool:
        """Whether nobody else's definition can take the place of this file's."""
        dynamic = self.elf.dynamic
        return self.is_program or bool(
            dynamic and (dynamic.flags & 2 or any(entry.tag == _SYMBOLIC for entry in dynamic.entries))
        )

    @cached_property
    def _relative_rows(self) -> memoryview:
        """The relative relocations in front of the table: three words each, there are millions."""
        count = min(self._number(_RELACOUNT), self._number(Tag.RELASZ) // 24)
        at = self._table(Tag.RELA, 24 * count)
        return memoryview(self.data[at : at + 24 * count] if at else b"").cast("q")

    def _relocations(self) -> Iterator[tuple[int, int, int]]:
        """Yield offset, info and addend of all other relocations."""
        skipped = 8 * len(self._relative_rows)
        for start, size in ((Tag.RELA, Tag.RELASZ), (Tag.JMPREL, Tag.PLTRELSZ)):
            length = self._number(size) // 24 * 24
            at = self._table(start, length)
            if at is not None:
                yield from struct.iter_unpack("<QQq", self.data[at + skipped : at + length])
            skipped = 0

    def _relative(self, slot: int) -> int | None:
        """Search the relative relocations, which linkers sort by address; a miss decides nothing."""
        rows = self._relative_rows
        low, high = 0, len(rows) // 3
        while low < high:
            middle = (low + high) // 2
            if rows[3 * middle] < slot:
                low = middle + 1
            else:
                high = middle
        is_found = 3 * low < len(rows) and rows[3 * low] == slot
        return rows[3 * low + 2] if is_found else None

    def _relr(self) -> Iterator[int]:
        """Yield the addresses of packed relative relocations (gABI, DT_RELR)."""
        length = self._number(Tag.RELRSZ) // 8 * 8
        at = self._table(Tag.RELR, length)
        if at is None:
            return
        where = 0
        for (entry,) in struct.iter_unpack("<Q", self.data[at : at + length]):
            if entry & 1:
                yield from (where + 8 * bit for bit in range(63) if entry >> (bit + 1) & 1)
                where += 63 * 8
            else:
                yield entry
                where = entry + 8

    def _word(self, address: int) -> int:
        """Return the word at an address if it is the address of code, else 0."""
        at = self.elf.offset_of(address)
        if at is None or at + 8 > len(self.data):
            return 0
        value = int.from_bytes(self.data[at : at + 8], "little")
        return value if self.segment(value) is not None else 0

    def _number(self, tag: int) -> int:
        entry = self.elf.dynamic.first(tag) if self.elf.dynamic else None
        return entry.value if entry else 0

    def _table(self, tag: int, length: int) -> int | None:
        """Return where a table of that length starts in the file; None when it is not all there."""
        address = self._number(tag)
        at = self.elf.offset_of(address) if address else None
        return at if at is not None and length and at + length <= len(self.data) else None

    def _local_names(self) -> Iterator[tuple[int, int]]:
        """Yield address and where the name stands of the functions of `.symtab`, where headers make sense."""
        sections, end = self._section_rows, len(self.data)
        for section in sections:
            if section[1] != _SECTION_SYMTAB or section[6] >= len(sections):
                continue
            at, length = section[4], section[5] // 24 * 24
            strings, room = sections[section[6]][4:6]
            if at + length > end or strings + room > end or length > 24 * NAMES_LIMIT:
                continue
            for name, info, _, index, address, _ in self._rows(at, length // 24):
                if index and address and 0 < name < room and info & 15 == FUNCTION:
                    yield address, strings + name
            return

    def _sections(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield type, flags, address and size of every section."""
        for row in self._section_rows:
            yield row[1], row[2], row[3], row[5]

    @cached_property
    def _section_rows(self) -> tuple[tuple[int, ...], ...]:
        """The section headers; empty where there are none or they are damaged."""
        data = self.data
        if len(data) < 64:
            return ()
        table, size, count = struct.unpack("<40xQ10xHH2x", data[:64])
        if size != 64 or table + 64 * count > len(data):
            return ()
        return tuple(struct.iter_unpack("<IIQQQQIIQQ", data[table : table + 64 * count]))


def _merged(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sort ranges and unite those that overlap, so that no byte is looked at twice."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)
