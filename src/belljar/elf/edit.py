"""Editing what an ELF file says to its loader: bytes and wishes in, splices out.

Problem: patchelf grows a file at each call, breaks some with `strip`, and needs section headers.

Approach, from what costs nothing to what costs a segment: a name takes the bytes of the one that it
replaces, as far as they are nobody else's, or those of a name that is there already; the string table or
the dynamic segment move into padding; else both move into one segment at the file's end
(`elf/strings.py`, `elf/parts.py`, `elf/place.py`). Program headers, tags, section headers where there
are any and the symbol _DYNAMIC follow. Code and data never move, and no symbol is renamed, so hash tables
and relocations stay as they are.

Nothing is written here: the splices say what to put where, and which bytes stand there now.
"""

from collections.abc import Sequence
from functools import cached_property, reduce

from belljar.elf.const import Tag
from belljar.elf.layout import ENTRY, NOBITS, PHNUM_AT, SHOFF_AT, Layout
from belljar.elf.names import (
    AddNeeded,
    AddRunpath,
    Edit,
    EditRefused,
    Names,
    PathTag,
    RemoveNeeded,
    RemoveRunpath,
    ReplaceNeeded,
    SetInterpreter,
    SetRunpath,
    SetSoname,
)
from belljar.elf.overlay import Overlay
from belljar.elf.parts import (
    MOVABLE_TAGS,
    RLD_MAP_REL,
    Move,
    Part,
    dynamic_part,
    moved_address,
    moved_section,
    strings_part,
)
from belljar.elf.place import Placement, Want, place
from belljar.elf.strings import STRING_TAGS, References, StringTable, read_table, version_names
from belljar.splice import Splice

__all__ = [
    "AddNeeded",
    "AddRunpath",
    "Edit",
    "EditRefused",
    "PathTag",
    "RemoveNeeded",
    "RemoveRunpath",
    "ReplaceNeeded",
    "SetInterpreter",
    "SetRunpath",
    "SetSoname",
    "edit",
]

Entry = tuple[int, int]
Wish = tuple[int, int | bytes]
"""A dynamic entry whose string may not have a place yet."""
_SPARE_ENTRIES = 4
_STRSZ = int(Tag.STRSZ)
_SYMBOL_TABLES = (2, 11)
_PIE = 0x08000000
_EXEC = 2


def edit(image: bytes | memoryview, edits: Sequence[Edit]) -> tuple[Splice, ...]:
    """Return what to change in a file so that all edits, in their order, are made; nothing when they are.

    Takes anything with a buffer, a mapped file too. Raises ElfError when the file is damaged,
    EditRefused when it is sound but an edit is not to be made.
    """
    layout = Layout(image)
    state = _State(layout)
    before = state.names(versioned=any(isinstance(wish, ReplaceNeeded | RemoveNeeded) for wish in edits))
    after = reduce(lambda names, wish: wish.apply(names), edits, before)
    if after == before:
        return ()
    _demand_contents(layout)
    return state.change(before, after)


class _State:
    """A file on its way from some names to others."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.overlay = Overlay(layout.view)
        self.strings = strings_part(layout) if Tag.STRTAB in layout.values else None
        self.dynamic = dynamic_part(layout.dynamic) if layout.dynamic is not None else None
        self.strings_at, data = read_table(layout)
        self.table = StringTable(data)

    @cached_property
    def versions(self) -> list[tuple[int, int, bool]]:
        """Where the version tables name something: offset of the field, offset of the name, is a library."""
        return version_names(self.layout)

    def names(self, *, versioned: bool) -> Names:
        """Return the names that the file has; the libraries of symbol versions only where they matter."""
        values = self.layout.values
        name = self.table.name
        path = self._interpreter()
        is_pie = bool(values.get(Tag.FLAGS_1, 0) & _PIE)
        return Names(
            needed=tuple(name(value) for tag, value in self.layout.entries if tag == Tag.NEEDED),
            soname=name(values[Tag.SONAME]) if Tag.SONAME in values else None,
            rpath=name(values[Tag.RPATH]) if Tag.RPATH in values else None,
            runpath=name(values[Tag.RUNPATH]) if Tag.RUNPATH in values else None,
            interpreter=path,
            versioned=tuple(name(at) for _, at, is_library in self.versions if is_library)
            if versioned
            else (),
            # A program without interpreter relocates itself (static-pie): its dynamic segment has no reader.
            is_dynamic=self.layout.dynamic is not None and (path is not None or not is_pie),
            is_program=self.layout.kind == _EXEC or is_pie or (path is not None and Tag.SONAME not in values),
        )

    def change(self, before: Names, after: Names) -> tuple[Splice, ...]:
        """Return the splices that lead from the names before to those after."""
        wishes = self._wishes(before, after)
        entries = self._name(wishes, before, after)
        wants = [*self._strings(), *self._entries(entries), *self._interpreted(before, after)]
        placement = place(self.layout, wants) if wants else Placement(moves=(), rows=tuple(self.layout.rows))
        self._write(placement, entries, after)
        return self.overlay.splices()

    def _interpreter(self) -> bytes | None:
        row = self.layout.interpreter
        if row is None:
            return None
        return bytes(self.layout.view.slice(row.offset, row.file_size, "interpreter")).partition(b"\0")[0]

    def _wishes(self, before: Names, after: Names) -> list[Wish]:
        """Return the dynamic entries that are wanted, those that stay in their order."""
        found: list[Wish] = list(self.layout.entries)
        if after.needed != before.needed:
            offsets = {
                self.table.name(value): value for tag, value in self.layout.entries if tag == Tag.NEEDED
            }
            wanted: list[Wish] = [(Tag.NEEDED, offsets.get(name, name)) for name in after.needed]
            places = [number for number, (tag, _) in enumerate(found) if tag == Tag.NEEDED]
            found = _replaced(found, places, wanted)
        for tag, old, new in (
            (Tag.SONAME, before.soname, after.soname),
            (Tag.RPATH, before.rpath, after.rpath),
            (Tag.RUNPATH, before.runpath, after.runpath),
        ):
            if old != new:
                places = [number for number, (known, _) in enumerate(found) if known == tag]
                found = _replaced(found, places or [len(found)], [] if new is None else [(tag, new)])
        return found

    def _name(self, wishes: Sequence[Wish], before: Names, after: Names) -> list[Entry]:
        """Find or make room for all names, and return the entries with their offsets."""
        renamed = self._renamed(before, after) if before.versioned != after.versioned else {}
        wanted = {value for _, value in wishes if isinstance(value, bytes)}
        wanted |= {new for _, new in renamed.values()}
        kept = {value for tag, value in wishes if tag in STRING_TAGS and isinstance(value, int)}
        there = {value for tag, value in self.layout.entries if tag in STRING_TAGS}
        dropped = (there | {value for value, _ in renamed.values()}) - kept

        def others() -> set[int]:
            return kept | {value for at, value, _ in self.versions if at not in renamed}

        places = self.table.replace(dropped, wanted, References(self.layout, others))
        for at, (_, new) in renamed.items():
            self.overlay.write(at, self.layout.pack("I", [(places[new],)]))
        return [(tag, value if isinstance(value, int) else places[value]) for tag, value in wishes]

    def _renamed(self, before: Names, after: Names) -> dict[int, tuple[int, bytes]]:
        """Return by field of a version table which name's offset stands there, and the name that shall."""
        fields = [(at, value) for at, value, is_library in self.versions if is_library]
        pairs = zip(fields, before.versioned, after.versioned, strict=True)
        return {at: (value, new) for (at, value), old, new in pairs if old != new}

    def _strings(self) -> list[Want]:
        """Write the string table in place; or return that it wants another one."""
        table, at = self.table, self.strings_at
        for span in table.freed:
            self.overlay.write(at + span.start, bytes(len(span)))
        if not table.has_grown:
            for span in table.filled:
                self.overlay.write(at + span.start, bytes(table.bytes[span.start : span.stop]))
            return []
        if self.strings is None:
            raise EditRefused("has no string table for names")
        size = len(table.bytes)
        slack = min(256 + size // 8, 4096)
        return [Want(part=self.strings, size=size, slack=slack)]

    def _entries(self, entries: Sequence[Entry]) -> list[Want]:
        """Return whether the dynamic segment wants another place."""
        if len(entries) <= self.layout.capacity or self.dynamic is None:
            return []
        size = (len(entries) + 1 + _SPARE_ENTRIES) * self.layout.view.size(ENTRY[self.layout.wide])
        return [Want(part=self.dynamic, size=size, is_written=True)]

    def _interpreted(self, before: Names, after: Names) -> list[Want]:
        """Write the interpreter's path in place; or return that it wants another one."""
        row = self.layout.interpreter
        if row is None or after.interpreter is None or after.interpreter == before.interpreter:
            return []
        if len(after.interpreter) < row.file_size:
            self.overlay.write(row.offset, after.interpreter.ljust(row.file_size, b"\0"))
            return []
        self.overlay.write(row.offset, bytes(row.file_size))
        part = Part(offset=row.offset, address=row.address, size=row.file_size)
        return [Want(part=part, size=len(after.interpreter) + 1)]

    def _write(self, placement: Placement, entries: Sequence[Entry], after: Names) -> None:
        """Write what moves to its new place, and all headers."""
        moves = placement.moves
        self._write_dynamic_symbol(moves)
        contents = [(move, self._content(move, entries, after, moves)) for move in moves]
        tail = placement.tail
        behind = b"" if tail is None else self.overlay.read(tail.start, tail.size, "tail")
        if placement.fresh:
            self._clear(moves)
            self.overlay.write(placement.fresh.start, bytes(len(placement.fresh)))
        for move, content in contents:
            self.overlay.write(move.offset, content.ljust(move.size, b"\0"))
        if tail is not None:
            self.overlay.write(tail.start + tail.shift, behind)
        if self.dynamic is not None and _moved(self.dynamic, moves) is None:
            self.overlay.write(self.dynamic.offset, self._packed(entries, moves))
        self._write_headers(placement)

    def _clear(self, moves: Sequence[Move]) -> None:
        """Zero what stood behind the program headers, so that the next one finds room there.

        Not the dynamic segment: code that was linked to its address may read it.
        """
        for move in moves:
            if move.part.is_exact and move.part != self.dynamic:
                self.overlay.write(move.part.offset, bytes(move.part.size))

    def _content(self, move: Move, entries: Sequence[Entry], after: Names, moves: Sequence[Move]) -> bytes:
        layout, part = self.layout, move.part
        if part == self.dynamic:
            return self._packed(entries, moves)
        if part == self.strings:
            return bytes(self.table.bytes)
        if (
            layout.interpreter is not None
            and part.offset == layout.interpreter.offset
            and move.size > part.size
        ):
            return (after.interpreter or b"") + b"\0"
        return self.overlay.read(part.offset, part.size, "part")

    def _packed(self, entries: Sequence[Entry], moves: Sequence[Move]) -> bytes:
        """Return the dynamic entries, DT_NULL in the place of those that are gone."""
        layout, part = self.layout, self.dynamic
        assert part is not None
        size = layout.view.size(ENTRY[layout.wide])
        move = _moved(part, moves)
        here = part.address if move is None else move.address
        moved = []
        for number, entry in enumerate(entries):
            tag, value = entry
            if tag in MOVABLE_TAGS:
                value = moved_address(value, moves)
            elif tag == _STRSZ:
                value = self._size_of_strings(moves)
            elif tag == RLD_MAP_REL:
                old = next(place for place, (known, _) in enumerate(layout.entries) if known == tag)
                shift = here + number * size - part.address - old * size
                value = (value - shift) % (1 << (64 if layout.wide else 32))
            moved.append((tag, value))
        nulls = max(len(layout.entries) - len(moved), 0)
        return layout.pack(ENTRY[layout.wide], moved) + bytes(nulls * size)

    def _size_of_strings(self, moves: Sequence[Move]) -> int:
        move = None if self.strings is None else _moved(self.strings, moves)
        return self.layout.values.get(Tag.STRSZ, 0) if move is None else move.size

    def _write_dynamic_symbol(self, moves: Sequence[Move]) -> None:
        """Let the symbol _DYNAMIC follow, in the symbol tables that have it."""
        layout = self.layout
        move = None if self.dynamic is None else _moved(self.dynamic, moves)
        if move is None:
            return
        entry, value_at = (24, 8) if layout.wide else (16, 4)
        for section in layout.sections:
            if section.type not in _SYMBOL_TABLES or section.link >= len(layout.sections):
                continue
            names = layout.sections[section.link]
            at = bytes(layout.view.slice(names.offset, names.size, "names")).find(b"\0_DYNAMIC\0") + 1
            table = layout.view.slice(section.offset, section.size // entry * entry, "symbols")
            wanted, start = layout.pack("I", [(at,)]), -1
            while at and (start := bytes(table).find(wanted, start + 1)) >= 0:
                if start % entry == 0:
                    new = layout.pack("Q" if layout.wide else "I", [(move.address,)])
                    self.overlay.write(section.offset + start + value_at, new)

    def _write_headers(self, placement: Placement) -> None:
        layout = self.layout
        if len(placement.rows) != len(layout.rows):
            self.overlay.write(layout.table, layout.pack_rows(placement.rows))
            self.overlay.write(PHNUM_AT[layout.wide], layout.pack("H", [(len(placement.rows),)]))
        else:
            for number, (old, new) in enumerate(zip(layout.rows, placement.rows, strict=True)):
                if old != new:
                    self.overlay.write(layout.table + number * layout.row_size, layout.pack_rows([new]))
        self._write_section_headers(placement)

    def _write_section_headers(self, placement: Placement) -> None:
        layout, tail, table = self.layout, placement.tail, self.layout.section_table
        if tail is not None and tail.start <= table:
            table += tail.shift
            self.overlay.write(SHOFF_AT[layout.wide], layout.pack("Q" if layout.wide else "I", [(table,)]))
        changed = {}
        if tail is not None:
            changed = {number: tail.moved(row) for number, row in enumerate(layout.sections)}
        for move in placement.moves:
            start, end = move.part.offset, move.part.end
            for number, row in layout.loaded_sections:
                if start <= row[4] < end:
                    changed[number] = moved_section(row, move)
        for number, row in changed.items():
            if row != layout.sections[number]:
                packed = layout.pack_section(row)
                self.overlay.write(table + number * len(packed), packed)


def _moved(part: Part, moves: Sequence[Move]) -> Move | None:
    return next((move for move in moves if move.part == part), None)


def _replaced(found: Sequence[Wish], places: Sequence[int], wanted: Sequence[Wish]) -> list[Wish]:
    """Put the wanted entries into these places, more of them after the last; places left over go."""
    if not places:
        return [*wanted, *found]
    result, last = list(found), len(places) - 1
    result[places[last] : places[last] + 1] = wanted[last:]
    for number in reversed(range(last)):
        result[places[number] : places[number] + 1] = wanted[number : number + 1]
    return result


def _demand_contents(layout: Layout) -> None:
    """Refuse a file whose sections say that its contents were taken out (objcopy --only-keep-debug)."""
    row = layout.dynamic or layout.interpreter
    for section in layout.sections if row is not None else ():
        if section.type == NOBITS and section.size and row is not None and section.address == row.address:
            raise EditRefused("holds debug information only: what would be edited is not in it")
