"""Which prefixes move where, and where they stand in bytes.

A prefix is found by one regular expression, then looked at from both sides. It counts when its last
component ends there (`/p` is not in `/p2`, but is in `/p.` at the end of a sentence) and when it does
not go on to the left as a longer path (`/dont/usr/local`). Flags may be glued (`-I/p`, `-Wl,-rpath,/p`),
variables too (`${DESTDIR}/usr`), but not those that name a directory (`$ORIGIN`, `$HOME`). The longest
old prefix wins; what is found is never searched again, so that all moves happen at once.

A tree that was moved is left alone by the same move: `/tmp/x` -> `/tmp/x/tmp/x` leaves a path alone that
begins with the new prefix already. Where the tree itself holds `tmp/x`, that cannot be told apart: refused.

Characters of two and four bytes (UTF-16, UTF-32) are found by the same expression. Between the first and
the last letter of an ASCII path both byte orders are the same bytes, so that the order need not be known.
"""

import functools
import itertools
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from belljar.errors import InputError
from belljar.relocate.inode import extents

Pair = tuple[bytes, bytes]
"""An old and a new prefix, both absolute and normal."""

REACH = 256
"""How many characters on either side decide whether a prefix counts."""
_CHUNK = 1 << 18  # more would leave the processor's cache

_COMPONENT = rb"\w+~@\-"
_AFTER = re.compile(
    rb"\.{0,8}(?:[" + _COMPONENT + rb"]|%[0-9A-Fa-f]{2}"
    # a letter beyond ASCII, but no quotation mark or other punctuation, in UTF-8 or Latin-1
    rb"|(?!\xe2\x80|\xe3\x80|\xef\xbc|\xc2?[\xa0\xab\xbb])[\x80-\xff])"
    rb"|\.+/"
)
_RUN = re.compile(rb"[%." + _COMPONENT + rb"\x80-\xff]*\Z")
_FLAG = re.compile(rb"-[A-Za-z]|[-+@%]+\Z|%[a-z]\Z")
_ESCAPE = re.compile(rb"(?:[abefnrtv0]|0?33|x[0-9A-Fa-f]{2})\Z")
_VARIABLE = re.compile(rb"\$[({]?(\w+)[)}]?\Z")
_URL = re.compile(rb"(?<![\w/])[A-Za-z][\w+.-]+:\Z")
# Variables that stand for a directory which the path goes on from.
_PLACES = {b"HOME", b"PWD", b"OLDPWD", b"TMPDIR", b"ORIGIN", b"pcfiledir", b"CMAKE_CURRENT_LIST_DIR"}
_PUNCTUATION = re.compile(
    rb"(?:\xef\xbb\xbf|\xe2\x80.|\xe3\x80.|\xef\xbc.|\xc2?[\xa0\xab\xbb]|\x1b\[[0-9;]*m)\Z", re.S
)
_COUNTED = (b"z", b"Z", b"\xda", b"\xfa")  # short strings in Python's marshalled data
_WIDTHS = {"": 1, "utf-16": 2, "utf-32": 4, "utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}


class Hit(NamedTuple):
    """An old prefix at offset..end; `pair` says which, `codec` how it is spelled ("": bytes as they are).

    A codec without byte order stands for both (see `spelled`). `doubt` says why it may be a part of
    something longer. `after` is the character behind it, -1 for none or one beyond ASCII.
    """

    offset: int
    end: int
    pair: Pair
    codec: str = ""
    doubt: str = ""
    after: int = -1

    @property
    def is_moved(self) -> bool:
        """Whether the new prefix stands there already."""
        return self.pair[0] == self.pair[1]

    @property
    def width(self) -> int:
        """How many bytes a character has."""
        return _WIDTHS[self.codec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """All moves of one run, the longest old prefix first; `own` is that of the tree itself."""

    pairs: tuple[Pair, ...]
    own: Pair

    @classmethod
    def of(cls, pairs: Iterable[tuple[str | bytes, str | bytes]]) -> "Moves":
        """Return moves for (old, new) paths, the tree's own first.

        Raises InputError for a path that is not absolute or not a path, for two new places of one old
        prefix, and where a new prefix lies in the old one of another move.
        """
        given = [(normal(old), normal(new)) for old, new in pairs]
        if not given:
            raise InputError("moves: none is given", hint="name the old prefix with --from, or --map OLD=NEW")
        chosen: dict[bytes, bytes] = {}
        for old, new in given:
            if chosen.setdefault(old, new) != new:
                raise InputError(f"{_show(old)}: is to move to two places")
        for old, new in given:
            for other, _ in given:
                if other != old and inside(new, other):
                    raise InputError(
                        f"{_show(new)}: lies in {_show(other)}, which moves too"
                        if new != other
                        else f"{_show(new)}: is to be a new place, but moves itself",
                        hint="move the one, then the other, in two runs",
                    )
        return cls(
            pairs=tuple(sorted(chosen.items(), key=lambda pair: (-len(pair[0]), pair[0]))), own=given[0]
        )

    def path(self, path: bytes) -> bytes | None:
        """Return where an absolute path moves; None when no move is about it."""
        for old, new in (*self.nested, *self.pairs):
            if inside(path, old):
                return new + path[len(old) :]
        return None

    @property
    def nested(self) -> tuple[Pair, ...]:
        """The new prefixes that lie in their own old one, each as a move to itself."""
        return tuple((new, new) for old, new in self.pairs if new != old and inside(new, old))

    def along(self, fd: int) -> Iterator[Hit]:
        """Yield every place of the open file where an old prefix stands; memory is bounded."""
        info = os.fstat(fd)
        for begin, end in extents(fd, info, 0, info.st_size):
            for hit in self.through(_chunks(fd, begin, end)):
                yield hit._replace(offset=begin + hit.offset, end=begin + hit.end) if begin else hit

    def through(self, chunks: Iterable[bytes]) -> Iterator[Hit]:
        """Yield every place where an old prefix stands in content that comes in chunks."""
        finder = _Finder.of(self)
        data, base, begin = b"", 0, 0
        for chunk in itertools.chain(chunks, [b""]):
            data += chunk
            limit = len(data) - finder.margin if chunk else len(data)
            for hit in finder.find(data, begin, limit):
                begin = hit.end
                yield hit._replace(offset=base + hit.offset, end=base + hit.end)
            begin = max(begin, limit, 0)
            cut = max(0, begin - finder.margin)
            data, base, begin = data[cut:], base + cut, begin - cut

    def over(self, data: bytes) -> list[Hit]:
        """Return every place of `data` where an old prefix stands."""
        return list(_Finder.of(self).find(data, 0, len(data)))

    def replaced(self, data: bytes) -> bytes:
        """Return text with every prefix of which there is no doubt replaced."""
        parts, done = [], 0
        for hit in self.over(data):
            if not hit.doubt:
                parts += [data[done : hit.offset], spelled(hit.pair[1], hit.codec)]
                done = hit.end
        return b"".join([*parts, data[done:]])


def _chunks(fd: int, place: int, end: int) -> Iterator[bytes]:
    while place < end and (chunk := os.pread(fd, min(_CHUNK, end - place), place)):
        yield chunk
        place += len(chunk)


def normal(path: str | bytes) -> bytes:
    """Return an absolute path without doubled or trailing slashes; raises InputError for no such path."""
    raw = os.fsencode(path)
    if not raw.startswith(b"/"):
        raise InputError(f"{_show(raw) or '(empty)'}: not an absolute path")
    if b"\0" in raw or b"\n" in raw:
        raise InputError(f"{_show(raw)}: holds the end of a line or of a string, which no list of paths can")
    clean = b"/" + b"/".join(part for part in raw.split(b"/") if part)
    if clean == b"/" or posixpath.normpath(clean) != clean:
        raise InputError(
            f"{_show(raw)}: cannot be a prefix that moves"
            if clean == b"/"
            else f"{_show(raw)}: not a normal path",
            hint="name a directory below /, without . and ..",
        )
    return clean


def inside(path: bytes, prefix: bytes) -> bool:
    """Whether a path is the prefix or lies below it."""
    return path == prefix or path.startswith(prefix + b"/")


def _show(path: bytes) -> str:
    text = os.fsdecode(path)
    return text if text.isprintable() else repr(text)


def spelled(path: bytes, codec: str) -> bytes:
    """Return a path in a codec; in UTF-16 and UTF-32 of either order without the NULs at its ends.

    Raises UnicodeError where it cannot be spelled so, or only in a known order.
    """
    if not codec:
        return path
    text = path.decode()
    if codec in ("utf-16", "utf-32"):
        return (b"\0" * (_WIDTHS[codec] - 1)).join(bytes([letter]) for letter in text.encode("ascii"))
    return text.encode(codec)


class _Finder:
    """The expression for some moves, and what each of its spellings means."""

    def __init__(self, moves: Moves) -> None:
        pairs = sorted((*moves.nested, *moves.pairs), key=lambda pair: -len(pair[0]))
        self._meaning: dict[bytes, tuple[Pair, str]] = {}
        for pair in pairs:
            for codec in ("", *_wide_codecs(pair[0])):
                self._meaning.setdefault(spelled(pair[0], codec), (pair, codec))
        longest = sorted(self._meaning, key=len, reverse=True)
        self._lengths = sorted({len(text) for text in longest}, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest)))
        self.margin = 4 * (REACH + max(len(pair[0]) for pair in pairs)) + 8

    @classmethod
    @functools.lru_cache(maxsize=8)
    def of(cls, moves: Moves) -> "_Finder":
        """Return the finder for these moves, made once."""
        return cls(moves)

    def find(self, data: bytes, begin: int, limit: int) -> Iterator[Hit]:
        """Yield what begins in begin..limit; to either side all that `data` has is looked at."""
        while (match := self._pattern.search(data, begin)) and match.start() < limit:
            hit = self._judge(data, match.start())
            begin = match.start() + 1 if hit is None else hit.end
            if hit is not None:
                yield hit

    def _judge(self, data: bytes, start: int) -> Hit | None:
        """Return the longest prefix that counts at a match; None when none does, a doubtful one at last."""
        doubtful = None
        for length in self._lengths:
            meaning = self._meaning.get(data[start : start + length])
            if meaning is not None:
                hit = _look(data, start, start + length, *meaning)
                if hit is not None and not hit.doubt:
                    return hit
                doubtful = doubtful or hit
        return doubtful


def _wide_codecs(old: bytes) -> tuple[str, ...]:
    if old.isascii():
        return ("utf-16", "utf-32")
    try:
        old.decode()
    except UnicodeError:
        return ()
    return ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


def _look(data: bytes, start: int, end: int, pair: Pair, codec: str) -> Hit | None:
    """Return what stands there, seen from both sides; None for a part of another path."""
    if codec:
        before, after = _narrow(data, start, end, codec)
    else:
        before, after = data[max(0, start - REACH) : start], data[end : end + REACH]
    doubt = _left(before)
    if doubt is None:
        return None
    if found := _AFTER.match(after):
        if found[0].endswith(b"/"):
            return None
        doubt = "goes on"
    return Hit(start, end, pair, codec, doubt, after[0] if after else -1)


def _narrow(data: bytes, start: int, end: int, codec: str) -> tuple[bytes, bytes]:
    """Return the ASCII letters before and after wide text; anything else ends them."""
    width = _WIDTHS[codec]
    nuls = b"\0" * (width - 1)
    shift = width - 1 if codec.endswith("be") else 0
    last = end - 1 if not codec[6:] else end - width + shift
    letters: tuple[list[int], list[int]] = ([], [])
    for side, place, step in ((letters[0], start + shift, -width), (letters[1], last, width)):
        for at in range(place + step, place + step * REACH, step):
            between = min(at - step, at) + 1
            if not 0 <= at < len(data) or data[between : between + width - 1] != nuls:
                if step < 0 <= at and len(side) == 1:
                    side.clear()  # the last letter of narrow text, and its NUL
                break
            if not 0 < data[at] < 0x80:
                break
            side.append(data[at])
    return bytes(reversed(letters[0])), bytes(letters[1])


def _left(before: bytes) -> str | None:
    """Say of what stands before a prefix: "": not a part of it; None: a longer path; else a doubt."""
    rest = before.rstrip(b"/")
    if rest != before:
        if _URL.search(rest):
            return "" if len(before) - len(rest) == 2 else None
        if before[-2:-1] in _COUNTED and before[-1:] == b"/":
            return "stands behind a slash or a count of 47"
        return None if rest.endswith((b"}", b")")) or _run(rest) else ""
    if variable := _VARIABLE.search(before):
        return None if variable[1] in _PLACES else ""
    word = _run(before)
    lead = before[: len(before) - len(word)]
    if lead.endswith(b"/") or (word and not word.strip(b".")) or word == b"~":
        return None
    if not word or _FLAG.match(word) or _PUNCTUATION.search(before):
        return ""
    if lead.endswith(b"\\") and _ESCAPE.match(word):
        return ""
    return f"stands behind {word[-24:].decode(errors='replace')!r}"


def _run(before: bytes) -> bytes:
    """Return the letters of a path's component that stand at the end."""
    match = _RUN.search(before)
    return match[0] if match else b""
