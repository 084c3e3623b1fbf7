"""The lock: every file that a build takes from elsewhere, by name, version and content hash.

`belljar.lock` is canonical JSON (keys sorted, lists sorted by name, one item a line), so that the
same pins are the same bytes and a difference reads well. It says what each part was made from
(`requests`), which is how a lock is known to be stale; it holds nothing of the machine: no host, no
path, no date. The one address in it is that of a `url` source, which the recipe itself names.

Sources of the kind `path` are not in it: they are versioned beside it and hashed when they are used.
Reading must be fast, for a build that has nothing to do reads it too: no schema, no network.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from belljar import fsys
from belljar.errors import HostError, InputError
from belljar.recipe.recipe import Recipe
from belljar.recipe.specs import PathSource
from belljar.types import Arch, Digest

FILE = "belljar.lock"
VERSION = 1
KINDS = ("deb", "deb-src", "pypi", "npm", "url")

_REMEDY = "run `belljar lock`"
# Names and files become arguments and parts of paths: none may begin like an option or lead elsewhere.
_MATCH = {
    "name": re.compile(r"(@[A-Za-z0-9][A-Za-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._+~-]*"),
    "version": re.compile(r"|[A-Za-z0-9][A-Za-z0-9._+~:!-]*"),
    "arch": re.compile(r"|[a-z0-9]+"),
    "file": re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~%!-]{0,180}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "url": re.compile(r"|(https?|file)://[!-~]+"),
}


class _DamagedError(Exception):
    """A member of the lock is not what it should be; the message begins with its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file: where it comes from, its name there, its hash, its size in bytes."""

    kind: str
    name: str
    version: str = ""
    arch: str = ""
    """Debian's word for the architecture (`all`: any); only of `deb`."""
    file: str
    sha256: Digest
    size: int
    url: str = ""
    """Only of `url`."""

    def to_json(self) -> dict[str, Any]:
        """Return the file as JSON values, without what is empty."""
        fields = ("kind", "name", "version", "arch", "file", "sha256", "size", "url")
        return {name: value for name in fields if (value := getattr(self, name)) != ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """All files of a recipe for one architecture, and what they were requested by."""

    arch: Arch
    requests: Mapping[str, str | tuple[str, ...]]
    sources: Mapping[str, tuple[LockedFile, ...]] = field(default_factory=dict)
    environment: tuple[LockedFile, ...] = ()

    @property
    def suite(self) -> str | None:
        """The Debian suite that the packages come from, if there are any."""
        suite = self.requests.get("environment.suite")
        return suite if isinstance(suite, str) else None

    @property
    def files(self) -> tuple[LockedFile, ...]:
        """Every file once, in the lock's order: sources, then environment."""
        every = [file for files in self.sources.values() for file in files]
        return tuple({file.sha256: file for file in (*every, *self.environment)}.values())

    def to_text(self) -> str:
        """Return the canonical text."""
        value = {
            "version": VERSION,
            "arch": self.arch.value,
            "requests": dict(self.requests),
            "sources": {key: [file.to_json() for file in files] for key, files in self.sources.items()},
            "environment": [file.to_json() for file in self.environment],
        }
        return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A key of the recipe that is no longer what the lock was made from."""

    key: str
    old: str
    new: str

    def describe(self) -> str:
        """Say what the key was and is."""
        return f"{self.key}: was {self.old or 'not there'}, is {self.new or 'not there'}"


def machine_arch() -> Arch:
    """Return the architecture of this machine. Raises HostError when belljar does not know it."""
    machine = os.uname().machine
    try:
        return Arch(machine)
    except ValueError as error:
        known = ", ".join(Arch)
        raise HostError(f"{machine}: not an architecture that belljar builds for ({known})") from error


def requests_of(recipe: Recipe) -> dict[str, str | tuple[str, ...]]:
    """Return what a recipe asks for, by key, as a lock records it."""
    environment = recipe.environment
    requests: dict[str, str | tuple[str, ...]] = {
        "environment.packages": tuple(sorted({spec.request for spec in environment.packages}))
    }
    if environment.suite is not None:
        requests["environment.suite"] = environment.suite
    for key, spec in recipe.sources.items():
        if not isinstance(spec, PathSource):
            requests[f"sources.{key}"] = spec.request
    return requests


def read(path: Path) -> Lock:
    """Read a lock. Raises InputError when it is missing, damaged, or of another version."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: not there", hint=_REMEDY) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged: {error}", hint=_REMEDY) from error
    try:
        return _lock(value)
    except _DamagedError as error:
        raise InputError(f"{path}: {error}", hint=_REMEDY) from error


def write(path: Path, lock: Lock) -> None:
    """Write a lock, whole or not at all. Raises HostError when that is not possible."""
    fsys.write_atomic(path, lock.to_text())


def check(recipe: Recipe, lock: Lock, *, arch: Arch | None = None) -> tuple[Change, ...]:
    """Return what changed in the recipe since it was locked, in the order of the keys; empty: nothing.

    `arch` is what is built for: this machine's architecture unless it is given.
    """
    old = {"arch": lock.arch.value, **lock.requests}
    new = {"arch": (arch or machine_arch()).value, **requests_of(recipe)}
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return tuple(_change(key, old.get(key, ""), new.get(key, "")) for key in changed)


def require_fresh(recipe: Recipe, lock: Lock, *, arch: Arch | None = None) -> None:
    """Raise InputError, naming every key that changed, when the lock was made from another recipe."""
    changes = check(recipe, lock, arch=arch)
    if changes:
        lines = "".join(f"\n  {change.describe()}" for change in changes)
        raise InputError(f"{recipe.directory / FILE}: stale{lines}", hint=_REMEDY)


def _change(key: str, old: str | tuple[str, ...], new: str | tuple[str, ...]) -> Change:
    """Of two lists, name only what the one has and the other has not."""
    if isinstance(old, tuple) and isinstance(new, tuple):
        gone = [item for item in old if item not in new]
        come = [item for item in new if item not in old]
        return Change(key=key, old=" ".join(gone) or "without", new=" ".join(come) or "without")
    return Change(key=key, old=_text(old), new=_text(new))


def _text(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def _lock(value: Any) -> Lock:
    """Read JSON values. Raises _DamagedError with the key of what is wrong."""
    members = _members(value, "", {"version", "arch", "requests", "sources", "environment"})
    if members["version"] != VERSION:
        raise _DamagedError(f"version {members['version']!r} is not known (want {VERSION})")
    if members["arch"] not in tuple(Arch):
        raise _DamagedError(f"arch: {members['arch']!r} is not known")
    return Lock(
        arch=Arch(members["arch"]),
        requests=_requests(members["requests"]),
        sources={
            key: _files(files, f"sources.{key}")
            for key, files in _members(members["sources"], "sources").items()
        },
        environment=_files(members["environment"], "environment"),
    )


def _requests(value: Any) -> dict[str, str | tuple[str, ...]]:
    requests: dict[str, str | tuple[str, ...]] = {}
    for key, request in _members(value, "requests").items():
        if isinstance(request, list) and all(isinstance(item, str) for item in request):
            requests[key] = tuple(request)
        elif isinstance(request, str):
            requests[key] = request
        else:
            raise _DamagedError(f"requests.{key}: neither a string nor a list of strings")
    return requests


def _files(value: Any, key: str) -> tuple[LockedFile, ...]:
    if not isinstance(value, list):
        raise _DamagedError(f"{key}: not a list")
    return tuple(_file(item, f"{key}[{index}]") for index, item in enumerate(value))


def _file(value: Any, key: str) -> LockedFile:
    members = {"version": "", "arch": "", "url": "", **_members(value, key)}
    _members(members, key, {"kind", "size", *_MATCH})
    if members["kind"] not in KINDS:
        raise _DamagedError(f"{key}.kind: {members['kind']!r} is not known")
    if type(members["size"]) is not int or members["size"] < 0:
        raise _DamagedError(f"{key}.size: not a number of bytes")
    for name, pattern in _MATCH.items():
        if not isinstance(members[name], str) or not pattern.fullmatch(members[name]):
            raise _DamagedError(f"{key}.{name}: {members[name]!r} will not do")
    return LockedFile(**members)


def _members(value: Any, key: str, want: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _DamagedError(f"{key}: not an object".lstrip(": "))
    if want is not None and value.keys() != want:
        name = min(want ^ value.keys())
        what = "missing" if name in want else "unknown"
        raise _DamagedError(f"{key}.{name}: {what}".lstrip("."))
    return value
