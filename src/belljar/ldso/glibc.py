"""How glibc's loader looks a name up (elf/dl-load.c, elf/dl-deps.c).

In this order: what is loaded under that name; RPATH of the asker, of the file for which it was loaded
and so on up to the program, unless the asker has a RUNPATH; LD_LIBRARY_PATH; RUNPATH of the asker;
/etc/ld.so.cache; the default directories. In each list, subdirectories for the processor come first.
"""

from collections.abc import Iterator
from typing import Any

from belljar.elf.const import Flag1
from belljar.ldso.closure import How
from belljar.ldso.linker import Hit, Linker, Loaded, Stage
from belljar.ldso.paths import Tokens, expand, glibc_directories


class GlibcLinker(Linker):
    """Loads as glibc does."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._subdirectories = self.loader.subdirectories(self.cpu)
        self._names: dict[str, Loaded] = {}
        for loaded in (self.program, self.interpreter):
            if loaded is not None:
                self._remember(loaded)

    def preloads(self) -> tuple[str, ...]:
        """Return LD_PRELOAD and the root's /etc/ld.so.preload."""
        return (*self.surroundings.preload, *self.cache.preloads())

    def find(self, name: str, asker: Loaded) -> Hit:
        """Return what `name` leads to when `asker` asks."""
        wanted = expand(name, self.tokens(asker))
        if not wanted:
            return self.miss(name, asker, How.MISSING, "a token in the name stands for nothing")
        known = self._names.get(wanted)
        if known is not None:
            return self.again(known, name, asker, "name")
        if "/" in wanted:
            return self.search(name, asker, iter([Stage(How.PATH, "", [(wanted, "")])]))
        return self.search(name, asker, self._stages(wanted, asker))

    def register(self, loaded: Loaded, name: str, asker: Loaded, *, is_new: bool) -> None:
        """Remember a file by the name it was asked for, its path and its soname."""
        if is_new:
            self._remember(loaded)
        self._names.setdefault(expand(name, self.tokens(asker)) or name, loaded)

    def _remember(self, loaded: Loaded) -> None:
        self._names.setdefault(loaded.path, loaded)
        if loaded.binary.soname:
            self._names.setdefault(loaded.binary.soname, loaded)

    def _stages(self, name: str, asker: Loaded) -> Iterator[Stage]:
        """Yield where a name without a slash is looked for, in the loader's order."""
        chain: Loaded | None = asker if asker.binary.runpath is None else None
        while chain is not None:
            if chain.binary.runpath is None and chain.binary.rpath:
                yield self._stage(How.RPATH, name, chain.binary.rpath, chain)
            chain = chain.asker
        if self.surroundings.library_path:
            yield self._stage(How.LIBRARY_PATH, name, self.surroundings.library_path, self.program, ":;")
        if asker.binary.runpath:
            yield self._stage(How.RUNPATH, name, asker.binary.runpath, asker)
        dynamic = asker.binary.elf.dynamic
        avoids_defaults = bool(dynamic and dynamic.flags_1 & Flag1.NODEFLIB)
        cached = self._cached(name)
        if cached is not None and not (avoids_defaults and self._is_default(cached)):
            yield Stage(How.CACHE, "", [(cached, cached)])
        if not avoids_defaults:
            yield self._stage(How.DEFAULT, name, ":".join(self.loader.directories), asker)

    def _stage(self, how: How, name: str, text: str, owner: Loaded, separators: str = ":") -> Stage:
        directories = self._existing(text, self.tokens(owner), separators)
        return Stage(how, owner.path, ((prefix + name, entry) for prefix, entry in directories))

    def _existing(self, text: str, tokens: Tokens, separators: str) -> tuple[tuple[str, str], ...]:
        """Return those directories of a list, and of their subdirectories, that are there.

        The loader too looks once: a list of a hundred thousand directories costs each name nothing.
        """
        key = (text, tokens, separators, self._subdirectories, self.surroundings.directory)
        known = self.cache.lists.get(key)
        if known is None:
            known = self.cache.lists[key] = tuple(self._look_for(text, tokens, separators))
        return known

    def _look_for(self, text: str, tokens: Tokens, separators: str) -> Iterator[tuple[str, str]]:
        found: dict[str, str] = {}
        for directory, entry in glibc_directories(text, tokens, separators):
            found.setdefault(directory, entry)
        root = self.cache.root
        for directory, entry in found.items():
            if not root.is_directory(self.absolute(directory)):
                continue
            for below in self._subdirectories:
                if root.is_directory(self.absolute(directory + below)):
                    yield directory + below, entry
            yield directory, entry

    def _cached(self, name: str) -> str | None:
        header = self.program.binary.elf.header
        return self.cache.ld_cache(header).find(
            name,
            machine=header.machine,
            levels=self.cpu.levels if self.loader.has_levels else (),
            legacy=self.loader.legacy(self.cpu),
        )

    def _is_default(self, path: str) -> bool:
        return any(path.startswith(f"{item}/") for item in self.loader.directories)
