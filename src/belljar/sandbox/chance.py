"""Random numbers that follow from a seed and from who asks, not from when.

A program's stream follows from the seed, the program, its arguments (but for the names of temporary files
that compilers tell each other), and how many have begun with the same ones before. So it does not matter what
runs beside it, unless that is the same command; nor do two processes draw the same numbers. Threads of one
process share its stream, in the order in which they draw.
"""

import hashlib

from belljar.sandbox.processes import Process, Processes

_MOST = 1 << 20


class Chance:
    """The streams of all processes."""

    def __init__(self, seed: str, processes: Processes) -> None:
        self._seed = hashlib.sha256(seed.encode("utf-8", "surrogateescape")).digest()
        self._processes = processes
        self._begun: dict[bytes, int] = {}

    def draw(self, process: Process, size: int) -> bytes:
        """Return the next bytes of a process's stream: `size` of them, or the first MiB."""
        if process.stream is None:
            process.stream = self._stream(process)
        process.drawn += 1
        key = process.stream + process.drawn.to_bytes(8, "little")
        return hashlib.shake_128(key).digest(min(size, _MOST))

    def _stream(self, process: Process) -> bytes:
        words = [process.program.encode("utf-8", "surrogateescape")]
        words += self._processes.read(process.outside, "cmdline").split(b"\0")
        who = hashlib.sha256(self._seed + b"\0".join(map(_without_temporary, words))).digest()
        before = self._begun[who] = self._begun.get(who, -1) + 1
        return hashlib.sha256(who + before.to_bytes(8, "little")).digest()


def _without_temporary(word: bytes) -> bytes:
    """Drop the name of a temporary file: it follows from the monotonic clock, which is real."""
    before, sign, value = word.rpartition(b"=")
    return before + sign if value.startswith(b"/tmp/") else word
