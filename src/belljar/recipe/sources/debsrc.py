"""deb-src:NAME=VERSION: the upstream tarball that a Debian source package was made from.

Of a source package only the main tarball is taken (`.orig.tar.*`, or the only one of a native
package): no Debian patches, no additional components. VERSION is Debian's (2.10-3) or upstream's
(2.10); the latter outlives Debian's revisions, and the hash is the same.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from belljar.recipe.lock import LockedFile
from belljar.recipe.sources import apt
from belljar.recipe.sources.base import Context, UnresolvedError, Wanted
from belljar.recipe.specs import DebSource
from belljar.schema import Key
from belljar.types import Digest, Event

_TARBALL = re.compile(r"[^_]+_(?:(?!\.orig-|\.debian\.)[^_])+?\.tar\.(gz|bz2|xz|lzma|zst)")
"""Not NAME_VERSION.orig-COMPONENT.tar, and not Debian's own part (dpkg-source(1), "Format: 3.0 (quilt)")."""


def resolve(wanted: Sequence[Wanted], context: Context) -> tuple[LockedFile, ...]:
    """Return the tarball of each source package; see `base.Kind`."""
    with apt.opened(context) as state:
        state.update(context, older_than=apt.FRESH)
        specs = [(item.key, item.spec) for item in wanted if isinstance(item.spec, DebSource)]
        return tuple(_pinned(state, key, spec) for key, spec in specs)


def _pinned(state: apt.Apt, key: Key, spec: DebSource) -> LockedFile:
    shown = state.stanzas("showsrc", "--only-source", spec.name)
    versions = {fields["Version"]: fields for fields in shown if fields.get("Package") == spec.name}
    if not versions:
        raise UnresolvedError((key, f"{state.suite} has no source package {spec.name!r}"))
    matching = [version for version in versions if spec.version in (version, upstream(version))]
    if not matching:
        have = " and ".join(sorted(versions))
        raise UnresolvedError((key, f"{state.suite} has {spec.name} {have}, not {spec.version}"))
    fields = versions[matching[-1]]
    sums = [line.split() for line in fields.get("Checksums-Sha256", "").splitlines() if line.strip()]
    tarballs = [row for row in sums if len(row) == 3 and is_main_tarball(row[2])]
    if not tarballs:
        raise UnresolvedError((key, f"the source package {spec.name} {matching[-1]} has no tarball"))
    sha256, size, file = tarballs[0]
    return LockedFile(
        kind="deb-src",
        name=spec.name,
        version=matching[-1],
        file=file,
        sha256=Digest(sha256),
        size=int(size),
    )


def is_main_tarball(file: str) -> bool:
    """Whether a file of a source package has the name of its main tarball."""
    return _TARBALL.fullmatch(file) is not None


def upstream(version: str) -> str:
    """Return the upstream part of a Debian version: without epoch and revision (deb-version(7))."""
    without_epoch = version.partition(":")[2] or version
    return without_epoch.rpartition("-")[0] or without_epoch


def fetch(files: Sequence[LockedFile], into: Path, context: Context) -> Iterator[tuple[LockedFile, Path]]:
    """Download tarballs; see `base.Kind`."""
    with apt.opened(context) as state:
        state.update(context, older_than=apt.ANY_AGE)
        for file in files:
            context.progress(Event(stage="fetch", subject=file.file))
            words = (
                "source",
                "--download-only",
                "--tar-only",
                "--only-source",
                f"{file.name}={file.version}",
            )
            ended = state.get(*words, cwd=into)
            if ended.status != 0:
                state.update(context)
                ended = state.get(*words, cwd=into)
            if ended.status != 0 or not (into / file.file).is_file():
                raise apt.fetch_error(ended, f"{file.name} {file.version}")
            yield file, into / file.file
