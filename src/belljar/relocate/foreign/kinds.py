"""What sort of content a file has: it decides how prefixes in it may be rewritten.

Known by the first bytes where a format has them, else by the name, else by whether a NUL or a control
character says that it is no text. Text may change its length; everything else keeps it, unless a format
is taken apart.
"""

import enum
import os
import re

from belljar.relocate.foreign.moves import Hit

_CHUNK = 1 << 20
_NO_TEXT = re.compile(rb"[\x00-\x06\x0e-\x1a\x7f]")
_BOMS = {
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}


class Kind(enum.StrEnum):
    """How a file is treated."""

    TEXT = "text"
    WIDE = "wide text"
    ELF = "elf"
    BYTES = "bytes"
    BYTECODE = "bytecode"
    PACKED = "packed"
    FIXED = "fixed"
    SORTED = "sorted"


# Content whose strings may be overwritten at equal length only: it records lengths, sums or both.
_FIXED = {b"SQLite format 3\0": "an SQLite database"}
# Content that is sorted, hashed or summed over its paths, and what makes it anew.
SORTED = {
    b"ld.so-1.7.0": ("the loader's cache", "run `ldconfig -r ROOT`"),
    b"glibc-ld.so.cache": ("the loader's cache", "run `ldconfig -r ROOT`"),
    b"\r\0\0\0\0\0\0\0nix-archive-1\0": ("a Nix archive", "pack it again from the moved tree"),
    b"DIRC": ("a git index", "run `git reset` in the moved repository"),
    b"PACK\0\0\0": ("a git pack", "push or clone the repository instead"),
    b"GVariant": (
        "a table sorted by hashes",
        "run `glib-compile-schemas` or `gio-querymodules` on its directory",
    ),
    b"\x04\xfc\x02\xfc": ("fontconfig's cache", "run `fc-cache -f`"),
}
_SORTED_NAMES = {
    "gschemas.compiled": ("a table sorted by hashes", "run `glib-compile-schemas` on its directory"),
    "mime.cache": ("a table sorted by names", "run `update-mime-database` on its directory"),
    "icon-theme.cache": ("a table sorted by hashes", "run `gtk-update-icon-cache -f` on its directory"),
}  # fmt: skip
_ZIP_END, _ZIP_END_SIZE = b"PK\5\6", 22
_PACKED = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\3\4": "zip",
}


def packing(head: bytes) -> str | None:
    """Return which compressed format a file's first bytes announce."""
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)


def has_zip_behind(fd: int, size: int, head: bytes) -> bool:
    """Whether a zip archive without a comment stands behind other content, as in `.pyz` (APPNOTE 4.3.16)."""
    return (
        size > _ZIP_END_SIZE
        and not head.startswith(b"PK")
        and os.pread(fd, len(_ZIP_END), size - _ZIP_END_SIZE) == _ZIP_END
    )


def fixed(head: bytes) -> str | None:
    """Return what keeps the lengths of a file's strings."""
    return next((name for magic, name in _FIXED.items() if head.startswith(magic)), None)


def ordered(name: str, head: bytes) -> tuple[str, str] | None:
    """Return of a file that is sorted or summed over its paths what it is, and what makes it anew."""
    found = next((words for magic, words in SORTED.items() if head.startswith(magic)), None)
    return found or _SORTED_NAMES.get(name)


def kind_of(name: str, head: bytes, fd: int, hits: tuple[Hit, ...]) -> Kind:
    """Return how a file is treated; all of it is read where only that tells text from other content."""
    if head.startswith(b"\x7fELF"):
        return Kind.ELF
    if ordered(name, head):
        return Kind.SORTED
    if fixed(head):
        return Kind.FIXED
    if packing(head):
        return Kind.PACKED
    if name.endswith((".pyc", ".pyo")) and head[2:4] == b"\r\n":
        return Kind.BYTECODE
    if wide_codec(head):
        return Kind.WIDE
    return Kind.TEXT if hits and _is_text(fd) else Kind.BYTES


def wide_codec(head: bytes) -> str | None:
    """Return the codec of text in UTF-16 or UTF-32, by its mark, or by where its NULs stand."""
    for mark, codec in _BOMS.items():
        if head.startswith(mark):
            return codec
    for codec, width, letter in (
        ("utf-32-le", 4, 0),
        ("utf-32-be", 4, 3),
        ("utf-16-le", 2, 0),
        ("utf-16-be", 2, 1),
    ):
        lanes = [head[lane : len(head) // width * width : width] for lane in range(width)]
        letters = lanes.pop(letter)
        if len(letters) >= 4 and not _NO_TEXT.search(letters) and not any(any(lane) for lane in lanes):
            return codec
    return None


def _is_text(fd: int) -> bool:
    place = 0
    while chunk := os.pread(fd, _CHUNK, place):
        if _NO_TEXT.search(chunk):
            return False
        place += len(chunk)
    return True
