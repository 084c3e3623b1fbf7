"""A stage in words: text for a POSIX shell, lines NAME=VALUE, and the text that takes it back.

PATH is not replaced: the wrappers' directory is put before it, and that of an earlier stage taken away, so
that staging twice, or for another glibc, leaves one. Works under `set -eu`.
"""

import shlex

from belljar.errors import InputError
from belljar.stage.plan import NAMES, UNSET, Stage

_FORGET = 'PATH=${PATH#"${BELLJAR_STAGE:-/nowhere}/bin:"}'


def enter(stage: Stage) -> list[str]:
    """Return the lines to `eval`."""
    toolchain = stage.toolchain
    lines = [
        f"# glibc {toolchain.glibc} on {toolchain.arch} with {toolchain.kind}: {toolchain.version}",
        _FORGET,
        f"PATH={shlex.quote(str(stage.bin))}:$PATH",
        "export PATH",
    ]
    others = [name for name in (*NAMES, *UNSET) if name not in stage.variables]
    lines.append(f"unset {' '.join(others)}")
    lines += [f"export {name}={shlex.quote(value)}" for name, value in stage.variables.items()]
    return lines


def leave() -> list[str]:
    """Return the lines to `eval` that take any stage back; what the variables were before is not known."""
    return [_FORGET, "export PATH", f"unset {' '.join(NAMES)}"]


def environment(stage: Stage, path: str) -> list[str]:
    """Return NAME=VALUE lines, without quoting; `path` is the caller's PATH. Raises InputError."""
    variables = {**stage.variables, "PATH": f"{stage.bin}:{path}"}
    lines = [f"{name}={value}" for name, value in variables.items()]
    if any("\n" in line for line in lines):
        raise InputError("PATH: holds a newline, which this format cannot say", hint="use --format shell")
    return lines
