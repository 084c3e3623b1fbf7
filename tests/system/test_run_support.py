"""What the tests of `belljar run` share: tools of Debian as the system, a plain run and a hermetic one.

A *place* is a little machine: a project, its parents, a home directory, an environment. `plain` runs a
command there as a shell would, with all of the place in sight; `hermetic` runs it with `belljar run`.
Both have the same tools, so that what differs is what the place let through.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import compilers

from belljar.build.environment import materialise
from belljar.build.sandboxed import root_of
from belljar.home import Home
from belljar.recipe.fetch import fetch
from belljar.sandbox import Bind, Devices, File, Operation, Proc, Sandbox, Tmpfs, run

ROOT = os.geteuid() == 0
NOBODY = 65534
LINKS = {
    "/usr/bin/c++": "g++",
    "/usr/bin/cc": "gcc",
    "/usr/bin/go": "../lib/go-1.19/bin/go",
}
AWK = {"/usr/bin/awk": "gawk"}
JAVA = {
    "/usr/bin/java": "../lib/jvm/java-17-openjdk-amd64/bin/java",
    "/usr/bin/mvn": "../share/maven/bin/mvn",
}
MORE_LINKS = {"run-c": AWK, "run-java": AWK | JAVA}
PATH = "/usr/bin:/usr/sbin"


@functools.cache
def system(name: str = "run-small") -> Path:
    """Return a root with tools, made once into the directory for temporary files."""
    place = compilers._place()
    home = Home(data=place, cache=place / "cache")
    lock = compilers._lock(name, home)
    return materialise(lock.environment, LINKS | MORE_LINKS.get(name, {}), fetch(lock, home), home=home).path


@dataclass(slots=True, kw_only=True)
class Place:
    """A project in a directory with a home beside it, and how its user has set up his shell."""

    top: Path
    name: str = "project"
    env: dict[str, str] = field(default_factory=dict)
    path: str = PATH
    umask: int = 0o022
    hostname: str = "plain"
    tools: str = "run-small"

    @property
    def project(self) -> Path:
        return self.top / "parent" / self.name

    @property
    def home(self) -> Path:
        return self.top / "home"

    def write(self, where: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file: `~/x` at home, `../x` in the project's parent, else in the project."""
        base = {"~": self.home, "..": self.project.parent}.get(where.split("/")[0])
        path = base / where.split("/", 1)[1] if base else self.project / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def environment(self) -> dict[str, str]:
        usual = {"PATH": self.path, "HOME": str(self.home), "LANG": "C.UTF-8", "USER": "someone"}
        return usual | {name: value.replace("@TOP@", str(self.top)) for name, value in self.env.items()}


def plain(place: Place, script: str) -> int:
    """Run a script as a user's shell would, with the tools of `system` and all of the place in sight."""
    operations: tuple[Operation, ...] = (
        *(item for item in _root(place.tools) if item.target != "/etc"),
        File(target="/etc/passwd", text="someone:x:1000:100::/:/bin/sh\n"),
        Proc(),
        Devices(),
        Tmpfs(target="/tmp"),
        Bind(source=str(place.top), target=str(place.top), writable=True),
    )
    box = Sandbox(
        operations=operations,
        env=place.environment(),
        cwd=str(place.project),
        umask=place.umask,
        hostname=place.hostname,
    )
    with (place.top / "plain.log").open("wb") as log:
        return run(
            box, ["/usr/bin/bash", "-euc", script], stdout=log.fileno(), stderr=log.fileno(), timeout=120
        ).status


@functools.cache
def _root(tools: str) -> tuple[Operation, ...]:
    from belljar.build.environment import Environment
    from belljar.types import Digest

    return root_of(Environment(path=system(tools), digest=Digest("")))


def hermetic(place: Place, *words: str, profile: str = "none") -> subprocess.CompletedProcess[str]:
    """Run `belljar run` in the place, as its user has set up his shell."""
    return belljar(
        "run",
        "--system",
        str(system(place.tools)),
        "--profile",
        profile,
        *words,
        cwd=place.project,
        env=place.environment(),
        umask=place.umask,
    )


def belljar(
    *words: str,
    cwd: Path,
    env: Mapping[str, str],
    umask: int = 0o022,
    fds: tuple[int, ...] = (),
    user: int | None = None,
    cpus: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the program as a process of its own, as `user` where one is given (root only), on some CPUs."""
    start = (_START if user is None else _AS_USER).replace("@PATHS@", json.dumps([p for p in sys.path if p]))
    python = [sys.executable, "-I", "-c", start.replace("@USER@", str(user))]
    mine = sorted(os.sched_getaffinity(0))[:cpus]
    done = subprocess.run(
        [*python, *words],
        cwd=cwd,
        env=dict(env),
        umask=umask,
        pass_fds=fds,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
        preexec_fn=(lambda: os.sched_setaffinity(0, mine)) if cpus else None,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


# The environment is the place's: nothing of it is for Python, hence -I, and the paths by hand.
_START = """
import sys
sys.path[:0] = @PATHS@
from belljar.cli.entry import main
main()
"""
# Everything is imported while its files can be read.
_AS_USER = """
import importlib, os, pathlib, pkgutil, sys
sys.path[:0] = @PATHS@
import belljar, click, ctypes, json, encodings.idna, glob, hashlib, random, shutil, tempfile, traceback
for room in ("cli", "hermetic", "sandbox", "elf", "ldso"):
    package = importlib.import_module(f"belljar.{room}")
    for item in pkgutil.iter_modules(package.__path__):
        if item.name != "__main__":
            importlib.import_module(f"belljar.{room}.{item.name}")
from belljar.hermetic.profile import available
profiles = available(pathlib.Path(os.environ['XDG_CONFIG_HOME'], 'belljar/profiles'))
import belljar.hermetic.plan as plan
plan.available = lambda config, **_: profiles
os.setgroups([]); os.setgid(@USER@); os.setuid(@USER@)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable, as after exec: else /proc/self belongs to root
from belljar.cli.entry import main
main()
"""


def scratch(user: int | None) -> Path:
    """Make a directory that `user` may enter and own."""
    top = Path(tempfile.mkdtemp(prefix="belljar-run-"))
    top.chmod(0o755)
    if user is not None:
        os.chown(top, user, user)
    return top


def report_of(path: Path) -> dict[str, object]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value
