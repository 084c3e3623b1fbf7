"""Identifying tools: path, version line and hash of what is executed, and of the interpreters it needs.

A program that is started has others opened for it by the kernel, which no supervisor sees: the loader that an
ELF file names (PT_INTERP), what a `#!` line names. They decide what is run as much as it does, so they are
identified with it, and are tools of their own.

A version is what a tool says when it is asked, in the command's sandbox with everything read-only and no
network. A profile knows how to ask its tools; other tools of the system are asked `--version`, those that the
project brings are not started.
"""

import errno
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from belljar import fsys
from belljar.elf.interpreter import HEAD, interpreter_extent
from belljar.hermetic import sight
from belljar.hermetic.reached import Kind, kind_of
from belljar.sandbox import Bind, Policy, Sandbox, SandboxError, Trace, replace, run, value
from belljar.types import Digest

_SECONDS, _SECONDS_UNKNOWN = 30, 5
_MOST_ASKED, _MOST_READ = 100, 1 << 34  # programs, bytes of all of them
_LONGEST = 200
_VERBOSE = "-vv"
"""Asked so (rustc -vV, python3 -VV), all lines of the answer are the version."""
_DEPTH = 4
"""How many interpreters the kernel follows: BINPRM_MAX_RECURSION, linux/fs/exec.c."""


class Role(StrEnum):
    """What a tool was opened as."""

    PROGRAM = "program"
    INTERPRETER = "interpreter"
    """By the kernel, for a program: its loader, or what its `#!` line names."""


@value
class Tool:
    """A file that is executed: the name it was asked for by, its real path inside, hash and version line."""

    name: str
    path: str
    sha256: Digest
    version: str = ""
    role: Role = Role.PROGRAM
    interpreters: "tuple[Tool, ...]" = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        more = {"version": self.version} if self.version else {}
        inner = [item.to_json() for item in self.interpreters]
        return {
            "name": self.name,
            "path": self.path,
            "role": self.role.value,
            "sha256": self.sha256,
            **more,
            **({"interpreters": inner} if inner else {}),
        }


class Inquiry:
    """Gathers tools, each real path once."""

    def __init__(self, box: Sandbox, *, versions: bool = False) -> None:
        """Ask in `box`; with `versions` those that no profile knows are asked, too."""
        self.box = box
        self.versions = versions
        self.tools: dict[str, Tool] = {}
        self.asked = 0
        self.unknown: list[str] = []
        self._room = _MOST_READ

    def add(self, program: str, words: Sequence[str] = ()) -> None:
        """Identify a program by name or path; `words`: a command of it that prints its version.

        What is not there is left out. What cannot be read, or is larger than any program (a file can be as
        large as it likes and take no room), is `unknown`.
        """
        name = sight.search(self.box, program)
        found = sight.locate(self.box, name) if name else None
        if name is None or found is None:
            return
        if found[0] in self.tools:
            self._say_more(found[0], [name, *words[1:]])
            return
        try:
            tool = self._identified(program, *found)
            opened = tuple(self._interpreters(found[1]))
        except OSError:
            self.unknown.append(found[0])
            return
        version = self._version(tool.path, [name, *words[1:]])
        self.tools[tool.path] = replace(tool, version=version, interpreters=opened)

    def _say_more(self, path: str, words: Sequence[str]) -> None:
        """Add what a program says when it is asked for more than itself: `python3 -m pip --version`."""
        known = self.tools[path]
        version = self._version(path, words) if len(words) > 1 else ""
        if version and version != known.version:
            self.tools[path] = replace(known, version=f"{known.version}; {version}")

    def found(self) -> tuple[Tool, ...]:
        """Return the programs as they were added, then what the kernel opened for them."""
        opened = (item for tool in self.tools.values() for item in tool.interpreters)
        more = {item.path: item for item in opened if item.path not in self.tools}
        return (*self.tools.values(), *more.values())

    def _identified(self, name: str, path: str, host: str) -> Tool:
        size = os.stat(host).st_size
        if size > self._room:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), host)
        self._room -= size
        return Tool(name=name, path=path, sha256=fsys.sha256(Path(host)))

    def _interpreters(self, host: str) -> list[Tool]:
        found: list[Tool] = []
        for _ in range(_DEPTH):
            name = interpreter(host)
            place = sight.locate(self.box, name) if name else None
            if not name or place is None:
                break
            host = place[1]
            found.append(self._opened(name, *place))
        return found

    def _opened(self, name: str, path: str, host: str) -> Tool:
        known = self.tools.get(path)
        if known is None:
            inner = (item for tool in self.tools.values() for item in tool.interpreters)
            known = next((item for item in inner if item.path == path), None)
        if known is not None:
            return replace(known, name=name, role=Role.INTERPRETER, interpreters=())
        tool = replace(self._identified(name, path, host), role=Role.INTERPRETER)
        return replace(tool, version=self._version(path, [path]))

    def _version(self, path: str, words: Sequence[str]) -> str:
        if len(words) > 1:
            return _said(self.box, words, seconds=_SECONDS)
        if not self.versions or kind_of(path) is not Kind.SYSTEM or self.asked >= _MOST_ASKED:
            return ""
        self.asked += 1
        return _said(self.box, [*words, "--version"], seconds=_SECONDS_UNKNOWN, must_succeed=True)


def _said(box: Sandbox, words: Sequence[str], *, seconds: int, must_succeed: bool = False) -> str:
    """Return the line that a command prints first, all of them where it was asked verbosely.

    Into a pipe, which holds 64 KiB: one that says more has to wait, and fills neither disk nor memory.
    """
    quiet = Policy(trace=Trace.NOTHING)
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as said:
        try:
            ended = run(_read_only(box), words, stdout=writer, stderr=writer, timeout=seconds, policy=quiet)
        except SandboxError:
            return ""
        finally:
            os.close(writer)
        text = (said.read(1 << 16) or b"").decode("utf-8", "replace")
    if must_succeed and ended.status != 0:
        return ""
    lines = [line.strip()[:_LONGEST] for line in text.splitlines() if line.strip()]
    return "; ".join(lines if words[1].casefold() == _VERBOSE else lines[:1])


def _read_only(box: Sandbox) -> Sandbox:
    """Return the sandbox with nothing of the host writable, no network, and not in the project.

    There `python3 -m pip` would start the project's own pip.py.
    """
    shown = (replace(item, writable=False) if isinstance(item, Bind) else item for item in box.operations)
    return replace(box, operations=tuple(shown), network=False, cwd="/")


def interpreter(host: str) -> str | None:
    """Return what the kernel opens to execute a file: execve(2)."""
    with open(host, "rb") as file:
        head = file.read(HEAD)
        if head.startswith(b"#!"):
            words = head[2:].split(b"\n", 1)[0].split(None, 1)
            return os.fsdecode(words[0]) if words else None
        extent = interpreter_extent(head)
        if extent is None:
            return None
        offset, size = extent
        file.seek(offset)
        return os.fsdecode(file.read(size).split(b"\0", 1)[0]) or None
