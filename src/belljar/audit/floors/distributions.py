"""Which distributions have at least a given glibc."""

from belljar.audit.floors.glibc import GlibcVersion
from belljar.audit.floors.series import number

# The libstdc++ (GLIBCXX_3.4.N) of the same releases. Source: as above, and GCC's release of each.
_LIBSTDCXX: dict[str, tuple[int, ...]] = {
    "RHEL/CentOS": (13, 19, 25, 29, 33),
    "Debian": (17, 20, 22, 25, 28, 30, 33),
    "Ubuntu": (16, 19, 21, 25, 28, 30, 33),
    "Amazon Linux": (24, 29),
    "SLES": (19, 24, 33),
}

# The glibc of each distribution's first release of that name, oldest first. Sources: the `glibc` or
# `libc6` package in the distributions' own archives; for releases that were updated later (SLES 12,
# 15), the oldest service pack. Only releases that people still meet are listed.
_TABLE: dict[str, tuple[tuple[str, str], ...]] = {
    "RHEL/CentOS": (("6", "2.12"), ("7", "2.17"), ("8", "2.28"), ("9", "2.34"), ("10", "2.39")),
    "Debian": (
        ("7", "2.13"),
        ("8", "2.19"),
        ("9", "2.24"),
        ("10", "2.28"),
        ("11", "2.31"),
        ("12", "2.36"),
        ("13", "2.41"),
    ),
    "Ubuntu": (
        ("12.04", "2.15"),
        ("14.04", "2.19"),
        ("16.04", "2.23"),
        ("18.04", "2.27"),
        ("20.04", "2.31"),
        ("22.04", "2.35"),
        ("24.04", "2.39"),
    ),
    "Amazon Linux": (("2", "2.26"), ("2023", "2.34")),
    "SLES": (("12", "2.19"), ("15", "2.26"), ("16.0", "2.40")),
}


def distributions(floor: GlibcVersion, glibcxx: str | None = None) -> tuple[str, ...]:
    """Return, of each family, the first release with that glibc (and GLIBCXX_...): `Debian 8+`."""
    wanted = number(glibcxx or "3.4")
    found = []
    for family, releases in _TABLE.items():
        for (name, glibc), minor in zip(releases, _LIBSTDCXX[family], strict=True):
            if GlibcVersion.parse(glibc) >= floor and (3, 4, minor) >= wanted:
                found.append(f"{family} {name}+")
                break
    return tuple(found)
