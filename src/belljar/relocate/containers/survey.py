"""What a container holds: references that stand raw in it, and those that compression hides.

A part is *open* when its references stand as they are in the file and overwriting them there
overwrites them in the content. That is not deduced from the format: other letters are put at all of them
in a copy, the copy is decompressed and compared. So whatever made a file, what is said to be open is.

Where overwriting would leave something else wrong (a checksum inside the content), the part is hidden too.
"""

import base64
import hashlib
import io
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from belljar.checksums import SumKind
from belljar.placeholder import PLACEHOLDER
from belljar.references import Encoding, Reference, Sum, Term
from belljar.relocate.containers import hiding
from belljar.relocate.containers.container import Closed, Damaged, Format, Part
from belljar.relocate.search import Window

_CHUNK = 1 << 16
_BLOCK, _CHECKSUM = 512, slice(148, 156)  # of a tar header, POSIX pax, "ustar Interchange Format"
# Other letters, and no pair of them is `qz`.
_OTHER = bytes(byte ^ 1 for byte in PLACEHOLDER.encode())
_PLACEHOLDER = PLACEHOLDER.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The checksums over open parts, and (part, why) for each part whose references are hidden."""

    sums: tuple[Sum, ...] = ()
    hidden: tuple[tuple[str, str], ...] = ()


def survey(data: memoryview, form: Format, references: Sequence[Reference]) -> Survey:
    """Say of a file which parts are open; `references` stand raw in it, in order."""
    try:
        parts = form.parts(data)
    except (Damaged, Closed) as reason:
        return Survey(hidden=(("", str(reason)),))
    sums: list[Sum] = []
    hidden: list[tuple[str, str]] = []
    hashes: dict[bytes, str] = {}
    starts = [item.offset for item in references]
    for part in parts:
        first, last = bisect_left(starts, part.begin), bisect_left(starts, part.end)
        inside = list(references[first:last])
        try:
            content, moves = _moves(data, part, inside)
            if content is None:
                continue
            places = [(item.offset + moves[item], item.end + moves[item]) for item in inside]
            refuse_headers(content, places)
            hashes[_hash(content)] = part.name
            sums += _sums(part, content, inside, moves)
        except (Damaged, Closed) as reason:
            hidden.append((part.name, str(reason)))
    hidden += _recorded(data, parts, hashes)
    return Survey(sums=tuple(sorted(sums, key=lambda item: item.offset)), hidden=tuple(hidden))


def _moves(
    data: memoryview, part: Part, inside: list[Reference]
) -> tuple[bytes | None, Mapping[Reference, int]]:
    """Return a part's content and how far each of its references is from its place in the file.

    None when it has none. Raises Closed when one is hidden.
    """
    content = part.decode(data[part.begin : part.end])
    obstacle(content)
    if not inside:
        if wanted := ranges(content):
            refuse_headers(content, [(offset, offset + size) for offset, size in wanted])
            raise Closed("not stored as it is")
        return None, {}
    changed = bytearray(data[part.begin : part.end])
    for item in inside:
        at = slice(item.offset - part.begin, item.end - part.begin)
        changed[at] = item.written(bytes(changed[at]), _OTHER)
    try:
        other = part.decode(memoryview(changed))
    except Damaged as reason:
        raise Closed("not stored as it is") from reason
    if holds(other):
        raise Closed("not stored as it is")
    there = list(differences(data[part.begin : part.end], changed))
    here = list(differences(content, other))
    if len(other) != len(content) or len(there) != len(here):
        raise Closed("not stored as it is")
    return content, _paired(part.begin, inside, there, here)


def _paired(begin: int, inside: list[Reference], there: list[int], here: list[int]) -> dict[Reference, int]:
    """Return how far each reference's bytes moved, all of them by as much."""
    moves: dict[Reference, int] = {}
    waiting = iter(inside)
    current: Reference | None = None
    for outer, inner in zip(there, here, strict=True):
        place = begin + outer
        while current is None or place >= current.end:
            current = next(waiting)
        if moves.setdefault(current, inner - place) != inner - place:
            raise Closed("not stored as it is")
    return moves


def differences(one: bytes | memoryview, two: bytes | bytearray) -> Iterator[int]:
    """Yield the offsets at which two files of one length differ."""
    for base in range(0, min(len(one), len(two)), _CHUNK):
        left, right = bytes(one[base : base + _CHUNK]), bytes(two[base : base + _CHUNK])
        if left == right:
            continue
        size = min(len(left), len(right))
        change = int.from_bytes(left[:size], "big") ^ int.from_bytes(right[:size], "big")
        for match in re.finditer(rb"[^\0]", change.to_bytes(size, "big")):
            yield base + match.start()


def holds(content: bytes) -> bool:
    """Whether there is a trace of the placeholder in it."""
    return b"q" in content and any(True for _ in Window().over(content).runs())


def ranges(content: bytes, location: bytes = _PLACEHOLDER) -> tuple[tuple[int, int], ...]:
    """Return the (offset, size) of all that stands for `location` in it, zeros around wide ones included.

    Raises Closed when a piece of the placeholder is there that is not whole.
    """
    if (
        location == _PLACEHOLDER
        and b"q" in content
        and not all(run.is_whole for run in Window().over(content).runs())
    ):
        raise Closed("pieces of a split literal")
    found: list[tuple[int, int]] = []
    for begin, end in sorted(_occurrences(content, location)):
        if found and begin < found[-1][1]:
            last = found.pop()
            found.append((last[0], max(last[1], end)))
        else:
            found.append((begin, end))
    return tuple((begin, end - begin) for begin, end in found)


def _occurrences(content: bytes, location: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each; in either byte order, which the bytes outside decide."""
    for width in (1, 2, 4):
        letters = bytes(width - 1).join(location[place : place + 1] for place in range(len(location)))
        for match in re.finditer(re.escape(letters), content):
            yield max(0, match.start() - width + 1), min(len(content), match.end() + width - 1)


def obstacle(content: bytes) -> None:
    """Raise Closed when a part's content is compressed itself, or an archive, and holds references."""
    kind = hiding.format_of(content)
    if kind and (holds(content) or hiding.search(io.BytesIO(content), kind)):
        raise Closed(f"{kind} inside it")


def refuse_headers(content: bytes, places: Iterable[tuple[int, int]]) -> None:
    """Raise Closed when one of the bytes begin..end of a part's content lies in a header of a tar archive."""
    for begin, end in places:
        for block in range(begin - begin % _BLOCK, end, _BLOCK):
            if _is_tar_header(content[block : block + _BLOCK]):
                raise Closed("in a header of a tar archive, which has a checksum")


def _is_tar_header(block: bytes) -> bool:
    """Whether a block's checksum is that of a tar header: the sum of its bytes, its own as spaces."""
    field = block[_CHECKSUM].strip(b" \0")
    if len(block) < _BLOCK or not re.fullmatch(rb"[0-7]{1,8}", field):
        return False
    return int(field, 8) == sum(block) - sum(block[_CHECKSUM]) + 8 * 0x20


def _sums(part: Part, content: bytes, inside: list[Reference], moves: Mapping[Reference, int]) -> list[Sum]:
    shapes: dict[tuple[int, int, Encoding], list[int]] = {}
    for item in inside:
        shape = (item.start, item.length, item.encoding)
        shapes.setdefault(shape, []).append(len(content) - item.end - moves[item])
    return [
        Sum(
            offset=offset,
            kind=kind,
            canonical=kind.of(content),
            terms=tuple(_term(kind, shape, distances) for shape, distances in sorted(shapes.items())),
        )
        for offset, kind in part.sums
    ]


def _term(kind: SumKind, shape: tuple[int, int, Encoding], distances: list[int]) -> Term:
    start, length, encoding = shape
    return Term(start=start, length=length, encoding=encoding, weight=kind.weight(distances))


def _recorded(
    data: memoryview, parts: tuple[Part, ...], hashes: Mapping[bytes, str]
) -> list[tuple[str, str]]:
    """Return members whose hash stands in a wheel's RECORD: it would no longer be right."""
    records = [part for part in parts if part.name.endswith(".dist-info/RECORD")] if hashes else []
    text = b"".join(part.decode(data[part.begin : part.end]) for part in records)
    return [(name, "its hash stands in RECORD") for value, name in hashes.items() if text and value in text]


def _hash(content: bytes) -> bytes:
    """Return a hash as RECORD spells it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
