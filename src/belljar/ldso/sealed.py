"""How a program is loaded that brings its own loader (docs/sealing.md).

One with an embedded loader says itself which it is and where it searches: its stub gives the loader a
DT_RPATH of these directories, no RUNPATH, and the same as LD_LIBRARY_PATH for libraries with a RUNPATH. An
inner program that a launcher starts, and a library that such programs open, are told it by who asks: the
directories are then those of `--library-path`, and the program's own search path does not count
(`--inhibit-rpath`).

A loader that is a private copy reads neither cache nor list to preload, and has no default directories. One
that is not is taken for what it is: it searches the host.
"""

import os
from dataclasses import replace
from typing import Any

from belljar.elf.private import left_in_loader
from belljar.elf.sealed import Seal
from belljar.ldso.cache import Cache
from belljar.ldso.glibc import GlibcLinker
from belljar.ldso.linker import Loaded
from belljar.ldso.loader import Loader

_ORIGIN = "$ORIGIN"


class PrivateLinker(GlibcLinker):
    """Loads as a private copy of glibc's loader does."""

    def __init__(self, *, loader: Loader, **parts: Any) -> None:
        super().__init__(loader=replace(loader, directories=()), **parts)

    def preloads(self) -> tuple[str, ...]:
        """Return LD_PRELOAD, and no file of the root's."""
        return tuple(self.surroundings.preload)

    def _cached(self, name: str) -> str | None:  # noqa: ARG002 - there is no cache to look into
        return None


def kind_of(loader: Loader, cache: Cache) -> type[GlibcLinker]:
    """Return how a loader that was sealed in searches; one that is not there searches nothing."""
    data = cache.content(loader.name)
    return PrivateLinker if not data or left_in_loader(data) is None else GlibcLinker


def started(program: Loaded, seal: Seal) -> Loaded:
    """Return a program as its loader sees it: with that interpreter and, embedded, a search path."""
    elf = program.binary.elf
    interpreter = os.path.normpath(os.path.join(os.path.dirname(program.place.path), seal.loader))
    dynamic = elf.dynamic
    if program.binary.seal is not None and dynamic is not None:
        dynamic = replace(dynamic, rpath=search_of(seal), runpath=None)
    elif elf.interpreter is not None and dynamic is not None:
        dynamic = replace(dynamic, rpath=None, runpath=None)
    binary = replace(program.binary, elf=replace(elf, interpreter=interpreter, dynamic=dynamic))
    return replace(program, binary=binary)


def search_of(seal: Seal) -> str:
    """Return the directories of a seal as one search path."""
    return ":".join(f"{_ORIGIN}/{directory}" for directory in seal.directories)
