"""A file's bytes, read with every access checked: what keeps hostile files from doing harm.

Nothing else in this room touches the bytes. Three things bound time and memory: no slice reaches
beyond the file, chains only go forwards, and the text taken out of overlapping strings (a table of
n bytes holds n strings of up to n bytes) is limited to a small multiple of the file's size.
"""

import functools
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from belljar.elf.errors import ElfError

TEXT_LIMIT = 8
"""How many times the file's size the names in it may have together; real files stay below 2."""
_LONG = 4096
"""From this length on, names are looked up one by one: a look for an end must not take the time of a file."""

_PIECE = 1 << 16

_layout = functools.cache(struct.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The bytes of a file whose byte order (`<` or `>`) and width of addresses are known."""

    data: memoryview
    order: str
    wide: bool

    def slice(self, offset: int, size: int, what: str) -> memoryview:
        """Return `size` bytes at `offset`; raises ElfError when the file has not got them."""
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise ElfError(
                f"{what}: {size} bytes are wanted, the file ends at {len(self.data):#x}", offset=offset
            )
        return self.data[offset : offset + size]

    def is_blank(self, start: int, stop: int) -> bool:
        """Return whether nothing but zeros stands there."""
        pieces = (self.data[at : min(at + _PIECE, stop)] for at in range(start, stop, _PIECE))
        return all(piece == bytes(len(piece)) for piece in pieces)

    def layout(self, form: str) -> struct.Struct:
        """Return the struct of that format in the byte order of the file."""
        return _layout(self.order + form)

    def size(self, form: str) -> int:
        """Return how many bytes a record of that struct format has."""
        return _layout(self.order + form).size

    def record(self, form: str, offset: int, what: str) -> tuple[int, ...]:
        """Return the numbers of the record at `offset`."""
        layout = _layout(self.order + form)
        return layout.unpack(self.slice(offset, layout.size, what))

    def numbers(self, code: str, offset: int, size: int, what: str) -> "array[int]":
        """Return `size` bytes as numbers of one type (the array module's code)."""
        found = array(code)
        found.frombytes(self.slice(offset, size, what))
        if (self.order == "<") != (sys.byteorder == "little"):
            found.byteswap()
        return found

    def words(self, offset: int, size: int, what: str) -> "array[int]":
        """Return `size` bytes as numbers of the width of addresses."""
        return self.numbers("Q" if self.wide else "I", offset, size, what)

    def records(self, form: str, offset: int, count: int, what: str) -> Iterator[tuple[int, ...]]:
        """Return the numbers of `count` records that follow each other."""
        layout = _layout(self.order + form)
        return layout.iter_unpack(self.slice(offset, count * layout.size, what))


class Strings:
    """A string table: NUL-terminated names by their offset in it."""

    def __init__(self, view: View, offset: int, size: int) -> None:
        self._bytes = bytes(view.slice(offset, size, "string table"))
        self._offset = offset
        self._known: dict[int, str] = {}
        self._budget = TEXT_LIMIT * len(view.data)

    def all_at(self, starts: Sequence[int]) -> list[str]:
        """Return the names at all those starts; many times as fast as one by one. Raises ElfError."""
        if not self._bytes.isascii():
            return [self[start] for start in starts]
        text = self._text
        ends = [text.find("\0", start, start + _LONG) for start in starts]
        spent = sum(ends) - sum(starts)
        if spent > self._budget or -1 in ends:
            return [self[start] for start in starts]
        self._budget -= spent
        return [text[start:end] for start, end in zip(starts, ends, strict=True)]

    @functools.cached_property
    def _text(self) -> str:
        return self._bytes.decode("ascii")

    def __getitem__(self, start: int) -> str:
        """Return the name at `start`; raises ElfError when it is outside the table or has no end."""
        known = self._known.get(start)
        if known is not None:
            return known
        end = self._bytes.find(b"\0", start) if 0 <= start < len(self._bytes) else -1
        if end < 0:
            raise ElfError(f"string {start:#x}: not within the string table", offset=self._offset)
        self._budget -= end - start
        if self._budget < 0:
            raise ElfError("string table: names overlap beyond all measure", offset=self._offset)
        name = self._bytes[start:end].decode("utf-8", "surrogateescape")
        self._known[start] = name
        return name
