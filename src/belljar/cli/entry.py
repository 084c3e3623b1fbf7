"""The program: does what the command line asks for, and turns all that happens into words and a status.

`belljar run` is read without click where it can be (belljar.cli.options).
"""

import contextlib
import gc
import os
import signal
import sys
from typing import NoReturn, TextIO

from belljar.cli.terminal import colour, printable, say_styled
from belljar.errors import BelljarError, BuildError, HostError

_COMPLETION = "_BELLJAR_COMPLETE"
"""Set by the shell when it asks click for completions."""


def main() -> NoReturn:
    """Run the program and end the process.

    At once: to take the interpreter apart takes as long as to start a sandbox, there is nothing left to be
    done, and an interrupt of it would change the exit status.
    """
    status = _run()
    for stream in (sys.stdout, sys.stderr):
        status = _flushed(stream, status)
    os._exit(status)


def _flushed(stream: TextIO | None, status: int) -> int:
    """Hand over what was printed; return the status where that worked, or what says that it did not."""
    try:
        if stream is not None:  # closed by the caller
            stream.flush()
    except BrokenPipeError:  # the reader went away
        return status or 141
    except OSError as error:
        with contextlib.suppress(OSError):  # it may be standard error that is full
            return status or _explain(HostError(f"{stream.name if stream else ''}: {error.strerror}"))
        return status or HostError.exit_code
    return status


def _run() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    try:
        return _called(sys.argv[1:])
    except BelljarError as error:
        return _explain(error)
    except KeyboardInterrupt as stop:
        _die_of(stop)
        say_styled("interrupted")
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        from pathlib import Path

        from belljar import fsys

        return _explain(fsys.explained(error, Path(str(error.filename or "."))))
    except Exception:  # noqa: BLE001 - the last resort: say that it is our bug and how to report it
        return _our_bug()


def _interrupt(number: int, _: object) -> NoReturn:
    """Have a signal clean up as Ctrl-C does."""
    raise KeyboardInterrupt(number)


def _die_of(stop: KeyboardInterrupt) -> None:
    """End by the signal that an interrupt stands for, if it is not Ctrl-C's."""
    for number in stop.args:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _called(words: list[str]) -> int:
    if words[:1] == ["run"] and _COMPLETION not in os.environ:
        gc.disable()  # what is loaded stays, what is heard of the command has no cycles: 4 ms for nothing
        from belljar.cli import runner

        status = runner.called(words[1:])
        if status is not None:
            return status
        gc.enable()
    from belljar.cli import program

    return program.call()


def _explain(error: BelljarError) -> int:
    say_styled(colour("error", fg="red", bold=True) + f": {_plain(error.message)}")
    if isinstance(error, BuildError):
        for line in error.tail:
            say_styled(f"  | {_plain(line)}")
        say_styled(f"  whole log: {error.log}")
    if error.hint:
        say_styled(colour("hint", bold=True) + f": {_plain(error.hint)}")
    return error.exit_code


def _plain(text: str) -> str:
    """Return a message of several lines, safe to show on a terminal."""
    return "\n".join(map(printable, text.split("\n")))


def _our_bug() -> int:
    import traceback

    from belljar import __version__ as version

    say_styled(traceback.format_exc().rstrip())
    say_styled(colour("error", fg="red", bold=True) + ": this is a bug of belljar, not of what you gave it")
    say_styled(
        colour("hint", bold=True)
        + f": please report it with the lines above, the command, and: belljar {version},"
        f" Python {sys.version.split()[0]}, Linux {os.uname().release}"
    )
    return 70
