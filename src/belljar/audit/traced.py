"""What a run proves of a sealed tree: that a command of it opens, maps and starts nothing of its host.

The command runs on this machine, where the host's files are there to be found, and every file that it asks
for is recorded (belljar.sandbox.tracing), those that are not there too: another machine may have them.
Outside the prefix it may touch

- what is no file of a system: /proc, /sys, /dev
- what the policy says describes the machine (`host-files`), and links that `seal --from-host` has made
- data that it is pointed to: files and directories on the command line, the working directory
- what it made itself, and the directories that lead to all these

Code is what is mapped as such, executed, or an ELF file: only by its very name on the command line may it be
touched. What a program of the host does once it was started is its own affair: that it was started is told.

A run proves what it does, no more: other arguments may lead elsewhere.
"""

import fnmatch
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from belljar.audit.checks import Finding, Severity
from belljar.audit.policy import Policy
from belljar.audit.sealing import STARTS
from belljar.audit.seals import PRIVATE
from belljar.elf.const import MAGIC
from belljar.errors import HostError, UsageError
from belljar.sandbox import SandboxError
from belljar.sandbox.tracing import Access, How, Trace, trace

TIMEOUT = 600.0
"""Seconds that a traced command may take."""
_OF_THE_KERNEL = ("/proc", "/sys", "/dev")
_SHOWN, _HEAD = 3, 512
_VERBS = {
    How.EXECUTED: "starts {} of the host",
    How.MAPPED: "maps code of the host: {}",
    How.OPENED: "opens files of the host: {}",
    How.TRIED: "looks for files of the host, which other machines may have: {}",
}
_WRAPPED = "is a script, which {} of the host runs"
_HINTS = {
    How.OPENED: "bring it along, or allow it: `host-files` of a policy that extends `sealed`",
    How.TRIED: "bring it along, or allow it: `host-files` of a policy that extends `sealed`",
    How.MAPPED: "bring it into the prefix and seal that again, or leave it to the host by --from-host",
    How.EXECUTED: "bring the program into the prefix, or allow it: `host-files` of a policy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One run: its command, exit status (negative: the signal), and what it did outside the prefix.

    `opened` counts the files that it opened in the prefix, `allowed` are accesses that the host is to meet.
    """

    command: tuple[str, ...]
    status: int
    opened: int
    allowed: tuple[Access, ...]
    foreign: tuple[Access, ...]
    gaps: tuple[str, ...] = ()
    last_words: str = ""

    @property
    def is_proof(self) -> bool:
        """Whether the command ran well, was seen whole, and had nothing of the host."""
        return not (self.status or self.foreign or self.gaps)

    def describe(self) -> str:
        """Say in one line what the run has shown."""
        host = len({item.path for item in self.foreign})
        what = f"{host} file{'s' * (host != 1)} of the host" if host else "nothing of the host"
        gaps = ", not seen whole" if self.gaps else ""
        prefix = f"{self.opened} file{'s' * (self.opened != 1)} of the prefix"
        return f"{shlex.join(self.command)}: status {self.status}, {prefix}, {what}{gaps}"

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON values."""
        return {
            "command": list(self.command),
            "status": self.status,
            "opened": self.opened,
            "allowed": list(map(_json, self.allowed)),
            "foreign": list(map(_json, self.foreign)),
            "gaps": list(self.gaps),
        }


def _json(access: Access) -> dict[str, str]:
    return {
        "path": access.path,
        "how": access.how,
        "by": access.by,
        "asked": access.asked,
        "runs": access.runs,
    }


def traced(
    words: Sequence[str],
    prefix: Path,
    policy: Policy,
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> Traced:
    """Run a command of a prefix and tell what it did with files of the host.

    Its first word is a path in the prefix, the name of a program in its `bin`, or a path that leads there.
    Raises UsageError when it is none, HostError when it cannot be traced.
    """
    argv = (str(_program(words, prefix)), *words[1:])
    cwd = os.getcwd()
    try:
        seen = trace(argv, env=dict(os.environ if env is None else env), cwd=cwd, timeout=timeout)
    except SandboxError as error:
        raise HostError(str(error), hint=error.hint) from error
    rules = _Rules.of(prefix, policy, argv[1:], cwd, seen.accesses)
    return _judged(tuple(words), seen, rules)


def _program(words: Sequence[str], prefix: Path) -> Path:
    if not words:
        raise UsageError("--traced: no command is given")
    top = prefix.resolve()
    for place in (prefix / words[0], prefix / "bin" / words[0], Path(words[0])):
        if place.is_file() and os.access(place, os.X_OK) and place.resolve().is_relative_to(top):
            return place.absolute()
    raise UsageError(f"--traced {words[0]!r}: no program of {prefix}", hint="name it as bin/NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What a run may touch; paths without links, `patterns` as fnmatch has them.

    `left` are the files that are left to the host.
    """

    prefix: str
    patterns: tuple[str, ...]
    named: tuple[str, ...]
    cwd: str
    left: frozenset[str]

    @classmethod
    def of(
        cls, prefix: Path, policy: Policy, arguments: Sequence[str], cwd: str, seen: Iterable[Access]
    ) -> "_Rules":
        """Gather them; the root directory, as the working directory or as an argument, allows nothing."""
        link = re.compile(re.escape(f"{prefix.resolve()}/{PRIVATE}/host-") + "[0-9]+/[^/]+")
        parts = (part for word in arguments for part in {word, word.rpartition("=")[2]})
        named = (os.path.realpath(part) for part in parts if part and os.path.exists(part))
        patterns = (os.path.expanduser(item) for item in policy.host_files)
        return cls(
            prefix=str(prefix.resolve()),
            patterns=tuple(patterns),
            named=tuple(item for item in named if item != "/"),
            cwd=os.path.realpath(cwd),
            left=frozenset(item.path for item in seen if link.fullmatch(os.path.normpath(item.asked))),
        )

    def is_inside(self, path: str) -> bool:
        """Whether a path is the prefix's."""
        return _is_below(path, self.prefix)

    def allows(self, access: Access) -> bool:
        """Whether something outside the prefix may be touched in that way."""
        names = (access.path, os.path.normpath(access.asked))
        if access.path in self.left:
            return True
        if any(_is_below(access.path, place) for place in _OF_THE_KERNEL):
            return True
        if any(fnmatch.fnmatchcase(name, item) for item in self.patterns for name in names):
            return True
        if _is_code(access):
            return access.path in self.named
        is_pointed_to = any(
            _is_below(access.path, place) for place in (*self.named, self.cwd) if place != "/"
        )
        return is_pointed_to or self._is_on_the_way(access.path)

    def _is_on_the_way(self, path: str) -> bool:
        places = (self.prefix, self.cwd, *self.named)
        return os.path.isdir(path) and any(_is_below(place, path) for place in places)


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _is_code(access: Access) -> bool:
    if access.how in (How.MAPPED, How.EXECUTED):
        return True
    try:
        with open(access.path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return ".so" in PurePath(access.path).name


def _judged(words: tuple[str, ...], seen: Trace, rules: _Rules) -> Traced:
    outside = [item for item in seen.accesses if not rules.is_inside(item.path)]
    # What a program of the host does is not told; it was started by one of the prefix, which is.
    told = [item for item in outside if not item.by or rules.is_inside(item.by)]
    allowed = tuple(item for item in told if rules.allows(item))
    return Traced(
        command=words,
        status=seen.status,
        opened=len({item.path for item in seen.accesses if rules.is_inside(item.path) and _is_there(item)}),
        allowed=allowed,
        foreign=tuple(item for item in told if item not in allowed),
        gaps=seen.gaps,
        last_words=seen.last_words.decode("utf-8", "replace").strip(),
    )


def _is_there(access: Access) -> bool:
    return access.how is not How.TRIED


def findings_of(run: Traced, prefix: Path, policy: Policy) -> Iterator[Finding]:
    """Yield what a run proves against the policy: of each program and way what it did in that way."""
    severity = Severity.ERROR if policy.sealed else Severity.NOTE
    command, top = shlex.join(run.command), str(prefix.resolve())
    groups: dict[tuple[str, How, bool], list[str]] = {}
    for item in sorted(_distinct(run.foreign), key=lambda item: (item.by, list(_VERBS).index(item.how))):
        is_wrapper = item.how is How.EXECUTED and _is_wrapper(item.asked)
        runs = os.path.normpath(item.runs)
        by = runs if _is_below(runs, top) else item.by or item.asked
        groups.setdefault((by, item.how, is_wrapper), []).append(item.path)
    for (by, how, is_wrapper), paths in groups.items():
        yield Finding(
            rule="trace",
            severity=Severity.NOTE if is_wrapper else severity,
            path=_named(by, prefix),
            message=(_WRAPPED if is_wrapper else _VERBS[how]).format(_some(paths)),
            hint=None if is_wrapper else _HINTS[how],
            library=paths[0],
            detail=(f"seen in `{command}`", *paths),
        )
    for gap in run.gaps:
        yield Finding(
            rule="trace",
            severity=severity,
            path=str(prefix),
            message=f"`{command}` was not seen whole: {gap}",
        )
    if run.status:
        yield Finding(
            rule="trace",
            severity=severity,
            path=str(prefix),
            message=f"`{command}` ended with status {run.status}: that it runs is not proven",
            hint=run.last_words.rpartition("\n")[2] or None,
            detail=tuple(run.last_words.splitlines()),
        )


def _distinct(accesses: Sequence[Access]) -> Iterator[Access]:
    """Yield accesses, of a file that is both opened and mapped by one program the latter only."""
    mapped = {(item.path, item.by) for item in accesses if item.how is not How.OPENED}
    for item in accesses:
        if item.how is not How.OPENED or (item.path, item.by) not in mapped:
            yield item


def _some(paths: Sequence[str]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _is_wrapper(path: str) -> bool:
    """Whether a file is a script to which belljar gave its start: form `sh`, `seal --scripts`."""
    try:
        with open(path, "rb") as file:
            return STARTS.match(file.read(_HEAD)) is not None
    except OSError:
        return False


def _named(path: str, prefix: Path) -> str:
    """Return a path of the prefix as the report names it."""
    top = prefix.resolve()
    return str(prefix / PurePath(path).relative_to(top)) if PurePath(path).is_relative_to(top) else path
