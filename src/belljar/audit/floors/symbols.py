"""Which release of glibc first had a symbol, and which symbols musl has.

Version names do not say all. A reference without version (object files, libraries linked against a
stub) needs the release that first had the symbol; and a reference with one is explained by it: a
function that is new, one that moved into another library, or an old one in a new shape. The tables
are text, made by tools/libc_symbols.py.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

from belljar.audit.floors.glibc import GlibcVersion

# What programs got linked in from libc_nonshared.a before it came into libc.so.6 (2.33 and 2.34):
# object files may refer to them and be linked against any release.
_NONSHARED = """
    stat stat64 fstat fstat64 lstat lstat64 fstatat fstatat64 mknod mknodat
    atexit at_quick_exit pthread_atfork __libc_csu_init __libc_csu_fini __stack_chk_fail_local
"""
NONSHARED = frozenset(_NONSHARED.split())


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """The first release that had a symbol in a library."""

    release: GlibcVersion
    library: str


@functools.cache
def _glibc(arch: str) -> dict[str, tuple[Origin, ...]]:
    _, arches, *lines = _lines("glibc")
    if arch not in arches.split():
        return {}
    column = 1 + arches.split().index(arch)
    found: dict[str, tuple[Origin, ...]] = {}
    for line in lines:
        head, _, names = line.partition(": ")
        words = head.split()
        if words[column] == "-":
            continue
        origin = (Origin(GlibcVersion.parse(words[column]), words[0]),)
        for name in names.split():
            found[name] = found[name] + origin if name in found else origin
    return found


@functools.cache
def _musl() -> frozenset[str]:
    return frozenset(_lines("musl")[1].split())


def _lines(name: str) -> list[str]:
    return (Path(__file__).parent / f"{name}.symbols").read_text(encoding="ascii").splitlines()


def origins(symbol: str, arch: str) -> tuple[Origin, ...]:
    """Return where and since when glibc has a symbol, oldest first; empty when it never had, or not there."""
    return tuple(sorted(_glibc(arch).get(symbol, ())))


def first(symbol: str, arch: str) -> Origin | None:
    """Return the oldest origin of a symbol."""
    return min(_glibc(arch).get(symbol, ()), default=None)


@functools.cache
def _releases(arch: str) -> dict[str, frozenset[GlibcVersion]]:
    found: dict[str, set[GlibcVersion]] = {}
    for each in _glibc(arch).values():
        for origin in each:
            found.setdefault(origin.library, set()).add(origin.release)
    return {library: frozenset(releases) for library, releases in found.items()}


def newest(library: str, arch: str, release: GlibcVersion) -> GlibcVersion | None:
    """Return the newest version that a library has in a release of glibc; None for one that is not known."""
    return max((item for item in _releases(arch).get(library, ()) if item <= release), default=None)


def is_in_musl(symbol: str) -> bool:
    """Whether some release of musl exports a symbol on some architecture."""
    return symbol in _musl()
