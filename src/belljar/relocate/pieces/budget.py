"""How much work one file is worth: real programs stay far below, hostile ones are reported."""

from dataclasses import dataclass

DECODED = 1 << 19
"""How many bytes of code are decoded for a file; a program with 100 uses of its prefix takes 50,000."""
TRACES = 1 << 15
"""How many traces of pieces are looked at."""


class TooMany(Exception):  # noqa: N818 - no error: a verdict on one file, met where it is looked at
    """A file has more traces of pieces than can be told apart."""


@dataclass(slots=True, kw_only=True)
class Budget:
    """Bytes of code that may still be decoded for a file."""

    left: int = DECODED

    def spend(self, size: int) -> None:
        """Take some of it; raises TooMany when there is not enough."""
        self.left -= size
        if self.left < 0:
            raise TooMany
