"""Whether a file that was linked against glibc can run on musl, and what hinders it.

musl's loader ignores symbol versions and takes libc.so.6, libm.so.6, ... for itself (ldso/dynlink.c,
`reserved`); so a library may well load there, if musl has every function that it refers to. A program
does not even start: its loader is not there.
"""

from collections.abc import Iterable

from belljar.audit.floors.symbols import is_in_musl

_ITSELF = ("libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet.")
_SHOWN = 8


def is_musl_itself(library: str) -> bool:
    """Whether musl's loader takes itself for a library of that name."""
    return library.startswith(_ITSELF)


def hindrances(
    *, interpreter: str | None, missing_libraries: Iterable[str], symbols: Iterable[str]
) -> tuple[str, ...]:
    """Return what hinders a file from running on musl, in words; nothing when it may run.

    `missing_libraries` are those of glibc that musl has not; `symbols` the strong ones bound to glibc.
    """
    found = []
    if interpreter is not None:
        found.append(f"asks for the loader {interpreter}")
    found += [f"needs {name} of glibc" for name in missing_libraries]
    absent = sorted(name for name in set(symbols) if not is_in_musl(name))
    if absent:
        more = len(absent) - _SHOWN
        tail = f" and {more} more" if more > 0 else ""
        found.append(f"uses symbols that musl lacks: {', '.join(absent[:_SHOWN])}{tail}")
    return tuple(found)
