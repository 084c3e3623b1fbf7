"""Which symbols and versions the files of a closure want and no file of it defines.

A use under a version is met by that version, or by a definition without any; a use without version by
any definition that is not hidden (glibc's elf/dl-lookup.c). Files are compared as whole sets: what one
file wants, less what each of the others defines. Weak uses may stay open and are not looked at.

Programs share their libraries: which files met all that a library wants is remembered, and where they are
all loaded again, so it is met again.
"""

from collections.abc import Iterator, Mapping, Sequence

from belljar.ldso.closure import Unresolved
from belljar.ldso.linker import Loaded

Identity = tuple[int, int]
Providers = dict[Identity, frozenset[Identity]]
"""For a file, files that together define all that it wants."""


def find_unresolved(objects: Sequence[Loaded], providers: Providers) -> Iterator[Unresolved]:
    """Yield what each file wants in vain, in the order of the files; adds to `providers`."""
    known: dict[str, Loaded] = {}
    for loaded in objects:
        for name in (loaded.binary.soname, loaded.path.rpartition("/")[2], loaded.path):
            known.setdefault(name or "", loaded)
    present = frozenset(loaded.place.identity for loaded in objects)
    for loaded in objects:
        yield from _versions(loaded, known)
        met = providers.get(loaded.place.identity)
        if met is None or not met <= present:
            yield from _symbols(loaded, objects, providers)


def _symbols(loaded: Loaded, objects: Sequence[Loaded], providers: Providers) -> Iterator[Unresolved]:
    left = loaded.binary.imports
    used = set()
    # The libc is among the last, and defines most. A difference takes the time of what is left, `-=` not.
    for other in reversed(objects):
        before = len(left)
        left = left - other.binary.exports.exact
        if len(left) < before:
            used.add(other.place.identity)
        if not left:
            providers[loaded.place.identity] = frozenset(used)
            return
    # What is left is rare: only now the names are taken apart.
    for text in sorted(left):
        name, mark, version = text.partition("@")
        if not any(name in other.binary.exports.plain for other in objects):
            yield Unresolved(path=loaded.path, symbol=name, version=version if mark else None)


def _versions(loaded: Loaded, known: Mapping[str, Loaded]) -> Iterator[Unresolved]:
    """Yield the versions that a library should define: without one the loader refuses the file."""
    for need in loaded.binary.elf.needs:
        library = known.get(need.library)
        defined = library.binary.versions if library and not need.weak else ()
        if defined and need.name not in defined:
            yield Unresolved(path=loaded.path, symbol=None, version=need.name, library=need.library)
