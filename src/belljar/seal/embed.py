"""Making a program find its loader by itself, in its own directory's neighbourhood, whatever the host has.

The kernel takes a PT_INTERP as it is written: absolute, or relative to the working directory. So the program
loses it. Its place among the program headers goes to one PT_LOAD at the end of the file, which holds the stub
(seal/stub/stub.c) and its configuration; the stub is the new entry. It maps the loader that lies beside
the program, gives it the headers with a PT_INTERP in that place, and jumps to it. There is one exec and
no wrapper: /proc/self/exe, argv[0], the process's name, debuggers and core files see the program itself.

The program headers stay where they are (kernels before 5.18 compute AT_PHDR from the first PT_LOAD), no text
is written, and a section covers the segment, so that `strip` keeps it. What the program was is recorded
behind the configuration: `unembed` gives every byte back.

Rejected: a wrapper that executes the loader (the program's name becomes the loader's, /proc/self/exe too);
rewriting PT_INTERP at each start (needs a writable file, races); the loader's path relative to the working
directory. Figures and the comparison with other tools: docs/sealing.md.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from belljar.elf.const import Machine, SegmentType, Tag
from belljar.elf.errors import ElfError
from belljar.elf.layout import NOBITS, Layout, Row, SectionRow
from belljar.elf.names import EditRefused
from belljar.splice import Splice

SECTION = b".belljar.seal"
"""The section that covers what was added."""

_MAGIC, _UNDO_MAGIC = b"BELLJAR1", b"BELLUNDO"
_CONFIG = struct.Struct(
    "<8s3Q"
)  # magic, its own address, the program's entry, the number of its program header
_UNDO = struct.Struct(
    "<8s2Q2H"
)  # magic, size of the file, e_shoff, e_shnum, e_phnum; the program headers follow
_WORD, _SHORT, _ROW_SIZE = struct.Struct("<Q"), struct.Struct("<H"), 56
_ENTRY_AT, _SECTIONS_AT, _SECTION_COUNT_AT, _STRINGS_AT = 24, 40, 60, 62
_STUBS = {Machine.X86_64: ("x86_64", 0x1000), Machine.AARCH64: ("aarch64", 0x10000)}
_WRITE, _READ_EXECUTE, _PROGBITS, _ALLOC_EXECUTE = 2, 5, 1, 6
_INTERPRETER = struct.pack("<I", SegmentType.INTERP)
_VERNEEDNUM, _PATH_LIMIT, _VARIABLE_LIMIT = 0x6FFFFFFF, 1024, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a program is sealed with; paths are relative to the program's directory (`../lib/ld.so`).

    `directories` are searched for libraries before any other; `variables` are set to the absolute
    form of their paths when the program starts.
    """

    loader: str
    directories: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the configuration's strings as the stub reads them; raises ValueError for what it cannot."""
        names = [word for name, path in self.variables.items() for word in (f"{name}=", _slashed(path))]
        lists = [[_slashed(self.loader), *map(_slashed, self.directories)], names]
        words = [word.encode(errors="surrogateescape") for item in lists for word in [*item, ""]]
        if any(b"\0" in word or len(word) > _PATH_LIMIT for word in words):
            raise ValueError(f"a path of more than {_PATH_LIMIT} bytes, or with a NUL")
        if len(self.variables) > _VARIABLE_LIMIT or any("=" in name or not name for name in self.variables):
            raise ValueError("variables: too many, or names that are none")
        return b"".join(word + b"\0" for word in words)

    @classmethod
    def from_bytes(cls, data: bytes) -> "tuple[Seal, int]":
        """Read what `to_bytes` wrote; return it and its size. Raises ValueError where it is damaged."""
        lists: list[list[str]] = []
        at = 0
        while len(lists) < 2:  # paths, variables
            words = []
            while (end := data.index(b"\0", at)) > at:
                words.append(data[at:end].decode(errors="surrogateescape"))
                at = end + 1
            at += 1
            lists.append(words)
        (loader, *directories), names = lists
        pairs = dict(zip(names[::2], names[1::2], strict=True))
        return cls(
            loader=loader.removeprefix("/"),
            directories=tuple(item.removeprefix("/") for item in directories),
            variables={name.removesuffix("="): path.removeprefix("/") for name, path in pairs.items()},
        ), at


def _slashed(path: str) -> str:
    if not path or path.startswith("/"):
        raise ValueError(f"{path!r}: not relative to the program's directory")
    return f"/{path}"


def embed(image: bytes, seal: Seal) -> tuple[Splice, ...]:
    """Return the edits that seal a program.

    Raises ElfError for a damaged file, EditRefused, with the reason, for one that cannot be sealed: no
    PT_INTERP, another machine, sealed already, data behind what its headers tell of.
    """
    layout = Layout(image)
    number = _demand_sealable(image, layout)
    name, page = _STUBS[Machine(layout.machine)]
    stub = files("belljar.seal").joinpath(f"stub/{name}.bin").read_bytes()
    rows = [row for at, row in enumerate(layout.rows) if at != number]
    slot = 1 + max(at for at, row in enumerate(rows) if row.type == SegmentType.LOAD)
    start = _up(len(image), page)
    address = max(_up(row.memory_end, page) for row in layout.loads)
    config = _CONFIG.pack(_MAGIC, address + len(stub), _word(image, _ENTRY_AT), slot)
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


def seal_of(image: bytes) -> Seal | None:
    """Return what a program is sealed with; None for one that is not."""
    try:
        found = _find(image)
        return None if found is None else Seal.from_bytes(image[found + _CONFIG.size :])[0]
    except (ElfError, EditRefused, ValueError):
        return None


def unembed(image: bytes) -> tuple[Splice, ...]:
    """Return the edits that give a sealed program back as it was, every byte.

    Raises EditRefused when it is not sealed, or was changed in its size since (by `strip`): its headers
    can then not be put back.
    """
    found = _find(image)
    if found is None:
        raise EditRefused("is not sealed")
    layout = Layout(image)
    try:
        _, size = Seal.from_bytes(image[found + _CONFIG.size :])
        at = found + _CONFIG.size + size
        magic, length, sections, count, number = _UNDO.unpack_from(image, at)
    except (ValueError, struct.error) as error:
        raise EditRefused("has a seal that is damaged: what it was is no longer known") from error
    rows = image[at + _UNDO.size :][: number * _ROW_SIZE]
    slot = _CONFIG.unpack_from(image, found)[3]
    if magic != _UNDO_MAGIC or not _is_as_sealed(layout, slot, rows, length):
        raise EditRefused("was changed since it was sealed: what it was is no longer known")
    edits = {
        _ENTRY_AT: _WORD.pack(_CONFIG.unpack_from(image, found)[2]),
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
    if layout.machine not in _STUBS or not layout.wide or layout.view.order != "<":
        raise EditRefused("is for a machine that belljar has no stub for (x86-64, aarch64)")
    if _find(image) is not None:
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
    end = max(layout.sections_end, layout.table_end, *(row.end for row in layout.rows))
    end = max([end, *(row.offset + row.size for row in layout.sections if row.type != NOBITS)])
    if any(image[end:]):
        raise EditRefused(
            f"carries {len(image) - end} bytes behind its sections, which it may look for at the file's end"
        )
    return numbers[0]


def _find(image: bytes) -> int | None:
    """Return the offset of the configuration in a sealed program; the entry leads to it."""
    layout = Layout(image)
    if not layout.wide:
        return None
    entry = _word(image, _ENTRY_AT)
    for row in layout.loads:
        at = image.find(_MAGIC, row.offset, row.end) if row.address == entry else -1
        if at >= 0 and at + _CONFIG.size <= row.end:
            address = _CONFIG.unpack_from(image, at)[1]
            return at if address == row.address + at - row.offset else None
    return None


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
