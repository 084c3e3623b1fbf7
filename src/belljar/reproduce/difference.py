"""Where two contents of a file differ: which part of it, and the texts that differ there.

A *spot* is a place in terms that mean the same in every build: a file, a part of it, a line. Offsets do not,
once something before them has another length. What a search counts and attributes are spots.
"""

import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from belljar.build.compare import Aspect
from belljar.reproduce.lines import changes
from belljar.reproduce.names import paired
from belljar.reproduce.parts import parts

SHOWN = 240
"""How many characters of a text are kept."""
_SAMPLES = 8
_STRINGS = re.compile(rb"[\x20-\x7e]{4,}")
_WIDE = re.compile(rb"(?:[\x20-\x7e]\0){4,}")
"""Texts in UTF-16, as programs for Windows and resources have them."""
_DERIVED = re.compile(r"(^|!)(\.note\.gnu\.build-id|\.gnu_debuglink|\(headers\)|\(blocks\)|/)$")

Spot = tuple[str, str]
"""A path, and a part of the file there; `("", "exit status")` is the build itself."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Difference:
    """At `part` of `path`, one tree has `before`, the other `after`; `aspect`: in what else they differ."""

    path: str
    part: str = ""
    before: str = ""
    after: str = ""
    aspect: Aspect = Aspect.CONTENT

    @property
    def spot(self) -> Spot:
        """The place, without what stands there."""
        return self.path, self.part or self.aspect.value

    @property
    def place(self) -> tuple[str, tuple[str | int, ...]]:
        """What it is sorted by: the path, then the part, line 2 before line 10."""
        pieces = re.split(r"([0-9]+)", self.part)
        return self.path, tuple(int(piece) if number % 2 else piece for number, piece in enumerate(pieces))

    @property
    def is_derived(self) -> bool:
        """Whether it follows from other differences in the same file: a build id, an offset in a header."""
        return bool(_DERIVED.search(self.part))


def of_contents(path: str, left: bytes, right: bytes) -> Iterator[Difference]:
    """Yield where two contents of a file differ; what both sides cannot take apart alike is one part."""
    here, there = parts(left), parts(right)
    if ("" in here) != ("" in there):
        here, there = {"": left}, {"": right}
    there = _renamed(here, there)
    is_told = False
    for name in dict.fromkeys((*here, *there)):
        if name not in here or name not in there:
            words = ("there", "missing") if name in here else ("missing", "there")
            yield Difference(path=path, part=name, before=words[0], after=words[1], aspect=Aspect.MISSING)
        elif here[name] != there[name]:
            yield from _leaf(path, name, here[name], there[name])
        is_told = is_told or here.get(name) != there.get(name)
    if left != right and not is_told:
        yield _numbers(path, "how it is packed", left, right)


def _renamed(here: dict[str, bytes], there: dict[str, bytes]) -> dict[str, bytes]:
    """Return the parts of the other side; what has another name there is called as it is here."""
    gone = {name: here[name] for name in here.keys() - there.keys()}
    new = {name: there[name] for name in there.keys() - here.keys()}
    names = {other: one for one, other in paired(gone, new).items()}
    return {names.get(name, name): content for name, content in there.items()}


def of_texts(path: str, part: str, before: str, after: str) -> Difference:
    """Return a difference of two texts; of long ones, what is around the place where they begin to differ."""
    return Difference(path=path, part=part, before=_short(before, after), after=_short(after, before))


def _short(text: str, other: str) -> str:
    """Return a text, of a long one the piece around where it begins to differ."""
    if len(text) <= SHOWN:
        return text
    at = next((n for n, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), 0)
    start = max(0, at - SHOWN // 4)
    return ("…" if start else "") + text[start : start + SHOWN] + "…"


def _leaf(path: str, part: str, left: bytes, right: bytes) -> Iterator[Difference]:
    if _is_text(left) and _is_text(right):
        yield from _lines(path, part, _decoded(left), _decoded(right))
    else:
        yield from _binary(path, part, left, right)


def _is_text(data: bytes) -> bool:
    return b"\0" not in data[: 1 << 16] and sum(byte < 9 for byte in data[:4096]) == 0 and _is_utf8(data)


def _is_utf8(data: bytes) -> bool:
    try:
        data[: 1 << 16].decode()
    except UnicodeDecodeError as error:
        return error.start > (1 << 16) - 4
    return True


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


# --- texts ------------------------------------------------------------------------------------------


def _lines(path: str, part: str, left: str, right: str) -> Iterator[Difference]:
    here, there = left.split("\n"), right.split("\n")
    if part and len(here) == len(there) == 1:
        yield of_texts(path, part, left, right)
        return
    for what, before, after in changes(here, there):
        yield of_texts(path, _joined(part, what), before, after)


def _joined(part: str, rest: str) -> str:
    return f"{part}!{rest}" if part else rest


# --- everything else --------------------------------------------------------------------------------


def _binary(path: str, part: str, left: bytes, right: bytes) -> Iterator[Difference]:
    here, there = (_strings(data) for data in (left, right))
    gone, new = _less(here, there), _less(there, here)
    meaning = _meaning(left, right) if len(left) == len(right) else None
    if meaning is not None:
        yield of_texts(path, part, *meaning)
    elif gone or new:
        for one, two in list(zip_longest(gone, new, fillvalue=b""))[:_SAMPLES]:
            yield of_texts(path, part, one.decode("ascii"), two.decode("ascii"))
    elif here != there:
        yield of_texts(path, part, " ".join(map(_decoded, here)), " ".join(map(_decoded, there)))
    else:
        yield _numbers(path, part, left, right)


def _strings(data: bytes) -> list[bytes]:
    return _STRINGS.findall(data) + [text[::2] for text in _WIDE.findall(data)]


def _less(these: list[bytes], those: list[bytes]) -> list[bytes]:
    """Return the strings of which there are more here than there."""
    many = Counter(these) - Counter(those)
    return [text for text in dict.fromkeys(these) if text in many]


def _numbers(path: str, part: str, left: bytes, right: bytes) -> Difference:
    """Return the bytes that differ first, in hexadecimal."""
    at = _first(left, right)
    window = slice(max(0, at - 4), at + 12)
    return of_texts(path, part, f"{left[window].hex(' ')} at {at:#x}", f"{right[window].hex(' ')} at {at:#x}")


def _first(left: bytes, right: bytes) -> int:
    """Return where two contents begin to differ: by halves, since memory compares faster than Python."""
    one, two, low, high = memoryview(left), memoryview(right), 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _meaning(left: bytes, right: bytes) -> tuple[str, str] | None:
    """Return the numbers around where contents begin to differ, if they are addresses or times."""
    at = _first(left, right)
    is_string = any(
        match.start() <= at < match.end()
        for data in (left, right)
        for match in _STRINGS.finditer(data, max(0, at - SHOWN), at + SHOWN)
    )
    for form, size in (("<Q", 8), ("<I", 4), (">I", 4)):
        for start in (at // size * size, at, at - 1, at - 2, at - 3):
            if start < 0 or start + size > min(len(left), len(right)):
                continue
            one, two = (struct.unpack_from(form, data, start)[0] for data in (left, right))
            if size == 8 and _is_address(one) and _is_address(two):
                return f"{one:#x}", f"{two:#x}"
            if size == 4 and _is_time(one) and _is_time(two) and not is_string:
                return str(one), str(two)
    return None


def _is_address(value: int) -> bool:
    """Whether a program of 64 bits may have something at that address."""
    return 0x5500_0000_0000 <= value < 0x5700_0000_0000 or 0x7E00_0000_0000 <= value < 0x8000_0000_0000


def _is_time(value: int) -> bool:
    """Whether it is a time, in seconds, that a build can be told: of 1980 and 1981, or since 2024."""
    return 315_532_800 <= value < 378_691_200 or 1_704_067_200 <= value < 2_524_608_000
