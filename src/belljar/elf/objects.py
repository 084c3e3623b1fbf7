"""Symbols of object files: what a linker sees.

An object (ET_REL) has no segments; its symbols stand in the section SHT_SYMTAB. Everything is
bounds-checked as in the rest of the room.
"""

from belljar.elf.const import Binding
from belljar.elf.errors import ElfError
from belljar.elf.reader import SECTION_HEADER, open_view
from belljar.elf.records import Symbol
from belljar.elf.symbols import SYMBOL
from belljar.elf.view import Strings, View

SYMTAB = 2
_FILE_HEADER = {False: "16xHHIIIIIHHHHHH", True: "16xHHIQQQIHHHHHH"}
_XINDEX_COUNT = 0


def object_symbols(data: bytes | memoryview) -> tuple[Symbol, ...]:
    """Return the symbols of an object that are not local, in their table's order.

    Raises ElfError when the bytes are no ELF file or a damaged one.
    """
    view = open_view(data)
    sections = read_sections(view)
    found: list[Symbol] = []
    for section in sections:
        if section[1] == SYMTAB:
            found += _symbols(view, section, sections)
    return tuple(found)


def read_sections(view: View) -> list[tuple[int, ...]]:
    """Return the section headers; none when there is no table."""
    fields = view.record(_FILE_HEADER[view.wide], 0, "ELF header")
    table, size, count = fields[5], fields[10], fields[11]
    form = SECTION_HEADER[view.wide]
    if table == 0:
        return []
    if size != view.size(form):
        raise ElfError(f"section headers: entries of {size} bytes", offset=table)
    if count == _XINDEX_COUNT:
        count = view.record(form, table, "section header 0")[5]
    return list(view.records(form, table, count, "section headers"))


def _symbols(view: View, section: tuple[int, ...], sections: list[tuple[int, ...]]) -> list[Symbol]:
    _, _, _, _, offset, size, link, first, _, _ = section
    form = SYMBOL[view.wide]
    if link >= len(sections):
        raise ElfError(f"symbol table: section {link} for its names is not there", offset=offset)
    strings = Strings(view, sections[link][4], sections[link][5])
    count = size // view.size(form)
    first = min(first, count)
    at = offset + first * view.size(form)
    found = []
    for fields in view.records(form, at, count - first, "symbol table"):
        name, info, place = (
            (fields[0], fields[1], fields[3]) if view.wide else (fields[0], fields[3], fields[5])
        )
        if info >> 4 != Binding.LOCAL:
            found.append(Symbol(strings[name], info >> 4, info & 15, place != 0, None, None, 1, False))
    return found
