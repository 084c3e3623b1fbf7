"""glibc's version names, and what they say about the oldest glibc that will do.

A program names, for each library, the versions that it must define (`GLIBC_2.17`). The loader
looks for all of them before the program starts, whether a symbol uses them or not.
"""

import functools
import re
from dataclasses import dataclass
from typing import Self

from belljar.errors import InputError

_NUMBER = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?")
PRIVATE = "GLIBC_PRIVATE"


@dataclass(frozen=True, slots=True, order=True)
class GlibcVersion:
    """A release of glibc, ordered: 2.2.5 < 2.17 < 2.34."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2.17` or `2.2.5`; raises InputError for anything else."""
        match = _NUMBER.fullmatch(text)
        if match is None:
            raise InputError(
                f"glibc version {text!r}: not a release of glibc", hint="write it like 2.17 or 2.2.5"
            )
        return cls(*(int(part) for part in match.groups(default="0")))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + (f".{self.patch}" if self.patch else "")


# Versions without symbols that say "the loader understands this": the first release that defines
# them. Distributions carry some of them back. Source: glibc's NEWS and elf/Versions.
MARKERS = {
    "GLIBC_ABI_DT_RELR": GlibcVersion(2, 36),
    "GLIBC_ABI_GNU2_TLS": GlibcVersion(2, 42),
    "GLIBC_ABI_GNU_TLS": GlibcVersion(2, 43),
    "GLIBC_ABI_DT_X86_64_PLT": GlibcVersion(2, 43),
}
RELR_MARKER = "GLIBC_ABI_DT_RELR"

# What glibc installs, and what a system with glibc therefore has (libcrypt: from libxcrypt since 2.38).
_FAMILY = re.compile(
    r"ld(64|-linux.*|-[0-9.]+)?\.so\.[0-9]"
    r"|lib(c|m)\.so\.6(\.1)?"
    r"|lib(pthread|thread_db)\.so\.[01]|lib(dl|resolv)\.so\.2"
    r"|lib(rt|util|anl|nsl|crypt|BrokenLocale|mvec|nss_\w+)\.so\.[12]"
)


@functools.cache
def release_of(version: str) -> GlibcVersion | None:
    """Return the first release that defines a version name; None when the name does not say."""
    if version in MARKERS:
        return MARKERS[version]
    head, _, number = version.partition("GLIBC_")
    match = None if head else _NUMBER.fullmatch(number)
    return GlibcVersion.parse(number) if match else None


def is_family(library: str) -> bool:
    """Whether a library, by its soname, is one that glibc installs."""
    return _FAMILY.fullmatch(library) is not None
