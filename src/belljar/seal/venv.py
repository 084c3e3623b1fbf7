"""A Python virtual environment as a prefix of its own: interpreter, standard library, packages, scripts.

A virtual environment is tied to two places: its own, which stands in its scripts, and that of the Python it
was made with, which stands in `pyvenv.cfg` as an absolute path. CPython takes no relative one there; but an
interpreter that finds `lib/pythonX.Y/os.py` above its own directory needs no such file at all (CPython,
Modules/getpath.py). So the environment is copied, the interpreter and standard library are put into it,
`home` is struck out of `pyvenv.cfg` (the rest keeps packages of the user and the system out), scripts find
their interpreter themselves, and the prefix that this gives is sealed.

The environment that it is made from is not changed. All is made beside the output and renamed at the end:
a crash leaves a directory `.belljar-...` there, and never half an output.

Not taken: activation scripts, which can only name one place (put `bin` on PATH instead); what pip would
refuse to change on the old system (EXTERNALLY-MANAGED), tests and static libraries of the standard library.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from belljar import fsys, proc
from belljar.errors import InputError
from belljar.relocate.change import FileChange, Plan, Refusal
from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.plan import plan as plan_move
from belljar.relocate.foreign.subject import Options as MoveOptions
from belljar.relocate.moving import carry_out
from belljar.seal import doing, scripts
from belljar.seal.plan import Options, Sealing, plan
from belljar.types import Event, Progress, quiet

_ASK = """
import json, os, sys, sysconfig
base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
print(json.dumps({
    "name": sys.implementation.name,
    "version": "%d.%d" % sys.version_info[:2],
    "executable": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    "base": sys.base_prefix,
    "libraries": sys.platlibdir,
    "stdlib": sysconfig.get_path("stdlib", vars=base),
    "platstdlib": os.path.join(sys.base_exec_prefix, sys.platlibdir, "python%d.%d" % sys.version_info[:2]),
    "is_virtual": sys.prefix != sys.base_prefix,
}))
"""
_NOT_TAKEN = ("site-packages", "dist-packages", "test", "tests", "EXTERNALLY-MANAGED", "*.a")
_ACTIVATION = re.compile(r"activate(?:\.\w+)?\Z|Activate\.ps1\Z")
_INTERPRETER = re.compile(r"python[\d.]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment, and the Python behind it: `executable`, whose standard library is `stdlib`.

    `libraries` is the name of the directory of libraries (`lib`, `lib64`), `base` the prefix of that Python.
    """

    path: Path
    version: str
    executable: Path
    base: Path
    stdlib: tuple[Path, ...]
    libraries: str

    @property
    def library(self) -> str:
        """Where in a prefix the standard library goes."""
        return f"{self.libraries}/python{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A sealed environment at `path`, how it was sealed, and what a user should know."""

    path: Path
    sealing: Sealing
    notes: tuple[str, ...] = ()


def read(path: Path) -> Environment:
    """Ask a virtual environment for the Python behind it.

    Raises InputError when it is none, is not of CPython, or lets packages of the system in.
    """
    path = path.absolute()
    config = path / "pyvenv.cfg"
    if not config.is_file():
        raise InputError(f"{path}: no virtual environment: it has no pyvenv.cfg")
    if re.search(r"(?mi)^include-system-site-packages\s*=\s*true", config.read_text(errors="replace")):
        raise InputError(
            f"{path}: uses packages of the system, which would stay behind",
            hint="make it anew without --system-site-packages",
        )
    done = proc.run([path / "bin/python", "-I", "-c", _ASK], timeout=60)
    try:
        told = json.loads(done.stdout)
        stdlib = tuple(dict.fromkeys(Path(told[name]).resolve() for name in ("stdlib", "platstdlib")))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: its interpreter does not run:\n{done.last_words}") from error
    if told["name"] != "cpython" or not told["is_virtual"]:
        raise InputError(f"{path}: not a virtual environment of CPython ({told['name']})")
    return Environment(
        path=path,
        version=told["version"],
        executable=Path(told["executable"]),
        base=Path(told["base"]),
        stdlib=tuple(place for place in stdlib if place.is_dir()),
        libraries=told["libraries"],
    )


def make(
    environment: Environment, output: Path, options: Options | None = None, *, progress: Progress = quiet
) -> Made:
    """Make a sealed copy of an environment at `output`, which moves and runs elsewhere.

    Raises InputError when `output` is there, or something cannot be sealed; HostError when it cannot be
    written. Nothing stays then.
    """
    output = output.absolute()
    if os.path.lexists(output):
        raise InputError(f"{output}: is there already")
    options = options or Options()
    options = replace(options, search=(*options.search, environment.base / environment.libraries))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".belljar-", dir=output.parent))
        try:
            tree = scratch / output.name
            notes = _assemble(environment, tree, output, progress)
            sealing = plan(tree, options, progress=progress)
            doing.seal(sealing, progress=progress)
            tree.rename(output)
        finally:
            fsys.remove_tree(scratch)
    except OSError as error:
        raise fsys.explained(error, output) from error
    return Made(path=output, sealing=sealing, notes=tuple(notes))


def _assemble(environment: Environment, tree: Path, output: Path, progress: Progress) -> list[str]:
    """Put a prefix together that needs no other Python; return what a user should know."""
    progress(Event(stage="copy", subject=str(environment.path)))
    shutil.copytree(environment.path, tree, symlinks=True, ignore=_left_out(environment))
    _put_interpreter(environment, tree / "bin")
    for stdlib in environment.stdlib:
        progress(Event(stage="copy", subject=str(stdlib)))
        _put_library(stdlib, tree / environment.library)
    _put_config(tree / "pyvenv.cfg")
    notes = [f"bin/{name}: left out: it names one place" for name in _activation(environment.path / "bin")]
    notes += _free(environment, tree, output)
    return notes


def _left_out(environment: Environment) -> Callable[[str, list[str]], list[str]]:
    """Return what is not copied of an environment: names in a directory, as shutil.copytree asks."""
    binaries = str(environment.path / "bin")

    def names(directory: str, found: list[str]) -> list[str]:
        if directory != binaries:
            return []
        return [name for name in found if _ACTIVATION.match(name) or _INTERPRETER.match(name)]

    return names


def _activation(directory: Path) -> Iterator[str]:
    yield from sorted(path.name for path in directory.iterdir() if _ACTIVATION.match(path.name))


def _put_interpreter(environment: Environment, directory: Path) -> None:
    name = f"python{environment.version}"
    shutil.copy2(environment.executable, directory / name)
    for alias in ("python3", "python"):
        (directory / alias).symlink_to(name)


def _put_library(source: Path, target: Path) -> None:
    """Copy a standard library, links followed; byte code stays valid, since times are kept."""
    shutil.copytree(
        source,
        target,
        ignore=shutil.ignore_patterns(*_NOT_TAKEN),
        ignore_dangling_symlinks=True,
        dirs_exist_ok=True,
    )
    site = target / "site.py"
    if b"dist-packages" in site.read_bytes() and not (target / "dist-packages").exists():
        # Debian's Python looks there, unless it is in a virtual environment.
        (target / "dist-packages").symlink_to("site-packages")


def _put_config(path: Path) -> None:
    """Strike out what names places; without `home` the interpreter looks above its own directory."""
    kept = [line for line in path.read_text().splitlines() if re.match(r"(?i)(include-|version)", line)]
    path.write_text("".join(f"{line}\n" for line in kept))


def _free(environment: Environment, tree: Path, output: Path) -> list[str]:
    """Rewrite what names the environment's old place: scripts, byte code, records. Return notes."""
    moves = Moves.of([(str(environment.path), str(output))])
    moved = plan_move(tree, moves, MoveOptions(relative=True, leave=("*",)))
    carry_out(moved, keep=False)
    changes = list(scripts.freed(tree, output))
    edits = tuple(item for item in changes if isinstance(item, FileChange))
    carry_out(Plan(tree=tree, moves=(), changes=edits), keep=False)
    # Scripts come next; byte code knows its source's name, which an import sets right.
    dealt_with = {f"{item.path}: " for item in edits}
    notes = [note for note in moved.notes if ".pyc: " not in note]
    notes = [note for note in notes if not any(map(note.startswith, dealt_with))]
    return [*notes, *(item.describe() for item in changes if isinstance(item, Refusal))]
