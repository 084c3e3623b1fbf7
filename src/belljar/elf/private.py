"""Private copies of a glibc: which of its paths a copy must not have, and whether a file is such a copy.

A loader has paths of its system built in: its cache, the list of libraries to preload, the default
directories; the libc has those of locales, character set modules and messages, and the names of variables
that name such places. In a private copy (belljar.seal.libc) none of them is left. That is what is looked
for: not a mark that somebody put there, but whether one of the paths still is.
"""

import re
from dataclasses import dataclass

VARIABLES = {"LOCPATH": "BJLPATH", "GCONV_PATH": "BJCNV_PATH"}
"""What glibc's variables are called in a private libc: names of the same length and the same end.

`PATH`, which execvp(3) looks up, is no string of its own in a libc but the tail of `LOCPATH`.
"""

# The list of default directories, strings that end with a slash, one behind the other: system_dirs in glibc's
# elf/dl-load.c.
_DIRECTORY = rb"/(?:usr/)?lib(?:32|64|x32)?/(?:[\w.-]+/)?\0"
_DIRECTORIES = re.compile(rb"(?<![\w./-])(?P<path>(?:" + _DIRECTORY + rb")+)")
_BANNER = re.compile(
    rb"(?:GNU C Library|ld\.so) \(([^()\n\0]{1,80})\)[^\n\0]{0,40} release version (\d{1,4}\.\d{1,4})(?!\d)"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Paths (`path` of the pattern) that a file has built in; without a needed one its build is unknown."""

    pattern: re.Pattern[bytes]
    is_needed: bool = False


def _path(pattern: bytes, *, is_needed: bool = False) -> Rule:
    # A pattern that begins with two fixed bytes is searched for five times as fast as one that looks behind.
    return Rule(re.compile(rb"\0(?P<path>" + pattern + rb")(?=\0)"), is_needed)


LOADER = (
    _path(rb"/[\w./+-]*/ld\.so\.cache", is_needed=True),
    _path(rb"/[\w./+-]*/ld\.so\.preload"),
    Rule(_DIRECTORIES, is_needed=True),
)
"""The paths of a loader."""
LIBC = (
    _path(rb"/[\w./+-]+/locale", is_needed=True),
    _path(rb"/[\w./+-]+/locale/locale-archive"),
    _path(rb"/[\w./+-]+/gconv"),
    _path(rb"/[\w./+-]+/gconv/gconv-modules\.cache"),
    _path(rb"/[\w./+-]+/locale/%L/%N(?::/[\w./+%-]+)*:?"),
)
"""The paths of a libc."""


def left_in_loader(image: bytes) -> str | None:
    """Return a path of its system that a loader still has; None for a private copy."""
    return _left(image, LOADER)


def left_in_libc(image: bytes) -> str | None:
    """Return a path, or the name of a variable, that a libc still has; None for a private copy."""
    name = next((name for name in VARIABLES if b"\0" + name.encode() + b"\0" in image), None)
    return _left(image, LIBC) or name


def _left(image: bytes, rules: tuple[Rule, ...]) -> str | None:
    found = next((match["path"] for rule in rules for match in rule.pattern.finditer(image)), None)
    return None if found is None else found.partition(b"\0")[0].decode("ascii", "replace")


def build_of(image: bytes) -> str | None:
    """Return the release and package that a loader or libc says it is; None where it does not say.

    Loaders say it since 2.33: `2.36 (Debian GLIBC 2.36-9+deb12u14)`.
    """
    match = _BANNER.search(image)
    return f"{match[2].decode()} ({match[1].decode('utf-8', 'replace')})" if match else None
