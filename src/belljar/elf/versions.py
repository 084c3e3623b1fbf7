"""Symbol versions: which a file needs and which it defines (LSB Core 10.7).

Both tables are chains of chains, by relative offsets. Offsets are unsigned, so a chain goes forwards;
a link shorter than a record would make records overlap, and the number of all records together
cannot exceed what the segment holds: no file can keep the reader busy beyond its size.
"""

from collections.abc import Iterator

from belljar.elf.const import Tag, VersionFlag
from belljar.elf.errors import ElfError
from belljar.elf.records import VersionDefinition, VersionNeed
from belljar.elf.tables import Place, Tables

_NEED = "HHIII"
_NEED_AUX = "IHHII"
_DEFINITION = "HHHHIII"
_DEFINITION_AUX = "II"
_WEAK = int(VersionFlag.WEAK)


class _Chains:
    """Records linked by relative offsets within one table."""

    def __init__(self, tables: Tables, place: Place, smallest: int) -> None:
        self._view = tables.view
        self._end = place.offset + place.available
        self._left = place.available // smallest

    def follow(self, form: str, offset: int, count: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield the offset and the numbers of up to `count` records; the last number is the link."""
        layout = self._view.layout(form)
        size, data = layout.size, self._view.data
        for _ in range(count):
            self._left -= 1
            if offset + size > self._end or self._left < 0:
                raise ElfError("symbol versions: the chain leaves its segment or overlaps", offset=offset)
            # Within the segment is within the file.
            fields = layout.unpack_from(data, offset)
            yield offset, fields
            if not fields[-1]:
                return
            if fields[-1] < size:
                raise ElfError("symbol versions: records overlap", offset=offset)
            offset += fields[-1]


def read_needs(tables: Tables) -> tuple[VersionNeed, ...]:
    """Return all versions that libraries must define, in the order of the table."""
    place = tables.start(Tag.VERNEED)
    if place is None:
        return ()
    chains, strings = _Chains(tables, place, 16), tables.strings()
    found = []
    for at, (_, count, library, first, _next) in chains.follow(
        _NEED, place.offset, tables.number(Tag.VERNEEDNUM)
    ):
        for _, (digest, flags, index, name, _link) in chains.follow(_NEED_AUX, at + first, count):
            found.append(
                VersionNeed(
                    library=strings[library],
                    name=strings[name],
                    hash=digest,
                    index=index,
                    weak=flags & _WEAK != 0,
                )
            )
    return tuple(found)


def read_definitions(tables: Tables) -> tuple[VersionDefinition, ...]:
    """Return all versions that the file defines, in the order of the table."""
    place = tables.start(Tag.VERDEF)
    if place is None:
        return ()
    chains, strings = _Chains(tables, place, 8), tables.strings()
    found = []
    for at, (_, flags, index, count, digest, first, _next) in chains.follow(
        _DEFINITION, place.offset, tables.number(Tag.VERDEFNUM)
    ):
        names = [strings[name] for _, (name, _link) in chains.follow(_DEFINITION_AUX, at + first, count)]
        if not names:
            raise ElfError("symbol versions: a definition without a name", offset=at)
        found.append(
            VersionDefinition(name=names[0], hash=digest, index=index, flags=flags, parents=tuple(names[1:]))
        )
    return tuple(found)
