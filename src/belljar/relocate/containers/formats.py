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


def kind_of(fd: int) -> str | None:
    """Return which container an open file is: a key of FORMATS, "bzip2", or None."""
    head = os.pread(fd, max(hiding.HEAD, len(objects.MAGIC)), 0)
    size = os.fstat(fd).st_size
    tail = os.pread(fd, hiding.TAIL, max(0, size - hiding.TAIL))
    if kind := hiding.format_of(head + tail):
        return kind
    if head.startswith(objects.MAGIC):
        return "ar" if objects.has_sections(fd) else None
    return "elf" if debug.has_sections(fd) else None
