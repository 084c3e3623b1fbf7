"""Sealing a program that carries data behind its sections, which must not move: in its padding.

Such programs look for their data where the headers end (AppImage's runtime), or from the file's end
(archives). So the file keeps its size, and its section headers are not touched. Linkers fill up pages:
between two segments there are often zeros. A small first part of the stub (seal/stub/first.c) and the
configuration go there, and a program header in PT_INTERP's place maps them; the stub is mapped from a file
beside the loader. It takes a start some microseconds more, and `strip` does not know of it: what `strip`
leaves of such a program has lost its data anyway.

Rejected: the whole stub in the padding (one program of 541 has room for it).
"""

import struct
import zlib
from collections.abc import Iterator

from belljar.elf.const import SegmentType
from belljar.elf.layout import Layout, Row
from belljar.elf.names import EditRefused
from belljar.elf.sealed import CONFIG, MAGIC, Seal
from belljar.elf.tail import claims
from belljar.seal.blob import PAGES, code_of
from belljar.splice import Splice

STUB = "belljar.stub"
"""The file beside the loader that such programs need."""
UNDO_MAGIC = b"BELLPAD1"
# Magic, CRC of the program headers, which of them was PT_INTERP's, and that one.
_UNDO = struct.Struct("<8sIH56s")
_WORD, _ENTRY_AT = struct.Struct("<Q"), 24
_WRITE, _EXECUTE, _READ_EXECUTE, _ALIGN = 2, 1, 5, 16


def stub(machine: int) -> dict[str, bytes]:
    """Return the file that must be beside the loader, by its name."""
    return {STUB: code_of("stub", machine)}


def data_behind(image: bytes, layout: Layout) -> int:
    """Return how many bytes, not all of them zeros, stand behind all that the headers tell of."""
    end = max(end for _, end in claims(layout))
    return len(image) - end if any(image[end:]) else 0


def embed(image: bytes, layout: Layout, number: int, seal: Seal) -> tuple[Splice, ...]:
    """Return the edits that seal a program; `number` is the program header of PT_INTERP.

    Raises EditRefused where there is no room.
    """
    page = PAGES[layout.machine]
    code, undo = code_of("first", layout.machine), _undo(layout, number)
    size = len(code) + CONFIG.size + len(seal.to_bytes()) + len(undo)
    start = next(_holes(image, layout, size), None)
    if start is None:
        raise EditRefused(
            f"carries {data_behind(image, layout)} bytes behind its sections, which it may look for at the"
            f" file's end, and has no {size} free bytes before them"
        )
    rows = [row for at, row in enumerate(layout.rows) if at != number]
    slot = 1 + max(at for at, row in enumerate(rows) if row.type == SegmentType.LOAD)
    address = -(-max(row.memory_end for row in layout.loads) // page) * page + start % page
    config = CONFIG.pack(MAGIC, address + len(code), _WORD.unpack_from(image, _ENTRY_AT)[0], slot)
    rows.insert(slot, Row(SegmentType.LOAD, _READ_EXECUTE, start, address, address, size, size, page))
    blob = code + config + seal.to_bytes() + undo
    return _changes(
        image, {_ENTRY_AT: _WORD.pack(address), layout.table: layout.pack_rows(rows), start: blob}
    )


def unembed(image: bytes, layout: Layout, found: int, undo: int) -> tuple[Splice, ...]:
    """Return the edits that take it back; `found` and `undo` are offsets of the configuration and behind it.

    Raises EditRefused where the headers are no more what they were made.
    """
    _, entry, slot = CONFIG.unpack_from(image, found)[1:]
    _, checksum, number, interpreter = _UNDO.unpack_from(image, undo)
    if slot >= len(layout.rows) or number >= len(layout.rows):
        raise EditRefused("has a seal that is damaged: what it was is no longer known")
    own = layout.rows[slot]
    rows = [row for at, row in enumerate(layout.rows) if at != slot]
    packed = [layout.pack_rows([row]) for row in rows]
    packed.insert(number, interpreter)
    if zlib.crc32(b"".join(packed)) != checksum or own.end > len(image):
        raise EditRefused("was changed since it was sealed: what it was is no longer known")
    edits = {_ENTRY_AT: _WORD.pack(entry), layout.table: b"".join(packed), own.offset: bytes(own.file_size)}
    return _changes(image, edits)


def _changes(image: bytes, edits: dict[int, bytes]) -> tuple[Splice, ...]:
    every = (Splice(offset=at, old=image[at : at + len(new)], new=new) for at, new in sorted(edits.items()))
    return tuple(splice for splice in every if splice.old != splice.new)


def _undo(layout: Layout, number: int) -> bytes:
    table = layout.pack_rows(layout.rows)
    return _UNDO.pack(UNDO_MAGIC, zlib.crc32(table), number, layout.pack_rows([layout.rows[number]]))


def _holes(image: bytes, layout: Layout, size: int) -> Iterator[int]:
    """Yield where zeros are between a segment that is not written to and what comes next; code's first."""
    starts = sorted(start for start, end in claims(layout) if start < end)
    for row in sorted(layout.loads, key=lambda row: not row.flags & _EXECUTE):
        start = -(-row.end // _ALIGN) * _ALIGN
        stop = next((at for at in starts if at >= row.end), 0)
        is_whole = not row.flags & _WRITE and row.file_size == row.memory_size
        if is_whole and stop - start >= size and not any(image[row.end : stop]):
            yield start
