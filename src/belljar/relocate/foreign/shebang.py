r"""The first line of scripts: which interpreter, and what when its path no longer fits there.

The kernel takes 255 bytes with the `#!` (127 before Linux 5.1) and ends the path at a space (execve(2)). A
line that stays below 127 bytes just gets the new path. Else `/bin/sh` starts the script, and lines which
the shell takes for a command and the interpreter for nothing start the interpreter:

- Python: `\f#/ 2>/dev/null; exec ...`. A form feed before `#` makes a comment of it; to the shell it is
  the name of a file that cannot exist (it ends in a slash), then a command. Unlike the usual string
  in three quotes this keeps the module's docstring, its `from __future__` lines and its coding.
- Perl and Ruby: their own `-x` skips all lines before one that begins with `#!` and names them.
- node: `':';// 2>/dev/null; exec ...`, a string and a comment in JavaScript.
- Tcl: a comment that goes on after a backslash, for Tcl only.
- shells: the line runs once, marked by the number of the process, which stays the same.

Other interpreters have no such line that we know to be sound: refused.
"""

import os
import re
import shlex
from typing import NamedTuple

from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.subject import Finding, Subject
from belljar.splice import Splice

LIMIT = 127
"""How many bytes every kernel takes; what was longer before may have LIMIT_NOW."""
LIMIT_NOW = 255

_FIRST = 4096
_CODING = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_FAMILIES = (
    (re.compile(r"(?:python|pypy)[\d.]*\Z"), "python"),
    (re.compile(r"perl[\d.]*\Z"), "perl"),
    (re.compile(r"ruby[\d.]*\Z"), "ruby"),
    (re.compile(r"node(?:js)?[\d.]*\Z"), "node"),
    (re.compile(r"(?:tclsh|wish|expect)[\d.]*\Z"), "tcl"),
    (re.compile(r"(?:ba|da|a|k|mk|z)?sh\Z"), "shell"),
)


class Line(NamedTuple):
    """A script's first line, without its end, and where its words are: interpreter and argument."""

    text: bytes
    end: bytes
    interpreter: bytes
    argument: bytes


def first_line(subject: Subject) -> Line | None:
    """Return the `#!` line; None where a file has none that the kernel would take."""
    if not subject.head.startswith(b"#!"):
        return None
    text, newline, _ = subject.read(0, _FIRST).partition(b"\n")
    if not newline and subject.size > _FIRST:
        return None
    end = b"\r" + newline if text.endswith(b"\r") else newline
    text = text.removesuffix(b"\r")
    interpreter, _, argument = text[2:].strip(b" \t").partition(b" ")
    return Line(text, end, interpreter, argument.strip(b" \t"))


def plan_shebang(subject: Subject, finding: Finding) -> int:
    """Rewrite the first line of a script; returns how many bytes of the file that dealt with.

    The line is left to the text's own rules (0 is returned) where no prefix stands in it.
    """
    line = first_line(subject)
    if line is None or not any(hit.offset < len(line.text) and not hit.doubt for hit in subject.hits):
        return 0
    if subject.options.relative and (own := _relative(line, subject)):
        return _put(line, own, finding, "a first line that finds its interpreter itself")
    new = subject.moves.replaced(line.text)
    if new == line.text:
        return len(line.text)
    limit = LIMIT if len(line.text) <= LIMIT else LIMIT_NOW
    if len(new) <= limit and not _adds_syntax(line, new):
        return 0
    words = _words(line, subject.moves)
    command = " ".join(map(shlex.quote, words))
    lines = _trampoline(words[0], command, words[1:], subject, line)
    if lines is None:
        why = "has a space" if b" " in new else f"has {len(new)} bytes, {limit} fit"
        finding.refuse(
            subject.path,
            f"the `#!` line {why}, and no line starts {os.path.basename(words[0])} soundly; use --alias",
            offset=0,
        )
        return len(line.text)
    return _put(line, lines, finding, "a first line through /bin/sh, since the new path does not fit in it")


def _adds_syntax(line: Line, new: bytes) -> bool:
    """Whether the new line has more spaces, or more of what `env -S` takes for syntax."""
    signs = b" '\"\\$#" if line.interpreter.endswith(b"/env") else b" "
    return any(new.count(sign) != line.text.count(sign) for sign in signs)


def _put(line: Line, lines: list[bytes], finding: Finding, reason: str) -> int:
    """Replace the first line by several, which end as the kernel and the shell want it."""
    new = b"\n".join(lines)
    finding.splices.append(Splice(offset=0, old=line.text + line.end, new=new + (b"\n" if line.end else b"")))
    finding.because(reason)
    return len(line.text + line.end)


def _words(line: Line, moves: Moves) -> list[str]:
    """Return the command that a first line means, moved: the kernel gives the interpreter one argument."""
    interpreter = os.fsdecode(moves.path(line.interpreter) or line.interpreter)
    argument = line.argument
    if os.path.basename(interpreter) == "env" and (split := _split(argument)):
        return [os.fsdecode(moves.replaced(os.fsencode(word))) for word in split]
    moved = os.fsdecode(moves.replaced(argument))
    return [interpreter, *([moved] if argument else [])]


def _split(argument: bytes) -> list[str]:
    """Return the words of `env -S`, or of `env` with a plain command."""
    for option in (b"-S", b"--split-string=", b"-vS"):
        argument = argument.removeprefix(option)
    try:
        return shlex.split(os.fsdecode(argument))
    except ValueError:
        return []


def _family(program: str) -> str:
    name = os.path.basename(program)
    return next((family for pattern, family in _FAMILIES if pattern.match(name)), "")


def _trampoline(
    program: str, command: str, arguments: list[str], subject: Subject, line: Line
) -> list[bytes] | None:
    """Return lines that start a program through /bin/sh; None where none are sound for it.

    `command` is what the shell runs, before the script's path and the caller's arguments.
    """
    call = os.fsencode(command)
    name = os.path.basename(program).encode()
    start = [b"#!/bin/sh"]
    match _family(program):
        case "python":
            return [*start, b"\f#/ 2>/dev/null; exec " + call + b' "$0" "$@"' + _coding(subject, line)]
        case "perl" | "ruby" as family:
            switches = b" ".join(map(os.fsencode, arguments))
            own = b"#!" + (name if family.encode() in name else family.encode())
            return [*start, b"exec " + call + b' -x "$0" "$@"', (own + b" " + switches).rstrip()]
        case "node":
            return [*start, b"':';// 2>/dev/null; exec " + call + b' "$0" "$@"']
        case "tcl":
            return [*start, b"#\\", b"exec " + call + b' "$0" "$@"']
        case "shell":
            once = b'if [ "${_bj-}" != $$ ]; then _bj=$$; export _bj; exec '
            return [*start, once + call + b' "$0" "$@"; fi; unset _bj']
        case _:
            return None


def _coding(subject: Subject, line: Line) -> bytes:
    """Return the coding that the second line declares, which would be the third now (PEP 263)."""
    rest = subject.read(len(line.text + line.end), _FIRST).partition(b"\n")[0]
    match = _CODING.match(rest)
    return b" # coding: " + match[1] if match else b""


def _relative(line: Line, subject: Subject) -> list[bytes] | None:
    """Return lines that find an interpreter of the tree from the script's own place."""
    words = _words(line, subject.moves)
    own = os.fsdecode(subject.moves.own[1]) + "/"
    if not words[0].startswith(own):
        return None
    way = shlex.quote(f"/{subject.up()}/{words[0].removeprefix(own)}")
    command = '"$(dirname -- "$(readlink -f -- "$0")")"' + " ".join([way, *map(shlex.quote, words[1:])])
    return _trampoline(words[0], command, words[1:], subject, line)
