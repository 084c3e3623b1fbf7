"""Which libraries a command opens that no file names: by watching it run, before anything is sealed.

glibc's loader tells of each library that it initialises when LD_DEBUG=libs is set (ld.so(8)), for every
process of the command. What was asked for by a path and not by a name is told apart: it is looked for at that
path and nowhere else, so that bundling it does not help.

Some programs unpack libraries of their own when they start, remove them when they end, and find them by
LD_LIBRARY_PATH (PyInstaller's). A sealed program does not look there. This machine's library of the same name
is taken instead: it lies where another one that was loaded does, or it is told.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from belljar import proc
from belljar.errors import InputError

_LOADED = re.compile(r"^\s*\d+:\s+calling init: (/.+)$", re.M)
_WANTED = re.compile(r"^\s*\d+:\s+find library=(\S+) \[\d+\]; searching$", re.M)
_LIMIT = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """The libraries that processes of a command had; `by_path` are those that were opened by their path.

    `gone` are names of those that were no more when the command had ended, and are nowhere else.
    """

    libraries: tuple[Path, ...]
    by_path: tuple[Path, ...]
    gone: tuple[str, ...] = ()


def trace(command: str, prefix: Path, *, timeout: float = _LIMIT) -> Traced:
    """Run a command, with the programs of `prefix` in sight, and return which libraries it loaded.

    Raises InputError when it fails or loads nothing: what it would have opened is then not known. HostError
    when it cannot be started or does not end within `timeout` seconds.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"{command}: not a command: {error}") from error
    if not words:
        raise InputError("an empty command cannot be traced")
    with tempfile.TemporaryDirectory(prefix="belljar-trace-") as scratch:
        path = f"{prefix.absolute() / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        found = Path(words[0]) if "/" in words[0] else prefix.absolute() / "bin" / words[0]
        words[0] = str(found.absolute()) if found.exists() else words[0]
        told = {"PATH": path, "LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": f"{scratch}/log"}
        done = proc.run(words, env=os.environ | told, timeout=timeout)
        text = "\n".join(log.read_text(errors="surrogateescape") for log in sorted(Path(scratch).iterdir()))
    if done.status:
        raise InputError(f"{command}: ended with status {done.status}:\n{done.last_words}")
    return _read(text, command)


def _read(text: str, command: str) -> Traced:
    loaded = sorted({Path(path) for path in _LOADED.findall(text)})
    loaded = [path for path in loaded if not path.name.startswith("ld-linux")]
    wanted = {os.path.basename(name) for name in _WANTED.findall(text)}
    if not loaded:
        raise InputError(f"{command}: loaded no library through glibc's loader: it is static, or sealed")
    there = [path for path in loaded if path.exists()]
    homes = sorted({path.parent for path in there if path.name in wanted})
    others = {name: _found(name, homes) for name in sorted({path.name for path in loaded} & wanted)}
    by_name = {path.name: path for path in there if path.name in wanted}
    libraries = {name: by_name.get(name, other) for name, other in others.items()}
    return Traced(
        libraries=tuple(path for path in libraries.values() if path is not None),
        by_path=tuple(path for path in there if path.name not in wanted),
        gone=tuple(name for name, path in libraries.items() if path is None),
    )


def _found(name: str, homes: Iterable[Path]) -> Path | None:
    """Return the library of that name in the first of some directories that has one."""
    return next((home / name for home in homes if (home / name).is_file()), None)
