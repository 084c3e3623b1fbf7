"""What a scan asks of a file: the checksums over its references, and what is hidden in it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from belljar.references import Reference, Sum
from belljar.relocate.containers import hiding
from belljar.relocate.containers.container import LIMIT
from belljar.relocate.containers.formats import FORMATS, kind_of
from belljar.relocate.containers.survey import survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Checksums for the table, and one line for each hidden reference."""

    sums: tuple[Sum, ...] = ()
    hidden: tuple[str, ...] = ()


def inspect(fd: int, references: Sequence[Reference]) -> Findings:
    """Look into an open file, `references` of which stand raw in it."""
    kind = kind_of(fd, thorough=bool(references))
    if kind is None:
        return Findings()
    if kind in ("elf", "ar"):
        return _survey(fd, kind, references)
    try:
        is_found = _search(fd, kind)
    except OverflowError:
        return Findings(hidden=(f"more than {hiding.LIMIT >> 30} GiB inside {kind}, not searched",))
    if kind not in FORMATS:
        return Findings(hidden=(f"the placeholder, inside {kind}",) if is_found else ())
    return _survey(fd, kind, references) if is_found or references else Findings()


def _search(fd: int, kind: str) -> bool:
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        return hiding.search(file, kind)


def _survey(fd: int, kind: str, references: Sequence[Reference]) -> Findings:
    what = "a compressed section" if kind in ("elf", "ar") else kind
    if os.fstat(fd).st_size > LIMIT:
        return Findings(hidden=(f"the placeholder, inside {what}: more than {LIMIT >> 20} MiB",))
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        found = survey(memoryview(file.read(LIMIT)), FORMATS[kind], references)
    hidden = (
        f"the placeholder, inside {what}: {f'{part}: ' if part else ''}{why}" for part, why in found.hidden
    )
    return Findings(sums=found.sums, hidden=tuple(hidden))
