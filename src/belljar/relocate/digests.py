"""Hashes of files that stand in other files, and change with them.

RECORD of an installed Python package lists the SHA-256 of its scripts, whose first line is a path; a
`.sha256` file lies beside an archive; an ELF file holds the CRC-32 of its debug file. A hash is taken for
one only when it is right now: the hash of a file of the tree that holds references. What it is a
hash of therefore needs no parsing of either format, and a hash of something else is never touched.

Only files whose names say that they list hashes are looked into, and ELF files when the tree has debug files.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from belljar.checksums import DigestKind, digests
from belljar.fsys import Entry
from belljar.references import Digest, Sum

_LISTS = re.compile(
    r"(?:^|/)(?:[^/]+\.dist-info/RECORD|[^/]*(?:SUMS|sums)(?:\.txt)?|CHECKSUMS?)$|\.(?:sha(?:1|256|512)|md5)(?:sums?)?$"
)
_SUFFIX = ".debug"  # of the names of debug files, as objcopy and debhelper make them
_TOKEN = re.compile(rb"[0-9A-Za-z_-]{32,128}")
_TEXT = (
    DigestKind.SHA256_HEX,
    DigestKind.SHA256_BASE64URL,
    DigestKind.SHA512_HEX,
    DigestKind.SHA1_HEX,
    DigestKind.MD5_HEX,
)
_LIMIT = 64 << 20
"""How many bytes a list of hashes may have, or an ELF file that names a debug file."""
_ROUNDS = 4  # a list of hashes whose own hash stands in another, and so on


Values = Mapping[DigestKind, bytes]
"""The hashes of one file, as they are spelled."""


@dataclass(slots=True, kw_only=True)
class _Search:
    """One tree, and the hashes of the files in it that change."""

    tree: Path
    known: dict[bytes, tuple[DigestKind, str]] = field(default_factory=dict)
    names: dict[bytes, list[tuple[str, Values]]] = field(default_factory=dict)

    def learn(self, path: str, values: Values) -> None:
        """Look for these hashes of the file at `path`."""
        for kind in _TEXT:
            self.known.setdefault(values[kind], (kind, path))
        if path.endswith(_SUFFIX):
            self.names.setdefault(os.fsencode(os.path.basename(path)), []).append((path, values))

    def find(self, entry: Entry) -> tuple[Digest, ...]:
        """Return the hashes of known files that stand in a file."""
        if entry.info.st_size > _LIMIT:
            return ()
        if _LISTS.search(entry.path):
            return tuple(self._listed((self.tree / entry.path).read_bytes(), entry.path))
        if self.names and (content := _elf(f"{self.tree}/{entry.path}", entry.info.st_size)):
            return tuple(self._linked(content))
        return ()

    def _listed(self, content: bytes, path: str) -> Iterator[Digest]:
        for match in _TOKEN.finditer(content):
            kind, of = self.known.get(match[0], (None, ""))
            if kind is not None and of != path:
                yield Digest(offset=match.start(), kind=kind, canonical=match[0], of=of)

    def _linked(self, content: bytes) -> Iterator[Digest]:
        """Yield the checksum of `.gnu_debuglink`: name, NULs to a multiple of 4, CRC-32 (GDB manual)."""
        kind = DigestKind.CRC32_LITTLE if content[5:6] == b"\1" else DigestKind.CRC32_BIG
        sizes = {len(name) for name in self.names}
        for match in re.finditer(re.escape(_SUFFIX.encode()) + b"\0", content):
            end = match.end() - 1
            for size in sizes:
                name = content[max(0, end - size) : end]
                for of, values in self.names.get(name, ()):
                    if content[end : end + 8 - size % 4] == bytes(4 - size % 4) + values[kind]:
                        offset = end + 4 - size % 4
                        yield Digest(offset=offset, kind=kind, canonical=values[kind], of=of)
                        return


def _elf(path: str, size: int) -> bytes:
    """Return the content of an ELF file; nothing of another."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return os.pread(fd, size, 0) if os.pread(fd, 4, 0) == b"\x7fELF" else b""
    finally:
        os.close(fd)


def find(tree: Path, entries: Iterable[Entry], changing: Iterable[str]) -> Mapping[str, tuple[Digest, ...]]:
    """Return the hashes of the files at `changing`, which hold references, by the file they stand in.

    All names of a hard-linked file get the same. Raises OSError.
    """
    files = tuple(entry for entry in entries if entry.is_file)
    new = tuple(changing)
    if not _matters(files, new):
        return {}
    search = _Search(tree=tree)
    found: dict[tuple[int, int], tuple[Digest, ...]] = {}
    for _ in range(_ROUNDS):
        for path in new:
            search.learn(path, digests(tree / path))
        before = dict(found)
        for entry in files:
            if places := search.find(entry):
                found[_inode(entry)] = places
        new = tuple(entry.path for entry in files if _inode(entry) in found.keys() - before.keys())
        if not new:
            break
    return {entry.path: found[_inode(entry)] for entry in files if _inode(entry) in found}


def renew(tree: Path, entries: Iterable[Entry], old: Mapping[str, tuple[Values, int]]) -> None:
    """Put right the hashes of files that were made anew: `old` are their hashes and sizes before.

    RECORD has sizes too. Modes, times and hard links are kept; not atomic. Raises OSError.
    """
    files = tuple(entry for entry in entries if entry.is_file)
    for _ in range(_ROUNDS):
        if not _matters(files, old):
            return
        search = _Search(tree=tree)
        for path, (values, _) in old.items():
            search.learn(path, values)
        done: dict[tuple[int, int], None] = {}
        new: dict[str, tuple[Values, int]] = {}
        for entry in files:
            if _inode(entry) not in done and (places := search.find(entry)):
                new[entry.path] = digests(tree / entry.path), entry.info.st_size
                _renew(tree, entry, places, old)
                done[_inode(entry)] = None
        old = new


def _renew(
    tree: Path, entry: Entry, places: tuple[Digest, ...], old: Mapping[str, tuple[Values, int]]
) -> None:
    path = tree / entry.path
    info, content = path.stat(), bytearray(path.read_bytes())
    for place in reversed(places):
        size = b",%d" % old[place.of][1]
        if content[place.end : place.end + len(size)] == size:
            content[place.end : place.end + len(size)] = b",%d" % (tree / place.of).stat().st_size
        content[place.offset : place.end] = digests(tree / place.of, (place.kind,))[place.kind]
    path.chmod(info.st_mode | stat.S_IWUSR)
    path.write_bytes(content)
    path.chmod(stat.S_IMODE(info.st_mode))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def with_digests(
    sums: Mapping[str, tuple[Sum, ...]], more: Mapping[str, tuple[Digest, ...]]
) -> dict[str, tuple[Sum | Digest, ...]]:
    """Return both, in the order of their offsets."""
    return {
        path: tuple(sorted([*sums.get(path, ()), *more.get(path, ())], key=lambda item: item.offset))
        for path in [*sums, *(path for path in more if path not in sums)]
    }


def _matters(files: Iterable[Entry], changing: Iterable[str]) -> bool:
    """Whether there may be hashes of those files: any list, or a debug file among them."""
    paths = tuple(changing)
    return bool(paths) and (
        any(_LISTS.search(entry.path) for entry in files) or any(path.endswith(_SUFFIX) for path in paths)
    )


def _inode(entry: Entry) -> tuple[int, int]:
    return entry.info.st_dev, entry.info.st_ino
