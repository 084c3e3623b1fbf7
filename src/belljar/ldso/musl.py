"""How musl's loader looks a name up (ldso/dynlink.c, load_library).

The names of the libc family are the loader itself. A file is known by the name it was searched for,
not by its soname. LD_LIBRARY_PATH comes first, then RUNPATH or RPATH, which are one to musl, of the
asker and of all for which it was loaded; then the directories in /etc/ld-musl-ARCH.path, or the
built-in ones where there is no such file. A file that cannot be loaded ends the search.
"""

from collections.abc import Iterator
from typing import Any

from belljar.ldso.closure import Edge, How
from belljar.ldso.linker import Hit, Linker, Loaded, Stage
from belljar.ldso.paths import musl_directories

_LIBC = ("libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet.")
_NAME_MAX = 255


class MuslLinker(Linker):
    """Loads as musl does."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._names: dict[str, Loaded] = {}

    def preloads(self) -> tuple[str, ...]:
        """Return LD_PRELOAD."""
        return self.surroundings.preload

    def find(self, name: str, asker: Loaded) -> Hit:
        """Return what `name` leads to when `asker` asks."""
        if name.startswith(_LIBC) or name == self.loader.name:
            return self._loader_itself(name, asker)
        if "/" in name:
            return self.search(name, asker, iter([Stage(How.PATH, "", [(name, "")])]))
        if name in self._names:
            return self.again(self._names[name], name, asker, "name")
        if not name or len(name) > _NAME_MAX:
            return self.miss(name, asker, How.MISSING, "no name that a file can have")
        return self.search(name, asker, self._stages(name, asker))

    def register(self, loaded: Loaded, name: str, asker: Loaded, *, is_new: bool) -> None:  # noqa: ARG002 - glibc's need it
        """Remember a file by the name it was searched for."""
        if "/" not in name and loaded is not self.interpreter:
            self._names.setdefault(name if is_new else loaded.path.rpartition("/")[2], loaded)

    def _loader_itself(self, name: str, asker: Loaded) -> Hit:
        if self.interpreter is None:
            return self.miss(name, asker, How.MISSING, "the interpreter is not there")
        edge = Edge(asker=asker.path, name=name, how=How.LIBC, path=self.interpreter.path)
        return Hit(edge, self.interpreter, is_new=self.interpreter not in self.objects)

    def _stages(self, name: str, asker: Loaded) -> Iterator[Stage]:
        """Yield where a name without a slash is looked for, in the loader's order."""
        if self.surroundings.library_path:
            yield self._stage(How.LIBRARY_PATH, name, self.surroundings.library_path, None)
        chain: Loaded | None = asker
        while chain is not None:
            runpath = chain.binary.runpath
            text = chain.binary.rpath if runpath is None else runpath
            if text:
                yield self._stage(How.RPATH if runpath is None else How.RUNPATH, name, text, chain)
            chain = chain.asker
        yield self._stage(How.DEFAULT, name, self._defaults(), None)

    def _stage(self, how: How, name: str, text: str, owner: Loaded | None) -> Stage:
        directories = self._existing(text, self.origin(owner) if owner else None)
        return Stage(
            how, owner.path if owner else "", ((prefix + name, entry) for prefix, entry in directories)
        )

    def _existing(self, text: str, origin: str | None) -> tuple[tuple[str, str], ...]:
        """Return those directories of a list that are there."""
        key = (text, origin, self.surroundings.directory)
        known = self.cache.lists.get(key)
        if known is None:
            known = self.cache.lists[key] = tuple(
                (directory, entry)
                for directory, entry in musl_directories(text, origin)
                if self.cache.root.is_directory(self.absolute(directory))
            )
        return known

    def _defaults(self) -> str:
        if self.cache.has(self.loader.path_file):
            return self.cache.content(self.loader.path_file).decode("utf-8", "surrogateescape")
        return ":".join(self.loader.directories)
