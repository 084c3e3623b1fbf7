"""Identifying tools: path, version line and hash of what is executed, and of the interpreters it needs.

The command's own program and those that the profile names are identified, with the interpreter that the
kernel opens for them (PT_INTERP, or a `#!` line). What they start in turn is not seen: that takes a
supervisor.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar import fsys
from belljar.hermetic import sight
from belljar.sandbox import Sandbox, SandboxError, run
from belljar.types import Digest

_SECONDS = 30
_VERBOSE = "-vv"
"""Asked so (rustc -vV, python3 -VV), all lines of the answer are the version."""
_DEPTH = 4
"""How many interpreters the kernel follows: BINPRM_MAX_RECURSION, linux/fs/exec.c."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A file that is executed: the name it was asked for by, its real path inside, hash and version line."""

    name: str
    path: str
    sha256: Digest
    version: str = ""
    interpreters: "tuple[Tool, ...]" = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        more = {"version": self.version} if self.version else {}
        inner = [item.to_json() for item in self.interpreters]
        return {
            "name": self.name,
            "path": self.path,
            "sha256": self.sha256,
            **more,
            **({"interpreters": inner} if inner else {}),
        }


def identify(box: Sandbox, program: str, *, version: str = "") -> Tool | None:
    """Return what a program is, or None when it is not there or cannot be read."""
    name = sight.search(box, program)
    found = sight.locate(box, name) if name else None
    if found is None:
        return None
    return Tool(
        name=program,
        path=found[0],
        sha256=fsys.sha256(Path(found[1])),
        version=version,
        interpreters=tuple(_interpreters(box, found[1])),
    )


def identify_all(box: Sandbox, commands: Sequence[Sequence[str]]) -> tuple[Tool, ...]:
    """Return what the programs of identity commands are, with the first line that each command prints."""
    found = (identify(box, words[0], version=_version(box, words)) for words in commands)
    return tuple(item for item in found if item is not None)


def _version(box: Sandbox, words: Sequence[str]) -> str:
    import tempfile

    program = sight.search(box, words[0])
    if program is None or len(words) < 2:
        return ""
    with tempfile.TemporaryFile() as said:
        try:
            run(box, [program, *words[1:]], stdout=said.fileno(), stderr=said.fileno(), timeout=_SECONDS)
        except SandboxError:
            return ""
        said.seek(0)
        text = said.read(1 << 16).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines if words[1].casefold() == _VERBOSE else lines[:1])


def _interpreters(box: Sandbox, host: str) -> list[Tool]:
    found: list[Tool] = []
    for _ in range(_DEPTH):
        name = _interpreter(host)
        place = sight.locate(box, name) if name else None
        if not name or place is None:
            break
        host = place[1]
        found.append(Tool(name=name, path=place[0], sha256=fsys.sha256(Path(host))))
    return found


def _interpreter(host: str) -> str | None:
    """Return what the kernel opens to execute a file: execve(2)."""
    with open(host, "rb") as file:
        head = file.read(1 << 16)
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split(None, 1)
        return os.fsdecode(words[0]) if words else None
    return _loader(host) if head.startswith(b"\x7fELF") else None


def _loader(host: str) -> str | None:
    from belljar.elf import ElfError, read
    from belljar.ldso.image import image_of

    with open(host, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return read(memoryview(image_of(file.fileno(), size)), exports=False).interpreter
        except ElfError:
            return None
