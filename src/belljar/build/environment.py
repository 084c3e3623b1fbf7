"""Environments: sandbox roots made of locked packages and of nothing else.

A Debian package is unpacked into a merged-/usr root; its maintainer scripts are not run, what they
would have linked (`awk`, `cc`) a recipe says in `environment.links`. A wheel goes to /opt/NAME, an
npm package likewise. `/etc` gets the fixed identity of the sandbox. Every file has one modification
time, and the tree's name is the hash of what it was made from: it is made once, in a staging
directory, and renamed in, so that a crash leaves nothing that could be mistaken for it.

Rejected: one directory a package, joined by overlayfs: fifty layers exceed what a mount takes on
older kernels, and start-up would pay for it each time; unpacking once costs 4 seconds.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys
from belljar.build.output import EPOCH, normalise
from belljar.errors import InputError
from belljar.home import Home
from belljar.recipe import LockedFile
from belljar.types import Digest, Event, Progress, quiet

FORMAT = 1
"""Raised whenever the same packages would give another tree."""

_ETC = {
    "passwd": (
        "root:x:0:0::/:/noshell\nbuild:x:1000:100::/home/build:/bin/sh\nnobody:x:65534:65534::/:/noshell\n"
    ),
    "group": "root:x:0:\nbuild:x:100:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
# The sandbox puts its own there.
_MOUNT_POINTS = ("dev", "proc", "sys", "tmp", "run", "build", "home")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A sandbox root at `path`, and the hash of what it was made from."""

    path: Path
    digest: Digest


def digest_of(packages: Sequence[LockedFile], links: Mapping[str, str]) -> Digest:
    """Return the hash that names the environment of these packages and links."""
    contents = sorted((item.kind, item.name, item.file, item.sha256) for item in packages)
    text = json.dumps([FORMAT, contents, sorted(links.items()), sorted(_ETC.items())])
    return Digest(hashlib.sha256(text.encode()).hexdigest())


def materialise(
    packages: Sequence[LockedFile],
    links: Mapping[str, str],
    files: Mapping[Digest, Path],
    *,
    home: Home,
    progress: Progress = quiet,
) -> Environment:
    """Return the environment of these packages, made now unless it is there; `files` are the downloads.

    Raises InputError when two things claim one path or an archive is damaged or hostile.
    """
    digest = digest_of(packages, links)
    target = home.environments / digest
    if target.is_dir():
        return Environment(path=target, digest=digest)
    with (
        fsys.locked(home.environments / f"{digest}.lock"),
        fsys.staging(home.environments / "staging") as stage,
    ):
        if not target.is_dir():
            root = stage / "root"
            _fill(root, packages, links, files, progress)
            normalise(root)
            root.rename(target)
    (home.environments / f"{digest}.lock").unlink(missing_ok=True)
    return Environment(path=target, digest=digest)


def _fill(
    root: Path,
    packages: Sequence[LockedFile],
    links: Mapping[str, str],
    files: Mapping[Digest, Path],
    progress: Progress,
) -> None:
    root.mkdir()
    for number, package in enumerate(packages):
        progress(Event(stage="unpack", subject=package.name, done=number, total=len(packages)))
        _unpack(root, package, files[package.sha256])
    for name, text in _ETC.items():
        path = root / "etc" / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    for target, link in links.items():
        _link(root, target, link)
    progress(Event(stage="unpack", done=len(packages), total=len(packages)))


def _unpack(root: Path, package: LockedFile, archive: Path) -> None:
    from belljar.archive.unpack import unpack

    if package.kind == "deb":
        unpack(archive, root, merged_usr=True, mtime=EPOCH)
        return
    place = root / "opt" / package.name
    place.mkdir(parents=True)
    unpack(archive, place, strip_top=package.kind == "npm", mtime=EPOCH)


def _link(root: Path, target: str, link: str) -> None:
    """Make a link in the root; what leads to it must be real directories, so that none leads outside."""
    place = root
    for part in Path(target).parent.parts[1:]:
        place /= part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise InputError(
                f"environment.links: {target}: {place.relative_to(root)} is not a directory",
                hint="/bin, /sbin, /lib and /lib64 are links into /usr: say /usr/bin",
            )
        place.mkdir(exist_ok=True)
    try:
        (root / target.lstrip("/")).symlink_to(link)
    except FileExistsError as error:
        raise InputError(f"environment.links: {target}: a package has it already") from error


def visible(environment: Environment) -> tuple[tuple[str, str], ...]:
    """Return what of the environment a sandbox shows: (name below the root, link target or "")."""
    with os.scandir(environment.path) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    return tuple(
        (entry.name, os.readlink(entry.path) if entry.is_symlink() else "")
        for entry in entries
        if entry.name not in _MOUNT_POINTS
    )
