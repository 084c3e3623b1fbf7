"""One build of a subject in one world, and a laboratory that makes as few of them as it is asked for.

Everything happens below one staging directory: `usual` is the build that others are compared with, `varied`
the one with everything varied; both are kept for whoever wants to look. Any other is removed when it has been
compared. A build that fails is a result: it differs from one that does not.
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from belljar import fsys
from belljar.build.script import sandbox_failed
from belljar.errors import BuildError, HostError
from belljar.reproduce import locale
from belljar.reproduce.difference import Difference, Spot
from belljar.reproduce.noise import Noise, noise_of
from belljar.reproduce.search import FAILURE
from belljar.reproduce.subject import Subject
from belljar.reproduce.trees import Compared, differences
from belljar.reproduce.variation import Influence, world_of
from belljar.reproduce.world import World
from belljar.sandbox import Sandbox, SandboxError, run
from belljar.sandbox.spec import Spec
from belljar.types import Event, Progress

_APART = 2.2
"""Seconds between the beginnings of the first two builds: a zip archive counts time in steps of two."""
_PATIENCE, _LEAST = 10, 30.0
"""A build may take so many times as long as the usual one, and so many seconds at least."""
_TAIL = 15
_FULL = 1 << 16
"""Bytes free: a build that fails with less has failed by that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build left: its tree, how it ended (None: in time, with status 0), its log, seconds."""

    tree: Path
    failure: str | None
    log: Path
    seconds: float


@dataclass(kw_only=True)
class Laboratory:
    """Builds below `stage`; makes no more than `limit` builds."""

    subject: Subject
    influences: Sequence[Influence]
    stage: Path
    compared: Compared
    progress: Progress
    limit: int = 60
    builds: int = 0
    noise: Noise = field(default_factory=lambda: noise_of(()))
    _known: dict[frozenset[str], tuple[Difference, ...]] = field(default_factory=dict)
    _usual: Built | None = None
    _begun: float = 0.0
    _event: Event = field(default_factory=lambda: Event(stage="reproduce"))
    _repeated: tuple[Difference, ...] = ()

    @property
    def is_spent(self) -> bool:
        """Whether there have been as many builds as there may be."""
        return self.builds >= self.limit

    def usual(self) -> Built:
        """Return the build that all others are compared with. Raises BuildError when it fails."""
        if self._usual is None:
            self._begun = time.monotonic()
            built = self._build("usual", frozenset())
            if built.failure is not None:
                raise self._failed(built)
            _make_readable(built.tree)
            self._usual = built
        return self._usual

    def differences(self, names: frozenset[str], *, again: bool = False) -> tuple[Difference, ...]:
        """Return how a build with these influences varied differs, without what differs at every build."""
        if again or names not in self._known:
            found = self._compare("varied" if len(names) == len(self.influences) else "trial", names)
            self._known[names] = found
        return tuple(item for item in self._known[names] if not self.noise.hides(item))

    def repeat(self) -> tuple[Difference, ...]:
        """Return what differs at every build, from one more build as usual; it is hidden from then on."""
        found = self._compare("again", frozenset())
        self._repeated = (*self._repeated, *found)
        self.noise = self.noise.joined(noise_of(found))
        return found

    def seen(self) -> tuple[Difference, ...]:
        """Return everything that differed in any build, each spot once, as it was seen first."""
        found: dict[tuple[Spot, str, str], Difference] = {}
        spots: set[Spot] = set()
        for batch in (*self._known.values(), self._repeated):
            fresh = [item for item in batch if item.spot not in spots]
            found |= {(item.spot, item.before, item.after): item for item in fresh}
            spots |= {item.spot for item in fresh}
        return tuple(sorted(found.values(), key=lambda item: item.place))

    def _compare(self, name: str, names: frozenset[str]) -> tuple[Difference, ...]:
        usual = self.usual()
        if self.builds == 1:
            time.sleep(max(0.0, _APART - (time.monotonic() - self._begun)))
        built = self._build(name, names)
        if built.failure is not None:
            path, part = FAILURE
            return (Difference(path=path, part=part, before="0", after=built.failure),)
        _make_readable(built.tree)
        found = differences(usual.tree, built.tree, self.compared)
        if name != "varied":
            fsys.remove_tree(self.stage / name)
        return found

    def _build(self, name: str, names: frozenset[str]) -> Built:
        self.builds += 1
        self._event = Event(stage=f"build {self.builds}, {self._words(names)}")
        self.progress(self._event)
        place = self.stage / name
        fsys.remove_tree(place)
        place.mkdir()
        world = world_of(item for item in self.influences if item.name in names)
        return self._run(place, world)

    def _words(self, names: frozenset[str]) -> str:
        if not names:
            return "as usual" if self.builds == 1 else "as usual, again"
        if len(names) == len(self.influences):
            return "with everything varied"
        listed = [item.name for item in self.influences if item.name in names]
        return (
            f"with {', '.join(listed[:4])}{f' and {len(listed) - 4} more' if len(listed) > 4 else ''} varied"
        )

    def _run(self, place: Path, world: World) -> Built:
        ready = self.subject.prepare(place)
        for entry in fsys.walk(ready.sources):
            os.utime(ready.sources / entry.path, (world.timestamps,) * 2, follow_symlinks=False)
        os.utime(ready.sources, (world.timestamps,) * 2)
        files, log = place / "machine", place / "log"
        files.mkdir()
        world.write_files(ready.sandbox, files)
        if world.locale != World().locale:
            locale.compile_into(files / "locale", world.locale)
        started = time.monotonic()
        box = world.sandbox(ready.sandbox, files)
        spec = Spec(sandbox=box, policy=world.policy())
        fsys.write_atomic(place / "sandbox.json", spec.to_json())
        failure = self._execute(box, world.command(ready.command), world, log)
        if failure is None:
            self.subject.finish(ready)
        elif shutil.disk_usage(place).free < _FULL:
            hint = "free some space there, or choose another filesystem (BELLJAR_HOME)"
            raise HostError(f"{self.subject.title}: the disk that holds {self.stage} is full", hint=hint)
        return Built(tree=ready.output, failure=failure, log=log, seconds=time.monotonic() - started)

    def _execute(self, box: Sandbox, command: tuple[str, ...], world: World, log: Path) -> str | None:
        timeout = None if self._usual is None else max(_LEAST, _PATIENCE * self._usual.seconds)
        with log.open("wb") as file:
            try:
                outcome = run(
                    box,
                    command,
                    stdout=file.fileno(),
                    stderr=file.fileno(),
                    timeout=timeout,
                    policy=world.policy(),
                    watch=lambda: self.progress(self._event),
                )
            except SandboxError as error:
                raise sandbox_failed(error) from error
        if outcome.timed_out:
            return f"did not end within {timeout:.0f} seconds"
        if outcome.status == 0:
            return None
        last = tail(log, 1)
        return f"{outcome.status}{f': {last[0]}' if last else ''}"

    def _failed(self, built: Built) -> BuildError:
        kept = self.stage.parent.parent / "logs" / "reproduce.log"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built.log, kept)
        return BuildError(
            f"{self.subject.title}: the build failed: exit status {built.failure}",
            log=str(kept),
            tail=tail(kept, _TAIL),
            hint="make it build hermetically first: belljar run, belljar build",
        )


def _make_readable(tree: Path) -> None:
    """Let its owner look into all of a tree, whatever modes a build has left."""
    for top, directories, files in os.walk(tree):
        for name in (*directories, *files):
            path = Path(top, name)
            mode, needed = path.lstat().st_mode, 0o700 if name in directories else 0o400
            if not path.is_symlink() and mode & needed != needed:
                path.chmod(mode & 0o7777 | needed)


def tail(log: Path, count: int) -> tuple[str, ...]:
    """Return the last lines of a log that are not blank."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return tuple(line for line in lines if line.strip())[-count:]
