"""The result of an audit: all files, what is to be said about them, and the floors of the whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self

from belljar.audit.checks import Finding, Severity, remedy
from belljar.audit.facts import FileFacts, Floors, Kind, VersionUse
from belljar.audit.floors.distributions import distributions
from belljar.audit.floors.glibc import GlibcVersion, is_family
from belljar.audit.floors.series import FLOORS, dotted, gcc_of, number, split
from belljar.audit.machines import BASELINES
from belljar.audit.policy import Policy
from belljar.audit.profiles import inside_of, met, sonames
from belljar.audit.ties import Tie
from belljar.audit.users import Users
from belljar.ldso import Closure

if TYPE_CHECKING:
    from belljar.audit.probe import Probe
    from belljar.audit.traced import Traced


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library that files need: whether the tree has it, and whether glibc brings it."""

    name: str
    inside: bool
    libc: bool
    needed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The oldest glibc on which all files load, and which needs of which files set it."""

    glibc: GlibcVersion
    causes: tuple[tuple[str, VersionUse], ...]

    @property
    def distributions(self) -> tuple[str, ...]:
        """The first release of each distribution that has it."""
        return distributions(self.glibc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What sets a floor: a file's need of a version, or (`use` None) what the file says of itself."""

    floor: str
    release: str
    path: str
    arch: str
    use: VersionUse | None = None
    users: tuple[Users, ...] = ()
    """Who in the file uses which of the symbols, where that was looked for and can be told."""

    @property
    def remedy(self) -> str | None:
        """What would lower the floor."""
        if self.use is None:
            return None
        if self.floor == "glibc":
            return remedy(self.use, self.arch)
        gcc = gcc_of(self.use.version)
        return f"build with a GCC older than {gcc}, or bring {self.use.library} along" if gcc else None

    def with_users(self, users: Iterable[Users]) -> Self:
        """Return the same with those of its file's users that use its symbols."""
        symbols = frozenset(self.use.symbols) if self.use else frozenset()
        return replace(self, users=tuple(item for item in users if item.symbol in symbols))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All files, in the order they were found, and what is to be said about them."""

    paths: tuple[str, ...]
    policy: Policy
    files: tuple[FileFacts, ...]
    findings: tuple[Finding, ...]
    ties: tuple[Tie, ...] = ()
    """What is left of the builder's machine, where that was looked for."""
    closures: tuple[tuple[str, Closure], ...] = ()
    """By file, what its loader would load, where that was asked for."""
    probe: "Probe | None" = None
    """How a command ran on old CPUs, where that was asked for."""
    traced: "tuple[Traced, ...]" = ()
    """How commands of a sealed tree ran, where that was asked for."""
    users: tuple[tuple[str, tuple[Users, ...]], ...] = ()
    """By file, who uses the symbols that set floors, where that was looked for (belljar.audit.users)."""

    @property
    def sealed(self) -> tuple[FileFacts, ...]:
        """The programs that bring their own loader and libc."""
        return tuple(item for item in self.files if item.sealed is not None and item.sealed.is_program)

    @property
    def missing(self) -> frozenset[str]:
        """The libraries that some file needs and does not get."""
        return frozenset(edge.name for _, closure in self.closures for edge in closure.missing)

    @property
    def passed(self) -> bool:
        """Whether nothing was found that goes against the policy."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the audit fail."""
        return tuple(item for item in self.findings if item.severity is Severity.ERROR)

    @property
    def floor(self) -> Floor | None:
        """The glibc floor of the whole; None when nothing needs glibc."""
        glibc = max((file.floor for file in self.files if file.floor), default=None)
        if glibc is None:
            return None
        causes = ((file.path, use) for file in self.files if file.floor == glibc for use in file.causes)
        return Floor(glibc=glibc, causes=tuple(causes))

    @property
    def floors(self) -> Floors:
        """The floors of the whole: of each, the highest that a file sets.

        What the tree brings itself sets no floor: a libstdc++ in it meets the needs of libstdc++.
        """
        highest = {cause.floor: cause.release for cause in self._all_causes()}
        return Floors(**highest, isa=self._isa())

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What sets the floors of the whole, floor by floor, in the order of the files."""
        floors = {field.name: getattr(self.floors, field.name) for field in fields(Floors)}
        found = (cause for cause in self._all_causes() if cause.release == floors[cause.floor])
        order = list(floors)
        users = dict(self.users)
        return tuple(
            cause.with_users(users.get(cause.path, ()))
            for cause in sorted(found, key=lambda cause: order.index(cause.floor))
        )

    def _all_causes(self) -> list[Cause]:
        """Return every cause of every floor, the lower ones first."""
        inside = inside_of(self.files)
        found = [cause for file in self.files for cause in _causes(file, inside(file))]
        return sorted(found, key=lambda cause: number(cause.release))

    def _isa(self) -> str | None:
        """Return the CPU level that is proven to be needed; of several, the most demanding one."""
        proven = [file.isa.needs for file in self.files if file.isa is not None and file.isa.is_proven]
        arches = (BASELINES.get(file.arch, file.arch) for file in self.files if file.kind in _RUN)
        return max(proven, key=lambda level: (len(level), level), default=next(arches, None))

    @property
    def distributions(self) -> tuple[str, ...]:
        """The first release of each distribution that meets the floors of glibc and of libstdc++."""
        floors = self.floors
        if floors.glibc is None:
            return ()
        return distributions(GlibcVersion.parse(floors.glibc), floors.glibcxx)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The names of the built-in policies for wheels that the tree meets."""
        return met(self.files)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; docs/audit-schema.json is their schema."""
        from belljar.audit.to_json import to_json

        return to_json(self)

    @property
    def libraries(self) -> tuple[Library, ...]:
        """The needed libraries by name. One that a file names by path is inside if that file is."""
        present = sonames(self.files)
        needed: dict[str, list[str]] = {}
        for file in self.files:
            for name in file.needed:
                needed.setdefault(name, []).append(file.path)
        return tuple(
            Library(
                name=name, inside=PurePath(name).name in present, libc=is_family(name), needed_by=tuple(users)
            )
            for name, users in sorted(needed.items())
        )


_RUN = (Kind.EXECUTABLE, Kind.STATIC, Kind.SHARED)
_SERIES = {series: floor for floor, series in FLOORS.items() if floor != "glibc"}


def _causes(file: FileFacts, inside: frozenset[str]) -> Iterator[Cause]:
    """Yield what one file asks for, as causes of floors."""
    for use in file.asks:
        if not use.required:
            continue
        found = split(use.version)
        if use.glibc is not None:
            yield Cause(floor="glibc", release=str(use.glibc), path=file.path, arch=file.arch, use=use)
        elif found is not None and found[0] in _SERIES and use.library not in inside:
            floor, release = _SERIES[found[0]], dotted(found[1])
            yield Cause(floor=floor, release=release, path=file.path, arch=file.arch, use=use)
    if file.kernel is not None:
        yield Cause(floor="kernel", release=file.kernel, path=file.path, arch=file.arch)
