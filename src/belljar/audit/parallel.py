"""Work on many files in several processes, with the results of one.

Each child is forked with its share of the items (the biggest first, each to whoever has least), so
nothing is sent to it; what it finds comes back through a pipe, in batches, and is put into the order of
the items: the outcome does not depend on the number of processes. A child that is killed takes the
whole with it: no verdict rests on a part. When the parent goes, its children find the pipe closed.
"""

import contextlib
import os
import pickle
import select
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from belljar.errors import HostError

Item = TypeVar("Item")
Result = TypeVar("Result")

_BATCH = 32
HEAVY = 40 << 20
"""From this weight on, items take so much memory that one process has them all, one after the other."""
_LENGTH = struct.Struct("<Q")


def cpus() -> int:
    """Return on how many CPUs this process may run."""
    return len(os.sched_getaffinity(0))


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    weight: Callable[[Item], int],
    jobs: int,
    done: Callable[[int], None],
) -> list[Result]:
    """Return what `function` makes of each item, in their order; `done` is told how many are ready.

    Raises what `function` raises, and HostError when a process was killed.
    """
    if jobs <= 1 or len(items) < 2:
        return _serial(function, items, done)
    found: dict[int, Result] = {}
    children = [_fork(function, items, share) for share in _shares(items, weight, jobs)]
    try:
        for batch in _batches([pipe for _, pipe in children]):
            if isinstance(batch, BaseException):
                raise batch
            found.update(batch)
            done(len(found))
    finally:
        _end(children)
    if len(found) != len(items):
        raise HostError("a process of the audit was killed", hint="is there enough memory? try --jobs 1")
    return [found[number] for number in range(len(items))]


def _serial(
    function: Callable[[Item], Result], items: Sequence[Item], done: Callable[[int], None]
) -> list[Result]:
    found = []
    for item in items:
        found.append(function(item))
        done(len(found))
    return found


def _shares(items: Sequence[Item], weight: Callable[[Item], int], jobs: int) -> list[list[int]]:
    """Deal the numbers of the items out, so that every share weighs about the same, but heavy ones to one."""
    shares: list[list[int]] = [[] for _ in range(min(jobs, len(items)))]
    loads = [0] * len(shares)
    for number in sorted(range(len(items)), key=lambda number: -weight(items[number])):
        least = 0 if weight(items[number]) >= HEAVY else loads.index(min(loads))
        shares[least].append(number)
        loads[least] += weight(items[number]) + 1
    return shares


def _fork(function: Callable[[Item], Result], items: Sequence[Item], share: Sequence[int]) -> tuple[int, int]:
    """Start a child on its share; return its process and the pipe that it writes to."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.close(reading)
        _work(function, items, share, writing)
    finally:
        os._exit(0)


def _work(function: Callable[[Item], Result], items: Sequence[Item], share: Sequence[int], pipe: int) -> None:
    batch: dict[int, Result] = {}
    try:
        for number in share:
            batch[number] = function(items[number])
            if len(batch) == _BATCH:
                _send(pipe, batch)
                batch.clear()
        _send(pipe, batch)
    except BrokenPipeError:
        return
    except BaseException as error:  # noqa: BLE001 - the parent raises it
        _send(pipe, error)


def _send(pipe: int, value: object) -> None:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def _batches(pipes: Sequence[int]) -> Iterator[Any]:
    """Yield what the children send, as it comes, until all have closed their pipes."""
    waiting = {pipe: bytearray() for pipe in pipes}
    while waiting:
        for pipe in select.select(list(waiting), [], [])[0]:
            chunk = os.read(pipe, 1 << 20)
            if not chunk:
                del waiting[pipe]
                continue
            waiting[pipe] += chunk
            yield from _whole(waiting[pipe])


def _whole(buffer: bytearray) -> Iterator[Any]:
    """Take the messages that are complete out of a buffer."""
    while len(buffer) >= _LENGTH.size:
        (size,) = _LENGTH.unpack_from(buffer)
        if len(buffer) < _LENGTH.size + size:
            return
        data = bytes(buffer[_LENGTH.size : _LENGTH.size + size])
        del buffer[: _LENGTH.size + size]
        yield pickle.loads(data)  # our own child wrote it


def _end(children: Sequence[tuple[int, int]]) -> None:
    for process, pipe in children:
        os.close(pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
