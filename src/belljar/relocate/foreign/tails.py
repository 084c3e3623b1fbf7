"""Strings that are the tail of another: who refers to the middle of a prefix.

Linkers store a string that ends another one inside it. A prefix that ends in a version may so hold the
version: CPython built for `/opt/python/3.11.7` keeps its `3.11.7` in the tail of its own prefix, and whoever
overwrites the one overwrites the other. So before a prefix in a program is overwritten, its code and
pointers are searched for addresses that lie inside of it: in x86-64 code those of instructions that may begin
anywhere, absolute ones in all. A hit by chance costs a refusal, never a wrong program.

Code of other machines builds addresses from several instructions: there only pointers are seen, and a prefix
that ends a string is noted.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from belljar.elf.const import Machine
from belljar.relocate.foreign.immediates import LONGEST, targets
from belljar.relocate.foreign.moves import Hit
from belljar.relocate.foreign.subject import Subject
from belljar.relocate.pieces.image import Image, Region

MANY = 64
"""With more prefixes in a file than this, only those that are all of a string are looked at."""
_BLOCK = 1 << 15
_PAGE = 1 << 16
_IMMEDIATE = 4  # bytes that may follow a distance in its instruction

_POINTERS = (".data", ".rela", ".rel.", ".init_array", ".fini_array", ".got", ".tdata")
_NARROW = (Machine.I386, Machine.ARM)
_NAMES = (".dynstr", ".interp")  # of these the editor knows who refers to what

Span = tuple[int, int, Hit]
"""The addresses inside a prefix: from its second letter to its last, and the hit."""


def inner_references(
    subject: Subject, image: Image, *, loads: Collection[int] = (), more: Iterable[Hit] = ()
) -> dict[int, int]:
    """Return, by the offset of a hit, how many letters into it the first reference to its inside points.

    `loads`: where code holds distances that are known to mean the prefix itself. `more`: hits beside the
    file's own.
    """
    spans = sorted((*_spans(image, _told(subject)), *_spans(image, more)), key=lambda span: span[:2])
    found: dict[int, int] = {}
    for group in _grouped(spans):
        for place, address in _addresses(subject, image, group[0][0], max(end for _, end, _ in group)):
            for begin, end, hit in group:
                if begin <= address < end and place not in loads:
                    letter = address - begin + 1
                    found[hit.offset] = min(letter, found.get(hit.offset, letter))
    return found


def _told(subject: Subject) -> list[Hit]:
    """Return the hits that are looked at."""
    hits = [hit for hit in subject.hits if not hit.codec and not hit.doubt]
    return hits if len(hits) <= MANY else [hit for hit in hits if hit.after != ord("/")]


def _spans(image: Image, hits: Iterable[Hit]) -> Iterator[Span]:
    for hit in hits:
        region = image.region(hit.offset)
        if region.address and region.name not in _NAMES:
            address = region.address + hit.offset - region.begin
            yield address + 1, address + hit.end - hit.offset, hit


def has_unseen(subject: Subject, image: Image) -> bool:
    """Whether a string ends in a prefix's last letters, in a program whose code may refer to them unseen."""
    return image.machine != Machine.X86_64 and any(
        hit.after == 0 for _, _, hit in _spans(image, _told(subject))
    )


def _grouped(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Yield spans that lie near to each other together, since they are searched for together."""
    group: list[Span] = []
    for span in spans:
        if group and span[0] - group[0][0] >= _PAGE:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _addresses(subject: Subject, image: Image, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield the addresses in low..high that code and pointers refer to, behind where they stand."""
    is_fixed = subject.head[16:18] == b"\2\0"  # ET_EXEC: addresses stand in code and constants as they are
    width = 4 if image.machine in _NARROW else 8
    for region in image.regions:
        has_pointers = region.is_mixed or is_fixed or region.name.startswith(_POINTERS)
        for base, data in _blocks(subject, region) if region.is_code or has_pointers else ():
            address = region.address + base - region.begin
            found: list[Iterator[tuple[int, int]]] = []
            if region.is_code and image.machine == Machine.X86_64:
                found.append(_relative(data, address, low, high))
            if region.is_code and is_fixed:
                found.append(_absolute(data, low, high, 4, 1, address))
            elif has_pointers:
                found.append(_absolute(data, low, high, width, width, address))
            yield from ((base + place, target) for item in found for place, target in item)


def _blocks(subject: Subject, region: Region) -> Iterator[tuple[int, bytes]]:
    """Yield a region in blocks that overlap by what one instruction takes, each with its offset."""
    for base in range(region.begin, region.end, _BLOCK):
        begin = max(region.begin, base - LONGEST)
        yield begin, subject.read(begin, min(base + _BLOCK + LONGEST, region.end) - begin)


def _relative(data: bytes, address: int, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield what relative addresses mean, which count from their instruction's end (Intel SDM 2.2.1.6)."""
    first, last = low - _IMMEDIATE - (address + len(data)), high - (address + 4)
    for half in {(value >> 16) & 0xFFFF for value in (*range(first, last, _PAGE), last)}:
        for place in _places(data, half.to_bytes(2, "little"), 2):
            value = int.from_bytes(data[place : place + 4], "little", signed=True)
            if low - _IMMEDIATE <= address + place + 4 + value < high:
                for target in targets(data, address, place):
                    if low <= target < high:
                        yield place, target


def _absolute(
    data: bytes, low: int, high: int, width: int, align: int, address: int
) -> Iterator[tuple[int, int]]:
    """Yield pointers of `width` bytes, the least significant first, at multiples of `align`."""
    for upper in {value >> 8 for value in (*range(low, high, 256), high - 1)}:
        for place in _places(data, upper.to_bytes(width - 1, "little"), 1):
            value = int.from_bytes(data[place : place + width], "little")
            if low <= value < high and (address + place) % align == 0:
                yield place, value


def _places(data: bytes, pattern: bytes, before: int) -> Iterable[int]:
    """Yield where a number begins whose upper bytes, `before` bytes on, are these."""
    at = data.find(pattern, before)
    while at >= 0:
        yield at - before
        at = data.find(pattern, at + 1)
