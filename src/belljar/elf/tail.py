"""The end of an ELF file that no loader reads: symbols, debug information, section names and headers.

A segment that is added goes in front of it, as a linker puts it, since tools believe in that order: for
a program at a fixed address patchelf takes the section behind the last one that it replaces for granted,
and `strip` writes these sections behind the segment anyway. Nothing but section headers points into the
tail, so moving it is one shift of offsets. Of a long one (debug information) only the end moves, which
keeps the edit small: what is in front of a segment by its offset does not matter to anybody.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from belljar.elf.layout import NOBITS, Layout, SectionRow
from belljar.elf.names import EditRefused

_LONGEST = 1 << 14
"""How many bytes are moved at most; without debug information and symbols hardly a file has more."""
_ALIGNS = (16, 32, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Bytes from `start` to the file's end, and by how much further on they are to stand."""

    start: int
    size: int
    shift: int = 0
    align: int = 8

    def behind(self, end: int) -> "Tail":
        """Return the tail as it stands behind a segment with that end, no less far on than it was."""
        return replace(self, shift=max(-(-(end - self.start) // self.align) * self.align, 0))

    def moved(self, row: SectionRow) -> SectionRow:
        """Return the header of a section of it as it is after the shift; that of any other as it was."""
        if row.offset < self.start or not self.size or row.is_loaded:
            return row
        if row.type == NOBITS and row.offset == self.start:
            return row  # .bss, which stands behind the loaded bytes
        return row._replace(offset=row.offset + self.shift)


def tail_of(layout: Layout) -> Tail:
    """Return the part of a file's end that can be shifted; of no bytes where there is none.

    Raises EditRefused where data that no header tells of stands behind all else.
    """
    size, known = len(layout.view.data), 0
    start, cuts = size, []
    for begin, end in sorted(claims(layout)):
        if begin >= known:
            cuts.append((known, begin))
        known = max(known, end)
    if not layout.view.is_blank(known, size):
        raise EditRefused(
            f"data of its own stands behind the program, from offset {known:#x} on: nothing is put after it",
            hint="the program may look for it at the file's end (PyInstaller, AppImage, bun, signatures)",
        )
    floor = max(_floor(layout), size - _LONGEST)
    for before, begin in reversed(cuts):
        if begin < floor or begin >= size:
            break
        start = begin
        if not layout.view.is_blank(max(before, floor), begin):
            break
    aligns = [row.align for row in layout.sections if row.offset >= start and row.align in _ALIGNS]
    return Tail(start=start, size=size - start, align=max([8, *aligns]))


def _floor(layout: Layout) -> int:
    """Return the end of all that is loaded or says what is."""
    ends = [row.end for row in layout.rows if row.file_size]
    ends += [row.offset + row.size for row in layout.sections if row.is_loaded]
    return max([layout.table_end, *ends])


def claims(layout: Layout) -> Iterator[tuple[int, int]]:
    """Yield start and end of whatever the headers say is in the file.

    Rows are read by number here (offset and size of a segment 2 and 5, of a section 4 and 5): a file has
    sixty, and this is where half of the time went.
    """
    yield layout.table, layout.table_end
    yield from [(row[2], row[2] + row[5]) for row in layout.rows if row[5]]
    yield from [(row[4], row[4] + row[5]) for row in layout.sections if row[1] != NOBITS]
    if layout.sections:
        yield layout.section_table, layout.sections_end
