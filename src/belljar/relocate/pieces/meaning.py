"""What bytes of a file mean: which letter of the placeholder each is, where code spells it in full."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from belljar.placeholder import DIRECTORY_LIMIT
from belljar.references import Encoding, Reference
from belljar.relocate.pieces.buffers import Spelled
from belljar.relocate.search import Run

_ENCODINGS = {1: Encoding.BYTES, 2: Encoding.UTF_16_LE, 4: Encoding.UTF_32_LE}


class Meaning:
    """Letters by their place: which one, and how many bytes wide. Whole placeholders stay what they are."""

    def __init__(self, wholes: Sequence[Reference]) -> None:
        self._wholes = sorted(wholes)
        self._starts = [whole.offset for whole in self._wholes]
        self._letters: dict[int, tuple[int, int]] = {}

    def take(self, item: Spelled) -> bool:
        """Take what code spells; False, and nothing is, where a byte means something else already."""
        letters = dict(_letters(item))
        if any(self._at(place) not in (None, letter) for place, letter in letters.items()):
            return False
        if item.run.width > 1 and not _is_together(item):
            return False
        self._letters |= {place: letter for place, letter in letters.items() if self._whole(place) is None}
        return True

    def has(self, run: Run) -> bool:
        """Whether all letters of a run are known, but for those at its ends that match by chance."""
        known = [
            self._at(run.offset + index * run.width) == (run.start + index, run.width)
            for index in range(run.length)
        ]
        return True in known and all(known[known.index(True) : len(known) - known[::-1].index(True)])

    def is_copy(self, item: Spelled) -> bool:
        """Whether all of it is read from whole placeholders."""
        return all(self._whole(place) is not None for place, _ in _letters(item))

    def is_source(self, item: Spelled) -> bool:
        """Whether it is only read again, for what is spelled in full elsewhere."""
        begin, _ = item.span
        letters = item.places[: max(0, DIRECTORY_LIMIT - begin) * item.run.width : item.run.width]
        return item.is_read and all(
            any(self._at(place) is not None for place in places) for places in letters
        )

    def rest(self, piece: Reference) -> Iterator[Reference]:
        """Yield the parts of a piece that are not known, but for those that no location changes."""
        if piece.encoding != Encoding.BYTES:
            yield piece
            return
        first = None
        for index in range(piece.length + 1):
            is_open = index < piece.length and self._at(piece.offset + index) is None
            if is_open and first is None:
                first = index
            elif not is_open and first is not None:
                yield Reference(offset=piece.offset + first, start=piece.start + first, length=index - first)
                first = None

    def references(self) -> Iterator[Reference]:
        """Yield the references that the letters are, in order, each as long as it can be."""
        first: Reference | None = None
        for place, (start, width) in sorted(self._letters.items()):
            letter = Reference(offset=place, start=start, length=1, encoding=_ENCODINGS[width])
            if first is not None and _follows(first, letter):
                first = Reference(
                    offset=first.offset,
                    start=first.start,
                    length=first.length + 1,
                    encoding=first.encoding,
                )
                continue
            if first is not None:
                yield first
            first = letter
        if first is not None:
            yield first

    def _at(self, place: int) -> tuple[int, int] | None:
        return self._letters.get(place) or self._whole(place)

    def _whole(self, place: int) -> tuple[int, int] | None:
        """Return which letter of a whole placeholder stands at a place, and how wide it is."""
        index = bisect_right(self._starts, place) - 1
        if index < 0 or place >= self._wholes[index].end:
            return None
        whole = self._wholes[index]
        width = whole.size // whole.length
        return (place - whole.offset) // width, width


def _letters(item: Spelled) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the places of the letters and what they are; the zeros of wide ones are left out."""
    width = item.run.width
    for index in range(item.run.length):
        for place in item.places[index * width]:
            yield place, (item.run.start + index, width)


def _is_together(item: Spelled) -> bool:
    """Whether each wide letter stands together with its zeros, the letter first."""
    width = item.run.width
    return all(
        place + offset in item.places[index + offset]
        for index in range(0, len(item.places), width)
        for place in item.places[index]
        for offset in range(width)
    )


def _follows(first: Reference, letter: Reference) -> bool:
    return (
        letter.encoding == first.encoding
        and letter.offset == first.end
        and letter.start == first.start + first.length
    )
