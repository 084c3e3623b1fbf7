"""Where the tables lie that the dynamic segment points to."""

from dataclasses import dataclass

from belljar.elf.const import SegmentType, Tag
from belljar.elf.errors import ElfError
from belljar.elf.records import DynamicEntry, Header, Segment
from belljar.elf.view import Strings, View


class Tables:
    """The tables of the dynamic segment: by tag to where in the file they start."""

    def __init__(
        self,
        *,
        view: View,
        header: Header,
        segments: tuple[Segment, ...],
        entries: tuple[DynamicEntry, ...] | None,
    ) -> None:
        self.view = view
        self.header = header
        self._loads = [item for item in segments if item.type == SegmentType.LOAD and item.file_size]
        # The loader lets the last entry of a tag win.
        self._entries = {entry.tag: entry for entry in entries or ()}
        self._strings: Strings | None = None

    def number(self, tag: Tag) -> int:
        """Return the value of an entry that is a number; 0 without one."""
        entry = self._entries.get(tag)
        return 0 if entry is None else entry.value

    def start(self, tag: Tag) -> "Place | None":
        """Return where the table that an entry points to starts; None without such an entry.

        Raises ElfError when the address is in no loaded segment.
        """
        entry = self._entries.get(tag)
        if entry is None:
            return None
        for load in self._loads:
            into = entry.value - load.address
            if 0 <= into < load.file_size:
                return Place(offset=load.offset + into, available=load.file_size - into)
        raise ElfError(f"{tag.name}: address {entry.value:#x} is in no loaded segment", offset=entry.offset)

    def strings(self) -> Strings:
        """Return the string table, an empty one where there is none."""
        if self._strings is None:
            place = self.start(Tag.STRTAB)
            if place is None:
                self._strings = Strings(self.view, 0, 0)
            else:
                self._strings = Strings(self.view, place.offset, place.hold(self.number(Tag.STRSZ), "STRTAB"))
        return self._strings


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The start of a table, and how many bytes its segment has from there on."""

    offset: int
    available: int

    def hold(self, size: int, what: str) -> int:
        """Return `size`; raises ElfError when the segment ends before."""
        if size > self.available:
            raise ElfError(f"{what}: {size} bytes are wanted, its segment ends before", offset=self.offset)
        return size
