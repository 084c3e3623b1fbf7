"""Making a program find its loader by itself, in its own directory's neighbourhood, whatever the host has.

The kernel takes a PT_INTERP as it is written: absolute, or relative to the working directory. So the program
loses it. Its place among the program headers goes to one PT_LOAD at the end of the file, which holds the stub
(seal/stub/stub.c) and its configuration; the stub is the new entry. It maps the loader that lies beside
the program, gives it the headers with a PT_INTERP in that place, and jumps to it. There is one exec and
no wrapper: /proc/self/exe, argv[0], the process's name, debuggers and core files see the program itself.

The program headers stay where they are (kernels before 5.18 compute AT_PHDR from the first PT_LOAD), no text
is written, and a section covers the segment, so that `strip` keeps it. What the program was is recorded
behind the configuration: `unembed` gives every byte back. Files that carry data behind their sections:
belljar.seal.padded.

Rejected: a wrapper that executes the loader (the program's name becomes the loader's, /proc/self/exe too);
rewriting PT_INTERP at each start (needs a writable file, races); the loader's path relative to the working
directory. Figures and the comparison with other tools: docs/sealing.md.
"""

import struct
from collections.abc import Mapping

from belljar.elf.const import SegmentType, Tag
from belljar.elf.errors import ElfError
from belljar.elf.layout import Layout, Row, SectionRow
from belljar.elf.names import EditRefused
from belljar.elf.sealed import CONFIG, MAGIC, Seal, find
from belljar.seal import padded
from belljar.seal.blob import PAGES, code_of
from belljar.splice import Splice

SECTION = b".belljar.seal"
"""The section that covers what was added."""

_UNDO_MAGIC = b"BELLUNDO"
# Magic, size of the file, e_shoff, e_shnum, e_phnum; the program headers follow.
_UNDO = struct.Struct("<8s2Q2H")
_WORD, _SHORT, _ROW_SIZE = struct.Struct("<Q"), struct.Struct("<H"), 56
_ENTRY_AT, _SECTIONS_AT, _SECTION_COUNT_AT, _STRINGS_AT = 24, 40, 60, 62
_WRITE, _READ_EXECUTE, _PROGBITS, _ALLOC_EXECUTE = 2, 5, 1, 6
_INTERPRETER = struct.pack("<I", SegmentType.INTERP)
_VERNEEDNUM = 0x6FFFFFFF


def embed(image: bytes, seal: Seal) -> tuple[Splice, ...]:
    """Return the edits that seal a program.

    Raises ElfError for a damaged file, EditRefused, with the reason, for one that cannot be sealed: no
    PT_INTERP, another machine, sealed already, data behind what its headers tell of and no room before it.
    """
    layout = Layout(image)
    number = _demand_sealable(image, layout)
    if padded.data_behind(image, layout):
        return padded.embed(image, layout, number, seal)
    page, stub = PAGES[layout.machine], code_of("stub", layout.machine)
    rows = [row for at, row in enumerate(layout.rows) if at != number]
    slot = 1 + max(at for at, row in enumerate(rows) if row.type == SegmentType.LOAD)
    start = _up(len(image), page)
    address = max(_up(row.memory_end, page) for row in layout.loads)
    config = CONFIG.pack(MAGIC, address + len(stub), _word(image, _ENTRY_AT), slot)
    blob = stub + config + seal.to_bytes() + _undo(image, layout)
    segment = Row(SegmentType.LOAD, _READ_EXECUTE, start, address, address, len(blob), len(blob), page)
    rows.insert(slot, segment)
    appended = bytes(start - len(image)) + blob
    edits = {_ENTRY_AT: _WORD.pack(address), layout.table: layout.pack_rows(rows)}
    if layout.sections:
        strings, headers, at = _section_tables(image, layout, segment)
        appended += strings + headers
        edits[_SECTIONS_AT] = _WORD.pack(at)
        edits[_SECTION_COUNT_AT] = _SHORT.pack(len(layout.sections) + 1)
    return (*_changes(image, edits), Splice(offset=len(image), old=b"", new=appended))


def unembed(image: bytes) -> tuple[Splice, ...]:
    """Return the edits that give a sealed program back as it was, every byte.

    Raises EditRefused when it is not sealed, or was changed in its size since (by `strip`): its headers
    can then not be put back.
    """
    found = find(image)
    if found is None:
        raise EditRefused("is not sealed")
    layout = Layout(image)
    try:
        _, size = Seal.from_bytes(image[found + CONFIG.size :])
        at = found + CONFIG.size + size
        if image[at : at + len(padded.UNDO_MAGIC)] == padded.UNDO_MAGIC:
            return padded.unembed(image, layout, found, at)
        magic, length, sections, count, number = _UNDO.unpack_from(image, at)
    except (ValueError, struct.error) as error:
        raise EditRefused("has a seal that is damaged: what it was is no longer known") from error
    rows = image[at + _UNDO.size :][: number * _ROW_SIZE]
    slot = CONFIG.unpack_from(image, found)[3]
    if magic != _UNDO_MAGIC or not _is_as_sealed(layout, slot, rows, length):
        raise EditRefused("was changed since it was sealed: what it was is no longer known")
    edits = {
        _ENTRY_AT: _WORD.pack(CONFIG.unpack_from(image, found)[2]),
        _SECTIONS_AT: _WORD.pack(sections),
        _SECTION_COUNT_AT: _SHORT.pack(count),
        layout.table: rows,
    }
    return (*_changes(image, edits), Splice(offset=length, old=image[length:], new=b""))


def _is_as_sealed(layout: Layout, slot: int, rows: bytes, length: int) -> bool:
    """Whether the headers are those of `embed`: nobody has moved anything since."""
    if slot >= len(layout.rows) or layout.rows[slot].offset != _up(length, layout.rows[slot].align):
        return False
    each = (rows[at : at + _ROW_SIZE] for at in range(0, len(rows), _ROW_SIZE))
    before = [row for row in each if row[:4] != _INTERPRETER]
    after = [layout.pack_rows([row]) for at, row in enumerate(layout.rows) if at != slot]
    return before == after


def _demand_sealable(image: bytes, layout: Layout) -> int:
    """Return the number of the header of PT_INTERP; refuse what cannot be sealed."""
    if layout.machine not in PAGES or not layout.wide or layout.view.order != "<":
        raise EditRefused("is for a machine that belljar has no stub for (x86-64, aarch64)")
    if find(image) is not None:
        raise EditRefused("is sealed already")
    numbers = [at for at, row in enumerate(layout.rows) if row.type == SegmentType.INTERP]
    if not numbers:
        raise EditRefused("has no interpreter: it is static, or no program")
    if layout.dynamic is None or not any(
        row.flags & _WRITE and row.address <= layout.dynamic.address < row.memory_end for row in layout.loads
    ):
        raise EditRefused("has a dynamic segment that cannot be written to: its search path cannot be set")
    spare = layout.capacity > len(layout.entries)
    if not spare and not {Tag.RPATH, Tag.RUNPATH, _VERNEEDNUM} & layout.values.keys():
        raise EditRefused("has no room for a search path in its dynamic segment")
    return numbers[0]


def _undo(image: bytes, layout: Layout) -> bytes:
    """Return what `unembed` needs to know."""
    sections, count = _word(image, _SECTIONS_AT), _SHORT.unpack_from(image, _SECTION_COUNT_AT)[0]
    head = _UNDO.pack(_UNDO_MAGIC, len(image), sections, count, len(layout.rows))
    return head + layout.pack_rows(layout.rows)


def _section_tables(image: bytes, layout: Layout, segment: Row) -> tuple[bytes, bytes, int]:
    """Return the sections' names and headers with one more, made to stand behind `segment`, and where."""
    number = _SHORT.unpack_from(image, _STRINGS_AT)[0]
    if number >= len(layout.sections):
        raise ElfError(f"section headers: the names are said to be in section {number}", offset=_STRINGS_AT)
    old = layout.sections[number]
    names = image[old.offset : old.offset + old.size] + SECTION + b"\0"
    here = segment.end
    headers = [*layout.sections]
    headers[number] = old._replace(offset=here, size=len(names))
    place = (segment.address, segment.offset, segment.file_size)
    headers.append(SectionRow(old.size, _PROGBITS, _ALLOC_EXECUTE, *place, 0, 0, 16, 0))
    at = _up(here + len(names), 8)
    return names.ljust(at - here, b"\0"), b"".join(map(layout.pack_section, headers)), at


def _changes(image: bytes, edits: Mapping[int, bytes]) -> tuple[Splice, ...]:
    """Return the splices that put bytes at offsets; nothing for what is there already."""
    every = (Splice(offset=at, old=image[at : at + len(new)], new=new) for at, new in sorted(edits.items()))
    return tuple(splice for splice in every if splice.old != splice.new)


def _word(image: bytes, at: int) -> int:
    value: int = _WORD.unpack_from(image, at)[0]
    return value


def _up(number: int, align: int) -> int:
    return -(-number // align) * align
