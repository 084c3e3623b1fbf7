"""A root filesystem on which outputs are verified, and what can be read off it.

That a directory is a root shows in one thing: the loader that programs ask for stands at its path. The one
exception is belljar's own root `empty`, on which only programs run that bring everything along.
The loader's name says which architecture it is; the banner that `libc.so.6` prints when it is run
("GNU C Library ... stable release version 2.17") says which glibc: nothing needs to be started, and
package names, which say it too, exist on some systems only.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar.errors import InputError
from belljar.types import Arch
from belljar.verify.view import View

VERSION = 1
TREE = "tree"
"""The name of a kept root's own tree beside its `root.json`."""

LOADERS = {
    "/lib64/ld-linux-x86-64.so.2": Arch.X86_64,
    "/lib/ld-linux-aarch64.so.1": Arch.AARCH64,
    "/lib/ld-musl-x86_64.so.1": Arch.X86_64,
    "/lib/ld-musl-aarch64.so.1": Arch.AARCH64,
}
"""Where programs ask for their loader, by the psABI of each architecture and by musl."""

_LIBC_LIMIT = 64 << 20
_BANNER = re.compile(rb"GNU C Library [^\n\0]{0,200}?release version (\d{1,3}\.\d{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A root filesystem at `path`; `glibc` is its version, such as "2.17", or None where it has none.

    `origin` says where it came from, `loader` is the path of its loader inside, or None.
    """

    name: str
    path: Path
    origin: str
    arch: Arch
    glibc: str | None
    loader: str | None

    @property
    def libc(self) -> str:
        """The C library in words."""
        if self.loader is None:
            return "no libc"
        return f"glibc {self.glibc}" if self.glibc else "musl"

    def to_json(self, place: Path) -> dict[str, Any]:
        """Return the root as JSON values; a tree that lies in `place` is not named, so that it can move."""
        return {
            "version": VERSION,
            "name": self.name,
            "directory": None if self.path == place / TREE else str(self.path),
            "origin": self.origin,
            "arch": self.arch.value,
            "glibc": self.glibc,
            "loader": self.loader,
        }

    @classmethod
    def from_json(cls, value: Any, place: Path) -> "Root":
        """Read what `to_json` wrote in `place`; raises InputError where it is damaged."""
        try:
            if value["version"] != VERSION:
                raise InputError(f"root: version {value['version']!r} is not known (want {VERSION})")
            return cls(
                name=str(value["name"]),
                path=place / TREE if value["directory"] is None else Path(value["directory"]),
                origin=str(value["origin"]),
                arch=Arch(value["arch"]),
                glibc=None if value["glibc"] is None else str(value["glibc"]),
                loader=None if value["loader"] is None else str(value["loader"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"root: damaged ({type(error).__name__}: {error})") from error


def describe(name: str, path: Path, origin: str) -> Root:
    """Return the root that the directory `path` holds.

    Raises InputError when there is no loader in it, or a glibc that does not say its version.
    """
    view = View(root=path)
    for loader, arch in LOADERS.items():
        found = view.lookup(loader)
        if found is not None and os.path.isfile(found):
            glibc = None if "musl" in loader else _glibc(view, loader, name)
            return Root(name=name, path=path, origin=origin, arch=arch, glibc=glibc, loader=loader)
    raise InputError(
        f"{name}: {path} holds no loader, so no program can be run in it",
        hint="one of these must be there: " + ", ".join(LOADERS),
    )


def _glibc(view: View, loader: str, name: str) -> str:
    """Return the version of the libc in the loader's own directory: one build makes both."""
    inside = f"{os.path.dirname(view.follow(loader))}/libc.so.6"
    libc = view.lookup(inside)
    if libc is None or not os.path.isfile(libc):
        raise InputError(f"{name}: has a loader, but no {inside}")
    try:
        with libc.open("rb") as file:
            found = _BANNER.search(file.read(_LIBC_LIMIT))
    except OSError as error:
        raise InputError(f"{name}: {libc}: {error.strerror}") from error
    if found is None:
        raise InputError(f"{name}: {libc}: does not say which version of glibc it is")
    return found[1].decode()
