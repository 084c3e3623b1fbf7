"""Version names of libraries that number them: GLIBC_2.17, GLIBCXX_3.4.21, CXXABI_1.3.9, GCC_7.0.0.

Each such library defines, with a release, all names of the releases before: what matters is the
highest that a file needs. Names without a number of their own (CXXABI_TM_1, GLIBCXX_LDBL_3.4) say
which platform they are for, and set no floor.
"""

import functools
import re

Number = tuple[int, ...]
"""A release's number, ordered as tuples are: (3, 4, 9) < (3, 4, 21)."""

FLOORS = {"glibc": "GLIBC", "glibcxx": "GLIBCXX", "cxxabi": "CXXABI", "gcc": "GCC"}
"""The floors that version names set, and what the names begin with."""

_NAME = re.compile(r"([A-Z]+)_([0-9]{1,4}(?:\.[0-9]{1,4}){1,4})")


@functools.cache
def split(version: str) -> tuple[str, Number] | None:
    """Return the series and the number of a version name; None when it has none."""
    match = _NAME.fullmatch(version)
    return (match[1], number(match[2])) if match else None


def number(text: str) -> Number:
    """Return the number that digits and dots write."""
    return tuple(int(part) for part in text.split("."))


def dotted(value: Number) -> str:
    """Write a number with dots."""
    return ".".join(map(str, value))


# Which GCC first shipped a libstdc++ with that version. Source: the libstdc++ manual, "ABI Policy and
# Guidelines", history of releases.
_GLIBCXX = "0 1:3.4.1 2:3.4.2 3:3.4.3 4:4.0 5:4.0.1 6:4.0.2 7:4.0.3 8:4.1.1 9:4.2 10:4.3 11:4.4 12:4.4.1"
_GLIBCXX += " 13:4.4.2 14:4.5 15:4.6 16:4.6.1 17:4.7 18:4.8 19:4.8.3 20:4.9 21:5.1 22:6.1 23:7.1 24:7.2"
_GLIBCXX += " 25:8.1 26:9.1 27:9.2 28:9.3 29:11.1 30:12.1 31:13.1 32:13.2 33:14.1 34:15.1"
_CXXABI = "0 1:4.0 2:4.3 3:4.4 4:4.5 5:4.6 6:4.7 7:4.8 8:4.9 9:5.1 10:6.1 11:7.1 12:9.1 13:11.1 14:13.1"
_CXXABI += " 15:14.1 16:15.1"


def _releases(prefix: str, table: str) -> dict[str, str]:
    pairs = (item.partition(":") for item in table.split())
    return {prefix + (f".{last}" if last != "0" else ""): gcc or "3.4" for last, _, gcc in pairs}


_GCC = {"GLIBCXX": _releases("3.4", _GLIBCXX), "CXXABI": _releases("1.3", _CXXABI)}


def gcc_of(version: str) -> str | None:
    """Return the first GCC whose libraries define a version; None when belljar does not know."""
    found = split(version)
    if found is None:
        return None
    series, value = found
    return dotted(value) if series == "GCC" else _GCC.get(series, {}).get(dotted(value))
