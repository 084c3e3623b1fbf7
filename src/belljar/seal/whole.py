"""Whether a seal is whole: what is gone, changed, or came to the prefix after it was sealed.

What was bundled is compared with the record; programs must be sealed, and find their loader and what they
need where they look. A library that came later is no program's yet: what it needs must lie where some program
of the prefix looks, or in the prefix at all, and its own search path must not lead out of the prefix.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar import fsys
from belljar.elf.sealed import Seal, seal_of
from belljar.seal import record
from belljar.seal.record import PRIVATE
from belljar.seal.survey import Binary, Kind, outside
from belljar.seal.wrapped import is_wrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a sealed prefix, and where."""

    path: str
    what: str


def faults(prefix: Path, told: Mapping[str, Any], binaries: Sequence[Binary]) -> tuple[Fault, ...]:
    """Return what is wrong with a sealed prefix, whose record is `told`, by path."""
    every = [*_damage(prefix, told), *_launchers(prefix, told), *_wants(prefix, told, binaries)]
    return tuple(sorted(every, key=lambda fault: fault.path))


def _damage(prefix: Path, told: Mapping[str, Any]) -> Iterator[Fault]:
    for name, source in told["files"].items():
        path = prefix / PRIVATE / name
        if not path.is_file():
            yield Fault(path=f"{PRIVATE}/{name}", what="is gone")
        elif fsys.sha256(path) != source.get("sha256"):
            yield Fault(path=f"{PRIVATE}/{name}", what="is not what was bundled")


def _launchers(prefix: Path, told: Mapping[str, Any]) -> Iterator[Fault]:
    for path, inner in record.wrapped(told).items():
        if is_wrapped(prefix / path) and not (prefix / inner).is_file():
            yield Fault(path=path, what=f"starts {inner}, which is gone")


def _wants(prefix: Path, told: Mapping[str, Any], binaries: Sequence[Binary]) -> Iterator[Fault]:
    """Yield what is not sealed, and needs that are not met where it is looked."""
    names = {os.path.basename(name) for item in binaries for name in item.names}
    searched: set[str] = set()
    for item in binaries:
        if item.kind is Kind.PROGRAM:
            yield Fault(path=item.path, what="is not sealed: it starts on the host's loader")
        if item.kind is not Kind.SEALED or (seal := _seal(prefix, told, item)) is None:
            continue
        here = prefix / os.path.dirname(item.path)
        if not (here / seal.loader).is_file():
            yield Fault(path=item.path, what=f"has no loader: {seal.loader}")
        searched |= {os.path.normpath(here / place) for place in seal.directories}
        for name in item.needed:
            if not any((here / place / name).exists() for place in seal.directories):
                yield Fault(path=item.path, what=f"needs {name}, which is in none of its directories")
    for item in binaries:
        if item.kind is Kind.LIBRARY:
            yield from _library(prefix, item, names, searched)


def _library(prefix: Path, item: Binary, names: set[str], searched: set[str]) -> Iterator[Fault]:
    for name in item.needed:
        if name not in names and not any(os.path.exists(f"{place}/{name}") for place in searched):
            yield Fault(path=item.path, what=f"needs {name}, which is nowhere in the prefix")
    for entry in outside(prefix, item):
        yield Fault(path=item.path, what=f"searches {entry}, which is not of the prefix")


def _seal(prefix: Path, told: Mapping[str, Any], item: Binary) -> Seal | None:
    """Return what a sealed program is started with; paths are relative to its directory."""
    for wrapped in told.get("wrapped", {}).values():
        if wrapped["program"] == item.path:
            up = os.path.relpath(".", os.path.dirname(item.path) or ".")
            loader = next((name for name in told["files"] if name.startswith("ld-")), "")
            places = tuple(f"{up}/{place}" for place in wrapped["directories"])
            return Seal(loader=f"{up}/{PRIVATE}/{loader}", directories=places)
    return seal_of((prefix / item.path).read_bytes())
