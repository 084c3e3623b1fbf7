"""The formats that can be opened, and which of them a file is."""

import os

from belljar.relocate.containers import debug, gzip, hiding, objects, xz, zipped, zstd
from belljar.relocate.containers.container import Format

FORMATS: dict[str, Format] = {
    "gzip": gzip.FORMAT,
    "xz": xz.FORMAT,
    "zstd": zstd.FORMAT,
    "zip": zipped.FORMAT,
    "elf": debug.FORMAT,
    "ar": objects.FORMAT,
}
"""All but bzip2, whose blocks begin between bits and hold no bytes as they are."""


def kind_of(fd: int, *, thorough: bool = False) -> str | None:
    """Return which container an open file is: a key of FORMATS, "bzip2", or None.

    A zip behind something else is found by its end; one with a comment only where `thorough`, or
    behind a script.
    """
    head = os.pread(fd, max(hiding.HEAD, len(objects.MAGIC)), 0)
    size = os.fstat(fd).st_size
    tail = os.pread(fd, hiding.TAIL, max(0, size - hiding.TAIL))
    if kind := hiding.format_of(head + tail):
        return kind
    if head.startswith(objects.MAGIC):
        return "ar" if objects.has_sections(fd) else None
    if (thorough or head.startswith(b"#!")) and _has_directory(fd, size):
        return "zip"
    return "elf" if debug.has_sections(fd) else None


def _has_directory(fd: int, size: int) -> bool:
    """Whether a zip's end record stands near the end, and a directory where that says (APPNOTE 4.3.16)."""
    begin = max(0, size - hiding.TAIL - 0xFFFF)
    tail = os.pread(fd, size - begin, begin)
    place = tail.rfind(b"PK\5\6")
    while place >= 0:
        directory = begin + place - int.from_bytes(tail[place + 12 : place + 16], "little")
        if directory >= 0 and os.pread(fd, 4, directory) == b"PK\1\2":
            return True
        place = tail.rfind(b"PK\5\6", 0, place)
    return False
