"""Scripts of a prefix whose first line names the prefix: `#!/opt/foo/bin/python`, which no move survives.

They can be made to find their interpreter from their own place: `/bin/sh` starts them, and lines which the
shell takes for a command and the interpreter for nothing start the interpreter (how, for which languages:
belljar.relocate.foreign.shebang). Longer paths than a first line takes, and those with spaces, are written by
pip and distlib in three lines of shell; these are treated alike. It is done where it is asked for, since
a line of a script is text that somebody may compare; else the scripts are listed.
"""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from belljar import fsys
from belljar.fsys import Entry
from belljar.relocate.change import FileChange, LinkChange, NewFile, Refusal
from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.shebang import plan_shebang
from belljar.relocate.foreign.subject import Finding, Options, Subject
from belljar.relocate.foreign.sums import follow
from belljar.seal.record import PRIVATE
from belljar.splice import Splice

_HEAD = 4096
_DISTLIB = re.compile(rb"#!/bin/sh\n'''exec' (\"?)(/[^\"\n]+)\1 \"\$0\" \"\$@\"\n' '''\n")
_OWN_PLACE = '"$(dirname -- "$(readlink -f -- "$0")")"'
_REASON = "finds its interpreter from its own place"


def tied(prefix: Path, home: Path) -> Iterator[Entry]:
    """Yield the executable scripts below `prefix` that name `home`, the place it is made for, as theirs."""
    moves = Moves.of([(str(home), str(home))])
    for entry in fsys.walk(prefix, enter=_is_theirs):
        if not entry.is_file or not entry.is_executable:
            continue
        with (prefix / entry.path).open("rb") as file:
            head = file.read(_HEAD)
        found = _DISTLIB.match(head)
        line = found[2] if found else head.partition(b"\n")[0]
        if head.startswith(b"#!") and moves.over(line):
            yield entry


def freed(prefix: Path, home: Path) -> Iterator[FileChange | Refusal]:
    """Yield the edits that let scripts find their interpreters themselves, and why some cannot.

    Files that keep the hashes of scripts (RECORD of Python packages) are among the edits.
    """
    moves = Moves.of([(str(home), str(home))])
    changes: dict[str, FileChange | LinkChange | NewFile] = {}
    refusals: list[Refusal] = []
    for entry in tied(prefix, home):
        if splices := _freed(prefix, entry, moves, str(home)):
            changes[entry.path] = FileChange(
                path=entry.path, kind="script", splices=splices, reasons=(_REASON,)
            )
        else:
            why = "no line is known that lets such a script find its interpreter itself"
            refusals.append(Refusal(path=entry.path, reason=why))
    follow(prefix, list(fsys.walk(prefix, enter=_is_theirs)), changes, refusals)
    yield from (item for item in changes.values() if isinstance(item, FileChange))
    yield from refusals


def _freed(prefix: Path, entry: Entry, moves: Moves, home: str) -> tuple[Splice, ...]:
    """Return the edits of one script; none where it cannot be."""
    with (prefix / entry.path).open("rb") as file:
        head = file.read(_HEAD)
        finding = Finding(kind="script")
        subject = Subject(
            tree=prefix,
            path=entry.path,
            fd=file.fileno(),
            size=entry.info.st_size,
            mode=entry.info.st_mode,
            head=head,
            hits=tuple(moves.over(head)),
            moves=moves,
            options=Options(relative=True),
        )
        if (found := _DISTLIB.match(head)) is not None:
            _free_distlib(subject, found, finding, home)
        else:
            plan_shebang(subject, finding)
    return tuple(finding.splices)


def _free_distlib(subject: Subject, found: re.Match[bytes], finding: Finding, home: str) -> None:
    """Replace the three lines by two; to Python the second is a comment, so that docstrings stay."""
    way = os.path.relpath(os.fsdecode(found[2]), home)
    command = f"{_OWN_PLACE}{shlex.quote(f'/{subject.up()}/{way}')}"
    new = b"#!/bin/sh\n\f#/ 2>/dev/null; exec " + os.fsencode(command) + b' "$0" "$@"\n'
    finding.splices.append(Splice(offset=0, old=found[0], new=new))


def _is_theirs(entry: Entry) -> bool:
    return entry.path != PRIVATE and not entry.path.startswith((".belljar-", "lib/.belljar."))
