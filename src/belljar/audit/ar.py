"""Static libraries: ar archives of objects (ar(5)), with the long names of GNU and of BSD."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from belljar import fsys
from belljar.archive.members import Member, Type
from belljar.errors import InputError

MAGIC = b"!<arch>\n"

_HEADER = 60
_NAMES_LIMIT = 16 << 20
_INDEXES = (b"/", b"/SYM64/", b"__.SYMDEF", b"__.SYMDEF SORTED")


def members(file: BinaryIO, name: str) -> Iterator[Member]:
    """Yield the objects of an archive, without its indexes. Raises InputError when it is damaged."""
    end = file.seek(0, os.SEEK_END)
    names = b""
    at = len(MAGIC)
    while at + _HEADER <= end:
        file.seek(at)
        header = file.read(_HEADER)
        size = _number(header[48:58])
        start = at + _HEADER
        if header[58:] != b"`\n" or size is None or start + size > end:
            raise InputError(f"{name}: damaged: no ar header at byte {at}")
        at = start + size + size % 2
        label = header[:16].rstrip(b" ")
        if label == b"//":
            names = file.read(min(size, _NAMES_LIMIT))
        elif label not in _INDEXES:
            yield _member(file, header, names, start, size)


def _member(file: BinaryIO, header: bytes, names: bytes, start: int, size: int) -> Member:
    label = header[:16].rstrip(b" ")
    if label.startswith(b"#1/") and 0 < (length := _number(label[3:]) or 0) <= min(size, 4096):
        label = file.read(length).rstrip(b"\0")
        start, size = start + length, size - length
    elif label.startswith(b"/") and (offset := _number(label[1:])) is not None:
        label = names[offset : offset + 4096].partition(b"\n")[0]
    mode = _number(header[40:48], 8) or 0
    return Member(
        name=label.removesuffix(b"/"),
        type=Type.FILE,
        size=size,
        mode=mode & 0o7777,
        chunks=lambda: _chunks(file, start, size),
    )


def _chunks(file: BinaryIO, start: int, size: int) -> Iterator[bytes]:
    file.seek(start)
    while size > 0 and (chunk := file.read(min(size, fsys.CHUNK))):
        size -= len(chunk)
        yield chunk


def _number(digits: bytes, base: int = 10) -> int | None:
    """Return a number in ASCII digits; None for anything else."""
    stripped = digits.strip(b" ")
    return (
        int(stripped, base)
        if stripped.isdigit() and not (base == 8 and stripped.strip(b"01234567"))
        else None
    )
