"""The parts of an ELF file that may stand anywhere, and what must follow when they move.

Headers and tags say where these parts are, nothing else does: the string table, the dynamic segment,
the interpreter's path, notes, symbol and hash and version tables. Code and data are never moved.
A move is one rule: whatever header or tag points into a part's old bytes points as far into its new
ones. Relative to its own place is only DT_MIPS_RLD_MAP_REL.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from belljar.elf.const import Machine, SegmentType, Tag
from belljar.elf.layout import GNU_PROPERTY, Layout, Row, SectionRow

RLD_MAP_REL = 0x70000035
_SMALL = frozenset({SegmentType.INTERP, SegmentType.NOTE, GNU_PROPERTY})
_SMALL_MIPS = frozenset({0x70000000, 0x70000002, 0x70000003})
# Not PT_GNU_RELRO, though it may span the dynamic segment and nothing else: it says what is protected.
_FOLLOWING = _SMALL | _SMALL_MIPS | {SegmentType.DYNAMIC}
_TABLES = (
    *(Tag.HASH, Tag.GNU_HASH, Tag.SYMTAB, Tag.VERSYM, Tag.VERDEF, Tag.VERNEED),
    *(Tag.RELA, Tag.REL, Tag.JMPREL, Tag.RELR, 0x70000036),
)
MOVABLE_TAGS = frozenset({Tag.STRTAB, *_TABLES})
"""Tags whose value is the address of a part."""
_BOUNDS = frozenset({*MOVABLE_TAGS, 3, 12, 13, 21, 25, 26, 32})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes that may move: where they are in the file and in memory, and their size.

    Where no header tells a table's size it may be less: such a part is copied, its old bytes stay.
    """

    offset: int
    address: int
    size: int
    is_exact: bool = True

    @property
    def end(self) -> int:
        """The offset of the first byte after it."""
        return self.offset + self.size

    def holds(self, offset: int, size: int) -> bool:
        """Whether bytes of the file lie within it."""
        return self.offset <= offset and offset + size <= self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A part at its new place, with its new size."""

    part: Part
    offset: int
    address: int
    size: int

    def address_of(self, address: int) -> int:
        """Return where a byte of the part is now."""
        return address - self.part.address + self.address


def parts_of(layout: Layout) -> list[Part]:
    """Return all parts by offset; those that overlap are one."""
    joined: list[Part] = []
    for part in sorted((part for part in _every_part(layout) if part.size), key=lambda part: part.offset):
        if joined and part.offset < joined[-1].end:
            last = joined[-1]
            size = max(last.end, part.end) - last.offset
            joined[-1] = replace(last, size=size, is_exact=last.is_exact and part.is_exact)
        else:
            joined.append(part)
    return joined


def _every_part(layout: Layout) -> Iterable[Part]:
    small = _SMALL | _SMALL_MIPS if layout.machine == Machine.MIPS else _SMALL
    for row in layout.rows:
        if row.type in small and row.file_size and layout.available(row.address) >= row.file_size:
            yield Part(offset=row.offset, address=row.address, size=row.file_size)
    if layout.dynamic is not None:
        yield dynamic_part(layout.dynamic)
    if layout.available(layout.values.get(Tag.STRTAB, 0)) > 0:
        yield strings_part(layout)
    for tag in _TABLES:
        address = layout.values.get(tag, 0)
        if address and layout.available(address):
            size, is_exact = _size(layout, address)
            offset = layout.offset_of(address, "table")
            yield Part(offset=offset, address=address, size=size, is_exact=is_exact)


def dynamic_part(row: Row) -> Part:
    """Return the dynamic segment as a part."""
    return Part(offset=row.offset, address=row.address, size=row.file_size)


def strings_part(layout: Layout) -> Part:
    """Return the string table as a part; raises ElfError."""
    address = layout.values[Tag.STRTAB]
    size = min(layout.values.get(Tag.STRSZ, 0), layout.available(address))
    return Part(offset=layout.offset_of(address, "STRTAB"), address=address, size=size)


def _size(layout: Layout, address: int) -> tuple[int, bool]:
    """Return a table's size, its section's: then it is exact; else up to what is known to come next."""
    for section in layout.sections:
        if section.address == address and section.is_loaded:
            return min(section.size, layout.available(address)), True
    known = [value for tag, value in layout.entries if tag in _BOUNDS]
    known += [row.address for row in layout.rows if row.file_size]
    after = min((item for item in known if item > address), default=address + (1 << 62))
    return min(after - address, layout.available(address)), False


def moved_rows(rows: Sequence[Row], moves: Sequence[Move]) -> list[Row]:
    """Return program headers as they are after the moves; those of loaded segments stay."""
    return [_moved_row(row, moves) if row[0] in _FOLLOWING else row for row in rows]


def _moved_row(row: Row, moves: Sequence[Move]) -> Row:
    for move in moves:
        if row.file_size and move.part.holds(row.offset, row.file_size):
            shift = move.address - move.part.address
            is_whole = (row.offset, row.file_size) == (move.part.offset, move.part.size)
            size = move.size if is_whole else row.file_size
            return row._replace(
                offset=row.offset - move.part.offset + move.offset,
                address=row.address + shift,
                physical=row.physical + shift,
                file_size=size,
                memory_size=size if is_whole else row.memory_size,
            )
    return row


def moved_section(row: SectionRow, move: Move) -> SectionRow:
    """Return the header of a loaded section as it is after a move, if it is one of the part's."""
    if not move.part.holds(row.offset, row.size):
        return row
    starts_it = row.offset == move.part.offset and move.size != move.part.size
    return row._replace(
        offset=row.offset - move.part.offset + move.offset,
        address=move.address_of(row.address),
        size=move.size if starts_it else row.size,
    )


def moved_address(address: int, moves: Sequence[Move]) -> int:
    """Return where an address that a dynamic entry gives is after the moves."""
    for move in moves:
        if 0 <= address - move.part.address < max(move.part.size, 1):
            return move.address_of(address)
    return address
