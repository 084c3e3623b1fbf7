"""npm:NAME@VERSION: the tarball of an npm package, without its dependencies.

`npm pack` fetches it with the machine's configuration and a cache of its own; a tarball from a
registry is taken as it is, no script of it runs.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from belljar import fsys, proc
from belljar.errors import HostError, RemoteError
from belljar.recipe import downloads
from belljar.recipe.lock import LockedFile
from belljar.recipe.sources.base import Context, UnresolvedError, Wanted
from belljar.recipe.specs import NpmPackage
from belljar.types import Event


def resolve(wanted: Sequence[Wanted], context: Context) -> tuple[LockedFile, ...]:
    """Return the tarball of each request, downloading it to hash it; see `base.Kind`."""
    return tuple(_pinned(item, context) for item in wanted)


def _pinned(item: Wanted, context: Context) -> LockedFile:
    spec = item.spec
    assert isinstance(spec, NpmPackage)
    with downloads.incoming(context.home) as into:
        context.progress(Event(stage="resolve", subject=spec.request))
        ended = _pack(spec.name, spec.version, into, context)
        if ended.status != 0:
            if re.search(r"code (E404|ETARGET)\b", ended.stderr):
                raise UnresolvedError((item.key, f"npm knows no {spec.name}@{spec.version}"))
            raise _remote_error(spec.request, ended)
        path = _only_tarball(into, spec.request, ended)
        file = LockedFile(
            kind="npm",
            name=spec.name,
            version=spec.version,
            file=path.name,
            sha256=fsys.sha256(path),
            size=path.stat().st_size,
        )
        downloads.admit(path, file, context.home)
        return file


def fetch(files: Sequence[LockedFile], into: Path, context: Context) -> Iterator[tuple[LockedFile, Path]]:
    """Download tarballs; see `base.Kind`."""
    for file in files:
        context.progress(Event(stage="fetch", subject=file.name))
        place = into / file.sha256
        place.mkdir()
        ended = _pack(file.name, file.version, place, context)
        if ended.status != 0:
            raise _remote_error(f"{file.name}@{file.version}", ended)
        yield file, _only_tarball(place, file.name, ended)


def _pack(name: str, version: str, into: Path, context: Context) -> proc.Completed:
    if proc.find("npm") is None:
        raise HostError("npm: not found on this machine", hint="npm: needs npm on PATH")
    options = (
        f"--cache={context.home.cache / 'npm'}",
        "--loglevel=error",
        "--no-update-notifier",
        "--ignore-scripts",
        "--fetch-retries=2",
        "--fetch-retry-mintimeout=500",
        "--fetch-retry-maxtimeout=2000",
        "--fetch-timeout=60000",
    )
    return proc.run(["npm", "pack", *options, "--", f"{name}@{version}"], env=dict(os.environ), cwd=into)


def _only_tarball(directory: Path, what: str, ended: proc.Completed) -> Path:
    found = list(directory.glob("*.tgz"))
    if len(found) != 1:
        raise RemoteError(f"npm: {what}: no tarball came:\n{ended.last_words}")
    return found[0]


def _remote_error(what: str, ended: proc.Completed) -> RemoteError:
    lines = [line.removeprefix("npm error ") for line in ended.stderr.splitlines()]
    said = [line for line in lines if re.match(r"code |errno |.*(Error|reason|request):? ", line)]
    return RemoteError(
        f"npm: {what}: cannot be had:\n" + "\n".join(said[:5] or [ended.last_words]),
        hint="is there a network, and does `npm pack` work on this machine?",
    )
