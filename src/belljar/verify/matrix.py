"""What came of running a command on several roots: one result a root, as values and as JSON."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar.verify.root import Root

VERSION = 1
"""Of the JSON; raised when a member changes its meaning or goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What a program wrote to one stream: its beginning, and whether there was more."""

    text: str = ""
    truncated: bool = False

    @property
    def first_line(self) -> str:
        """The first line that is not blank."""
        return next((line for line in self.text.splitlines() if line.strip()), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a command ended on one root.

    `status` is the exit status, negative for the signal that killed it, None when it was not started or
    did not end in time; `problem` says then why. `seconds` is the time from the order to the end, the
    sandbox included.
    """

    root: Root
    status: int | None
    seconds: float = 0.0
    stdout: Captured = Captured()
    stderr: Captured = Captured()
    timed_out: bool = False
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the command ended with status 0."""
        return self.status == 0

    @property
    def verdict(self) -> str:
        """The result in a word or two."""
        if self.status is None:
            return "timed out" if self.timed_out else "not started"
        if self.status < 0:
            return _signal(-self.status)
        return f"exit {self.status}" if self.status else "passed"

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values; see docs/verify.md."""
        killed = self.status is not None and self.status < 0
        return {
            "root": self.root.name,
            "origin": self.root.origin,
            "arch": self.root.arch.value,
            "glibc": self.root.glibc,
            "libc": self.root.libc,
            "passed": self.passed,
            "status": None if killed else self.status,
            "signal": _signal(-self.status) if self.status is not None and killed else None,
            "timed_out": self.timed_out,
            "problem": self.problem or None,
            "seconds": round(self.seconds, 4),
            "stdout": {"text": self.stdout.text, "truncated": self.stdout.truncated},
            "stderr": {"text": self.stderr.text, "truncated": self.stderr.truncated},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A command of a tree, and how it ended on each root."""

    tree: Path
    command: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether it passed on every root."""
        return all(result.passed for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """Return the matrix as JSON values; see docs/verify.md."""
        return {
            "version": VERSION,
            "tree": str(self.tree),
            "command": list(self.command),
            "passed": self.passed,
            "results": [result.to_json() for result in self.results],
        }


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
