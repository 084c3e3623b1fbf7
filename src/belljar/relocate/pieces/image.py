"""Where in an ELF file, or in an archive's members, something lies: section, machine, code or data.

Read by small pieces with pread, never as a whole: a library of 4 GB costs what its tables cost. Section
headers say most; a file that has none is seen by its segments, where code and constants may be mixed.
"""

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from belljar.elf import ElfError
from belljar.elf.const import Machine, Type
from belljar.elf.view import View

ARCHIVE = b"!<arch>\n"
_ELF = b"\x7fELF"
_MEMBER = 60
_HEADER = {False: "16xHHIIIIIHHHHHH", True: "16xHHIQQQIHHHHHH"}
_SECTION = {False: "10I", True: "2I4Q2I2Q"}
_SEGMENT = {False: "8I", True: "2I6Q"}
_NOBITS, _LOAD = 8, 1
_CODE_SECTION, _CODE_SEGMENT = 4, 1
_TABLE_LIMIT = 1 << 24
"""How many bytes of section headers or of their names are read."""
_NAME_LIMIT = 64
"""How many bytes of a section's name are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Bytes begin..end of a file: a section, or a segment where there are none.

    `address` is where it is loaded; `is_mixed`: it has constants beside code, as a segment may.
    """

    name: str
    begin: int
    end: int
    address: int
    is_code: bool
    is_mixed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An ELF file, `base` bytes into the file that holds it, with its regions: ascending, none overlaps."""

    base: int
    end: int
    machine: int
    is_linked: bool
    regions: tuple[Region, ...]

    @property
    def bits(self) -> int:
        """How wide x86 code is; 0: it is for another machine."""
        if self.machine == Machine.X86_64:
            return 64
        return 32 if self.machine == Machine.I386 else 0

    def __contains__(self, offset: int) -> bool:
        return self.base <= offset < self.end

    def address(self, offset: int) -> int:
        """Return the address that an offset of the file is loaded at."""
        region = self.region(offset)
        return region.address + offset - region.begin

    def region(self, offset: int) -> Region:
        """Return the region at an offset of the file; what lies between the regions has no name."""
        index = bisect_right(self.regions, offset, key=lambda region: region.begin) - 1
        if index >= 0 and offset < self.regions[index].end:
            return self.regions[index]
        return Region(name="", begin=self.base, end=self.end, address=0, is_code=False)


def images(fd: int, offsets: Iterable[int]) -> Iterator[Image]:
    """Yield the ELF files that hold the offsets: the file itself, or members of an archive.

    What is damaged or no ELF file is left out.
    """
    wanted = sorted(offsets)
    size = os.fstat(fd).st_size
    spans = [(0, size)] if os.pread(fd, 8, 0) != ARCHIVE else _members(fd, size, wanted)
    for begin, end in spans:
        try:
            yield _image(fd, begin, end)
        except (ElfError, OverflowError):
            continue


def _members(fd: int, size: int, wanted: list[int]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of an archive's members that hold one of the offsets (ar(5))."""
    at, left = len(ARCHIVE), iter(wanted)
    place = next(left, None)
    while place is not None and at + _MEMBER <= size:
        header = os.pread(fd, _MEMBER, at)
        length = header[48:58].strip()
        if header[58:60] != b"`\n" or not length.isdigit():
            return
        begin = at + _MEMBER
        if header.startswith(b"#1/") and header[3:16].strip().isdigit():  # BSD: the name comes first
            begin += int(header[3:16])
        end = min(at + _MEMBER + int(length), size)
        if begin <= place < end:
            yield begin, end
        while place is not None and place < end:
            place = next(left, None)
        at = end + (end & 1)


def _image(fd: int, base: int, end: int) -> Image:
    head = os.pread(fd, min(64, end - base), base)
    if head[:4] != _ELF or head[4:5] not in (b"\1", b"\2") or head[5:6] not in (b"\1", b"\2"):
        raise ElfError("not an ELF file", offset=base)
    view = View(data=memoryview(head), order="<" if head[5] == 1 else ">", wide=head[4] == 2)
    fields = view.record(_HEADER[view.wide], 0, "ELF header")
    machine, segments, sections = fields[1], fields[4], fields[5]
    regions: list[Region] = []
    if sections:
        regions = _sections(fd, base, end, view, sections, *fields[10:13])
    if not regions:
        regions = _segments(fd, base, end, view, segments, *fields[8:10])
    return Image(
        base=base, end=end, machine=machine, is_linked=fields[0] != Type.REL, regions=tuple(_apart(regions))
    )


def _apart(regions: list[Region]) -> Iterator[Region]:
    """Yield regions in order; what several claim, as no sound file has it, belongs to the first."""
    last = 0
    for region in sorted(regions, key=lambda region: region.begin):
        if region.end > last:
            lost = max(0, last - region.begin)
            yield replace(region, begin=region.begin + lost, address=region.address + lost)
            last = region.end


def _table(fd: int, base: int, end: int, view: View, at: int, size: int) -> View:
    if size > _TABLE_LIMIT or base + at + size > end:
        raise ElfError("table: not within the file", offset=at)
    return View(data=memoryview(os.pread(fd, size, base + at)), order=view.order, wide=view.wide)


def _sections(
    fd: int, base: int, end: int, view: View, at: int, size: int, count: int, names: int
) -> list[Region]:
    form = _SECTION[view.wide]
    if size != view.size(form):
        raise ElfError(f"section headers: entries of {size} bytes", offset=at)
    if count == 0 or names == 0xFFFF:
        first = _table(fd, base, end, view, at, size).record(form, 0, "section header 0")
        count, names = count or first[5], first[6] if names == 0xFFFF else names
    rows = list(_table(fd, base, end, view, at, size * count).records(form, 0, count, "section headers"))
    strings = b""
    if names < len(rows):
        strings = bytes(_table(fd, base, end, view, rows[names][4], rows[names][5]).data)
    found = []
    for row in rows[1:]:
        name, kind, flags, address, offset, length = row[:6]
        if kind != _NOBITS and length and base + offset + length <= end:
            text = strings[name : name + _NAME_LIMIT].partition(b"\0")[0].decode("utf-8", "replace")
            found.append(
                Region(
                    name=text,
                    begin=base + offset,
                    end=base + offset + length,
                    address=address,
                    is_code=bool(flags & _CODE_SECTION),
                )
            )
    return found


def _segments(fd: int, base: int, end: int, view: View, at: int, size: int, count: int) -> list[Region]:
    form = _SEGMENT[view.wide]
    if count and size != view.size(form):
        raise ElfError(f"program headers: entries of {size} bytes", offset=at)
    table = _table(fd, base, end, view, at, size * count)
    found = []
    for number, row in enumerate(table.records(form, 0, count, "program headers")):
        kind, flags, offset, address = row[:4] if view.wide else (row[0], row[6], row[1], row[2])
        length = row[5] if view.wide else row[4]
        if kind == _LOAD and length and base + offset + length <= end:
            found.append(
                Region(
                    name=f"segment {number}",
                    begin=base + offset,
                    end=base + offset + length,
                    address=address,
                    is_code=bool(flags & _CODE_SEGMENT),
                    is_mixed=True,
                )
            )
    return found
