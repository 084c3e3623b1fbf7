"""What every kind of source offers: resolve requests to locked files, and fetch those."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from belljar.errors import InputError
from belljar.home import Home
from belljar.recipe.lock import LockedFile
from belljar.recipe.specs import DebPackage, DebSource, NpmPackage, PypiPackage, UrlSource
from belljar.schema import Key
from belljar.types import Arch, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a source works with: belljar's directories, the target, who shows progress."""

    home: Home
    arch: Arch
    suite: str | None
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One request, and the key of the recipe where it stands."""

    key: Key
    spec: DebPackage | DebSource | PypiPackage | NpmPackage | UrlSource


class UnresolvedError(InputError):
    """Requests that nothing answers to: `problems` are (key of the recipe, what is wrong)."""

    def __init__(self, *problems: tuple[Key, str]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


class Kind(Protocol):
    """A module that deals with one kind of source."""

    def resolve(self, wanted: Sequence[Wanted], context: Context) -> tuple[LockedFile, ...]:
        """Return the files that answer the requests, together.

        Raises UnresolvedError for requests that cannot be met, RemoteError when nobody answers.
        """
        ...

    def fetch(
        self, files: Sequence[LockedFile], into: Path, context: Context
    ) -> Iterator[tuple[LockedFile, Path]]:
        """Yield each file with where it lies, below `into`, as it arrives; it has not been verified.

        Raises RemoteError when a file cannot be had.
        """
        ...
