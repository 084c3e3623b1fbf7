"""Hashes of files that stand in other files, and change with them.

RECORD of an installed Python package lists the SHA-256 of its scripts, whose first line is a path; a
`.sha256` file lies beside an archive; an ELF file holds the CRC-32 of its debug file. A hash is taken for
one only when it is right now: the hash of a file of the tree that holds references. What it is a
hash of therefore needs no parsing of either format, and a hash of something else is never touched.

Only files whose names say that they list hashes are looked into, and ELF files when the tree has debug files.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from belljar.checksums import DigestKind, digests
from belljar.fsys import Entry
from belljar.references import Digest, Sum

_LISTS = re.compile(
    r"(?:^|/)(?:[^/]+\.dist-info/RECORD|[^/]*(?:SUMS|sums)(?:\.txt)?|CHECKSUMS?)$|\.(?:sha(?:1|256|512)|md5)(?:sums?)?$"
)
_SUFFIX = b".debug"  # of the names of debug files, as objcopy and debhelper make them
_IDENT = 16
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


@dataclass(slots=True, kw_only=True)
class _Search:
    """One tree: its place, and what is known of the files that change."""

    tree: Path
    known: dict[bytes, tuple[DigestKind, str]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def learn(self, paths: Iterable[str]) -> None:
        """Hash the files at these paths."""
        for path in paths:
            for kind, value in digests(self.tree / path, _TEXT).items():
                self.known.setdefault(value, (kind, path))
            if path.endswith(_SUFFIX.decode()):
                self.names.setdefault(os.path.basename(path), []).append(path)

    def find(self, entry: Entry) -> tuple[Digest, ...]:
        """Return the hashes of known files that stand in a file."""
        if entry.info.st_size > _LIMIT:
            return ()
        if _LISTS.search(entry.path):
            return tuple(self._listed((self.tree / entry.path).read_bytes(), entry.path))
        if self.names:
            return tuple(self._linked(self.tree / entry.path))
        return ()

    def _listed(self, content: bytes, path: str) -> Iterator[Digest]:
        for match in _TOKEN.finditer(content):
            kind, of = self.known.get(match[0], (None, ""))
            if kind is not None and of != path:
                yield Digest(offset=match.start(), kind=kind, canonical=match[0], of=of)

    def _linked(self, path: Path) -> Iterator[Digest]:
        """Yield the checksum of `.gnu_debuglink`: name, NULs to a multiple of 4, CRC-32 (GDB manual)."""
        with path.open("rb") as file:
            head = file.read(_IDENT)
            if head[:4] != b"\x7fELF":
                return
            content = head + file.read()
        kind = DigestKind.CRC32_LITTLE if content[5:6] == b"\1" else DigestKind.CRC32_BIG
        for match in re.finditer(re.escape(_SUFFIX) + b"\0", content):
            for size in {len(os.fsencode(name)) for name in self.names}:
                name = content[max(0, match.end() - 1 - size) : match.end() - 1]
                place = match.end() - 1 + 4 - size % 4
                for of in self.names.get(os.fsdecode(name), ()):
                    value = digests(self.tree / of, (kind,))[kind]
                    if (
                        content[match.end() : place].strip(b"\0") == b""
                        and content[place : place + 4] == value
                    ):
                        yield Digest(offset=place, kind=kind, canonical=value, of=of)
                        return


def find(tree: Path, entries: Iterable[Entry], changing: Iterable[str]) -> Mapping[str, tuple[Digest, ...]]:
    """Return the hashes of the files at `changing`, which hold references, by the file they stand in.

    All names of a hard-linked file get the same. Raises OSError.
    """
    files = tuple(entry for entry in entries if entry.is_file)
    new = tuple(changing)
    if not any(_LISTS.search(entry.path) for entry in files) and not any(
        path.endswith(_SUFFIX.decode()) for path in new
    ):
        return {}
    search = _Search(tree=tree)
    found: dict[tuple[int, int], tuple[Digest, ...]] = {}
    for _ in range(_ROUNDS):
        search.learn(new)
        before = dict(found)
        for entry in files:
            if places := search.find(entry):
                found[_inode(entry)] = places
        new = tuple(entry.path for entry in files if _inode(entry) in found.keys() - before.keys())
        if not new:
            break
    return {entry.path: found[_inode(entry)] for entry in files if _inode(entry) in found}


def with_digests(
    sums: Mapping[str, tuple[Sum, ...]], more: Mapping[str, tuple[Digest, ...]]
) -> dict[str, tuple[Sum | Digest, ...]]:
    """Return both, in the order of their offsets."""
    return {
        path: tuple(sorted([*sums.get(path, ()), *more.get(path, ())], key=lambda item: item.offset))
        for path in [*sums, *(path for path in more if path not in sums)]
    }


def _inode(entry: Entry) -> tuple[int, int]:
    return entry.info.st_dev, entry.info.st_ino
