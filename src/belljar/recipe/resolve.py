"""Locking: from what a recipe asks for to the exact files.

Everything is resolved anew each time: a lock says what the requests meant at one moment, not what
they meant at several. A version that is written in the recipe stays, all others may move; the
difference is there to be read before it is committed.
"""

from collections.abc import Iterator, Mapping, Sequence

from belljar.errors import InputError
from belljar.home import Home
from belljar.recipe.lock import Lock, LockedFile, machine_arch, requests_of
from belljar.recipe.recipe import Recipe
from belljar.recipe.sources import kind_named
from belljar.recipe.sources.base import Context, UnresolvedError, Wanted
from belljar.recipe.specs import PathSource
from belljar.schema import Key
from belljar.types import Arch, Event, Progress, quiet


def lock(recipe: Recipe, home: Home, *, arch: Arch | None = None, progress: Progress = quiet) -> Lock:
    """Resolve all that a recipe names, for this machine's architecture unless another is given.

    Raises SchemaError for requests that nothing answers to, all of them, with their keys and lines;
    RemoteError when a mirror or registry does not answer, HostError when a client is not installed,
    IntegrityError when a URL's content has not the hash that the recipe gives.
    """
    target = arch or machine_arch()
    context = Context(home=home, arch=target, suite=recipe.environment.suite, progress=progress)
    problems: list[tuple[Key, str]] = []
    sources = {
        key: _resolved([Wanted(key=("sources", key), spec=spec)], context, problems)
        for key, spec in recipe.sources.items()
        if not isinstance(spec, PathSource)
    }
    environment = [file for wanted in _by_kind(recipe) for file in _resolved(wanted, context, problems)]
    if problems:
        raise recipe.error(problems)
    _refuse_two_versions(environment)
    progress(Event(stage="resolve"))
    return Lock(
        arch=target,
        requests=requests_of(recipe),
        sources=sources,
        environment=tuple(sorted(environment, key=lambda file: (file.name, file.kind))),
    )


def _resolved(
    wanted: Sequence[Wanted], context: Context, problems: list[tuple[Key, str]]
) -> tuple[LockedFile, ...]:
    """Resolve requests of one kind, noting those that cannot be met."""
    try:
        return kind_named(kind_of(wanted[0])).resolve(wanted, context)
    except UnresolvedError as error:
        problems.extend(problem for problem in error.problems if problem not in problems)
        return ()


def kind_of(wanted: Wanted) -> str:
    """Return the kind of a request: what stands before the colon."""
    return wanted.spec.request.partition(":")[0]


def _by_kind(recipe: Recipe) -> Iterator[Sequence[Wanted]]:
    """Group the environment's packages by kind: Debian's are resolved together, with what they need."""
    groups: dict[str, list[Wanted]] = {}
    for index, spec in enumerate(recipe.environment.packages):
        item = Wanted(key=("environment", "packages", index), spec=spec)
        groups.setdefault(kind_of(item), []).append(item)
    yield from groups.values()


def _refuse_two_versions(environment: Sequence[LockedFile]) -> None:
    """Two wheels or tarballs of one name would claim one directory."""
    seen: Mapping[tuple[str, str], LockedFile] = {(file.kind, file.name): file for file in environment}
    for file in environment:
        other = seen[(file.kind, file.name)]
        if other.sha256 != file.sha256:
            raise InputError(
                f"environment.packages: {file.kind}:{file.name} is named in two versions,"
                f" {file.version} and {other.version}"
            )
