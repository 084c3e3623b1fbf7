"""Run a command in a sandbox that was printed.

    python -m belljar.sandbox [--describe] SPEC.json -- COMMAND [ARGUMENT]...

SPEC.json is what `Spec.to_json` wrote: a sandbox, and where there is one the policy of its supervisor. The
command has the caller's streams and terminal. The exit status is the command's, 128+n when signal n
killed it, and 125 when it was not run.
"""

import signal
import sys

from belljar.sandbox import SandboxError, run
from belljar.sandbox.spec import Spec

_NOT_RUN = 125


def main(arguments: list[str]) -> int:
    """Do what the arguments say and return the exit status."""
    describe = arguments[:1] == ["--describe"]
    path, *rest = arguments[1 if describe else 0 :] or [""]
    if not path or path.startswith("-") or (rest[:1] != ["--"] if rest else not describe):
        return _fail((__doc__ or "").splitlines()[2].strip().join(["usage: ", ""]))
    try:
        with open(path, encoding="utf-8") as file:
            spec = Spec.from_json(file.read())
    except OSError as error:
        return _fail(f"error: {path}: {error.strerror}")
    except ValueError as error:
        return _fail(f"error: {path}: {error}")
    if describe:
        print(spec.describe(), flush=True)  # noqa: T201 - what was asked for
    return _run(spec, rest[1:]) if rest else 0


def _run(spec: Spec, command: list[str]) -> int:
    # The terminal's keys are for the command, as with system(3).
    for key in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(key, signal.SIG_IGN)
    try:
        status = run(spec.sandbox, command, stdin=0, interactive=True, policy=spec.policy).status
    except SandboxError as error:
        return _fail(f"error: {error}", *([f"hint: {error.hint}"] if error.hint else []))
    return status if status >= 0 else 128 - status


def _fail(*lines: str) -> int:
    print(*lines, sep="\n", file=sys.stderr)  # noqa: T201 - a program's talk
    return _NOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
