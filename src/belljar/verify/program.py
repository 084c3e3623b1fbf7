"""The program that is to run in a root: where it is, and what keeps it from starting.

For a missing interpreter the kernel reports "no such file" of the program, which is there; that has
cost people days. So a program is looked at first, as the kernel would (execve(2)): through the links
of the root, its `#!` lines and its ELF interpreter. What cannot be read is left to the kernel.
"""

import mmap
import os
import re
from collections.abc import Mapping
from pathlib import Path

from belljar import elf
from belljar.elf.const import Machine
from belljar.types import Arch
from belljar.verify.root import Root
from belljar.verify.view import View

_SCRIPTS = 4  # how many scripts may interpret one another: execve(2)
_RUNS = {Arch.X86_64: {Machine.X86_64, Machine.I386}, Arch.AARCH64: {Machine.AARCH64, Machine.ARM}}


def locate(word: str, tree: Path, view: View, env: Mapping[str, str]) -> str:
    """Return the path inside of the program that a command's first word means.

    An absolute path is itself; a word with `/`, or the name of a file in the tree, lies in the tree; any
    other is searched on PATH in the root. What is not found is returned as it is.
    """
    if word.startswith("/"):
        return word
    if "/" in word or os.path.isfile(tree / word):
        return os.path.normpath(tree / word)
    found = (f"{place}/{word}" for place in env["PATH"].split(":") if place.startswith("/"))
    return next((path for path in found if os.path.isfile(view.lookup(path) or "")), word)


def obstacle(path: str, view: View, root: Root) -> str | None:
    """Say why the program with that path inside cannot be started in the root; None when nothing is seen."""
    if not path.startswith("/"):
        return f"{path}: neither in the tree nor on PATH in the root"
    subject = path
    for _ in range(_SCRIPTS):
        file = view.lookup(path)
        if file is None or not os.path.exists(file):
            return f"{subject}: not found"
        if not os.path.isfile(file) or not os.access(file, os.X_OK):
            return f"{subject}: not an executable file"
        if (interpreter := _named_by_script(file)) is None:
            return _obstacle_of_elf(subject, file, view, root)
        path, subject = interpreter, f"{path}: its interpreter {interpreter} (in its #! line)"
    return None


def _named_by_script(file: Path) -> str | None:
    """Return what a `#!` line names."""
    try:
        with file.open("rb") as stream:
            found = re.match(rb"#![ \t]*([^ \t\n]+)", stream.read(256))
    except OSError:
        return None
    return os.fsdecode(found[1]) if found else None


def _obstacle_of_elf(subject: str, file: Path, view: View, root: Root) -> str | None:
    try:
        with file.open("rb") as stream:
            program = elf.read(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))
    except (OSError, ValueError, elf.ElfError):
        return None
    if program.header.machine not in _RUNS[root.arch]:
        return f"{subject}: is for {_machine(program.header.machine)}, the root is {root.arch}"
    interpreter = program.interpreter
    if interpreter is not None and interpreter.startswith("/") and view.lookup(interpreter) is None:
        return f"{subject}: is there, but its interpreter {interpreter} is not in this root"
    return None


def _machine(number: int) -> str:
    try:
        return Machine(number).name.lower()
    except ValueError:
        return f"machine {number}"
