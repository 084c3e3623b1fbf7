"""Who refers to a symbol: relocations, and in object files the symbols in which they lie.

Relocations of an object's sections that are not loaded (debug information) and of unwind tables tell
nothing about the code and are left out. Everything is bounds-checked as in the rest of the room.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Set
from typing import NamedTuple

from belljar.elf.const import Tag
from belljar.elf.objects import SYMTAB, read_sections
from belljar.elf.reader import open_view
from belljar.elf.records import Elf
from belljar.elf.symbols import SYMBOL
from belljar.elf.view import Strings, View

_RELA, _REL, _ALLOC = 4, 9, 2
_DT_RELA = 7
_RELOCATION = {(False, _REL): "II", (False, _RELA): "IIi", (True, _REL): "QQ", (True, _RELA): "QQq"}
_HOLDERS = (1, 2)
"""Symbols of objects and functions (gABI, STT_OBJECT, STT_FUNC)."""
_UNWIND = ".eh_frame"
_NAMES = {False: 50, True: 62}
"""Where the ELF header has the number of the section with the sections' names (e_shstrndx)."""


class Reference(NamedTuple):
    """A relocation's symbol, and where it lies: section, offset in it, the function or object ("": none)."""

    symbol: str
    section: str
    offset: int
    holder: str


class Word(NamedTuple):
    """A word that the loader fills by a symbol; the relocation's type says how."""

    symbol: str
    address: int
    type: int


class _Holder(NamedTuple):
    start: int
    end: int
    name: str


def words_of(data: bytes | memoryview, elf: Elf, names: Set[str]) -> Iterator[Word]:
    """Yield the words of a program or library that the loader fills by dynamic symbols of these names.

    Raises ElfError when a table is not within the file.
    """
    view = open_view(data)
    wanted = {number: item.name for number, item in enumerate(elf.symbols, 1) if item.name in names}
    entries = {entry.tag: entry.value for entry in elf.dynamic.entries} if elf.dynamic and wanted else {}
    is_rela = entries.get(Tag.PLTREL, _DT_RELA) == _DT_RELA
    for start, size, kind in (
        (Tag.RELA, Tag.RELASZ, _RELA),
        (Tag.REL, Tag.RELSZ, _REL),
        (Tag.JMPREL, Tag.PLTRELSZ, _RELA if is_rela else _REL),
    ):
        at = elf.offset_of(entries.get(start, 0)) if entries.get(start) else None
        form = _RELOCATION[view.wide, kind]
        count = entries.get(size, 0) // view.size(form)
        for address, info, *_ in view.records(form, at, count, "relocations") if at is not None else ():
            name = wanted.get(info >> (32 if view.wide else 8))
            if name is not None:
                yield Word(name, address, info & (0xFFFFFFFF if view.wide else 0xFF))


def sections_named(data: bytes | memoryview, prefix: str) -> tuple[tuple[int, int], ...]:
    """Return start and end of the sections whose name begins so; raises ElfError."""
    view = open_view(data)
    sections = read_sections(view)
    if not sections:
        return ()
    strings = _strings(view, sections, view.record("H", _NAMES[view.wide], "ELF header")[0])
    return tuple((row[3], row[3] + row[5]) for row in sections if strings[row[0]].startswith(prefix))


def object_references(data: bytes | memoryview, names: Set[str]) -> Iterator[Reference]:
    """Yield where an object refers to symbols of these names.

    Raises ElfError when the bytes are no ELF file or a damaged one.
    """
    view = open_view(data)
    sections = read_sections(view)
    strings = _strings(view, sections, view.record("H", _NAMES[view.wide], "ELF header")[0])
    tables: dict[int, tuple[dict[int, str], dict[int, list[_Holder]]]] = {}
    for row in sections:
        form = _RELOCATION.get((view.wide, row[1]))
        if form is None or max(row[6:8]) >= len(sections) or not sections[row[7]][2] & _ALLOC:
            continue
        section = strings[sections[row[7]][0]]
        if section == _UNWIND:
            continue
        if row[6] not in tables:
            tables[row[6]] = _symbols(view, sections, row[6], names)
        wanted, holders = tables[row[6]]
        for offset, info, *_ in view.records(form, row[4], row[5] // view.size(form), "relocations"):
            name = wanted.get(info >> (32 if view.wide else 8))
            if name is not None:
                yield Reference(name, section, offset, _holder(holders[row[7]], offset))


def _strings(view: View, sections: list[tuple[int, ...]], number: int) -> Strings:
    at, size = sections[number][4:6] if number < len(sections) else (0, 0)
    return Strings(view, at, size)


def _symbols(
    view: View, sections: list[tuple[int, ...]], number: int, names: Set[str]
) -> tuple[dict[int, str], dict[int, list[_Holder]]]:
    """Return the wanted symbols by number, and by section the functions and objects in it, sorted."""
    wanted: dict[int, str] = {}
    holders: dict[int, list[_Holder]] = defaultdict(list)
    row = sections[number]
    if row[1] != SYMTAB:
        return wanted, holders
    strings = _strings(view, sections, row[6])
    form = SYMBOL[view.wide]
    for index, fields in enumerate(view.records(form, row[4], row[5] // view.size(form), "symbol table")):
        if view.wide:
            name, info, _, place, value, size = fields
        else:
            name, value, size, info, _, place = fields
        if place == 0 and strings[name] in names:
            wanted[index] = strings[name]
        elif place and size and info & 15 in _HOLDERS:
            holders[place].append(_Holder(value, value + size, strings[name]))
    for found in holders.values():
        found.sort()
    return wanted, holders


def _holder(holders: list[_Holder], offset: int) -> str:
    number = bisect_right(holders, offset, key=lambda item: item.start) - 1
    return holders[number].name if number >= 0 and offset < holders[number].end else ""
