"""Signals that a caller has passed on to what runs in a sandbox: an interrupt, a request to end, a pause.

The command has a session of its own, so nothing that is typed reaches it; and were it only killed, make would
leave half-written targets behind, which look finished to the next build. The caller sends its keeper a
signal; the keeper has init send what that stands for to every process inside.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

PASSED_ON = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGHUP: signal.SIGTERM,
    signal.SIGTSTP: signal.SIGSTOP,
    signal.SIGCONT: signal.SIGCONT,
}
"""What the keeper is sent, and what all processes inside get for it.

SIGTERM itself asks the keeper to kill all. SIGTSTP would not stop what has no parent in its session.
"""
HEARD = frozenset({signal.SIGCHLD, signal.SIGTERM, *PASSED_ON})
"""What a keeper and init wait for."""


def pass_on(target: int, number: int) -> None:
    """Send what a signal stands for to a process, a group (-n) or all that there are (-1)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(target, PASSED_ON[signal.Signals(number)])


def ask_to_end(keeper: int, interrupt: KeyboardInterrupt) -> None:
    """Have all inside asked to end, as the caller is; the argument of an interrupt is a signal: SIGINT."""
    number = signal.SIGINT if interrupt.args in ((), (signal.SIGINT,)) else signal.SIGHUP
    with contextlib.suppress(ProcessLookupError):
        os.kill(keeper, number)


@contextlib.contextmanager
def pausing(keeper: int) -> Iterator[None]:
    """Have all inside pause while the caller is stopped from its terminal (Ctrl-Z)."""

    def stop(*_: object) -> None:
        os.kill(keeper, signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)  # here the caller stops, unless nobody could have it continue
        signal.signal(signal.SIGTSTP, stop)
        os.kill(keeper, signal.SIGCONT)

    if not _set_stop(stop):
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)


def _set_stop(handler: Callable[..., None]) -> bool:
    """Set what is done at SIGTSTP; False for who has chosen otherwise, and outside of the main thread."""
    if signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:
        return False
    try:
        signal.signal(signal.SIGTSTP, handler)
    except ValueError:
        return False
    return True
