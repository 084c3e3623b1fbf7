"""ELF files: bytes in, frozen values out; no input or output.

What this room shows is loaded when it is asked for: who needs one table need not wait for the reader.
"""

from typing import TYPE_CHECKING

from belljar.doors import door

if TYPE_CHECKING:
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

_ROOMS = {
    "Dynamic": "records",
    "DynamicEntry": "records",
    "Elf": "records",
    "ElfError": "errors",
    "HEAD": "extents",
    "Header": "records",
    "Note": "records",
    "Reference": "references",
    "Segment": "records",
    "Symbol": "records",
    "Symbols": "records",
    "VersionDefinition": "records",
    "VersionNeed": "records",
    "Word": "references",
    "extents_of_relocations": "extents",
    "extents_of_segments": "extents",
    "extents_of_tables": "extents",
    "object_references": "references",
    "object_symbols": "objects",
    "read": "reader",
    "sections_named": "references",
    "words_of": "references",
}

__getattr__ = door(__name__, _ROOMS)
