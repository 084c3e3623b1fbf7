"""What a tree must meet: the guarantees that a recipe or a command line declares."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from belljar.audit.glibc import GlibcVersion
from belljar.audit.machines import arch_of_isa
from belljar.errors import InputError


class InterpreterRule(enum.StrEnum):
    """Which loader a program may name."""

    STANDARD = "standard"
    """The one that the ABI of its architecture prescribes."""
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Guarantees; what is None or empty is not asked for.

    `isa` is a CPU level like `x86-64`: the architecture is checked, the level is not yet.
    `build_paths` are directories of the machine that built the tree, which nothing may name.
    Raises InputError for an unknown `isa` and a build path that is not absolute.
    """

    glibc: GlibcVersion | None = None
    isa: str | None = None
    interpreter: InterpreterRule = InterpreterRule.STANDARD
    build_paths: tuple[str, ...] = ()

    @classmethod
    def of(cls, *, glibc: str | None = None, isa: str | None = None, build_paths: Iterable[str] = ()) -> Self:
        """Return the policy that a recipe or a command line words; raises InputError as above."""
        floor = None if glibc is None else GlibcVersion.parse(glibc)
        return cls(glibc=floor, isa=isa, build_paths=tuple(build_paths))

    def __post_init__(self) -> None:
        if self.isa is not None:
            arch_of_isa(self.isa)
        for path in self.build_paths:
            if not path.startswith("/") or not path.strip("/"):
                raise InputError(f"build path {path!r}: not an absolute path below /")

    @property
    def arch(self) -> str | None:
        """The architecture that `isa` belongs to."""
        return None if self.isa is None else arch_of_isa(self.isa)


ANYTHING = Policy()
"""Asks for no more than what every portable file meets."""
