"""Which of the built-in policies for wheels a tree meets.

The families nest (belljar.audit.policies): from the first that a tree meets on, it meets all.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePath

from belljar.audit import checks, policies
from belljar.audit.facts import FileFacts, Kind
from belljar.audit.policy import Policy

_FAMILIES = ("manylinux_", "musllinux_")
_LOADED = (Kind.EXECUTABLE, Kind.STATIC, Kind.SHARED)
_RULES = (checks.check_floor, checks.check_private, checks.check_libc, checks.check_markers)
_TREE_RULES = tuple(checks.TREE_CHECKS.values())


def inside_of(files: Sequence[FileFacts]) -> Callable[[FileFacts], frozenset[str]]:
    """Return what tells of a file which libraries of the tree it finds, by their names.

    Those of a private directory are found by what is sealed only.
    """
    every = public = sonames(files)
    open_ = [file for file in files if not _is_bundled(file)]
    if len(open_) < len(files):
        public = sonames(open_)
    return lambda file: public if file.sealed is None else every


def _is_bundled(file: FileFacts) -> bool:
    return file.sealed is not None and file.sealed.is_bundled


def sonames(files: Sequence[FileFacts]) -> frozenset[str]:
    """Return the names under which the libraries of a tree are found: file names and sonames."""
    names = {PurePath(file.path).name for file in files} | {file.soname or "" for file in files}
    return frozenset(names - {""})


def met(files: Sequence[FileFacts]) -> tuple[str, ...]:
    """Return the names of the policies that the files meet; none where nothing is there to meet them."""
    loaded = [file for file in files if file.kind in _LOADED]
    inside = inside_of(files)
    found: list[str] = []
    for family in _FAMILIES if loaded else ():
        members = [policy for name, policy in policies.builtin().items() if name.startswith(family)]
        first = next((n for n, policy in enumerate(members) if _meets(loaded, policy, inside)), None)
        found += [policy.name for policy in members[first:]] if first is not None else []
    return tuple(found)


def _meets(files: Sequence[FileFacts], policy: Policy, inside: Callable[[FileFacts], frozenset[str]]) -> bool:
    return not any(_errors(file, policy, inside(file)) for file in files)


def _errors(file: FileFacts, policy: Policy, inside: frozenset[str]) -> bool:
    """Whether a rule that wheels are held to finds an error in a file."""
    alone = (finding for rule in _RULES for finding in rule(file, policy))
    among = (finding for rule in _TREE_RULES for finding in rule(file, policy, inside))
    return any(
        finding.severity is checks.Severity.ERROR for findings in (alone, among) for finding in findings
    )
