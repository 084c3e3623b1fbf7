"""Which functions of a file use a symbol: what one must look at to be rid of a floor.

Where the loader writes a symbol's address is told by the relocations; who reads those words, itself or
through a PLT entry, by a search of the code for calls and operands (belljar.audit.isa). The function
around is known by its unwind information or by symbols; in a stripped file its address is its name. An
object file says all of it by relocations.

That costs a look at all code, so it is done only when asked for, only for symbols that set a floor, and
for so many bytes (BYTES_LIMIT); what could not be read again has no users.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from belljar.audit.isa.source import source_of
from belljar.audit.subjects import STDIN, Subject, walk
from belljar.elf import Elf, ElfError, object_references, read, sections_named, words_of
from belljar.elf.const import Type
from belljar.errors import InputError

if TYPE_CHECKING:
    from belljar.audit.isa.code import Machine
    from belljar.audit.isa.image import Image
    from belljar.audit.report import Report

SHOWN = 8
"""How many users of a symbol are named; the others are counted."""
BYTES_LIMIT = 256 << 20
"""How many bytes of files are searched for users in one audit."""
FILE_LIMIT = 64 << 20
"""Larger files, which are held in memory, are not searched."""
_STUBS_LIMIT = 20_000
_SEPARATOR = "!"
_ABSOLUTE = (1, 257)
"""R_X86_64_64, R_AARCH64_ABS64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """The functions of a file that use a symbol: the first few by name, or address, and how many in all.

    A user that is no function is a place: `data at 0x3de0`, `.data.rel+0x8`.
    """

    symbol: str
    names: tuple[str, ...]
    total: int

    def __str__(self) -> str:
        more = f" and {self.total - len(self.names)} more" if self.total > len(self.names) else ""
        return ", ".join(self.names) + more


def with_users(report: "Report") -> "Report":
    """Return the report with the users of the symbols that set its floors; files are read again."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for cause in report.causes:
        if cause.use is not None:
            wanted[cause.path].update(cause.use.symbols)
    found: dict[str, tuple[Users, ...]] = {}
    left = BYTES_LIMIT

    def look(subject: Subject) -> None:
        nonlocal left
        if subject.size <= min(left, FILE_LIMIT):
            left -= subject.size
            found[subject.name] = users_of(source_of(subject.read())[:], wanted[subject.name])

    _each({path for path, names in wanted.items() if names}, look)
    return replace(report, users=tuple(found.items()))


def users_of(data: bytes, symbols: Set[str]) -> tuple[Users, ...]:
    """Return who uses which of these symbols, by symbol; those without a known user are left out.

    Raises ElfError when the bytes are no ELF file or a damaged one.
    """
    elf = read(data)
    pairs = _in_object(data, symbols) if elf.header.type == Type.REL else _in_image(data, elf, symbols)
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for symbol, user in pairs:
        found[symbol][user] = None
    return tuple(
        Users(symbol=symbol, names=tuple(sorted(users, key=_is_address)[:SHOWN]), total=len(users))
        for symbol, users in sorted(found.items())
    )


def _is_address(user: str) -> bool:
    return user.startswith("0x")


def _in_object(data: bytes, symbols: Set[str]) -> Iterator[tuple[str, str]]:
    for item in object_references(data, symbols):
        yield item.symbol, item.holder or f"{item.section}+{item.offset:#x}"


def _in_image(data: bytes, elf: Elf, symbols: Set[str]) -> Iterator[tuple[str, str]]:
    """Yield symbol and user, from the code of a program or a library and from its data."""
    from belljar.audit.isa.examine import machine_of

    machine = machine_of(data, elf)
    if machine is None:
        return
    slots: dict[int, str] = {}
    for word in words_of(data, elf, symbols):
        slots[word.address] = word.symbol
        if word.type in _ABSOLUTE:
            yield word.symbol, f"data at {word.address:#x}"
    if slots:
        name = _Names(machine.image)
        for at, symbol in _sites(machine, slots, _stubs(data)):
            yield symbol, name(at)


def _stubs(data: bytes) -> tuple[tuple[int, int], ...]:
    """Return where the PLT entries are; nothing where section headers do not say."""
    with contextlib.suppress(ElfError):
        return sections_named(data, ".plt") + sections_named(data, ".iplt")
    return ()


def _sites(
    machine: "Machine", slots: Mapping[int, str], stubs: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, str]]:
    """Yield the addresses of code that uses a slot, and the slot's symbol; PLT entries are not users."""
    known: dict[int, str] = {}
    for at, target in machine.operands():
        if target in slots and not _within(stubs, at):
            yield at, slots[target]
    for at, target in machine.jumps():
        symbol = known.get(target)
        if symbol is None:
            if (stubs and not _within(stubs, target)) or len(known) >= _STUBS_LIMIT:
                continue
            symbol = known[target] = slots.get(machine.slot_of_stub(target), "")
        if symbol and not _within(stubs, at):
            yield at, symbol


def _within(ranges: Iterable[tuple[int, int]], address: int) -> bool:
    return any(start <= address < end for start, end in ranges)


class _Names:
    """Names of the functions around addresses."""

    def __init__(self, image: "Image") -> None:
        self._image = image

    def __call__(self, address: int) -> str:
        """Return the function's name or start; without unwind information, how far it is from a name."""
        number, start, _ = self._image.functions.around(address)
        if number >= 0:
            return self._image.name_of(start)
        start, name = self._image.names.before(address)
        return f"{name}+{address - start:#x}" if name else f"{address:#x}"


def _each(paths: Set[str], look: Callable[[Subject], None]) -> None:
    """Have `look` at each file, archive by archive; what cannot be read again is passed over."""
    places: dict[str, set[str]] = defaultdict(set)
    for path in sorted(paths):
        places[_place(path)].add(path)
    for place, wanted in places.items():
        with contextlib.suppress(InputError):
            for subject in walk([place]) if place else ():
                if subject.name in wanted and subject.is_file:
                    with contextlib.suppress(ElfError, InputError, OSError):
                        look(subject)
                    wanted.remove(subject.name)
                if not wanted:
                    break


def _place(path: str) -> str:
    """Return the file on the disk that is a path, or the archive that has it; "" when there is none."""
    parts = path.split(_SEPARATOR)
    places = (_SEPARATOR.join(parts[:count]) for count in range(1, len(parts) + 1))
    return next((place for place in places if place != STDIN and os.path.isfile(place)), "")
