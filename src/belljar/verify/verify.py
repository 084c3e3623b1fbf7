"""Running a command of a tree on real systems, each in a sandbox of its own.

The program sees a root, read-only; the tree, read-only, at its own path and in the working
directory; an empty `/tmp`; no network; nothing else of this machine. What it writes goes to memory
and is cut to its beginning: a program that writes without end fills neither disk nor report.

Rejected: chroot (needs root, hides nothing), and pipes read by threads: the sandbox forks, and a
fork beside threads is where Python warns of deadlocks.
"""

import errno
import fcntl
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar.errors import HostError, InputError, UsageError
from belljar.sandbox import Outcome, Sandbox, SandboxError, run
from belljar.types import Event, Progress, quiet
from belljar.verify import program
from belljar.verify.matrix import Captured, Matrix, Result
from belljar.verify.root import Root
from belljar.verify.tree import Tree, examine
from belljar.verify.view import View

LIMIT = 64 << 10
"""How many bytes of each stream are kept."""

ENVIRONMENT = {"HOME": "/tmp", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
"""The whole environment of a command, before what the caller adds."""


def verify(
    tree: Path,
    command: Sequence[str],
    roots: Sequence[Root],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float | None = 60.0,
    progress: Progress = quiet,
) -> Matrix:
    """Run `command` of the tree on each root, one after the other; return how it ended everywhere.

    The command's first word is a path in the tree if there is such a file or it holds `/`, an absolute
    path, or a program of the root; the working directory is the tree. `env` is added to HOME, LC_ALL and
    PATH; `timeout` is in seconds, a root. Raises UsageError without a command or root, InputError for a
    tree that is none or cannot be shown in a root, HostError when this machine has no sandboxes.
    """
    if not command or not command[0] or not roots:
        raise UsageError(
            "verify: no command" if roots else "verify: no root",
            hint="belljar verify TREE --on ROOT... -- COMMAND",
        )
    shown = examine(tree)
    views = [_view(shown, root) for root in roots]
    results = []
    for number, (root, view) in enumerate(zip(roots, views, strict=True)):
        progress(Event(stage="verify", subject=root.name, done=number, total=len(roots)))
        job = _Job(root=root, view=view, tree=shown.path, env={**ENVIRONMENT, **(env or {})}, timeout=timeout)
        results.append(job.run(tuple(command)))
    progress(Event(stage="verify", done=len(roots), total=len(roots)))
    return Matrix(tree=shown.path, command=tuple(command), results=tuple(results))


def _view(tree: Tree, root: Root) -> View:
    """Return the root with the tree in it. Raises InputError when that hides the root's own loader."""
    bare = View(root=root.path)
    view = tree.within(bare)
    if root.loader is not None and view.lookup(root.loader) != bare.lookup(root.loader):
        raise InputError(
            f"{tree.path}: would hide the loader and libraries of the root {root.name}, which has them there",
            hint="copy the tree to another directory",
        )
    return view


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One run of a command on one root."""

    root: Root
    view: View
    tree: Path
    env: Mapping[str, str]
    timeout: float | None

    def run(self, command: tuple[str, ...]) -> Result:
        """Run the command, unless it is plain that it cannot start."""
        if self.root.arch != platform.machine():
            return self._not_started(f"the root is {self.root.arch}, this machine is {platform.machine()}")
        path = program.locate(command[0], self.tree, self.view, self.env)
        if (problem := program.obstacle(path, self.view, self.root)) is not None:
            return self._not_started(problem)
        box = Sandbox(operations=self.view.operations(), env=self.env, cwd=os.fspath(self.tree))
        with _Stream() as stdout, _Stream() as stderr:
            try:
                outcome = self._run(box, (path, *command[1:]), stdout, stderr)
            except SandboxError as error:
                if not error.step.startswith("start "):
                    raise _host_error(error) from error
                return self._not_started(f"{path}: {error.reason}")
            return self._result(outcome, stdout.captured(), stderr.captured())

    def _run(self, box: Sandbox, argv: tuple[str, ...], stdout: "_Stream", stderr: "_Stream") -> Outcome:
        def watch() -> None:
            stdout.cut()
            stderr.cut()

        return run(box, argv, stdout=stdout.fd, stderr=stderr.fd, timeout=self.timeout, watch=watch)

    def _result(self, outcome: Outcome, stdout: Captured, stderr: Captured) -> Result:
        return Result(
            root=self.root,
            status=None if outcome.timed_out else outcome.status,
            seconds=outcome.seconds,
            stdout=stdout,
            stderr=stderr,
            timed_out=outcome.timed_out,
            problem=f"did not end within {self.timeout:g} seconds" if outcome.timed_out else "",
        )

    def _not_started(self, problem: str) -> Result:
        return Result(root=self.root, status=None, problem=problem)


def _host_error(error: SandboxError) -> HostError:
    hint = error.hint
    if hint is None and error.number in (errno.EACCES, errno.EPERM):
        hint = "inside, even root has only the rights that it has as owner: is the tree somebody else's?"
    return HostError(f"sandbox: {error}", hint=hint)


class _Stream:
    """A file in memory that a program writes to; `cut` may be called while it does."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("belljar-output")
        # Whatever is cut off, the program goes on writing at the end.
        fcntl.fcntl(self.fd, fcntl.F_SETFL, os.O_APPEND)
        self._truncated = False

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def cut(self) -> None:
        """Drop all but the first LIMIT bytes."""
        if os.fstat(self.fd).st_size > LIMIT:
            self._truncated = True
            os.ftruncate(self.fd, LIMIT)

    def captured(self) -> Captured:
        """Return what was written."""
        self.cut()
        text = os.pread(self.fd, LIMIT, 0).decode("utf-8", "replace")
        return Captured(text=text, truncated=self._truncated)
