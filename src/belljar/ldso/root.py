"""Looking names up inside a root filesystem, so that no link leads out of it.

A symbolic link in a root means what it would mean after chroot: an absolute target begins at the
root, and `..` at the top stays there. The kernel would resolve it against the host, so each component
is looked at here (lstat), and remembered: thousands of programs ask for the same few directories.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

_LINKS = 40
"""How many links Linux follows in one name (path_resolution(7))."""
_PATH_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file that is there: its path in the root without links, its path on the host, its identity."""

    path: str
    host: str
    identity: tuple[int, int]
    is_file: bool


class Root:
    """One root filesystem; remembers what it saw, so it must not outlive a change of the tree.

    A directory `shown` of this machine stands in it at its own absolute path, whatever the root has there.
    """

    def __init__(self, top: Path, *, shown: Path | None = None) -> None:
        self.top = Path(os.path.realpath(top))
        self._prefix = "" if self.top == Path("/") else str(self.top)
        self._shown = os.path.realpath(shown) if shown else ""
        self._seen: dict[str, os.stat_result | int] = {}
        self._targets: dict[str, str] = {}
        self._places: dict[str, Place] = {}

    def locate(self, path: str) -> Place:
        """Return what an absolute `path` inside the root leads to; raises OSError as open(2) would."""
        known = self._places.get(path)
        if known is None:
            known = self._places[path] = self._locate(path)
        return known

    def _locate(self, path: str) -> Place:
        real = self._walk(path)
        info = self._look(real)
        return Place(
            path=real or "/",
            host=self._host(real),
            identity=(info.st_dev, info.st_ino),
            is_file=stat.S_ISREG(info.st_mode),
        )

    def is_directory(self, path: str) -> bool:
        """Whether an absolute `path` inside the root is a directory, by whatever links."""
        try:
            return stat.S_ISDIR(self._look(self._walk(path)).st_mode)
        except OSError:
            return False

    def _walk(self, path: str) -> str:
        """Return the path without links; the last component may be missing only by raising OSError."""
        if len(os.fsencode(path)) >= _PATH_MAX:
            raise _error(errno.ENAMETOOLONG, path)
        here, links = "", 0
        pending = path.split("/")[::-1]
        while pending:
            name = pending.pop()
            if not stat.S_ISDIR(self._look(here).st_mode):
                raise _error(errno.ENOTDIR, here)
            if name in ("", "."):
                continue
            if name == "..":
                here = here.rpartition("/")[0]
                continue
            child = f"{here}/{name}"
            if not stat.S_ISLNK(self._look(child).st_mode):
                here = child
                continue
            links += 1
            if links > _LINKS:
                raise _error(errno.ELOOP, path)
            target = self._targets[child]
            here = "" if target.startswith("/") else here
            pending += target.split("/")[::-1]
        return here

    def _look(self, path: str) -> os.stat_result:
        """Return what lstat says of a path whose directories are no links; raises OSError."""
        seen = self._seen.get(path)
        if seen is None:
            seen = self._seen[path] = self._lstat(path)
        if isinstance(seen, int):
            raise _error(seen, path)
        return seen

    def _host(self, path: str) -> str:
        """Return where on this machine a path without links lies: in the root, or on the way to `shown`."""
        is_shown = self._shown and (_holds(path, self._shown) or _holds(self._shown, path))
        return ("" if is_shown else self._prefix) + (path or "/")

    def _lstat(self, path: str) -> os.stat_result | int:
        host = self._host(path)
        try:
            info = os.lstat(host)
            if stat.S_ISLNK(info.st_mode):
                self._targets[path] = os.readlink(host)
        except OSError as error:
            return error.errno or errno.EIO
        return info


def _holds(above: str, path: str) -> bool:
    return path == above or path.startswith(f"{above}/")


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
