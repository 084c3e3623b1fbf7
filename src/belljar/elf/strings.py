"""Room for names in a string table whose strings may share bytes.

Linkers store a name that ends another one inside it: `foo`, a symbol, may be the tail of the soname
`libfoo`. So the bytes of a name that is no longer wanted are free only as far as nothing refers to them:
symbols, versions, other entries of the dynamic segment (802 of 1,404 files on a Debian system have such
tails). Free bytes are zeroed, so that no old path is left behind, and used again.

A new name is taken from where it stands already, as a whole or as a tail; else put where zeros are: what
became free, now or by an earlier edit, and the room that the editor leaves at the end of a table when it
moves it; else the table grows, and has to move.
"""

from array import array
from collections.abc import Callable, Set
from functools import cached_property

from belljar.elf.const import Tag
from belljar.elf.errors import ElfError
from belljar.elf.layout import Layout

STRING_TAGS = frozenset(
    {
        *(Tag.NEEDED, Tag.SONAME, Tag.RPATH, Tag.RUNPATH),
        *(0x6FFFFEFA, 0x6FFFFEFB, 0x6FFFFEFC, 0x7FFFFFFD, 0x7FFFFFFE, 0x7FFFFFFF),
        *(0x6000000D, 0x6000000E, 0x6000000F, 0x70000004),
    }
)
"""Tags whose value is an offset into the string table: elf.h, also those of Solaris and MIPS."""
_TABLES = frozenset(
    {
        *(Tag.HASH, Tag.GNU_HASH, Tag.STRTAB, Tag.SYMTAB, Tag.VERSYM, Tag.VERDEF, Tag.VERNEED),
        *(Tag.RELA, Tag.REL, Tag.JMPREL, Tag.RELR, 3, 12, 13, 21, 25, 26, 32),
    }
)
_PRELINKED = frozenset({0x6FFFFEF9, 0x6FFFFEF8, 0x6FFFFDF5})
_NEED, _NEED_AUX, _DEFINITION, _DEFINITION_AUX = "HHIII", "IHHII", "HHHHIII", "II"
_KNOWN_USERS = frozenset({6, 11, 0x6FFFFFFD, 0x6FFFFFFE})
"""Types of sections whose use of the string table is known: dynamic, its symbols, its versions."""

Users = Callable[[range], set[int]]
"""Which of these offsets into the table something refers to."""


class StringTable:
    """The bytes of a string table while names are put into it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.bytes = bytearray(data)
        self.freed: list[range] = []
        self.filled: list[range] = []

    @property
    def has_grown(self) -> bool:
        """Whether the names need more bytes than there were."""
        return len(self.bytes) != len(self._data)

    def name(self, offset: int) -> bytes:
        """Return the name at an offset; raises ElfError when there is none."""
        end = self._data.find(b"\0", offset) if 0 <= offset < len(self._data) else -1
        if end < 0:
            raise ElfError(f"string {offset:#x}: not within the string table", offset=0)
        return self._data[offset:end]

    def replace(self, dropped: Set[int], wanted: Set[bytes], users: Users) -> dict[bytes, int]:
        """Free the names at some offsets, make room for others, and return where these are."""
        places = {name: at for name in sorted(wanted) if (at := self._data.find(name + b"\0")) >= 0}
        self.freed = [self._exclusive(at, set(places.values()), users) for at in sorted(dropped)]
        for span in self.freed:
            self.bytes[span.start : span.stop] = bytes(len(span))
        for name in sorted(wanted - places.keys(), key=lambda name: (-len(name), name)):
            places[name] = self._put(name, users)
        return places

    def _exclusive(self, start: int, taken: set[int], users: Users) -> range:
        """Return the bytes that the name at `start` has for itself, with its NUL where that is its own."""
        end = start + len(self.name(start)) + 1
        if start == 0 or self._data[start - 1] != 0:
            return range(0)
        span = range(start, end)
        return range(start, min({*users(span), *taken.intersection(span)}, default=end))

    def _put(self, name: bytes, users: Users) -> int:
        start = self._free_run(name, users)
        if start is None:
            start = self._free_tail(users)
        self.bytes[start : start + len(name) + 1] = name + b"\0"
        self.filled.append(range(start, start + len(name) + 1))
        return start

    def _free_run(self, name: bytes, users: Users) -> int | None:
        """Return where zeros are, behind the NUL of another name, that nothing refers to.

        Search paths come first in them, other names last, so that a path has room to become longer.
        """
        zeros = bytes(len(name) + 2)
        at = self.bytes.find(zeros) if b"/" in name else self.bytes.rfind(zeros)
        if at < 0 or users(range(at + 1, at + len(zeros))):
            return None
        return at + 1

    def _free_tail(self, users: Users) -> int:
        """Return where the zeros begin that end the table, behind the last name's NUL."""
        if self.bytes and self.bytes[-1] != 0:
            self.bytes.append(0)
        start = len(self.bytes.rstrip(b"\0")) + 1
        tail = range(start, len(self.bytes))
        return max(users(tail), default=start - 1) + 1 if tail else min(start, len(self.bytes))


def read_table(layout: Layout) -> tuple[int, bytes]:
    """Return where the string table of the dynamic segment is, and its bytes; raises ElfError."""
    address, size = layout.values.get(Tag.STRTAB), layout.values.get(Tag.STRSZ, 0)
    if address is None:
        return 0, b"\0"
    offset = layout.offset_of(address, "STRTAB")
    if size > layout.available(address):
        raise ElfError("STRTAB: its segment ends before", offset=offset)
    return offset, bytes(layout.view.slice(offset, size, "STRTAB"))


class References:
    """Who refers to which offsets of the table; looks when it is first asked: most edits never do."""

    def __init__(self, layout: Layout, others: Callable[[], set[int]]) -> None:
        self._layout = layout
        self._others = others

    def __call__(self, span: range) -> set[int]:
        """Return the offsets of a range that symbols or `others` (entries, versions) refer to."""
        if not span:
            return set()
        if self._are_unknown:
            return set(span)
        offsets = set(span)
        return offsets & self._kept | offsets.intersection(self._symbols)

    @cached_property
    def _kept(self) -> set[int]:
        return self._others()

    @cached_property
    def _are_unknown(self) -> bool:
        return bool(self._layout.values.keys() & _PRELINKED) or _has_strangers(self._layout)

    @cached_property
    def _symbols(self) -> "array[int]":
        return _symbol_names(self._layout)


def _has_strangers(layout: Layout) -> bool:
    """Whether a section of an unknown type uses the table, too."""
    table = layout.values.get(Tag.STRTAB)
    numbers = {
        number
        for number, row in enumerate(layout.sections)
        if row.type == 3 and row.is_loaded and row.address == table
    }
    return any(row.link in numbers and row.type not in _KNOWN_USERS for row in layout.sections)


def _symbol_names(layout: Layout) -> "array[int]":
    """Return st_name of all dynamic symbols, and of what may look like one behind them.

    Their number is only in hash tables and section headers, which may be missing or lie; up to the next
    table there can be no more. What is read beyond makes strings look shared that are not: no harm.
    """
    start = layout.values.get(Tag.SYMTAB)
    found = array("I")
    if start is None:
        return found
    marks = [value for tag, value in layout.entries if tag in _TABLES and value > start]
    size = min(layout.available(start), min(marks, default=start + (1 << 62)) - start)
    entry = 24 if layout.wide else 16
    at = layout.offset_of(start, "SYMTAB")
    found.frombytes(layout.view.slice(at, size // entry * entry, "SYMTAB"))
    found = found[:: entry // 4]
    if layout.is_foreign:
        found.byteswap()
    return found


def version_names(layout: Layout) -> list[tuple[int, int, bool]]:
    """Return where version tables refer to the string table: offset of the field, value, is a library.

    The chains of LSB Core 10.7; offsets are unsigned, and a file has room for so many records only.
    """
    found: list[tuple[int, int, bool]] = []
    for table, count, record, link, first, names in (
        (Tag.VERNEED, Tag.VERNEEDNUM, _NEED, _NEED_AUX, 3, 8),
        (Tag.VERDEF, Tag.VERDEFNUM, _DEFINITION, _DEFINITION_AUX, 5, 0),
    ):
        address = layout.values.get(table)
        if address is None:
            continue
        at = layout.offset_of(address, table.name)
        for _ in range(layout.values.get(count, 0)):
            fields = layout.view.record(record, at, table.name)
            if table is Tag.VERNEED:
                found.append((at + 4, fields[2], True))
            auxiliaries = fields[1] if table is Tag.VERNEED else fields[3]
            _follow(layout, at + fields[first], auxiliaries, link, names, found)
            if not fields[-1]:
                break
            at += _link(fields[-1], at)
    return found


def _link(size: int, at: int) -> int:
    """Return how far it is to the next record; raises ElfError where that would make a chain too long."""
    if size < 8:
        raise ElfError("symbol versions: records overlap", offset=at)
    return size


def _follow(
    layout: Layout, at: int, count: int, form: str, name: int, found: list[tuple[int, int, bool]]
) -> None:
    for _ in range(count):
        fields = layout.view.record(form, at, "symbol versions")
        found.append((at + name, fields[3 if name else 0], False))
        if len(found) > len(layout.view.data) // 8:
            raise ElfError("symbol versions: more than the file holds", offset=at)
        if not fields[-1]:
            return
        at += _link(fields[-1], at)
