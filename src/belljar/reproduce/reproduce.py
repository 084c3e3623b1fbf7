"""From a subject to a result: build as usual, build with everything varied, and find out why they differ."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from belljar import fsys, proc
from belljar.errors import UsageError
from belljar.home import Home
from belljar.reproduce import diffoscope
from belljar.reproduce.result import Result, causes_of, shown
from belljar.reproduce.search import search
from belljar.reproduce.subject import Subject
from belljar.reproduce.trees import Compared, Metadata
from belljar.reproduce.trial import Laboratory
from belljar.reproduce.variation import ALL, Influence, chosen, variable
from belljar.types import Event, Progress, quiet

_NO_LOCALE = "locale: only its name is varied: there is no localedef here to make another one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to vary (empty: all), what not, variables of the environment besides, how many builds at most.

    `only` and `ignored` are patterns of what is compared; `everything`: also what build tools write for
    themselves. `offline`: what a recipe needs must have been fetched.
    `rounds` is how many builds with everything varied must show no difference, `metadata` what is compared
    besides contents. `keep` is a directory to be made, which gets the usual tree and the varied one.
    """

    vary: tuple[str, ...] = ()
    dont_vary: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    most: int = 60
    rounds: int = 1
    metadata: frozenset[Metadata] = frozenset()
    only: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    everything: bool = False
    offline: bool = False
    keep: Path | None = None

    def compared(self, subject: Subject) -> Compared:
        """Return what of the trees of a subject is compared."""
        left_overs = () if self.everything else subject.left_overs
        return Compared(
            ignored=(*subject.ignored, *left_overs, *self.ignored), only=self.only, metadata=self.metadata
        )

    @property
    def influences(self) -> tuple[Influence, ...]:
        """What is varied. Raises UsageError for names that there are not."""
        more = tuple(variable(name, value) for name, value in self.variables)
        names = {item.name for item in more}
        known = (*(item for item in ALL if item.name not in names), *more)
        return chosen(known, self.vary, self.dont_vary)


def investigate(
    make: Callable[[Path], Subject], options: Options, home: Home, progress: Progress = quiet
) -> Result:
    """Build what `make` returns for a directory of its own, vary what it might depend on, and compare.

    Raises BuildError when it does not build as usual, InputError when it makes nothing, UsageError for
    influences that there are not, HostError when this machine cannot run a sandbox.
    """
    _check(options.keep)
    influences, started = options.influences, time.monotonic()
    with fsys.staging(home.staging) as stage:
        subject = make(stage / "pristine")
        influences, notes = _possible(influences, subject)
        lab = Laboratory(
            subject=subject,
            influences=influences,
            stage=stage,
            progress=progress,
            limit=options.most,
            compared=options.compared(subject),
        )
        found = search(lab, influences, options.rounds)
        differing = lab.seen()
        causes = causes_of(found, influences, differing)
        words, more = _diffoscope(stage, lab, progress) if found else ("", ())
        result = Result(
            subject=subject.title,
            influences=influences,
            builds=lab.builds,
            seconds=time.monotonic() - started,
            causes=causes,
            differences=shown(differing, influences, causes),
            notes=(*notes, *more),
            kept=str(options.keep or ""),
            diffoscope=words,
        )
        if options.keep is not None:
            _keep(stage, options.keep)
    return result


def _check(keep: Path | None) -> None:
    if keep is not None and keep.exists():
        raise UsageError(f"--keep {keep}: exists already")
    if keep is not None and not keep.absolute().parent.is_dir():
        raise UsageError(f"--keep {keep}: there is no directory {keep.absolute().parent}")


def _possible(
    influences: tuple[Influence, ...], subject: Subject
) -> tuple[tuple[Influence, ...], tuple[str, ...]]:
    notes = []
    names = {item.name for item in influences}
    if "locale" in names and proc.find("localedef") is None:
        notes.append(_NO_LOCALE)
    notes += [f"{name}: not varied: {why}" for name, why in subject.fixed.items() if name in names]
    possible = (item for item in influences if item.name not in subject.fixed)
    return tuple(_held(item, subject) for item in possible), tuple(notes)


def _held(item: Influence, subject: Subject) -> Influence:
    """Return an influence; what whoever builds the subject holds fast is an input by convention."""
    remedy = subject.inputs.get(item.name)
    return item if remedy is None else replace(item, declared=True, remedy=remedy)


def _diffoscope(stage: Path, lab: Laboratory, progress: Progress) -> tuple[str, tuple[str, ...]]:
    """Return what diffoscope has to say of the two trees, where it is installed, and notes."""
    if proc.find(diffoscope.PROGRAM) is None or not (stage / "varied").is_dir():
        return "", ()
    progress(Event(stage="compare", subject="with diffoscope"))
    name = lab.usual().tree.name
    text, note = diffoscope.account(stage, (f"usual/{name}", f"varied/{name}"), lab.compared.ignored)
    return text, (note,) if note else ()


def _keep(stage: Path, keep: Path) -> None:
    keep.mkdir()
    for name in ("usual", "varied"):
        if (stage / name).is_dir():
            shutil.move(stage / name, keep / name)
