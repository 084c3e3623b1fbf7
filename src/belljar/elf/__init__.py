"""ELF files: bytes in, frozen values out; no input or output."""

from belljar.elf.errors import ElfError
from belljar.elf.reader import read
from belljar.elf.records import (
    Dynamic,
    DynamicEntry,
    Elf,
    Header,
    Note,
    Segment,
    Symbol,
    VersionDefinition,
    VersionNeed,
)

__all__ = [
    "Dynamic",
    "DynamicEntry",
    "Elf",
    "ElfError",
    "Header",
    "Note",
    "Segment",
    "Symbol",
    "VersionDefinition",
    "VersionNeed",
    "read",
]
