"""The glibc versions that a zig can build against, read from its own table.

Asked for a version that it has not got, zig takes the nearest one and exits 0. What it has is in
`lib/libc/glibc/abilists`, whose head is (zig's tools/update_glibc.zig and src/libs/glibc.zig):

    u8 number of libraries, each: the sonames' middle, NUL-terminated
    u8 number of versions, each: u8 major, minor, patch

Below 2.17 zig has symbols, but neither headers nor start files: 2.17 is its floor.
"""

from pathlib import Path

from belljar.errors import InputError, UsageError

OLDEST = (2, 17)
_TABLE = "lib/libc/glibc/abilists"
_HEAD = 4096  # bytes


def offered(zig: Path) -> tuple[str, ...]:
    """Return the versions that the zig at this path offers, the oldest first.

    Raises InputError when its table is missing or cannot be understood.
    """
    path = zig.parent / _TABLE
    try:
        with path.open("rb") as file:
            found = _versions(file.read(_HEAD))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="is that a whole zig?") from error
    except (IndexError, ValueError) as error:
        raise InputError(f"{path}: not a table of glibc versions", hint="is that a whole zig?") from error
    return tuple(f"{major}.{minor}" for major, minor in sorted(found) if (major, minor) >= OLDEST)


def _versions(data: bytes) -> set[tuple[int, int]]:
    """Read the head of the table. Raises ValueError or IndexError where it ends early or is empty."""
    at = 1
    for _ in range(data[0]):
        at = data.index(0, at) + 1
    count, at = data[at], at + 1
    if not count or at + 3 * count > len(data):
        raise ValueError
    return {(data[place], data[place + 1]) for place in range(at, at + 3 * count, 3)}


def require(wanted: str, versions: tuple[str, ...], subject: str) -> None:
    """Raise UsageError, with the list, when `wanted` is not among the versions that `subject` has."""
    if wanted not in versions:
        raise UsageError(f"glibc {wanted}: {subject} has {_listed(versions)}", hint="choose one of these")


def _listed(versions: tuple[str, ...]) -> str:
    """Name them all, a run of three or more by its ends."""
    runs: list[list[str]] = []
    for version in versions:
        if runs and _follows(runs[-1][-1], version):
            runs[-1].append(version)
        else:
            runs.append([version])
    words = [run if len(run) < 3 else [f"{run[0]} to {run[-1]}"] for run in runs]
    return ", ".join(word for run in words for word in run) or "none"


def _follows(older: str, newer: str) -> bool:
    (major, minor), (next_major, next_minor) = (map(int, text.split(".")) for text in (older, newer))
    return (major, minor + 1) == (next_major, next_minor)
