"""deb:NAME[=VERSION]: Debian packages with their dependencies, as apt resolves them.

Nothing counts as installed and essential packages are not implied: the environment consists of what
is named and what that depends on.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from belljar.errors import RemoteError
from belljar.recipe.lock import LockedFile
from belljar.recipe.sources import apt
from belljar.recipe.sources.base import Context, UnresolvedError, Wanted
from belljar.recipe.specs import DebPackage
from belljar.schema import Key, nearest
from belljar.types import Digest, Event

_BATCH = 8
"""How many packages are downloaded at a time: progress is seen between two batches."""


def resolve(wanted: Sequence[Wanted], context: Context) -> tuple[LockedFile, ...]:
    """Return the packages and all that they depend on; see `base.Kind`."""
    with apt.opened(context) as state:
        state.update(context, older_than=apt.FRESH)
        specs = [(item.key, item.spec) for item in wanted if isinstance(item.spec, DebPackage)]
        _require_known(state, specs)
        words = [spec.request.removeprefix("deb:") for _, spec in specs]
        ended = state.get("install", "--print-uris", "--yes", *words)
        if ended.status != 0:
            message = f"cannot be installed together: {ended.last_words}"
            raise UnresolvedError((("environment", "packages"), message))
        names = re.findall(r"^'[^']*' ([^\s_]+)_([^\s_]+)_[^\s_]+\.deb ", ended.stdout, re.M)
        chosen = {(name, unquote(version)) for name, version in names}
        return _pinned(state, chosen)


def _require_known(state: apt.Apt, specs: Sequence[tuple[Key, DebPackage]]) -> None:
    """Check each request by itself first: apt would take an unknown name for a pattern, or a removal."""
    names = set(state.cache("pkgnames").stdout.split())
    problems = [
        (key, f"{state.suite} has no package {spec.name!r}" + nearest(spec.name, names))
        for key, spec in specs
        if spec.name not in names
    ]
    for key, spec in specs:
        if spec.name in names and spec.version is not None:
            versions = [stanza["Version"] for stanza in state.stanzas("show", spec.name)]
            if spec.version not in versions:
                have = " and ".join(dict.fromkeys(versions)) or "none"
                problems.append((key, f"{state.suite} has {spec.name} {have}, not {spec.version}"))
    if problems:
        raise UnresolvedError(*problems)


def _pinned(state: apt.Apt, chosen: set[tuple[str, str]]) -> tuple[LockedFile, ...]:
    words = sorted(f"{name}={version}" for name, version in chosen)
    found = {}
    for fields in state.stanzas("show", *words):
        identity = (fields["Package"], fields["Version"])
        if identity in chosen:
            found[identity] = _locked(fields)
    if missing := chosen - found.keys():
        name, version = min(missing)
        raise RemoteError(f"apt: {name} {version}: the archive's lists do not describe it")
    return tuple(found[identity] for identity in sorted(found))


def _locked(fields: dict[str, str]) -> LockedFile:
    if "SHA256" not in fields:
        raise RemoteError(f"apt: {fields['Package']}: the archive gives no SHA-256")
    return LockedFile(
        kind="deb",
        name=fields["Package"],
        version=fields["Version"],
        arch=fields["Architecture"],
        file=fields["Filename"].rpartition("/")[2],
        sha256=Digest(fields["SHA256"]),
        size=int(fields["Size"]),
    )


def fetch(files: Sequence[LockedFile], into: Path, context: Context) -> Iterator[tuple[LockedFile, Path]]:
    """Download packages in batches; see `base.Kind`."""
    with apt.opened(context) as state:
        state.update(context, older_than=apt.ANY_AGE)
        waiting = iter(files)
        while batch := tuple(itertools.islice(waiting, _BATCH)):
            context.progress(Event(stage="fetch", subject=batch[0].name))
            _download(state, batch, into, context)
            for file in batch:
                version = file.version.replace(":", "%3a")
                yield file, into / f"{file.name}_{version}_{file.arch}.deb"


def _download(state: apt.Apt, batch: Sequence[LockedFile], into: Path, context: Context) -> None:
    """Download once more with new lists where the old ones no longer hold."""
    words = [f"{file.name}={file.version}" for file in batch]
    ended = state.get("download", *words, cwd=into)
    if ended.status != 0:
        state.update(context)
        ended = state.get("download", *words, cwd=into)
    if ended.status != 0:
        raise apt.fetch_error(ended, ", ".join(words))
