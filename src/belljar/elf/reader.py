"""Bytes to records: an ELF file as the kernel and the loader see it.

Section headers are for linkers and debuggers; a program runs without them, and a hostile one may
lie in them. So everything here comes from the program headers and the dynamic segment, its
addresses mapped through PT_LOAD, and a file says the same with its section headers and without.

Rejected: pyelftools, which reads sections first and is slower by an order of magnitude
(docs/dependencies.md); tests use it as oracle.
"""

from belljar.elf import versions
from belljar.elf.const import MAGIC, PN_XNUM, Class, Data, SegmentType, Tag
from belljar.elf.errors import ElfError
from belljar.elf.records import Dynamic, DynamicEntry, Elf, Header, Note, Segment
from belljar.elf.symbols import read_symbols
from belljar.elf.tables import Tables
from belljar.elf.view import Strings, View

_IDENT = 16
_FILE_HEADER = {False: "HHIIIIIHHHHHH", True: "HHIQQQIHHHHHH"}
_PROGRAM_HEADER = {False: "8I", True: "2I6Q"}
SECTION_HEADER = {False: "10I", True: "2I4Q2I2Q"}
_DYNAMIC = {False: "II", True: "QQ"}


def read(data: bytes | memoryview, *, exports: bool = True) -> Elf:
    """Return what the ELF file with these bytes says; without `exports`, not which symbols it defines.

    Raises ElfError, and nothing else, when they are no ELF file or a damaged one.
    """
    view = open_view(data)
    header, segments = read_headers(view)
    entries = read_dynamic(view, segments)
    tables = Tables(view=view, header=header, segments=segments, entries=entries)
    dynamic = None if entries is None else _name(tables.strings(), entries)
    needs = versions.read_needs(tables)
    definitions = versions.read_definitions(tables)
    return Elf(
        header=header,
        segments=segments,
        interpreter=_read_interpreter(view, segments),
        dynamic=dynamic,
        needs=needs,
        definitions=definitions,
        symbols=read_symbols(tables, needs, definitions, exports=exports),
        notes=_read_notes(view, segments),
    )


def open_view(whole: bytes | memoryview) -> View:
    """Return a view of a file whose first bytes say its class and byte order; raises ElfError."""
    data = memoryview(whole).cast("B")
    if bytes(data[:4]) != MAGIC:
        raise ElfError("not an ELF file", offset=0)
    if len(data) < _IDENT:
        raise ElfError("ELF header: cut short", offset=len(data))
    if data[4] not in (Class.ELF32, Class.ELF64):
        raise ElfError(f"ELF header: class {data[4]} is neither 32 nor 64 bits", offset=4)
    if data[5] not in (Data.LITTLE, Data.BIG):
        raise ElfError(f"ELF header: byte order {data[5]} is neither little nor big", offset=5)
    return View(data=data, order="<" if data[5] == Data.LITTLE else ">", wide=data[4] == Class.ELF64)


def read_headers(view: View) -> tuple[Header, tuple[Segment, ...]]:
    """Return the ELF header and the program headers."""
    fields = view.record(_FILE_HEADER[view.wide], _IDENT, "ELF header")
    kind, machine, _version, entry, table, sections, flags, _size, entry_size, count, *_ = fields
    if count == PN_XNUM:
        count = view.record(SECTION_HEADER[view.wide], sections, "section header 0")[7]
    if count and entry_size != view.size(_PROGRAM_HEADER[view.wide]):
        raise ElfError(f"program headers: entries of {entry_size} bytes", offset=table)
    header = Header(
        elf_class=view.data[4],
        data=view.data[5],
        os_abi=view.data[7],
        type=kind,
        machine=machine,
        flags=flags,
        entry=entry,
    )
    return header, _read_segments(view, table, count)


def _read_segments(view: View, table: int, count: int) -> tuple[Segment, ...]:
    rows = view.records(_PROGRAM_HEADER[view.wide], table, count, "program headers")
    if view.wide:
        found = [Segment(row[0], row[1], row[2], row[3], *row[5:]) for row in rows]
    else:
        found = [Segment(row[0], row[6], row[1], row[2], row[4], row[5], row[7]) for row in rows]
    for number, item in enumerate(found):
        if item.type == SegmentType.LOAD and item.offset + item.file_size > len(view.data):
            end = item.offset + item.file_size
            raise ElfError(
                f"segment {number}: ends at {end:#x}, the file at {len(view.data):#x}", offset=item.offset
            )
    return tuple(found)


def _read_interpreter(view: View, segments: tuple[Segment, ...]) -> str | None:
    for segment in segments:
        if segment.type == SegmentType.INTERP and segment.file_size:
            raw = bytes(view.slice(segment.offset, segment.file_size, "interpreter"))
            return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return None


def read_dynamic(view: View, segments: tuple[Segment, ...]) -> tuple[DynamicEntry, ...] | None:
    """Return the entries before DT_NULL; None when there is no dynamic segment in the file."""
    for segment in segments:
        if segment.type == SegmentType.DYNAMIC and segment.file_size:
            return _split_dynamic(view, segment)
    return None


def _split_dynamic(view: View, segment: Segment) -> tuple[DynamicEntry, ...]:
    start, size = segment.offset, view.size(_DYNAMIC[view.wide])
    words = view.words(start, segment.file_size // size * size, "dynamic segment")
    tags, values = words[::2], words[1::2]
    count = tags.index(Tag.NULL) if Tag.NULL in tags else len(tags)
    return tuple(map(DynamicEntry, tags[:count], values, range(start, start + count * size, size)))


def _name(strings: Strings, entries: tuple[DynamicEntry, ...]) -> Dynamic:
    """Look up the strings of those entries that name something."""
    first = {tag: value for tag, value, _ in reversed(entries)}

    def name(tag: Tag) -> str | None:
        return strings[first[tag]] if tag in first else None

    return Dynamic(
        entries=entries,
        needed=tuple(strings[value] for tag, value, _ in entries if tag == Tag.NEEDED),
        soname=name(Tag.SONAME),
        rpath=name(Tag.RPATH),
        runpath=name(Tag.RUNPATH),
        flags=first.get(Tag.FLAGS, 0),
        flags_1=first.get(Tag.FLAGS_1, 0),
    )


def _read_notes(view: View, segments: tuple[Segment, ...]) -> tuple[Note, ...]:
    found = [segment for segment in segments if segment.type == SegmentType.NOTE]
    if sum(segment.file_size for segment in found) > len(view.data):
        raise ElfError("notes: more than the file holds", offset=found[0].offset)
    return tuple(note for segment in found for note in _split_notes(view, segment))


def _split_notes(view: View, segment: Segment) -> list[Note]:
    """Take a note segment apart; names and contents are padded to 4 bytes, or 8 where it says so.

    What does not fit ends it: the loader goes on too, and early patchelf moved notes without their headers.
    """
    pad = 8 if segment.align == 8 else 4
    at, end = segment.offset, segment.offset + segment.file_size
    notes: list[Note] = []
    while at + 12 <= end:
        name_size, size, kind = view.record("III", at, "note")
        content_at = at + _padded(12 + name_size, pad)
        if content_at + size > end:
            return notes
        name = bytes(view.slice(at + 12, name_size, "note")).rstrip(b"\0")
        content = bytes(view.slice(content_at, size, "note"))
        notes.append(Note(owner=name.decode("utf-8", "surrogateescape"), type=kind, content=content))
        at = content_at + _padded(size, pad)
    return notes


def _padded(size: int, pad: int) -> int:
    return -(-size // pad) * pad
