"""Where two trees differ, to the byte.

Both are read once, in chunks, so that memory is bounded by the number of differences and not by the size
of files. Bytes that differ near each other are one difference: a hash that agrees by chance in one of its
bytes is still one thing to be told about. Times, owners and modes but the execute bit are not compared:
an artifact does not have them.
"""

import enum
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys

GAP = 8
"""How many equal bytes between two differing ones make two differences of them."""
LIMIT = 1 << 16
"""How many differences of a file are told apart; the last one reaches to the end of the file."""

_RUN = re.compile(rb"[^\0]+(?:\0{1,%d}[^\0]+)*" % (GAP - 1), re.DOTALL)


class Aspect(enum.StrEnum):
    """In what two entries of one name differ."""

    CONTENT = "content"
    SIZE = "size"
    TARGET = "target of a link"
    TYPE = "type"
    EXECUTABLE = "execute bit"
    MISSING = "is in one tree only"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Difference:
    """Bytes offset..end of an entry that differ between two trees, or another aspect of it."""

    path: str
    offset: int = 0
    end: int = 0
    aspect: Aspect = Aspect.CONTENT


def compare(left: Path, right: Path) -> tuple[Difference, ...]:
    """Return all differences of two trees, by path and offset; of several names of a file, under the first.

    Raises OSError when something cannot be read.
    """
    return tuple(_differences(left, right))


def _differences(left: Path, right: Path) -> Iterator[Difference]:
    here = {entry.path: entry for entry in fsys.walk(left)}
    there = {entry.path: entry for entry in fsys.walk(right)}
    seen: set[tuple[int, int, int, int]] = set()
    for path in sorted(here.keys() | there.keys(), key=os.fsencode):
        if path not in here or path not in there:
            yield Difference(path=path, aspect=Aspect.MISSING)
            continue
        one, two = here[path], there[path]
        if (one.is_file, one.is_dir, one.is_link) != (two.is_file, two.is_dir, two.is_link):
            yield Difference(path=path, aspect=Aspect.TYPE)
        elif one.is_link:
            if os.readlink(os.fsencode(left / path)) != os.readlink(os.fsencode(right / path)):
                yield Difference(path=path, aspect=Aspect.TARGET)
        elif one.is_file:
            if one.is_executable != two.is_executable:
                yield Difference(path=path, aspect=Aspect.EXECUTABLE)
            pair = (one.info.st_dev, one.info.st_ino, two.info.st_dev, two.info.st_ino)
            if pair not in seen:
                seen.add(pair)
                yield from _contents(path, left / path, right / path)


def _contents(path: str, left: Path, right: Path) -> Iterator[Difference]:
    with left.open("rb") as one, right.open("rb") as two:
        size, other = os.fstat(one.fileno()).st_size, os.fstat(two.fileno()).st_size
        shared, base, count = min(size, other), 0, 0
        while base < shared:
            here, there = one.read(fsys.CHUNK), two.read(fsys.CHUNK)
            for begin, end in _unequal(here, there):
                count += 1
                if count == LIMIT:
                    yield Difference(path=path, offset=base + begin, end=max(size, other))
                    return
                yield Difference(path=path, offset=base + begin, end=base + end)
            base += min(len(here), len(there))
    if size != other:
        yield Difference(path=path, offset=shared, end=max(size, other), aspect=Aspect.SIZE)


def _unequal(left: bytes, right: bytes) -> Iterator[tuple[int, int]]:
    """Yield where two buffers differ, as far as both go."""
    if left == right:
        return
    size = min(len(left), len(right))
    change = int.from_bytes(left[:size]) ^ int.from_bytes(right[:size])
    yield from (match.span() for match in _RUN.finditer(change.to_bytes(size)))
