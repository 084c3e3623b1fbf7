"""Starting programs of this machine: the only door to `subprocess`."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar.errors import HostError


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a program ended: its exit status (negative: killed by that signal) and what it wrote."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def last_words(self) -> str:
        """The last lines of what the program had to say, for an error message."""
        text = self.stderr.strip() or self.stdout.strip()
        return "\n".join(text.splitlines()[-5:])


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> Completed:
    """Run a program to its end and capture what it writes; it dies with us, also when we are killed.

    Raises HostError when the program is not installed or does not end within `timeout` seconds.
    """
    words = [os.fspath(word) for word in argv]
    if "/" not in words[0] and find(words[0]) is None:
        # Asked first: for a PATH with a directory that may not be read, exec says "Permission denied".
        raise _not_found(words[0])
    # Of util-linux; without it, what is killed with SIGKILL leaves its child to end by itself.
    leash = ["setpriv", "--pdeathsig", "KILL", "--"] if find("setpriv") and find(words[0]) else []
    try:
        child = subprocess.Popen(
            leash + words,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise _not_found(words[0]) from error
    except OSError as error:
        raise HostError(f"{words[0]}: cannot be started: {error.strerror}") from error
    try:
        stdout, stderr = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        _kill_group(child)
        raise HostError(f"{words[0]}: did not end within {timeout:g} seconds") from error
    except BaseException:
        _kill_group(child)
        raise
    return Completed(
        argv=tuple(words),
        status=child.returncode,
        stdout=stdout.decode("utf-8", "replace"),
        stderr=stderr.decode("utf-8", "replace"),
    )


def _not_found(program: str) -> HostError:
    return HostError(f"{program}: not found on this machine", hint=f"install {program}")


def find(program: str) -> Path | None:
    """Return where on PATH a program is, or None."""
    found = shutil.which(program)
    return None if found is None else Path(found)


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
