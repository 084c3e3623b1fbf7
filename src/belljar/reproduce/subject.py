"""What is built: a project with a command, or a recipe. Each is put into a directory, ready to be run there.

A build may change its sources, so each gets a copy; all are copied from one that is made first, so that what
an editor saves in the meantime is no difference. Of a project in git that is what git knows or would add:
what an earlier build left would only be found up to date. What is compared is all that the command leaves
behind (a project), or what it installs (a recipe).
"""

import os
import shutil
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from belljar import fsys, proc
from belljar.errors import InputError, UsageError
from belljar.hermetic import project as projects
from belljar.hermetic import sight
from belljar.hermetic.plan import Plan
from belljar.hermetic.request import PROJECT
from belljar.reproduce.trees import matches
from belljar.sandbox import Bind, Sandbox

LEFT_OVERS = (
    *("config.log", "config.status", "config.cache", "autom4te.cache", ".deps", "*.d"),
    *("CMakeCache.txt", "CMakeFiles", "cmake_install.cmake", "CTestTestfile.cmake", "Testing"),
    *("DartConfiguration.tcl", "install_manifest.txt"),
    *("meson-logs", "meson-private", "meson-info", ".ninja_log", ".ninja_deps", "compile_commands.json"),
    *(
        ".fingerprint",
        "incremental",
        ".cargo-lock",
        "target/*/build",
        "target/*/deps",
        ".rustc_info.json",
        "build.ninja",
        "*.tmp",
        "__pycache__",
    ),
)
"""What build tools write for themselves: not compared, unless it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A build that can begin: its usual sandbox, the command, where its sources lie, what is compared."""

    sandbox: Sandbox
    command: tuple[str, ...]
    sources: Path
    output: Path


class Subject(ABC):
    """What is built: a title, and how to make one build ready; the rest may stay as it is here."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is called."""

    @property
    def ignored(self) -> tuple[str, ...]:
        """Patterns of names that are never compared."""
        return ()

    @property
    def left_overs(self) -> tuple[str, ...]:
        """Patterns of what build tools write for themselves: not compared unless it is asked for."""
        return ()

    @property
    def fixed(self) -> Mapping[str, str]:
        """Names of influences that cannot be varied, and why."""
        return {}

    @property
    def inputs(self) -> Mapping[str, str]:
        """Names of influences that whoever builds this holds fast by convention, and how."""
        return {}

    @abstractmethod
    def prepare(self, place: Path) -> Ready:
        """Put the sources into `place`, an empty directory that is there, and return what is to be run.

        Called once for each build. What varies are the sandbox's fields and what it shows: sources at /build
        and a home at /home/build move with the influences `path` and `home`. In `place` the names `machine`,
        `log` and `sandbox.json` are taken.
        """

    def finish(self, ready: Ready) -> None:
        """Do what belongs to the build after its command; here: refuse one that has left nothing."""
        if not ready.output.is_dir() or not any(ready.output.iterdir()):
            raise InputError(f"{self.title}: left nothing to compare")


@dataclass(frozen=True, kw_only=True)
class Project(Subject):
    """A directory and a command, as `belljar run` plans it; `pristine` is where its sources are copied to."""

    plan: Plan
    pristine: Path

    @property
    def title(self) -> str:
        """What it is called."""
        return f"{self.plan.project}: {' '.join(self.plan.build.command)}"

    @property
    def ignored(self) -> tuple[str, ...]:
        """Patterns of names that are never compared."""
        return projects.VERSION_CONTROL

    @property
    def left_overs(self) -> tuple[str, ...]:
        """Patterns of what build tools write for themselves."""
        return LEFT_OVERS

    def prepare(self, place: Path) -> Ready:
        """Put the sources into a new directory `place`."""
        sources = place / "project"
        _copy(self._kept, sources)
        projects.make_outputs(sources, self.plan.build.outputs)
        usual = self.plan.build.sandbox
        operations = [
            replace(item, source=self._moved(item.source, sources), links=True)
            if isinstance(item, Bind)
            else item
            for item in usual.operations
        ]
        for name in self._version_control:
            (sources / name).mkdir(exist_ok=True)
            operations = [item for item in operations if item.target != f"{PROJECT}/{name}"]
            operations.append(Bind(source=str(self.plan.project / name), target=f"{PROJECT}/{name}"))
        return Ready(
            sandbox=replace(usual, operations=tuple(operations)),
            command=self._command,
            sources=sources,
            output=sources,
        )

    def finish(self, ready: Ready) -> None:
        """Refuse a command that wrote nothing: any two such trees are the same."""
        before = {entry.path for entry in fsys.walk(self._kept)}
        for entry in fsys.walk(ready.output):
            here, there = ready.output / entry.path, self._kept / entry.path
            if not entry.is_file or matches(entry.path, (*self.ignored, *self.left_overs)):
                continue
            if entry.path not in before or fsys.sha256(here) != fsys.sha256(there):
                return
        raise InputError(
            f"{self.title}: wrote no file, so there is nothing to compare",
            hint="is there something left of an earlier build? Remove it first: make clean, cargo clean",
        )

    @property
    def _version_control(self) -> list[str]:
        return [name for name in projects.VERSION_CONTROL if (self.plan.project / name).is_dir()]

    @cached_property
    def _kept(self) -> Path:
        """Copy the project once, and return the copy."""
        self.pristine.mkdir()
        for path in self._files():
            source, target = self.plan.project / path, self.pristine / path
            if os.path.lexists(source) and not self._leads_elsewhere(path):
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy_entry(source, target, self._own)
        return self.pristine

    @property
    def _own(self) -> Path:
        """Return where belljar keeps what it makes: below the project it is no source."""
        return self.pristine.parent.parent.parent.resolve()

    def _leads_elsewhere(self, path: str) -> bool:
        """Whether a path is behind a link, or in what belljar keeps itself."""
        top = self.plan.project
        behind = any((top / parent).is_symlink() for parent in Path(path).parents)
        return behind or self._own in (top / path, *(top / path).parents)

    def _files(self) -> Iterator[str]:
        """Yield what belongs to the project, relative to it; a directory stands for all below it."""
        words = ("git", "-C", self.plan.project, "ls-files", "-z", "-co", "--exclude-standard")
        if (self.plan.project / ".git").exists() and proc.find("git"):
            done = proc.run(words)
            # What is no UTF-8 cannot be told from what is replaced in it.
            if done.status == 0 and "\ufffd" not in done.stdout:
                yield from filter(None, done.stdout.split("\0"))
                yield from self.plan.profile.fetch_writes
                return
        outputs = set(self.plan.build.outputs) | set(projects.VERSION_CONTROL)
        yield from sorted(name for name in os.listdir(self.plan.project) if name not in outputs)

    def _moved(self, source: str, sources: Path) -> str:
        top = self.plan.project
        return str(sources) + source.removeprefix(str(top)) if _is_below(source, top) else source

    @cached_property
    def _command(self) -> tuple[str, ...]:
        first, *rest = self.plan.build.command
        program = sight.search(self.plan.build.sandbox, first)
        if program is None and "/" not in first:
            hint = "for tools outside /usr: --tools DIRECTORY"
            raise InputError(f"{first}: not found in the sandbox", hint=hint)
        return (program or first, *rest)


def _copy_entry(source: Path, target: Path, left_out: Path | None = None) -> None:
    """Copy whatever it is; devices, sockets and pipes are no sources."""
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink(source))
    elif stat.S_ISREG(mode):
        shutil.copyfile(source, target)
        target.chmod(mode & 0o777 | 0o600)
    elif stat.S_ISDIR(mode):
        _copy(source, target, left_out)


def _copy(source: Path, target: Path, left_out: Path | None = None) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in fsys.walk(source, enter=lambda entry: source / entry.path != left_out):
        if entry.is_dir:
            (target / entry.path).mkdir(exist_ok=True)
        else:
            _copy_entry(source / entry.path, target / entry.path)


COMMANDS: Mapping[str, tuple[str, ...]] = {
    "cargo": ("cargo", "build", "--release", "--offline"),
    "cmake": ("sh", "-euc", "cmake -S . -B build && cmake --build build"),
    "go": ("go", "build", "-o", "./", "./..."),
    "make": ("sh", "-euc", "[ -e Makefile ] || [ -e makefile ] || [ -e GNUmakefile ] || ./configure; make"),
    "maven": ("mvn", "--offline", "--quiet", "package"),
    "meson": ("sh", "-euc", "meson setup build && meson compile -C build"),
    "npm": ("npm", "run", "build"),
    "pip": ("python3", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "."),
    "zig": ("zig", "build"),
}
"""How a project is built where nothing else is said, by the name of its profile."""


def require_own_outputs(plan: Plan) -> None:
    """Raise UsageError for a directory outside the project that may be written to: each build would."""
    for item in plan.build.sandbox.operations:
        if isinstance(item, Bind) and item.writable and not _is_below(item.source, plan.project):
            hint = "have the command write below the project"
            raise UsageError(f"{item.source}: each of the builds would write to it", hint=hint)


def _is_below(path: str, top: Path) -> bool:
    return path == str(top) or path.startswith(f"{top}/")


def usual_command(profile: str, project: Path) -> tuple[str, ...]:
    """Return how a project of that profile is built; raises InputError where that is not known."""
    if profile in COMMANDS:
        return COMMANDS[profile]
    raise InputError(
        f"{project}: no recipe and no project that belljar knows",
        hint="say how it is built: belljar reproduce DIR -- CMD...",
    )
