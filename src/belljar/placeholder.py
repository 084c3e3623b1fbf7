"""The placeholder store root, and the locations that take its place.

Every build sees one store root, `PLACEHOLDER`: 96 bytes that exist on no machine. Where a tree is
to live is a *location*: its directory's path, filled with `/` to 80 bytes, before the same constant
tail of 16 bytes. Both have the same length, so to move a tree is to overwrite bytes k..k+n of the
one by bytes k..k+n of the other wherever they occur: in text, C strings, strings whose length is
compiled in, merged strings. Nothing grows, nothing shifts, and the reverse restores every byte.

Why these letters (measured in docs/relocation.md):

- 96 bytes leave 11 for a socket name (108 in all) and 152 for the rest of a `#!` line, and are
  longer than what zig, Rust and the aarch64 compilers split into immediates (64).
- All 4-grams are distinct, so that a piece of 8 bytes says which piece it is.
- `qz` is rare and stands at most 7 bytes apart, so that every window of 8 bytes which holds a byte
  that varies contains it: one search for two bytes finds whole paths and pieces alike.
- No vowels: no part of it is a word that a file could hold by chance.
- The tail is the same in every location: the heads and tails of split strings need no rewriting.

Rejected: NUL padding, which breaks merged and length-carrying strings (conda-build#3986,
spack#32253, rattler#2342), and a placeholder that repeats a word, which makes pieces ambiguous.
"""

import os
from pathlib import Path

from belljar.errors import InputError

TAIL = "/qzgydlfqzvtvrjf"
PLACEHOLDER = "/wngnlqzbxgclqzhhftkqzkktdlqzkplslqzgcrshqzdkffbqzfjbwtqzxrjjsqzbyycsqzhfvpbqzpm" + TAIL
LENGTH = len(PLACEHOLDER)
"""Length in bytes of the placeholder and of every location."""
DIRECTORY_LIMIT = LENGTH - len(TAIL)
"""How long in bytes the path of a location's directory may be."""

# These are syntax to shells, PATH-like lists, format strings, make and quoted strings.
_SYNTAX = frozenset(b":;,\"'`\\$&|<>*?[](){}#%=!~^")


def store_root(directory: Path) -> Path:
    """Return the directory below `directory` that holds its prefixes: the tail's one component."""
    return directory / TAIL[1:]


def location(directory: Path) -> bytes:
    """Return the 96 bytes that stand for the store root below `directory` in files.

    Raises InputError when the path is not absolute and normal, is longer than 80 bytes, or holds a
    character that scripts and lists would take for syntax.
    """
    path = os.fsencode(directory)
    subject = os.fsdecode(path)
    if not path.startswith(b"/") or os.path.normpath(path) != path or path.startswith(b"//"):
        raise InputError(f"{subject}: not an absolute, normal path")
    bad = sorted({chr(byte) for byte in path if byte in _SYNTAX or byte <= 0x20 or byte == 0x7F})
    if bad:
        raise InputError(
            f"{subject}: holds {' '.join(map(repr, bad))}, which scripts and path lists take for syntax",
            hint="choose a directory whose path has only letters, digits and / . _ - + @",
        )
    if len(path) > DIRECTORY_LIMIT:
        raise InputError(
            f"{subject}: too long by {len(path) - DIRECTORY_LIMIT} bytes"
            f" (a location may have {DIRECTORY_LIMIT}; this one has {len(path)})",
            hint="choose a shorter directory",
        )
    return path.rstrip(b"/").ljust(DIRECTORY_LIMIT, b"/") + TAIL.encode()
