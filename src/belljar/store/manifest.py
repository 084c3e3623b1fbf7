"""What a tree contains, in canonical form: the same on every machine, wherever the tree lies.

One line an entry, in byte order of the paths:

    d                             bin
    x <sha256> <size>             bin/hello
    f <sha256> <size>             share/man/man1/hello.1
    l <sha256 of the target> <n>  lib/current

Contents are hashed with every reference turned back to the placeholder. Owners, times and modes
other than the owner's execute bit are not content: the store fixes them. The content hash is the
SHA-256 of the lines. Keeping the lines, not only their hash, lets `store verify` name the file.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys
from belljar.errors import InputError
from belljar.placeholder import PLACEHOLDER
from belljar.references import Table, read_canonical, rewritten
from belljar.types import Digest


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Line:
    """One entry of a tree: `kind` is d, f, x or l."""

    path: str
    kind: str
    digest: str = ""
    size: int = 0

    def __str__(self) -> str:
        fields = f" {self.digest} {self.size}" if self.kind != "d" else ""
        return f"{self.kind}{fields} {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All entries of a tree."""

    lines: tuple[Line, ...]

    @property
    def digest(self) -> Digest:
        """The content hash of the tree."""
        return Digest(hashlib.sha256(self.to_bytes()).hexdigest())

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return sum(line.size for line in self.lines)

    def to_bytes(self) -> bytes:
        """Return the lines as they are hashed and stored; NUL ends each, since a path may hold a newline."""
        return b"".join(os.fsencode(str(line)) + b"\0" for line in self.lines)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read what `to_bytes` wrote; raises InputError where it is damaged."""
        try:
            return cls(lines=tuple(_parse(os.fsdecode(item)) for item in data.split(b"\0")[:-1]))
        except ValueError as error:
            raise InputError(f"manifest: damaged ({error})") from error


def _parse(text: str) -> Line:
    kind, rest = text[:2].rstrip(), text[2:]
    if kind == "d":
        return Line(path=rest, kind="d")
    if kind not in {"f", "x", "l"}:
        raise ValueError(f"unknown kind in {text[:40]!r}")
    digest, size, path = rest.split(" ", 2)
    return Line(path=path, kind=kind, digest=digest, size=int(size))


def describe(tree: Path, table: Table, location: bytes) -> Manifest:
    """Read a tree that lies at `location` and return its canonical manifest.

    Raises InputError for anything that is neither file, directory nor symbolic link, and
    IntegrityError where a recorded reference is not there.
    """
    return Manifest(
        lines=tuple(sorted(_lines(tree, table, location), key=lambda line: os.fsencode(line.path)))
    )


def _lines(tree: Path, table: Table, location: bytes) -> Iterator[Line]:
    for entry in fsys.walk(tree):
        path = tree / entry.path
        if entry.is_dir:
            yield Line(path=entry.path, kind="d")
        elif entry.is_link:
            yield _link(entry.path, os.readlink(os.fsencode(path)), table, location)
        elif entry.is_file:
            content = hashlib.sha256()
            for chunk in read_canonical(path, table.places(entry.path, tree), location):
                content.update(chunk)
            kind = "x" if entry.is_executable else "f"
            yield Line(path=entry.path, kind=kind, digest=content.hexdigest(), size=entry.info.st_size)
        else:
            raise InputError(f"{path}: neither file, directory nor symbolic link")


def _link(path: str, target: bytes, table: Table, location: bytes) -> Line:
    references = table.links.get(path, ())
    canonical = rewritten(target, references, old=location, new=PLACEHOLDER.encode(), subject=path)
    return Line(path=path, kind="l", digest=hashlib.sha256(canonical).hexdigest(), size=len(canonical))
