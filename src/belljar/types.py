"""Words that every room shares."""

import enum
from collections.abc import Callable
from typing import NamedTuple, NewType

Digest = NewType("Digest", str)
"""A SHA-256 in lower-case hexadecimal, 64 characters."""


class Arch(enum.StrEnum):
    """A machine architecture, by the name that `uname -m` gives it."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"

    @property
    def debian(self) -> str:
        """The name that Debian gives the architecture."""
        return {"x86_64": "amd64", "aarch64": "arm64"}[self.value]


class Event(NamedTuple):
    """One step of long work, for whoever shows progress: `done` of `total` (0: unknown) units."""

    stage: str
    subject: str = ""
    done: int = 0
    total: int = 0


Progress = Callable[[Event], None]
"""Is told of each step of long work; must return quickly and never raise."""


def quiet(_event: Event) -> None:
    """Show no progress."""
