"""What a tree must meet: what a recipe, a command line or a policy file declares."""

import datetime
import enum
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from belljar.audit.floors.glibc import GlibcVersion
from belljar.audit.floors.series import Number, dotted
from belljar.audit.machines import arch_of_isa
from belljar.errors import InputError

BASELINE = "baseline"
"""The CPU level that every machine of an architecture has."""


class InterpreterRule(enum.StrEnum):
    """Which loader a program may name."""

    STANDARD = "standard"
    """The one that the ABI of its architecture prescribes."""
    ANY = "any"


class Libc(enum.StrEnum):
    """Which C library the tree is for."""

    GLIBC = "glibc"
    MUSL = "musl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The newest version of a series that may be needed, on one architecture or (None) on the others."""

    series: str
    number: Number
    arch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """An exception: what a rule finds at paths like a pattern does not count, for a reason, for a time."""

    rule: str
    path: str
    reason: str
    expires: datetime.date | None = None

    def covers(self, rule: str, path: str) -> bool:
        """Whether it is about a finding: its path, or the end of it, is like the pattern."""
        return self.rule == rule and (
            fnmatch.fnmatchcase(path, self.path) or fnmatch.fnmatchcase(path, f"*[/!]{self.path}")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Guarantees; what is None or empty is not asked for.

    `isa` is a CPU level like `x86-64`, or `baseline` for what each architecture begins with.
    `build_paths` are directories of the machine that built the tree, which nothing may name;
    `host_paths` says whether programs may name other absolute directories to their loader.
    `libraries` are those that may come from outside the tree, `forbidden` symbols that may not be
    used, by library. `sealed` wants all programs to bring their loader and libc (belljar.audit.sealing);
    `host_files` are patterns of paths that they may open outside their prefix.
    Raises InputError for an unknown `isa` and a build path that is not absolute.
    """

    name: str = ""
    title: str = ""
    aliases: tuple[str, ...] = ()
    libc: Libc | None = None
    glibc: GlibcVersion | None = None
    isa: str | None = None
    interpreter: InterpreterRule = InterpreterRule.STANDARD
    host_paths: bool = True
    build_paths: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    names: frozenset[str] | None = None
    """The versions without a number that may be needed; None: all."""
    libraries: frozenset[str] | None = None
    forbidden: tuple[tuple[str, tuple[str, ...]], ...] = ()
    waivers: tuple[Waiver, ...] = ()
    sealed: bool = False
    host_files: tuple[str, ...] = ()

    @classmethod
    def of(cls, *, glibc: str | None = None, isa: str | None = None, build_paths: Iterable[str] = ()) -> Self:
        """Return the policy that a recipe or a command line words; raises InputError as above."""
        floor = None if glibc is None else GlibcVersion.parse(glibc)
        return cls(glibc=floor, isa=isa, build_paths=tuple(build_paths))

    def __post_init__(self) -> None:
        if self.isa is not None and self.isa != BASELINE:
            arch_of_isa(self.isa)
        for path in self.build_paths:
            if not path.startswith("/") or not path.strip("/"):
                raise InputError(f"build path {path!r}: not an absolute path below /")

    @property
    def arch(self) -> str | None:
        """The architecture that `isa` belongs to; None when it is of none or every one."""
        return None if self.isa in (None, BASELINE) else arch_of_isa(self.isa or "")

    def limit(self, series: str, arch: str) -> Number | None:
        """Return the newest version of a series that may be needed on an architecture; None: any."""
        found = {item.arch: item.number for item in self.limits if item.series == series}
        return found.get(arch, found.get(None))

    def describe(self) -> tuple[str, ...]:
        """Say in words what is asked for."""
        words = [f"policy {self.name}"] if self.name else []
        words += [f"glibc {self.glibc}"] if self.glibc else []
        words += [f"{item.series} {dotted(item.number)}" for item in self.limits if item.arch is None]
        words += [f"isa {self.isa}"] if self.isa else []
        words += [f"no path below {', '.join(self.build_paths)}"] if self.build_paths else []
        return tuple(words)


ANYTHING = Policy()
"""Asks for no more than what every portable file meets."""
