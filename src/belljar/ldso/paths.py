"""Lists of directories: how glibc and musl split them and what `$ORIGIN` and its like stand for."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(r"\$(?:\{(ORIGIN|PLATFORM|LIB)\}|(ORIGIN|PLATFORM|LIB)(?![A-Za-z0-9_]))")
_ORIGIN = re.compile(r"\$(?:\{ORIGIN\}|ORIGIN)")
LONGEST = 4096
"""Paths of that length or more cannot be opened (PATH_MAX)."""


class Tokens(NamedTuple):
    """What stands for `$ORIGIN`, `$LIB` and `$PLATFORM`; None for what is not known."""

    origin: str | None
    lib: str
    platform: str | None


def expand(text: str, tokens: Tokens) -> str | None:
    """Return `text` with its tokens replaced; None when one is not known or the result is no path.

    A token ends where a name ends: `$ORIGINX` is none, `${ORIGIN}X` is one (gABI, chapter 5).
    """
    if "$" not in text:
        return text if len(text) < LONGEST else None
    values = {"ORIGIN": tokens.origin, "LIB": tokens.lib, "PLATFORM": tokens.platform}
    pieces, at, size = [], 0, 0
    for match in _TOKEN.finditer(text):
        value = values[match[1] or match[2]]
        size += match.start() - at + len(value or "")
        if value is None or size >= LONGEST:
            return None
        pieces += [text[at : match.start()], value]
        at = match.end()
    result = "".join([*pieces, text[at:]]) if len(text) - at + size < LONGEST else ""
    return result or None


def glibc_directories(text: str, tokens: Tokens, separators: str = ":") -> Iterator[tuple[str, str]]:
    """Yield each directory once, ending in a slash, with the entry it comes from.

    An empty entry is the working directory and yields an empty text.
    """
    if not text:
        return
    for entry in re.split(f"[{separators}]", text):
        directory = expand(entry, tokens) if entry else ""
        if directory is None:
            continue
        yield (directory.rstrip("/") + "/" if directory else ""), entry


def musl_directories(text: str, origin: str | None) -> Iterator[tuple[str, str]]:
    """Yield each directory, ending in a slash, with its entry; musl splits at colons and line ends.

    musl knows `$ORIGIN` only, and passes over a list with any other `$` in it.
    """
    if "$" in _ORIGIN.sub("", text) or ("$" in text and origin is None):
        return
    for entry in re.split("[:\n]", text):
        if not entry or len(entry) >= LONGEST:
            continue
        if len(_ORIGIN.findall(entry)) * len(origin or "") < LONGEST:
            yield _ORIGIN.sub(lambda _: origin or "", entry) + "/", entry
