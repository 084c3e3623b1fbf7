"""Dynamic symbols, and how many of them there are.

The dynamic segment does not say how many symbols its table has. DT_HASH does; DT_GNU_HASH does when
the file exports something, for exported symbols come last; relocations name every symbol beyond that
the loader has to find. Section headers are not asked.
"""

from collections.abc import Iterable, Sequence
from itertools import compress
from operator import not_

from belljar.elf.const import HIDDEN, Machine, Tag
from belljar.elf.errors import ElfError
from belljar.elf.records import Symbols, VersionDefinition, VersionNeed
from belljar.elf.tables import Tables
from belljar.elf.view import View

SYMBOL = {False: "IIIBBH", True: "IBBHQQ"}
_REL = {False: "II", True: "QQ"}
_RELA = {False: "IIi", True: "QQq"}


def read_symbols(
    tables: Tables,
    needs: Iterable[VersionNeed],
    definitions: Iterable[VersionDefinition],
    *,
    exports: bool = True,
) -> Symbols:
    """Return the dynamic symbols; without `exports`, only those that other files define."""
    place = tables.start(Tag.SYMTAB)
    if place is None:
        return Symbols()
    size = tables.view.size(SYMBOL[tables.view.wide])
    count = count_by_tables(tables)
    if count is None:
        count = _count_by_relocations(tables)
    place.hold(count * size, "SYMTAB")
    # The first symbol is empty.
    columns = _columns(tables.view, place.offset + size, max(count - 1, 0) * size)
    starts, infos, sections, marks = (*columns, _marks(tables, count)[1:])
    if not exports:
        wanted = list(compress(range(len(sections)), map(not_, sections)))
        starts, infos, sections, marks = (
            tuple(map(column.__getitem__, wanted)) for column in (starts, infos, sections, marks)
        )
    return Symbols(
        names=tuple(tables.strings().all_at(starts)),
        infos=bytes(infos),
        sections=tuple(sections),
        marks=tuple(marks),
        versions=_versions(needs, definitions),
    )


def _columns(view: View, offset: int, size: int) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Return st_name, st_info and st_shndx of the symbols in a part of the file."""
    words = view.numbers("I", offset, size, "SYMTAB")
    halves = view.numbers("H", offset, size, "SYMTAB")
    infos = view.slice(offset, size, "SYMTAB")
    if view.wide:
        return words[::6], infos[4::24], halves[3::12]
    return words[::4], infos[12::16], halves[7::8]


def _versions(
    needs: Iterable[VersionNeed], definitions: Iterable[VersionDefinition]
) -> dict[int, tuple[str, str | None]]:
    found: dict[int, tuple[str, str | None]] = {
        item.index & ~HIDDEN: (item.name, None) for item in definitions
    }
    return found | {item.index & ~HIDDEN: (item.name, item.library) for item in needs}


def _marks(tables: Tables, count: int) -> Sequence[int]:
    """Return the version index of every symbol; 1, global without version, where there are none."""
    place = tables.start(Tag.VERSYM)
    if place is None:
        return (1,) * count
    return tables.view.numbers("H", place.offset, place.hold(2 * count, "VERSYM"), "VERSYM")


def count_by_tables(tables: Tables) -> int | None:
    """Return how many symbols the tables say that there are; None where only relocations say it."""
    if tables.header.machine == Machine.MIPS:
        return tables.number(Tag.MIPS_SYMTABNO)
    counted = _count_by_hash(tables)
    return _count_by_gnu_hash(tables) if counted is None else counted


def _count_by_hash(tables: Tables) -> int | None:
    """Return the number of chains of DT_HASH (gABI): one per symbol."""
    place = tables.start(Tag.HASH)
    if place is None:
        return None
    # The gABI has words of 4 bytes; s390x and Alpha have 8, of which lld knows nothing.
    odd = tables.view.wide and tables.header.machine in (Machine.S390, Machine.ALPHA)
    for form in ("QQ", "II") if odd else ("II",):
        size = tables.view.size(form)
        place.hold(size, "HASH")
        buckets, chains = tables.view.record(form, place.offset, "HASH")
        if size + (buckets + chains) * size // 2 <= place.available:
            return chains
    raise ElfError("HASH: the table is larger than its segment", offset=place.offset)


def _count_by_gnu_hash(tables: Tables) -> int | None:
    """Return the end of the last chain of DT_GNU_HASH; None when it holds no symbol."""
    place = tables.start(Tag.GNU_HASH)
    if place is None:
        return None
    place.hold(16, "GNU_HASH")
    buckets, first, bloom, _shift = tables.view.record("IIII", place.offset, "GNU_HASH")
    skipped = 16 + bloom * (8 if tables.view.wide else 4)
    chains = skipped + 4 * buckets
    place.hold(chains, "GNU_HASH")
    last = max(tables.view.numbers("I", place.offset + skipped, 4 * buckets, "GNU_HASH"), default=0)
    if last == 0:
        return None
    if last < first:
        raise ElfError("GNU_HASH: a bucket points in front of the table", offset=place.offset)
    at = chains + 4 * (last - first)
    place.hold(at, "GNU_HASH")
    words = tables.view.records("I", place.offset + at, (place.available - at) // 4, "GNU_HASH")
    for number, (word,) in enumerate(words):
        if word & 1:
            return last + number + 1
    raise ElfError("GNU_HASH: the last chain has no end", offset=place.offset + at)


def _count_by_relocations(tables: Tables) -> int:
    """Return one more than the highest symbol that a relocation names."""
    lazily = _RELA if tables.number(Tag.PLTREL) == Tag.RELA else _REL
    shift = 32 if tables.view.wide else 8
    highest = 0
    for start, size, forms in (
        (Tag.RELA, Tag.RELASZ, _RELA),
        (Tag.REL, Tag.RELSZ, _REL),
        (Tag.JMPREL, Tag.PLTRELSZ, lazily),
    ):
        place = tables.start(start)
        if place is None:
            continue
        record = tables.view.size(forms[tables.view.wide])
        count = place.hold(tables.number(size), start.name) // record
        words = tables.view.words(place.offset, count * record, start.name)
        # The symbol is the upper part of the second word: the highest word has the highest symbol.
        highest = max(highest, max(words[1 :: record // words.itemsize], default=0) >> shift)
    return highest + 1
