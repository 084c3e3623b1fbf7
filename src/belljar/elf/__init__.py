"""ELF files: bytes in, frozen values out; no input or output."""

from belljar.elf.errors import ElfError
from belljar.elf.extents import HEAD, extents_of_relocations, extents_of_segments, extents_of_tables
from belljar.elf.objects import object_symbols
from belljar.elf.reader import read
from belljar.elf.records import (
    Dynamic,
    DynamicEntry,
    Elf,
    Header,
    Note,
    Segment,
    Symbol,
    Symbols,
    VersionDefinition,
    VersionNeed,
)
from belljar.elf.references import Reference, Word, object_references, sections_named, words_of

__all__ = [
    "HEAD",
    "Dynamic",
    "DynamicEntry",
    "Elf",
    "ElfError",
    "Header",
    "Note",
    "Reference",
    "Segment",
    "Symbol",
    "Symbols",
    "VersionDefinition",
    "VersionNeed",
    "Word",
    "extents_of_relocations",
    "extents_of_segments",
    "extents_of_tables",
    "object_references",
    "object_symbols",
    "read",
    "sections_named",
    "words_of",
]
