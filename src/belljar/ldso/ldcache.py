"""`/etc/ld.so.cache`: which file has which library name, as ldconfig found it.

Three forms are in use: the old one (`ld.so-1.7.0`), the new one (`glibc-ld.so.cache1.1`), and the new
one behind the old. The new one may end in extensions; of these, the names of `glibc-hwcaps`
directories are read. Layout: glibc's sysdeps/generic/dl-cache.h. The loader finds names by bisection;
a table does the same for every sorted cache, and ldconfig sorts them.

The bytes are not trusted: a table that the file does not hold makes the whole cache void, as it does
for the loader; an entry that points beyond the file is left out.
"""

import re
import struct
from collections.abc import Collection
from typing import NamedTuple

from belljar.elf.const import Data, Machine

_OLD_MAGIC = b"ld.so-1.7.0\0"
_NEW_MAGIC = b"glibc-ld.so.cache1.1"
_EXTENSION_MAGIC = 0xEAA42174
_HWCAPS_TAG = 1
_IS_NAMED = 1 << 62
_NAME_LIMIT = 4096
# For which libraries an entry is: glibc's sysdeps/generic/ldconfig.h; 3 is ELF for libc.so.6.
_FLAGS: dict[int, int] = {
    Machine.X86_64: 0x0303,
    Machine.I386: 0x0003,
    Machine.AARCH64: 0x0A03,
    Machine.ARM: 0x0903,
    Machine.S390: 0x0403,
    Machine.PPC64: 0x0503,
    Machine.RISCV: 0x1003,
    Machine.LOONGARCH: 0x1203,
    Machine.SPARCV9: 0x0103,
}
_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
# Bits of the older subdirectories on x86-64.
_LEGACY_BITS = {1: "x86_64", 2: "avx512_1", 63: "tls"}


class Entry(NamedTuple):
    """One entry: for which libraries it is, the file, and what it asks of the processor."""

    flags: int
    path: str
    hwcap: int


class LdCache:
    """The entries by library name, in the order of the file."""

    def __init__(self, entries: dict[str, list[Entry]], levels: tuple[str, ...]) -> None:
        self._entries = entries
        self._levels = levels

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._entries)

    def find(
        self, name: str, *, machine: int, levels: Collection[str], legacy: Collection[str]
    ) -> str | None:
        """Return the file that the loader takes for `name`, or None.

        `levels` are the processor's glibc-hwcaps names, best first; `legacy` the names of older
        subdirectories that the loader knows.
        """
        entries = self._entries.get(_key(name))
        if entries is None:
            return None
        wanted = _FLAGS.get(machine, 3)
        ranks = {level: rank for rank, level in enumerate(levels)}
        best, best_rank = None, len(ranks)
        for entry in entries:
            if entry.flags != wanted:
                continue
            if _is_named(entry.hwcap):
                rank = ranks.get(self._level(entry.hwcap), len(ranks))
                # The library's own ISA level, 0 for the least.
                if rank < best_rank and (entry.hwcap >> 32) & 0x3FF <= len(ranks):
                    best, best_rank = entry.path, rank
            elif best is not None:
                break
            elif _is_searched(entry.hwcap, legacy):
                return entry.path
        return best

    def _level(self, hwcap: int) -> str:
        index = hwcap & 0xFFFFFFFF
        return self._levels[index] if index < len(self._levels) else ""


def parse(data: bytes, *, byte_order: int = Data.LITTLE) -> LdCache:
    """Return what the cache with these bytes says; an empty one where the loader would not use it."""
    order = ">" if byte_order == Data.BIG else "<"
    if data.startswith(_NEW_MAGIC):
        return _parse_new(data, 0, order)
    if not data.startswith(_OLD_MAGIC) or len(data) < 16:
        return LdCache({}, ())
    (count,) = struct.unpack_from(order + "I", data, 12)
    strings = 16 + 12 * count
    if strings > len(data):
        return LdCache({}, ())
    new = -(-strings // 8) * 8
    if data.startswith(_NEW_MAGIC, new):
        return _parse_new(data, new, order)
    found: dict[str, list[Entry]] = {}
    for flags, key, value in struct.iter_unpack(order + "3I", data[16:strings]):
        _add(found, data, strings, (flags, key, value, 0))
    return LdCache(found, ())


def _parse_new(data: bytes, start: int, order: str) -> LdCache:
    """Read the new form, whose strings are counted from its own start."""
    if len(data) < start + 48:
        return LdCache({}, ())
    count, _size, _flags, extensions = struct.unpack_from(order + "IIB3xI", data, start + 20)
    end = start + 48 + 24 * count
    if end > len(data):
        return LdCache({}, ())
    found: dict[str, list[Entry]] = {}
    for flags, key, value, _version, hwcap in struct.iter_unpack(order + "4IQ", data[start + 48 : end]):
        _add(found, data, start, (flags, key, value, hwcap))
    return LdCache(found, _parse_levels(data, extensions, order))


def _add(found: dict[str, list[Entry]], data: bytes, strings: int, fields: tuple[int, int, int, int]) -> None:
    flags, key, value, hwcap = fields
    name, path = _string(data, strings + key), _string(data, strings + value)
    if name and path:
        found.setdefault(_key(name), []).append(Entry(flags, path, hwcap))


def _parse_levels(data: bytes, offset: int, order: str) -> tuple[str, ...]:
    """Return the names of glibc-hwcaps directories, in the order in which entries number them."""
    if not offset or offset + 8 > len(data):
        return ()
    magic, count = struct.unpack_from(order + "II", data, offset)
    if magic != _EXTENSION_MAGIC or offset + 8 + 16 * count > len(data):
        return ()
    for tag, _flags, at, size in struct.iter_unpack(order + "4I", data[offset + 8 : offset + 8 + 16 * count]):
        if tag == _HWCAPS_TAG and at + size <= len(data) and size % 4 == 0:
            return tuple(
                _string(data, index) for (index,) in struct.iter_unpack(order + "I", data[at : at + size])
            )
    return ()


def _string(data: bytes, offset: int) -> str:
    """Return the text at `offset`; empty where there is none that ends within the length of a path."""
    end = data.find(b"\0", offset, offset + _NAME_LIMIT)
    return "" if end < 0 else data[offset:end].decode("utf-8", "surrogateescape")


def _key(name: str) -> str:
    """Return the name with its numbers in one form: the loader compares them as numbers."""
    return _LEADING_ZEROS.sub("", name) if "0" in name else name


def _is_named(hwcap: int) -> bool:
    """Whether it stands for a glibc-hwcaps directory: bit 62, and beside it only level and index."""
    return (hwcap >> 32) & ~0x3FF == _IS_NAMED >> 32


def _is_searched(hwcap: int, legacy: Collection[str]) -> bool:
    """Whether all older subdirectories that it stands for are known to the loader."""
    known = sum(1 << bit for bit, name in _LEGACY_BITS.items() if name in legacy)
    return hwcap & ~known == 0
