"""Programs whose strings stand side by side, each with its length elsewhere: Rust, Go, Fortran, Ada.

There what stands around a prefix may belong to other strings: `...z/opt/old` is a longer path in C, and in
Rust perhaps two strings. So in such a program a prefix counts only where what stands on both sides ends it;
any other one is refused. Which compiler made a program shows by what its run-time library leaves in it.
"""

import re
from collections.abc import Iterator

from belljar.relocate.foreign.subject import Finding, Subject
from belljar.relocate.pieces.image import Image

_GO = (".go.", ".gopclntab", ".note.go")
_LIBRARIES = re.compile(
    rb"rustc[ /-]|RUST_BACKTRACE|library/(?:core|alloc|std)/src|rust_(?:begin_unwind|eh_personality)"
    rb"|_gfortran_|libgfortran\.so|libgnat-|__gnat_"
)
_BLOCK, _OVERLAP = 1 << 20, 64
_WHO = "in programs of Rust, Go, Fortran and Ada strings stand side by side"


def packs_strings(subject: Subject, image: Image | None) -> bool:
    """Whether the program was made by a compiler that puts no mark at the end of strings."""
    if image is not None and any(region.name.startswith(_GO) for region in image.regions):
        return True
    return any(
        _LIBRARIES.search(subject.read(begin, _BLOCK + _OVERLAP)) for begin in range(0, subject.size, _BLOCK)
    )


def refuse_end(subject: Subject, finding: Finding, offset: int, section: str) -> None:
    """Refuse a prefix that goes on with other letters."""
    finding.refuse(subject.path, f"{_WHO}: not certain where this path ends", offset=offset, section=section)


def refuse_hidden(subject: Subject, finding: Finding, image: Image | None) -> None:
    """Refuse prefixes that would be the end of a longer path if there were marks."""
    loaded = [place for place in _hidden(subject) if image is None or _is_loaded(image, place)]
    if not loaded or not packs_strings(subject, image):
        return
    for place in loaded:
        section = image.region(place).name if image else ""
        finding.refuse(
            subject.path, f"{_WHO}: not certain where this path begins", offset=place, section=section
        )


def _is_loaded(image: Image, place: int) -> bool:
    region = image.region(place)
    return bool(region.address) or not (image.is_linked and region.name)


def _hidden(subject: Subject) -> list[int]:
    """Return where an old prefix stands that no hit is about."""
    known = {place for hit in subject.hits for place in range(hit.offset, hit.end)}
    olds = [old for old, new in subject.moves.pairs if old != new]
    found = {place for old in olds for place in _occurrences(subject, old) if place not in known}
    return sorted(found)


def _occurrences(subject: Subject, old: bytes) -> Iterator[int]:
    for base in range(0, subject.size, _BLOCK):
        data = subject.read(base, _BLOCK + len(old) - 1)
        place = data.find(old)
        while place >= 0:
            yield base + place
            place = data.find(old, place + 1)
