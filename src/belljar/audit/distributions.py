"""Which distributions have at least a given glibc."""

from belljar.audit.glibc import GlibcVersion

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


def distributions(floor: GlibcVersion) -> tuple[str, ...]:
    """Return, of each family that has one, the first release with that glibc: `Debian 8+`."""
    found = []
    for family, releases in _TABLE.items():
        first = next((name for name, glibc in releases if GlibcVersion.parse(glibc) >= floor), None)
        if first is not None:
            found.append(f"{family} {first}+")
    return tuple(found)
