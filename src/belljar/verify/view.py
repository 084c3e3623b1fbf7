"""A root filesystem with a tree shown in it: what the sandbox is told, and what a path means inside.

A tree must appear at its own absolute path, for that path may be compiled into its programs; and
that path may lie in a directory which the root has too (`/usr/local/x`, `/opt/x`, `/home/me/x`).
So directories of the root are shown whole, by one bind each, except those on the way to the tree:
these are assembled, an empty directory with each child of the root's shown in it. The root's own
links are kept as links, and where one stands on the way, the tree is put where it leads.

Rejected: overlayfs (needs Linux 5.11 in a user namespace and refuses some filesystems), and making
the mount point in the root itself (roots are read-only and shared).

The same value answers which file of this machine a path inside is, links followed as the kernel
would follow them there, so that a program can be looked at before it is run.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from belljar.errors import InputError
from belljar.sandbox import Bind, Devices, Directory, Operation, Proc, Symlink, Tmpfs

OWN = ("dev", "proc", "tmp")
"""Top-level directories that the sandbox makes itself; what a root has there is not shown."""

_LINK_LIMIT = 40  # the kernel's own: path_resolution(7)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The root at `root` with `binds` (path inside -> directory here) and `links` (path inside -> target)."""

    root: Path
    binds: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    def lookup(self, path: str) -> Path | None:
        """Return where on this machine the file lies that has this absolute path inside, or None."""
        try:
            place = self._place(self.follow(path))
        except OSError:
            return None
        return place if place is not None and os.path.lexists(place) else None

    def follow(self, path: str) -> str:
        """Return where inside an absolute path leads, links followed; raises OSError for a loop of links."""
        return resolve(path, self._link)

    def spot(self, path: Path) -> str:
        """Return the path inside at which `path` must be put so that it is found under its name."""
        return self.follow(os.fspath(path.parent)).rstrip("/") + f"/{path.name}"

    def operations(self) -> tuple[Operation, ...]:
        """Return the operations of a sandbox that shows all this, read-only but for an empty `/tmp`.

        Raises InputError when the root has a file where a directory must be.
        """
        way = {os.fspath(above) for path in (*self.binds, *self.links) for above in Path(path).parents}
        return (
            *self._assemble("", way),
            Proc(),
            Devices(),
            Tmpfs(target="/tmp"),
            *(Bind(source=os.fspath(source), target=target) for target, source in self.binds.items()),
            *(Symlink(target=target, link=link) for target, link in self.links.items()),
        )

    def _assemble(self, directory: str, way: set[str]) -> Iterator[Operation]:
        for child in _children(self.root / directory.lstrip("/")):
            path = f"{directory}/{child.name}"
            if path in self.binds or path in self.links or path.lstrip("/") in OWN:
                continue
            if child.is_symlink():
                yield Symlink(target=path, link=os.readlink(child.path))
            elif path not in way:
                yield Bind(source=child.path, target=path)
            elif child.is_dir():
                yield Directory(target=path)
                yield from self._assemble(path, way)
            else:
                raise InputError(
                    f"{path}: a file of the root {self.root}, where a directory must lead to the tree",
                    hint="copy the tree to another directory",
                )

    def _place(self, path: str) -> Path | None:
        """Return what stands for a path without links; None for what the sandbox makes itself."""
        for target, source in self.binds.items():
            if path == target or path.startswith(f"{target}/"):
                return source / path[len(target) :].lstrip("/")
        first = path.split("/")[1]
        return None if first in OWN else self.root / path.lstrip("/")

    def _link(self, path: str) -> str | None:
        if path in self.links:
            return self.links[path]
        place = self._place(path)
        try:
            return None if place is None else os.readlink(place)
        except (OSError, ValueError):
            return None


def resolve(path: str, link: Callable[[str], str | None]) -> str:
    """Follow the links in an absolute path; `link` says of a path without links where it points, if it does.

    What is missing stays as it is. Raises OSError (ELOOP) for more than 40 links.
    """
    left = path.split("/")[::-1]
    done: list[str] = []
    links = 0
    while left:
        part = left.pop()
        if part == "..":
            done = done[:-1]
        if part in ("", ".", ".."):
            continue
        target = link("/" + "/".join([*done, part]))
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _LINK_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        done = [] if target.startswith("/") else done
        left.extend(reversed(target.split("/")))
    return "/" + "/".join(done)


def _children(directory: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(directory) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}", hint="the root must be readable") from error
