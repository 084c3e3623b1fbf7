"""Carrying what a command says to the caller's streams.

The command gets pipes: it cannot see whether somebody watches (colours, window size), nor reopen a file
that a stream is by /proc/self/fd/1. A process of its own carries the bytes; where both streams lead to
one place, one pipe keeps their order. It ends with the last writer, and takes none of the terminal's
signals, so nothing is lost.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterator

from belljar.sandbox import value

_CHUNK = 1 << 16


@value
class Streams:
    """The descriptors that a command gets as its standard output and error."""

    stdout: int
    stderr: int


@contextlib.contextmanager
def relayed(stdout: int = 1, stderr: int = 2) -> Iterator[Streams]:
    """Give pipes whose other ends are carried to `stdout` and `stderr`, all of it by the end of the block."""
    targets = (stdout,) if _same(stdout, stderr) else (stdout, stderr)
    pipes = [os.pipe() for _ in targets]
    carrier = os.fork()
    if carrier == 0:
        _carry({reader: target for (reader, _), target in zip(pipes, targets, strict=True)}, pipes)
    for reader, _ in pipes:
        os.close(reader)
    try:
        yield Streams(stdout=pipes[0][1], stderr=pipes[-1][1])
    finally:
        for _, writer in pipes:
            os.close(writer)
        os.waitpid(carrier, 0)


def _same(first: int, second: int) -> bool:
    try:
        return os.path.samestat(os.fstat(first), os.fstat(second))
    except OSError:
        return False


def _carry(targets: dict[int, int], pipes: list[tuple[int, int]]) -> None:
    """Copy until every pipe is at its end, then end the process; never returns."""
    try:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(
            signal.SIGPIPE, signal.SIG_DFL
        )  # nobody reads: the command is to learn it from its pipe
        for _, writer in pipes:
            os.close(writer)
        while targets:
            for reader in select.select(list(targets), [], [])[0]:
                chunk = os.read(reader, _CHUNK)
                if not chunk:
                    del targets[reader]
                while chunk:
                    chunk = chunk[os.write(targets[reader], chunk) :]
    finally:
        os._exit(0)
