"""What the parts of a file are called: sections of an ELF file, members of a static library.

Names are for people and for telling kinds of content apart; a file that is damaged, or none of the two, has
no parts, and nothing else changes. Section headers may lie: who relies on what a section is must look at
what stands there.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from belljar.elf import ElfError
from belljar.elf.objects import read_sections
from belljar.elf.reader import open_view
from belljar.elf.view import Strings

_AR, _AR_HEADER = b"!<arch>\n", 60
_NAMES = {False: 50, True: 62}
"""Where the ELF header has the number of the section with the sections' names (e_shstrndx)."""
_NOTE, _NOBITS, _STRTAB = 7, 8, 3
_ALLOCATED, _EXECUTABLE, _MERGED_STRINGS = 0x2, 0x4, 0x10 | 0x20
_SYMBOLS = (2, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Bytes start..end of a file; `member` and `section` are its names ("": none).

    `type`, `flags` and `address` (0: not loaded) are those of a section (gABI, "Sections").
    """

    start: int
    end: int
    section: str = ""
    member: str = ""
    type: int = 0
    flags: int = 0
    address: int = 0

    @property
    def name(self) -> str:
        """The name as linkers write it: member(section)."""
        return (
            f"{self.member}({self.section})" if self.member and self.section else self.member or self.section
        )

    @property
    def is_note(self) -> bool:
        """Whether it holds notes, such as a build id."""
        return self.type == _NOTE

    @property
    def is_code(self) -> bool:
        """Whether it holds instructions."""
        return bool(self.flags & _EXECUTABLE)

    @property
    def holds_offsets(self) -> bool:
        """Whether numbers in it may be offsets into string tables: symbols, and what is not loaded."""
        return self.type in _SYMBOLS or not self.flags & _ALLOCATED

    @property
    def holds_strings(self) -> bool:
        """Whether it is nothing but strings that end in NUL, whose order means nothing."""
        return self.type == _STRTAB or self.flags & _MERGED_STRINGS == _MERGED_STRINGS


class Regions:
    """The regions of one file, by their offsets."""

    def __init__(self, data: bytes) -> None:
        self.all = sorted(_regions(data), key=lambda region: region.start)
        self._starts = [region.start for region in self.all]

    def at(self, offset: int) -> Region | None:
        """Return the region that a byte lies in; None for headers and gaps."""
        number = bisect_right(self._starts, offset) - 1
        found = self.all[number] if number >= 0 else None
        return found if found is not None and offset < found.end else None

    def next_border(self, offset: int, end: int) -> int:
        """Return where the region that a byte lies in, or the gap, ends; at most `end`."""
        region = self.at(offset)
        number = bisect_right(self._starts, offset)
        following = self._starts[number] if number < len(self._starts) else end
        return min(end, following, region.end if region is not None else end)


def _regions(data: bytes) -> Iterator[Region]:
    if not data.startswith(_AR):
        yield from _sections(data, 0)
        return
    for member, start, end in _members(data):
        sections = list(_sections(data[start:end], start))
        yield from (replace(section, member=member) for section in sections)
        if not sections:
            yield Region(start=start, end=end, member=member)


def _sections(data: bytes, base: int) -> Iterator[Region]:
    try:
        view = open_view(data)
        rows = read_sections(view)
        number = view.record("H", _NAMES[view.wide], "ELF header")[0]
        names = Strings(view, *rows[number][4:6]) if number < len(rows) else None
        for name, kind, flags, address, offset, size, *_ in rows:
            if kind not in (0, _NOBITS) and offset + size <= len(data):
                section = names[name] if names else ""
                start = base + offset
                yield Region(
                    start=start,
                    end=start + size,
                    section=section,
                    type=kind,
                    flags=flags,
                    address=address,
                )
    except ElfError:
        return


def _members(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and end of the members of a static library (ar(5), GNU names)."""
    at, names = len(_AR), b""
    while at + _AR_HEADER <= len(data) and data[at + 48 : at + 58].strip().isdigit():
        label = data[at : at + 16].rstrip()
        start = at + _AR_HEADER
        end = start + int(data[at + 48 : at + 58])
        if label == b"//":
            names = data[start:end]
        elif label[1:].isdigit():
            label = names[int(label[1:]) :].partition(b"\n")[0]
        yield label.removesuffix(b"/").decode("utf-8", "surrogateescape") or "/", start, min(end, len(data))
        at = end + end % 2
