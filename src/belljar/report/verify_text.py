"""A verification as a plain table: on which root, with which glibc, how it ended, and what it said first."""

import shlex
from collections.abc import Iterator

from belljar.verify import Matrix, Result

_HEADER = ("root", "glibc", "result", "time", "says")
_WIDTH = 160


def render(matrix: Matrix) -> list[str]:
    """Return the matrix as lines without colour, safe to show on a terminal."""
    table = [_HEADER, *(_row(result, matrix) for result in matrix.results)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    passed = sum(result.passed for result in matrix.results)
    return [
        *_lines(table, widths),
        "",
        f"{_shown(shlex.join(matrix.command))}: passed on {passed} of {len(matrix.results)} roots",
    ]


def _lines(table: list[tuple[str, ...]], widths: list[int]) -> Iterator[str]:
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(result: Result, matrix: Matrix) -> tuple[str, ...]:
    time = f"{result.seconds:.2f} s" if result.seconds else "-"
    return (
        result.root.name,
        result.root.glibc or result.root.libc,
        result.verdict,
        time,
        _says(result, matrix),
    )


def _says(result: Result, matrix: Matrix) -> str:
    """Return the one line that tells most: the problem, what a failure said, or what was printed."""
    streams = (result.stdout, result.stderr) if result.passed else (result.stderr, result.stdout)
    heard = next((stream for stream in streams if stream.first_line), None)
    line = result.problem or (heard.first_line if heard else "")
    shown = _shown(line.replace(f"{matrix.tree}/", ""))
    more = 0 if result.problem or heard is None else len(heard.text.splitlines()) - 1
    return shown + (f" (and {more} more line{'s' if more > 1 else ''})" if more else "")


def _shown(text: str) -> str:
    """Return the beginning of a text, without what a terminal would act upon."""
    safe = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:_WIDTH])
    return safe + ("..." if len(text) > _WIDTH else "")
