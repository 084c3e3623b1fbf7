"""Fetching: every file of a lock present and verified, or a reason why not.

Files arrive in a directory of their own and are admitted one by one (`downloads`): what arrived
before an interruption is there the next time.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from belljar.errors import RemoteError
from belljar.home import Home
from belljar.recipe import downloads
from belljar.recipe.lock import Lock, LockedFile
from belljar.recipe.sources import kind_named
from belljar.recipe.sources.base import Context
from belljar.types import Digest, Event, Progress, quiet


def fetch(
    lock: Lock, home: Home, *, offline: bool = False, progress: Progress = quiet
) -> Mapping[Digest, Path]:
    """Return where each file of a lock is, downloading what is missing; every content was verified.

    Raises IntegrityError for other content than was locked (it is removed), RemoteError for files that
    cannot be had, which with `offline` are all that are missing, HostError without the client program.
    """
    found = {file.sha256: downloads.find(file, home) for file in lock.files}
    missing = [file for file in lock.files if found[file.sha256] is None]
    if missing and offline:
        raise RemoteError(
            f"offline, and {len(missing)} of {len(lock.files)} files are not there:"
            + "".join(f"\n  {file.file}" for file in missing),
            hint="run `belljar fetch` where there is a network",
        )
    context = Context(home=home, arch=lock.arch, suite=lock.suite, progress=progress)
    total = len(lock.files)
    for kind, files in _by_kind(missing).items():
        with downloads.incoming(home) as into:
            for file, path in kind_named(kind).fetch(files, into, context):
                found[file.sha256] = _admit(path, file, home)
                done = total - sum(path is None for path in found.values())
                progress(Event(stage="fetch", subject=file.name, done=done, total=total))
    return {digest: path for digest, path in found.items() if path is not None}


def _admit(path: Path, file: LockedFile, home: Home) -> Path:
    if not path.is_file():
        raise RemoteError(f"{file.file}: did not arrive under that name", hint="run `belljar lock`")
    return downloads.admit(path, file, home)


def _by_kind(files: Sequence[LockedFile]) -> dict[str, list[LockedFile]]:
    groups: dict[str, list[LockedFile]] = {}
    for file in files:
        groups.setdefault(file.kind, []).append(file)
    return groups
