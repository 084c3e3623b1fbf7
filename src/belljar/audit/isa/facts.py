"""What is known about the CPU that a file needs, and how well it is known.

Reading code decides less than one would wish: whether a function for a newer CPU is guarded by a
flag that travels in a structure cannot be told from the bytes alone. So a verdict comes in tiers,
and only the two that rest on proof may fail a gate (docs/cpu-levels.md).
"""

import enum
from dataclasses import dataclass
from typing import Any


class Effort(enum.IntEnum):
    """How much code is decoded: nothing but what runs at load time, or all of it."""

    LOAD = 1
    FULL = 2


class Tier(enum.StrEnum):
    """How firm the verdict is, best known first."""

    BASELINE = "baseline-certain"
    CERTAIN = "certain need"
    FIRM = "firm need"
    PROBABLE = "probable"
    POSSIBLE = "possible"
    DISPATCHED = "dispatched"
    UNDECIDED = "undecided"


class By(enum.StrEnum):
    """What proves a need: a root that runs at load time, or the absence of any CPU detection."""

    NONE = "none"
    LOAD = "load"
    NO_DETECTION = "no-detection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One instruction, and the calls that lead to it from `root`: names where known, else addresses."""

    need: str
    root: str
    chain: tuple[str, ...]
    address: int
    instruction: str

    def __str__(self) -> str:
        path = " -> ".join((self.root, *self.chain))
        return f"{self.need}: {path}: {self.address:#x} {self.instruction}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "need": self.need,
            "root": self.root,
            "chain": list(self.chain),
            "address": f"{self.address:#x}",
            "instruction": self.instruction,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """A CPU feature outside the levels (AES, SHA, LSE, ...), how sure its need is, in how many functions."""

    name: str
    tier: Tier
    functions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much code there is, and how much of it was decoded, in bytes.

    `described` lies in functions that have unwind information; `gaps` is executable, but in none.
    """

    described: int = 0
    gaps: int = 0
    decoded: int = 0

    @property
    def share(self) -> float:
        """The described part of all code, 0 to 1."""
        total = self.described + self.gaps
        return self.described / total if total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IsaFacts:
    """The CPU that one file needs.

    `needs` is proven (the baseline when nothing is), `suspected` is not. `dispatched` counts functions
    that only run after a check, by level. `variant`: the file's name or directory says that somebody
    else selects it by CPU. `note` says what was left out.
    """

    arch: str
    needs: str
    by: By = By.NONE
    tier: Tier
    suspected: str | None = None
    dispatched: tuple[tuple[str, int], ...] = ()
    extensions: tuple[Extension, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    functions: tuple[str, ...] = ()
    coverage: Coverage = Coverage()
    variant: bool = False
    note: str = ""

    @property
    def is_proven(self) -> bool:
        """Whether `needs` rests on proof, so that it may fail a gate."""
        return self.tier in (Tier.CERTAIN, Tier.FIRM) and not self.variant

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "arch": self.arch,
            "needs": self.needs,
            "by": str(self.by),
            "tier": str(self.tier),
            "suspected": self.suspected,
            "dispatched": dict(self.dispatched),
            "extensions": [
                {"name": item.name, "tier": str(item.tier), "functions": item.functions}
                for item in self.extensions
            ],
            "evidence": [item.to_json() for item in self.evidence],
            "functions": list(self.functions),
            "coverage": {
                "described": self.coverage.described,
                "gaps": self.coverage.gaps,
                "decoded": self.coverage.decoded,
                "share": round(self.coverage.share, 4),
            },
            "variant": self.variant,
            "note": self.note,
        }
