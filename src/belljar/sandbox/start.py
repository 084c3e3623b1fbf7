"""What the kernel tells a program as it begins, changed before the program can read it.

The auxiliary vector lies on the new stack. There AT_SYSINFO_EHDR names the vDSO, by which programs read the
clock without a system call, static ones too: taken away, they all ask the kernel, and so the supervisor.
AT_RANDOM names 16 random bytes, which become chosen ones. A process is stopped for this once, by ptrace, and
let go: debuggers work inside, and forks and signals cost nothing.

Not undone: a program that searches its own memory for the vDSO finds it. A program that is being traced by
another inside keeps it: `supervise` tells of that.
"""

import struct
from collections.abc import Callable

from belljar.sandbox import notify

_AT_NULL, _AT_IGNORE, _AT_RANDOM, _AT_SYSINFO_EHDR = 0, 1, 25, 33
_WORD = 8
_STACK_LIMIT = 1 << 23


def prepare(
    task: int, memory: notify.Memory, *, hide_clock: bool, chance: Callable[[], bytes] | None
) -> bool:
    """Change what a process that has stopped after exec is told; False where that cannot be done."""
    at = notify.stack_pointer(task)
    if at is None:
        return False
    words = _Words(task, at, memory)
    words.skip(1 + words.next())  # argc, the arguments; their NULL
    while words.next():
        pass  # the environment
    while (kind := words.next()) != _AT_NULL:
        place, value = words.address, words.next()
        if kind == _AT_SYSINFO_EHDR and hide_clock:
            memory.write(task, place - _WORD, struct.pack("=Q", _AT_IGNORE))
        elif kind == _AT_RANDOM and chance is not None:
            memory.write(task, value, chance())
    return words.good


class _Words:
    """The words of a process's memory, one after the other; zeros where it ends."""

    def __init__(self, task: int, address: int, memory: notify.Memory) -> None:
        self.address = address
        self.good = True
        self._task = task
        self._memory = memory
        self._end = address + _STACK_LIMIT
        self._first = 0
        self._block: tuple[int, ...] = ()

    def next(self) -> int:
        """Return the word at the address, and advance."""
        index = (self.address - self._first) // _WORD
        if not 0 <= index < len(self._block):
            data = self._memory.read(self._task, self.address, 4096 - self.address % 4096)
            self._block = struct.unpack_from(f"={len(data) // _WORD}Q", data)
            self._first, index = self.address, 0
        self.address += _WORD
        if not self._block or self.address > self._end:
            self.good = False
            return 0
        return self._block[index]

    def skip(self, count: int) -> None:
        """Advance by so many words."""
        self.address += _WORD * count
