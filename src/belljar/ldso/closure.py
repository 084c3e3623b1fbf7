"""What a loader would load for one file, as values.

    {"path": str, "libc": "glibc"|"musl"|null, "loader": str|null, "loader_found": bool,
     "objects": [{"path", "real", "soname": str|null, "asker": str|null}],
     "edges": [{"asker", "name", "how", "path": str|null, "owner", "entry", "passed": [str]}],
     "missing": [str],
     "unresolved": [{"path", "symbol": str|null, "version": str|null, "library": str|null}],
     "dlopened": [{"asker", "name", "source": "note"|"string", "priority", "feature", "how",
                   "path": str|null}]}

Paths are those inside the root, as the loader writes them; `real` is without links.
"""

import enum
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from belljar.ldso.loader import Libc


class How(enum.StrEnum):
    """Why a name leads to a file, or to none."""

    INTERPRETER = "interpreter"
    PRELOAD = "preload"
    PATH = "path"
    RPATH = "rpath"
    LIBRARY_PATH = "library-path"
    RUNPATH = "runpath"
    CACHE = "cache"
    DEFAULT = "default"
    LOADED = "loaded"
    LIBC = "libc"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One need: who asks for which name, and what it leads to.

    `owner` is the file whose RPATH or RUNPATH it was, `entry` that list's entry as it is written (or
    the directory), `passed` what was found on the way and could not be taken: `file: reason`.
    """

    asker: str
    name: str
    how: How
    path: str | None = None
    owner: str = ""
    entry: str = ""
    passed: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return one line: the name, where it leads and why."""
        passed = f" (passed over: {'; '.join(self.passed)})" if self.passed else ""
        return f"{self.name} => {self.path or 'not found'}: {self._why()}; needed by {self.asker}{passed}"

    def _why(self) -> str:
        match self.how:
            case How.RPATH | How.RUNPATH:
                return f"{self.how.upper()} {self.entry} of {self.owner}"
            case How.LIBRARY_PATH:
                return f"LD_LIBRARY_PATH {self.entry}"
            case How.DEFAULT:
                return f"default directory {self.entry}"
            case How.LOADED:
                return f"already loaded under this {self.entry}"
            case How.MISSING | How.DAMAGED:
                return self.entry or "in none of the directories"
            case _:
                return _WORDS[self.how]


_WORDS = {
    How.INTERPRETER: "the program's interpreter",
    How.PRELOAD: "preloaded",
    How.PATH: "named by path",
    How.CACHE: "ld.so.cache",
    How.LIBC: "the loader is the libc",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """A loaded file; `asker` is the path of the file that it was first loaded for, None for the program."""

    path: str
    real: str
    soname: str | None
    asker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """A symbol, or with `symbol` None a whole version of `library`, that no loaded file defines."""

    path: str
    symbol: str | None
    version: str | None
    library: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dlopened:
    """A library that a loaded file may open by itself: by its own note, or as a guess from a string."""

    asker: str
    name: str
    source: str
    priority: str
    feature: str
    how: How
    path: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """All that is loaded for `path`, the program first, in the loader's order; and why."""

    path: str
    libc: Libc | None
    loader: str | None
    loader_found: bool
    objects: tuple[Object, ...]
    edges: tuple[Edge, ...]
    unresolved: tuple[Unresolved, ...]
    dlopened: tuple[Dlopened, ...]

    @property
    def missing(self) -> tuple[Edge, ...]:
        """The needs that lead to no file: nothing there, or nothing that can be loaded."""
        return tuple(edge for edge in self.edges if edge.path is None)

    @property
    def is_complete(self) -> bool:
        """Whether the loader would have all that it needs to start the file."""
        return not self.missing and not self.unresolved

    def describe(self) -> Iterator[str]:
        """Yield a line for each need, each missing symbol and each library that may be opened later."""
        yield from (edge.describe() for edge in self.edges)
        for item in self.unresolved:
            version = f" version {item.version}" if item.version else ""
            library = f" of {item.library}" if item.library else ""
            subject = f"symbol {item.symbol}" if item.symbol else "the"
            yield f"{subject}{version}{library} => defined nowhere; needed by {item.path}"
        for name in self.dlopened:
            kind = f"note, {name.priority}" if name.source == "note" else "guess from a string"
            yield f"{name.name} => {name.path or 'not found'}: may be opened later ({kind}) by {name.asker}"

    def to_json(self) -> dict[str, Any]:
        """Return the closure as JSON values; see the head of this module."""
        return {
            "path": self.path,
            "libc": self.libc,
            "loader": self.loader,
            "loader_found": self.loader_found,
            "objects": [asdict(item) for item in self.objects],
            "edges": [asdict(item) | {"passed": list(item.passed)} for item in self.edges],
            "missing": sorted({edge.name for edge in self.missing}),
            "unresolved": [asdict(item) for item in self.unresolved],
            "dlopened": [asdict(item) for item in self.dlopened],
        }
