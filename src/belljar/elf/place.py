"""Where parts go that have outgrown their place: into padding, else into one segment at the file's end.

Padding are the zeros between a segment's end and whatever comes next: linkers fill up pages. A segment
that is read only is made longer into it; the file does not grow.

The segment at the end takes all that has to move, with room for the next edit, and needs a program
header. Where the table of headers cannot simply go on, the parts behind it (interpreter, notes, symbol
tables: nothing that code points to) move into the segment too. The table stays: the kernel (before 5.18)
and `strip` both look for it right there. Rejected: moving the table to the file's end, which breaks
programs on such kernels, and giving up a PT_NOTE or PT_GNU_STACK for the slot, which changes what they say.

A later edit recognises the segment, the highest one and nothing but parts in it, and makes it longer,
or moves it as a whole where something (strip's section headers) now stands behind it. There is never a
second one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from belljar.elf.const import SegmentType
from belljar.elf.layout import NOBITS, NULL_SEGMENT, PHDR, Layout, Row
from belljar.elf.names import EditRefused
from belljar.elf.parts import Move, Part, moved_rows, parts_of
from belljar.elf.tail import Tail, claims, tail_of

_PAGE = 0x1000
_ALIGN = 8
_CLOSE = 64
"""Fewer zeros than this between a segment and what is behind it are an alignment's."""
_WRITE, _READ_WRITE = 2, 6
_NOTES = 7
_CHEAP = 1 << 14
_FILLER = b"\0XZ"
"""What stands where nothing is: zeros, and the letters that patchelf writes over what it has moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A part that needs `size` bytes and would like `slack` more, and whether the loader writes to it."""

    part: Part
    size: int
    slack: int = 0
    is_written: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the parts go, the program headers that say so, the bytes made anew, what stands behind them."""

    moves: tuple[Move, ...]
    rows: tuple[Row, ...]
    fresh: range = range(0)
    tail: Tail | None = None


def place(layout: Layout, wants: Sequence[Want]) -> Placement:
    """Return a place for each want; raises EditRefused, with the reason, when there is none."""
    parts = parts_of(layout) if any(_is_added(layout, row) for row in layout.loads) else None
    own = None if parts is None else _own_segment(layout, parts, wants)
    return (_in_padding(layout, wants) if own is None else None) or _in_segment(layout, wants, own)


def _in_padding(layout: Layout, wants: Sequence[Want]) -> Placement | None:
    if any(want.is_written for want in wants):
        return None
    for number, room in _padding(layout, sum(_up(want.size, _ALIGN) for want in wants)):
        moves, end, row = [], room.start, layout.rows[number]
        for want in wants:
            start = _up(end, _ALIGN)
            end = start + min(want.size + want.slack, room.stop - start)
            address = start - row.offset + row.address
            moves.append(Move(part=want.part, offset=start, address=address, size=end - start))
        if moves[-1].size >= wants[-1].size:
            rows, size = moved_rows(layout.rows, moves), end - row.offset
            rows[number] = rows[number]._replace(file_size=size, memory_size=size)
            return Placement(moves=tuple(moves), rows=tuple(rows))
    return None


def _padding(layout: Layout, least: int) -> Iterator[tuple[int, range]]:
    """Yield the number of each read-only segment with `least` or more free bytes behind it, and these."""
    align = _alignment(layout)
    for number, row in enumerate(layout.rows):
        if row.type != SegmentType.LOAD or row.flags & _WRITE or row.file_size != row.memory_size:
            continue
        end, above, stop = row.end, 1 << 62, len(layout.view.data)
        for load in layout.loads:
            if row.address < load.address < above:
                above = load.address
            if end <= load.offset < stop:
                stop = load.offset
        stop = min(stop, end + above - above % align - row.memory_end)
        if stop - end < least:
            continue
        stop = min([stop, *(start for start, limit in claims(layout) if limit > end)])
        if stop - end >= least and layout.view.is_blank(end, stop):
            yield number, range(end, stop)


def _in_segment(layout: Layout, wants: Sequence[Want], own: int | None) -> Placement:
    parts = parts_of(layout)
    if any(want.part not in parts for want in wants):
        raise EditRefused("its tables overlap: none of them can be moved")
    slot, displaced = (own, _within(parts, layout.rows[own])) if own is not None else _slot(layout, parts)
    every = [*wants, *(Want(part=part, size=part.size) for part in displaced if not _has(wants, part))]
    others = [row for number, row in enumerate(layout.rows) if number != own]
    tail = tail_of(layout)
    start = _start(layout, own, tail)
    address = _address(others, start, _alignment(layout))
    moves, end = [], start
    for want in sorted(every, key=lambda want: (want.slack, want.part.offset)):
        end = _up(end, _ALIGN)
        size = want.size + want.slack
        moves.append(Move(part=want.part, offset=end, address=address + end - start, size=size))
        end += size
    if address + end - start > (1 << (64 if layout.wide else 32)) - _PAGE:
        raise EditRefused("its addresses reach the end of memory: there is no room for another segment")
    segment = Row(
        *(SegmentType.LOAD, _READ_WRITE, start, address, address),
        *(end - start, end - start, _alignment(layout)),
    )
    rows = _with_segment(layout, moved_rows(layout.rows, moves), slot, segment)
    tail = tail.behind(end)
    fresh = range(start, tail.start + tail.shift)
    return Placement(moves=tuple(moves), rows=rows, fresh=fresh, tail=tail if tail.size else None)


def _has(wants: Sequence[Want], part: Part) -> bool:
    return any(want.part == part for want in wants)


def _within(parts: Sequence[Part], row: Row) -> list[Part]:
    return [part for part in parts if row.offset <= part.offset and part.end <= row.end]


def _is_added(layout: Layout, row: Row) -> bool:
    """Whether a loaded segment is as editors make them, by its header."""
    return row.flags == _READ_WRITE and row.file_size == row.memory_size and row is not layout.loads[0]


def _own_segment(layout: Layout, parts: Sequence[Part], wants: Sequence[Want]) -> int | None:
    """Return the number of the segment that an earlier edit added, or one that is like it: the highest.

    Else of one that nothing is left in when these parts are gone: `strip` makes a segment without sections
    empty, at an offset that no loader takes.
    """
    for row in sorted(layout.loads, key=lambda row: -row.address):
        held = _within(parts, row)
        is_top = all(load.address <= row.address for load in layout.loads)
        is_free = is_top or all(_has(wants, part) for part in held)
        if is_free and _is_added(layout, row) and _fill(layout, row, held):
            return layout.rows.index(row)
    return None


def _fill(layout: Layout, row: Row, held: Sequence[Part]) -> bool:
    """Whether these parts, and nothing else, are in a segment."""
    end = row.offset
    for part in held:
        if part.offset - end >= _ALIGN or (end == row.offset and part.offset != end):
            return False
        end = part.end
    loaded = (item for _, item in layout.loaded_sections if row.offset <= item.offset < row.end)
    return (
        end - row.offset > 0 <= row.end - end < _CLOSE
        and layout.view.is_blank(end, row.end)
        and all(any(part.holds(item.offset, item.size) for part in held) for item in loaded)
    )


def _slot(layout: Layout, parts: Sequence[Part]) -> tuple[int, list[Part]]:
    """Return the number of a program header that is free, and the parts in whose place it will stand."""
    for number, row in enumerate(layout.rows):
        if row.type == NULL_SEGMENT:
            return number, []
    # Behind it room for what other tools add: patchelf (0.18) looks for what is in its way in the order of
    # section headers, and would write over a table behind those that we have moved.
    notes, reason = sum(row.type == _NOTES for row in layout.sections), None
    for count in (2 + notes, 1):
        end = layout.table_end + count * layout.row_size
        displaced = [part for part in parts if part.offset < end and part.end > layout.table_end]
        reason = _occupied(layout, displaced, end)
        if reason is None and (count == 1 or sum(part.size for part in displaced) < _CHEAP):
            return len(layout.rows), displaced
    raise EditRefused(
        f"there is no room for another program header: {reason}",
        hint="an edit that fits into the place of the old names is possible",
    )


def _occupied(layout: Layout, displaced: Sequence[Part], end: int) -> str | None:
    """Return why the table of program headers cannot become longer when these parts are gone; or None."""
    holder = [row for row in layout.loads if row.offset <= layout.table < row.end]
    if (holder and end > holder[0].end) or end > len(layout.view.data):
        return "the first segment ends there"
    for at, limit in _bare(displaced, layout.table_end, end):
        claimed = any(
            row.offset < limit and row.offset + row.size > at and row.size and row.type != NOBITS
            for row in layout.sections
        )
        tabled = at < layout.sections_end and layout.section_table < limit
        if claimed or tabled or bytes(layout.view.data[at:limit]).strip(_FILLER):
            return "what stands behind them cannot be moved"
    return None


def _bare(parts: Sequence[Part], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield what no part covers of a range of the file."""
    for part in parts:
        if start < part.offset:
            yield start, min(part.offset, end)
        start = max(start, part.end)
    if start < end:
        yield start, end


def _start(layout: Layout, own: int | None, tail: Tail) -> int:
    """Return where the segment begins in the file: where it did if the tail is behind it, else there."""
    if own is not None:
        row = layout.rows[own]
        if 0 <= tail.start - row.end < _CLOSE and layout.view.is_blank(row.end, tail.start):
            return row.offset
    return _up(tail.start, _ALIGN)


def _address(rows: Sequence[Row], start: int, align: int) -> int:
    """Return the first free address above all segments that fits the offset, as pages are mapped."""
    top = max((row.memory_end for row in rows if row.type == SegmentType.LOAD), default=0)
    return _up(top, align) + start % align


def _with_segment(layout: Layout, rows: list[Row], slot: int, segment: Row) -> tuple[Row, ...]:
    """Return the program headers with the segment's: behind those of the others, which ascend.

    Not as the last of all: patchelf takes the last one for its own, and makes it longer.
    """
    if slot < len(rows):
        del rows[slot]
    else:
        rows = [_longer(row, layout.row_size) if row.type == PHDR else row for row in rows]
    last = max((number for number, row in enumerate(rows) if row.type == SegmentType.LOAD), default=0)
    return (*rows[: last + 1], segment, *rows[last + 1 :])


def _longer(row: Row, size: int) -> Row:
    return row._replace(file_size=row.file_size + size, memory_size=row.memory_size + size)


def _alignment(layout: Layout) -> int:
    """Return the largest page that the file was linked for."""
    aligns = [row.align for row in layout.loads if row.align and row.align & (row.align - 1) == 0]
    return max([_PAGE, *aligns])


def _up(number: int, align: int) -> int:
    return -(-number // align) * align
