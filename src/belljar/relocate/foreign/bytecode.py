"""Python's byte code (`.pyc`): marshalled objects behind a header of 16 bytes (PEP 552).

Strings are counted, so what is overwritten at the same length stays right. A longer prefix has no room:
then the header is made one that no Python takes, and Python compiles the source again, or reads it each
time where it may not write. Byte code without its source has only itself: refused.

A header records the source's time and size, or a hash of it. Where the source changes its length, its
byte code gets the new size: what is applied keeps times.
"""

import os

from belljar.relocate.foreign.binary import fitted, overwrite
from belljar.relocate.foreign.moves import Hit
from belljar.relocate.foreign.subject import Finding, Subject
from belljar.splice import Splice

STALE = b"\0\0"
"""Instead of the version's number: no Python has it, so each passes over the file."""


def source_of(path: str) -> str:
    """Return the path of the source that byte code comes from, as Python looks for it (PEP 3147)."""
    directory, _, name = path.rpartition("/")
    top, _, last = directory.rpartition("/")
    if last == "__pycache__":
        return f"{top}/{name.split('.')[0]}.py".removeprefix("/")
    return path.removesuffix("c").removesuffix("o")


def plan_bytecode(subject: Subject, finding: Finding) -> None:
    """Overwrite at equal length; else make the file stale."""
    certain = [hit for hit in subject.hits if hit.doubt != "goes on" or _is_whole(subject, hit)]
    if all(fitted(hit) is not None for hit in certain):
        for hit in certain:
            overwrite(subject, finding, hit._replace(doubt=""))
        return
    if not os.path.isfile(subject.tree / source_of(subject.path)) or "__pycache__" not in subject.path:
        finding.refuse(
            subject.path,
            "byte code without its source cannot take a longer prefix",
            offset=certain[0].offset,
        )
        return
    make_stale(subject.head, finding)


def _is_whole(subject: Subject, hit: Hit) -> bool:
    """Whether a counted string holds the prefix and nothing else: what follows is another object's type."""
    size = hit.end - hit.offset
    before = subject.read(hit.offset - 5, 5)
    kinds = (before[-2:-1], before[:1])
    return (bytes([kinds[0][0] & 0x7F]) in (b"z", b"Z") and before[-1] == size) or (
        bytes([kinds[1][0] & 0x7F]) in (b"s", b"t", b"u", b"a", b"A")
        and before[1:] == size.to_bytes(4, "little")
    )


def make_stale(head: bytes, finding: Finding) -> None:
    """Make the file one that Python passes over."""
    finding.splices = [Splice(offset=0, old=head[:2], new=STALE)]
    finding.reasons = {"make it stale, so that Python compiles the source again": 1}
