"""Which symbols and versions the files of a closure want and no file of it defines.

A use under a version is met by that version, or by a definition without any; a use without version by
any definition that is not hidden (glibc's elf/dl-lookup.c). Files are compared as whole sets: what one
file wants, less what each of the others defines. Weak uses may stay open and are not looked at.
"""

from collections.abc import Iterator, Mapping, Sequence

from belljar.ldso.closure import Unresolved
from belljar.ldso.linker import Loaded


def find_unresolved(objects: Sequence[Loaded]) -> Iterator[Unresolved]:
    """Yield what each file wants in vain, in the order of the files."""
    known: dict[str, Loaded] = {}
    for loaded in objects:
        for name in (loaded.binary.soname, loaded.path.rpartition("/")[2], loaded.path):
            known.setdefault(name or "", loaded)
    for loaded in objects:
        yield from _versions(loaded, known)
        yield from _symbols(loaded, objects)


def _symbols(loaded: Loaded, objects: Sequence[Loaded]) -> Iterator[Unresolved]:
    left = set(loaded.binary.imports)
    for other in objects:
        if not left:
            return
        exports = other.binary.exports
        left -= exports.versioned
        left -= exports.default
        left -= exports.plain
    # What is left is rare: only now the names are taken apart.
    for text in sorted(left):
        name, mark, version = text.partition("@")
        if not any(name in other.binary.exports.plain for other in objects):
            yield Unresolved(path=loaded.path, symbol=name, version=version if mark else None)


def _versions(loaded: Loaded, known: Mapping[str, Loaded]) -> Iterator[Unresolved]:
    """Yield the versions that a library should define: without one the loader refuses the file."""
    for need in loaded.binary.elf.needs:
        library = known.get(need.library)
        definitions = library.binary.elf.definitions if library and not need.weak else ()
        if definitions and need.name not in {item.name for item in definitions}:
            yield Unresolved(path=loaded.path, symbol=None, version=need.name, library=need.library)
