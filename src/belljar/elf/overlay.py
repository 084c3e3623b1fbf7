"""Writes upon a file that is left as it is: read it as if they were made, and take them as splices."""

from belljar.elf.view import View
from belljar.splice import Splice


class Overlay:
    """A file's bytes with later writes over earlier ones; only what lies at its end may grow it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._writes: list[tuple[int, bytes]] = []

    def write(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`."""
        self._writes.append((offset, data))

    def read(self, offset: int, size: int, what: str) -> bytes:
        """Return bytes of the file with the writes so far made; raises ElfError beyond its end."""
        found = bytearray(self._view.slice(offset, size, what))
        for at, data in self._writes:
            start, end = max(at, offset), min(at + len(data), offset + size)
            if start < end:
                found[start - offset : end - offset] = data[start - at : end - at]
        return bytes(found)

    def splices(self) -> tuple[Splice, ...]:
        """Return what the writes change: ascending, disjoint, none that changes nothing."""
        runs: list[list[int]] = []
        for start, end in sorted((at, at + len(data)) for at, data in self._writes):
            if runs and start <= runs[-1][1]:
                runs[-1][1] = max(runs[-1][1], end)
            else:
                runs.append([start, end])
        return tuple(splice for start, end in runs if (splice := self._splice(start, end)).old != splice.new)

    def _splice(self, start: int, end: int) -> Splice:
        begin = min(start, len(self._view.data))  # what lies between the file's end and a write is zeros
        old = bytes(self._view.data[begin:end])
        new = bytearray(old)
        new.extend(bytes(end - begin - len(old)))
        for at, data in self._writes:
            if start <= at < end:
                new[at - begin : at - begin + len(data)] = data
        return Splice(offset=begin, old=old, new=bytes(new))
