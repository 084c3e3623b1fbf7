"""Which parts of a file the loader looks at: what must be read of it to read it as `read` does.

Of a library of 100 MB, `read` touches the headers and the tables of the dynamic segment: often less
than one part in a hundred. With these extents in place, and anything at all elsewhere, `read` returns
the same as for the whole file.
"""

from collections.abc import Iterable

from belljar.elf.const import SegmentType, Tag
from belljar.elf.reader import open_view, read_dynamic, read_headers
from belljar.elf.symbols import count_by_tables
from belljar.elf.tables import Tables
from belljar.elf.view import View

Extent = tuple[int, int]
"""Offset and size in bytes."""

HEAD = 4096
"""How many bytes at the start of a file must be there before extents are asked for."""
_SMALL = (SegmentType.DYNAMIC, SegmentType.INTERP, SegmentType.NOTE)
_TABLES = (Tag.HASH, Tag.GNU_HASH, Tag.STRTAB, Tag.SYMTAB, Tag.VERSYM, Tag.VERDEF, Tag.VERNEED)
_RELOCATIONS = {Tag.RELA: Tag.RELASZ, Tag.REL: Tag.RELSZ, Tag.JMPREL: Tag.PLTRELSZ}
# All that marks an address, and so the end of the table before it.
_ADDRESSES = {*_TABLES, *_RELOCATIONS, 3, 12, 13, 21, 25, 26, 32, Tag.RELR}


def extents_of_segments(image: bytes | memoryview) -> tuple[Extent, ...]:
    """Return where the small segments lie, given a file whose first HEAD bytes are there.

    Raises ElfError for a damaged file, and for one whose program headers lie elsewhere.
    """
    view = open_view(image)
    _, segments = read_headers(view)
    return tuple((item.offset, item.file_size) for item in segments if item.type in _SMALL)


def extents_of_tables(image: bytes | memoryview) -> tuple[Extent, ...]:
    """Return where the tables of the dynamic segment lie, given a file that has its small segments too.

    Relocations are left out: see extents_of_relocations.
    """
    return _extents(image, _TABLES)


def extents_of_relocations(image: bytes | memoryview) -> tuple[Extent, ...]:
    """Return where the relocations lie, if `read` looks at them, given a file that has its tables too.

    It does where no table says how many symbols there are; relocations have many times their size.
    """
    view = open_view(image)
    header, segments = read_headers(view)
    tables = Tables(view=view, header=header, segments=segments, entries=read_dynamic(view, segments))
    is_counted = tables.start(Tag.SYMTAB) is None or count_by_tables(tables) is not None
    return () if is_counted else _extents(image, _RELOCATIONS)


def _extents(image: bytes | memoryview, tags: Iterable[Tag]) -> tuple[Extent, ...]:
    view = open_view(image)
    _, segments = read_headers(view)
    entries = read_dynamic(view, segments) or ()
    values = {entry.tag: entry.value for entry in entries}
    addresses = sorted(entry.value for entry in entries if entry.tag in _ADDRESSES)
    found = []
    for tag in tags:
        for load in segments:
            into = values.get(tag, -1) - load.address
            if load.type == SegmentType.LOAD and 0 <= into < load.file_size:
                end = load.address + load.file_size
                after = next((item for item in addresses if item > values[tag]), end)
                size = min(after, end) - values[tag]
                found.append((load.offset + into, max(size, _size(view, tag, values))))
                break
    return tuple(found)


def _size(view: View, tag: Tag, values: dict[int, int]) -> int:
    """Return the size that a table says of itself; 0 where its end is the next table's start."""
    sizes = _RELOCATIONS.get(tag, Tag.STRSZ if tag == Tag.STRTAB else None)
    return 0 if sizes is None else min(values.get(sizes, 0), len(view.data))
