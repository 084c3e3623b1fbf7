"""What the machine's own loader says that it would load: the judge of belljar.ldso."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

_LOADED = re.compile(r"(?:.* => )?(.*) \(0x[0-9a-f]+\)$")
_UNDEFINED = re.compile(r"undefined symbol: ([^\s,]+).*\((.*)\)$|symbol ([^\s,]+), version .*\((.*)\)$")


class Listed(NamedTuple):
    """The loader's answer: paths in its order, names not found, (file, symbol) pairs, how it ended."""

    paths: list[str]
    missing: set[str]
    undefined: set[tuple[str, str]]
    status: int
    stderr: str


def listed(*argv: str | Path, cwd: str | Path = "/", symbols: bool = False, **env: str) -> Listed:
    """Let a program's loader list what it loads, instead of running the program (ld.so(8))."""
    environment = {"LD_TRACE_LOADED_OBJECTS": "1", **env}
    if symbols:
        environment |= {"LD_WARN": "1", "LD_BIND_NOW": "1"}
    done = subprocess.run(
        [os.fspath(word) for word in argv],
        cwd=cwd,
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    answer = Listed([], set(), set(), done.returncode, os.fsdecode(done.stderr))
    for line in map(str.strip, os.fsdecode(done.stdout + done.stderr).splitlines()):
        loaded, undefined = _LOADED.match(line), _UNDEFINED.search(line)
        if line.endswith("=> not found"):
            answer.missing.add(line.removesuffix(" => not found"))
        elif loaded and not loaded[1].startswith("linux-"):
            answer.paths.append(loaded[1])
        elif undefined:
            answer.undefined.add((undefined[2] or undefined[4], undefined[1] or undefined[3]))
    return answer


def own_loader() -> str:
    """Return this machine's loader: the interpreter of a program that every machine has."""
    from belljar.elf import read

    for program in ("/bin/sh", "/bin/ls", "/usr/bin/env"):
        interpreter = read(Path(program).read_bytes()).interpreter
        if interpreter:
            return interpreter
    raise AssertionError("no program of this machine has a loader")
