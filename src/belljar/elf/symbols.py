"""Dynamic symbols, and how many of them there are.

The dynamic segment does not say how many symbols its table has. DT_HASH does; DT_GNU_HASH does when
the file exports something, for exported symbols come last; relocations name every symbol beyond that
the loader has to find. Section headers are not asked.
"""

from collections.abc import Iterable

from belljar.elf.const import HIDDEN, Machine, Tag
from belljar.elf.errors import ElfError
from belljar.elf.records import Symbol, VersionDefinition, VersionNeed
from belljar.elf.tables import Tables

SYMBOL = {False: "IIIBBH", True: "IBBHQQ"}
_REL = {False: "II", True: "QQ"}
_RELA = {False: "IIi", True: "QQq"}
_UNDEFINED = 0


def read_symbols(
    tables: Tables,
    needs: Iterable[VersionNeed],
    definitions: Iterable[VersionDefinition],
    *,
    exports: bool = True,
) -> tuple[Symbol, ...]:
    """Return the dynamic symbols in the order of their table, without the empty first one.

    Without `exports` those are left out that the file defines itself: most of them, in libraries.
    """
    place = tables.start(Tag.SYMTAB)
    if place is None:
        return ()
    form = SYMBOL[tables.view.wide]
    count = _count(tables)
    place.hold(count * tables.view.size(form), "SYMTAB")
    indices = _version_indices(tables, count)
    versions: dict[int, tuple[str, str | None]] = {
        item.index & ~HIDDEN: (item.name, None) for item in definitions
    }
    versions |= {item.index & ~HIDDEN: (item.name, item.library) for item in needs}
    strings = tables.strings()
    none = (None, None)
    place_of_info, place_of_section = (1, 3) if tables.view.wide else (3, 5)
    found: list[Symbol] = []
    for fields, index in zip(tables.view.records(form, place.offset, count, "SYMTAB"), indices, strict=True):
        section = fields[place_of_section]
        if section and found and not exports:
            continue
        name, info = fields[0], fields[place_of_info]
        version, library = versions.get(index & ~HIDDEN, none)
        found.append(
            Symbol(
                strings[name],
                info >> 4,
                info & 15,
                section != _UNDEFINED,
                version,
                library,
                index & ~HIDDEN,
                index >= HIDDEN,
            )
        )
    return tuple(found[1:])


def _version_indices(tables: Tables, count: int) -> Iterable[int]:
    """Return the version index of every symbol; 1, global without version, where there are none."""
    place = tables.start(Tag.VERSYM)
    if place is None:
        return (1,) * count
    place.hold(2 * count, "VERSYM")
    return [index for (index,) in tables.view.records("H", place.offset, count, "VERSYM")]


def _count(tables: Tables) -> int:
    if tables.header.machine == Machine.MIPS:
        return tables.number(Tag.MIPS_SYMTABNO)
    counted = _count_by_hash(tables)
    if counted is None:
        counted = _count_by_gnu_hash(tables)
    if counted is None:
        counted = _count_by_relocations(tables)
    return counted


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
    last = max(
        (word for (word,) in tables.view.records("I", place.offset + skipped, buckets, "GNU_HASH")), default=0
    )
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
