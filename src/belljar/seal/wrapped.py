"""Putting a launcher in a program's place, and taking it away again.

The program gets a second name first, below `libexec/`: a hard link. Then the launcher is renamed over the
first name. Whoever starts the program meanwhile gets the one or the other, both whole. The way back is one
rename of the second name over the launcher: the same inode, so every byte, mode, time and attribute is as
before, and hard links of the program are still such.

A crash leaves some programs under two names and some behind launchers; the record, which is there before the
first of them, tells which. Doing it again, or taking it back, looks at each and does what is left.
"""

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from belljar.seal.launcher import is_launcher

DIRECTORY = "libexec"
"""Where in a prefix programs lie that a launcher starts."""
_HEAD = 8192
_ENDING = ".belljar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrap:
    """One program: `path` gets the file `content`, which starts what is then at `inner`."""

    path: str
    inner: str
    content: bytes

    def describe(self) -> str:
        """Return one line for a person."""
        kind = "script" if self.content.startswith(b"#!") else "launcher"
        return f"{self.path}: program: moves to {self.inner}, started by a {kind}"


def inner_of(path: str) -> str:
    """Return where a program goes: `bin/app` to `libexec/app`, all others below `libexec/` as they lie."""
    return f"{DIRECTORY}/{path.removeprefix('bin/')}"


def is_wrapped(path: Path) -> bool:
    """Whether a launcher stands at a path."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return is_launcher(file.read(_HEAD))


def inner_programs(prefix: Path, wrapped: Mapping[str, str]) -> frozenset[str]:
    """Return which programs of a prefix stand behind launchers, of those that were to be put there."""
    return frozenset(inner for path, inner in wrapped.items() if is_wrapped(prefix / path))


def wrap(prefix: Path, item: Wrap) -> None:
    """Move a program away and put its launcher there; one that was moved already gets the launcher only.

    An older program at the inner place goes: its launcher was replaced by a program. Raises OSError.
    """
    path, inner = prefix / item.path, prefix / item.inner
    if not is_wrapped(path):
        inner.parent.mkdir(parents=True, exist_ok=True)
        if not _is_same(path, inner):
            spare = _beside(inner)
            os.link(path, spare, follow_symlinks=False)
            spare.replace(inner)
    _put(path, item.content, inner.lstat())


def unwrap(prefix: Path, path: str, inner: str) -> None:
    """Take a launcher away: the program as it was. Raises OSError.

    Where a program stands again at the launcher's path, put there by somebody else, it stays.
    """
    outer, program = prefix / path, prefix / inner
    if not program.exists():
        return
    if is_wrapped(outer) or not os.path.lexists(outer):
        program.replace(outer)
    else:
        program.unlink()


def sweep(prefix: Path, wrapped: Mapping[str, str]) -> None:
    """Remove what a killed run made ready. Raises OSError."""
    for path in (*wrapped, *wrapped.values()):
        with contextlib.suppress(NotADirectoryError):
            _beside(prefix / path).unlink(missing_ok=True)


def is_made_ready(name: str) -> bool:
    """Whether a file's name is one under which something is made ready here."""
    return name.startswith(".") and name.endswith(_ENDING)


def _put(path: Path, content: bytes, like: os.stat_result) -> None:
    """Write a file beside its place, with the owner, mode and times of another, and rename it there."""
    spare = _beside(path)
    with spare.open("xb") as file:
        file.write(content)
        file.flush()
        if os.geteuid() == 0:
            os.fchown(file.fileno(), like.st_uid, like.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode))
        os.utime(file.fileno(), ns=(like.st_atime_ns, like.st_mtime_ns))
        os.fsync(file.fileno())
    spare.replace(path)


def _beside(path: Path) -> Path:
    """Return the name under which something is made ready; one, so that what a crash left is found."""
    return path.with_name(f".{path.name}{_ENDING}")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.lstat(), other.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False
