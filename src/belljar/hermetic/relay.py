"""Carrying what a command says to the caller's streams.

The command gets pipes: it cannot see whether somebody watches (colours, window size), nor reopen a file
that a stream is by /proc/self/fd/1. A process of its own carries the bytes; where both streams lead to
one place, one pipe keeps their order. It ends with the last writer, and takes none of the terminal's
signals, so nothing is lost. Where nobody reads, the command learns it from its own pipe, as it would without
belljar; where a byte cannot be written otherwise (a full disk), the caller is told.
"""

import contextlib
import errno
import os
import select
import signal
from collections.abc import Iterator

from belljar.errors import HostError
from belljar.sandbox import value

_CHUNK = 1 << 16
_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)


@value
class Streams:
    """The descriptors that a command gets as its standard output and error."""

    stdout: int
    stderr: int


@contextlib.contextmanager
def relayed(stdout: int = 1, stderr: int = 2) -> Iterator[Streams]:
    """Give pipes whose other ends are carried to `stdout` and `stderr`, all of it by the end of the block.

    What goes to a descriptor that is closed is dropped. Raises HostError where something was lost.
    """
    with _open(stdout) as out, _open(stderr) as err:
        targets = (out,) if os.path.sameopenfile(out, err) else (out, err)
        pipes = [os.pipe() for _ in targets]
        over, end = os.pipe()
        carrier = os.fork()
        if carrier == 0:
            os.close(end)
            _carry({reader: target for (reader, _), target in zip(pipes, targets, strict=True)}, pipes, over)
        for reader in (over, *(reader for reader, _ in pipes)):
            os.close(reader)
        try:
            yield Streams(stdout=pipes[0][1], stderr=pipes[-1][1])
        finally:
            for writer in (end, *(writer for _, writer in pipes)):
                os.close(writer)
            failure = os.waitstatus_to_exitcode(os.waitpid(carrier, 0)[1])
    if failure:
        raise HostError(f"what the command says cannot be written: {os.strerror(failure)}")


@contextlib.contextmanager
def _open(fd: int) -> Iterator[int]:
    """Give a descriptor, or one that takes everything where it is closed."""
    try:
        os.fstat(fd)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield null
        finally:
            os.close(null)
    else:
        yield fd


def _carry(targets: dict[int, int], pipes: list[tuple[int, int]], over: int) -> None:
    """Copy until every pipe is at its end, then end the process with an errno or 0; never returns.

    When `over` is at its end nobody writes any more whose words count, and what is in the pipes is the rest:
    the command may have handed an end to somebody who lives on (SCM_RIGHTS of unix(7)).
    """
    failure = 0
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        for _, writer in pipes:
            os.close(writer)
        poll = select.poll()
        for reader in (over, *targets):
            poll.register(reader, select.POLLIN)
        while targets:
            ready = [fd for fd, _ in poll.poll()]
            if over in ready:
                for reader in targets:
                    os.set_blocking(reader, False)
                ready = list(targets)
            for reader in ready:
                goes_on, lost = _copy(reader, targets[reader])
                failure = failure or lost
                if not goes_on:
                    poll.unregister(reader)
                    os.close(reader)
                    del targets[reader]
    finally:
        os._exit(failure)


def _copy(reader: int, target: int) -> tuple[bool, int]:
    """Copy what has come; return whether more can, and the errno if something is lost that is wanted."""
    try:
        chunk = rest = os.read(reader, _CHUNK)
    except BlockingIOError:
        return False, 0
    while rest:
        try:
            rest = rest[os.write(target, rest) :]
        except BlockingIOError:  # somebody who has the same terminal or pipe wants it so
            _await(target)
        except OSError as error:
            return False, 0 if error.errno == errno.EPIPE else error.errno or errno.EIO
    return bool(chunk), 0


def _await(target: int) -> None:
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    poll.poll()
