"""How long `belljar run -- true` takes as a whole process, against bwrap with the same mounts and Python."""

import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from sandbox import fetched_bwrap, timed

from belljar import proc
from belljar.hermetic.plan import plan
from belljar.hermetic.request import Request
from belljar.sandbox import Bind, File, Operation, Sandbox, Symlink, Tmpfs

RUNS = 40
WANTED = 3.0


def main(argv: list[str]) -> int:
    """Print the medians and their ratio; 1 when the ratio is above what is wanted."""
    runs = int(argv[0]) if argv else RUNS
    found = proc.find("bwrap")
    bwrap = [str(found)] if found else fetched_bwrap()
    with tempfile.TemporaryDirectory() as top:
        project = Path(top) / "project"
        project.mkdir()
        box = plan(Request(command=("true",), project=project, env={"HOME": top})).build.sandbox
        theirs = [*bwrap, *arguments(box, top), "/bin/true"]
        program = Path(sys.executable).with_name("belljar")
        ours = [str(program), "run", "--project", str(project), "--", "true"]
        python = [sys.executable, "-c", "pass"]
        samples: list[list[float]] = [[], [], []]
        for _ in range(runs):
            for kept, command in zip(samples, (ours, theirs, python), strict=True):
                kept.append(timed(partial(start, command)))
    run_, bwrap_, python_ = (statistics.median(kept) * 1e3 for kept in samples)
    ratio = run_ / (bwrap_ + python_)
    print(
        f"belljar run -- true: {run_:.1f} ms; bwrap with the same mounts {bwrap_:.1f} ms, python -c pass"
        f" {python_:.1f} ms; ratio to both {ratio:.2f} (wanted <= {WANTED:g}; medians of {runs} in turns)"
    )
    return 0 if ratio <= WANTED else 1


def start(command: list[str]) -> int:
    """Run a command with the environment that Python needs; what it says at its end is not shown."""
    quiet = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(command[0], command, dict(os.environ), file_actions=quiet)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def arguments(box: Sandbox, scratch: str) -> list[str]:
    """Return what makes bwrap show the same."""
    words = ["--unshare-all", "--die-with-parent", "--new-session", "--hostname", "localhost"]
    words += [
        "--uid",
        "1000",
        "--gid",
        "100",
        "--clearenv",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--dir",
        "/sys",
    ]
    for number, operation in enumerate(box.ordered()[1:]):
        words += mount(operation, Path(scratch) / f"file-{number}")
    return [*words, "--chdir", box.cwd]


def mount(operation: Operation, file: Path) -> list[str]:
    """Return bwrap's words for one operation."""
    if isinstance(operation, Bind):
        return ["--bind" if operation.writable else "--ro-bind", operation.source, operation.target]
    if isinstance(operation, Tmpfs):
        return ["--tmpfs", operation.target]
    if isinstance(operation, Symlink):
        return ["--symlink", operation.link, operation.target]
    if isinstance(operation, File):
        file.write_text(operation.text)
        return ["--ro-bind", str(file), operation.target]
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
