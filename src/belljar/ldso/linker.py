"""Loading without a process: the list of loaded files, grown breadth first as both loaders do.

What is common to glibc's and musl's loaders is here; how a name is looked up is in glibc.py and
musl.py. Looking up changes nothing, so that libraries which may be opened later are looked up too.
"""

import abc
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from belljar.elf import ElfError, Header
from belljar.elf.const import MAGIC, Flag1, Machine, Type
from belljar.errors import InputError
from belljar.ldso.binary import Binary
from belljar.ldso.cache import Cache
from belljar.ldso.closure import Edge, How
from belljar.ldso.cpu import Cpu
from belljar.ldso.loader import Loader
from belljar.ldso.paths import Tokens
from belljar.ldso.root import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a loader gets from outside: LD_LIBRARY_PATH, LD_PRELOAD, the working directory, the processor.

    `cpu` None is this machine's for the root `/` and the least of its kind for any other.
    """

    library_path: str = ""
    preload: tuple[str, ...] = ()
    directory: str = "/"
    cpu: Cpu | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """A loaded file: the path as the loader writes it, and for which file it was loaded."""

    path: str
    place: Place
    binary: Binary
    asker: "Loaded | None" = None


class Hit(NamedTuple):
    """The answer for a name: why, and the file; `is_new` when it is not loaded yet."""

    edge: Edge
    loaded: Loaded | None = None
    is_new: bool = False


class Outcome(NamedTuple):
    """A look at one path: the file, or why it cannot be had.

    `fatal` ends loading as a whole, `ends_list` the search in that list of directories.
    """

    place: Place | None = None
    binary: Binary | None = None
    reason: str = ""
    fatal: bool = False
    ends_list: bool = False


_ABSENT = Outcome()
# Part of e_flags that the loader compares: floating-point ABI, ELFv1 or ELFv2.
_ABI_FLAGS: dict[int, int] = {Machine.RISCV: 0xE, Machine.PPC64: 3}
_PASSED_OVER = {errno.ENOENT, errno.ENOTDIR, errno.EACCES}
_OS_ABIS = {0, 3}


class Stage(NamedTuple):
    """One of the places that are searched in turn: why, whose list, and the paths with their entries."""

    how: How
    owner: str
    candidates: Iterable[tuple[str, str]]


class Linker(abc.ABC):
    """One loading of one program."""

    def __init__(
        self, *, cache: Cache, loader: Loader, surroundings: Surroundings, cpu: Cpu, program: Loaded
    ) -> None:
        self.cache = cache
        self.loader = loader
        self.surroundings = surroundings
        self.cpu = cpu
        self.program = program
        self.objects: list[Loaded] = [program]
        self.edges: list[Edge] = []
        self.interpreter = self._find_interpreter()
        self._files: dict[tuple[int, int], Loaded] = {}

    def run(self) -> None:
        """Load all that the program needs."""
        self._note_interpreter()
        for name in self.preloads():
            self._load(name, self.program, preload=True)
        # The list grows while it is walked: this is what makes the order breadth first.
        for loaded in self.objects:
            for name in loaded.binary.needed:
                self._load(name, loaded)

    @abc.abstractmethod
    def preloads(self) -> tuple[str, ...]:
        """Return the names that are loaded before all others."""

    @abc.abstractmethod
    def find(self, name: str, asker: Loaded) -> Hit:
        """Return what `name` leads to when `asker` asks; loads nothing."""

    @abc.abstractmethod
    def register(self, loaded: Loaded, name: str, asker: Loaded, *, is_new: bool) -> None:
        """Remember that `asker` knows a file by `name` from now on, and so do all others."""

    def _find_interpreter(self) -> Loaded | None:
        """Return the loader itself, which is in the process before all others but in no list yet."""
        try:
            place = self.cache.root.locate(self.loader.name)
            binary = self.cache.binary(place)
        except (OSError, ElfError, InputError):
            return None
        name = self.loader.name
        return Loaded(path=name, place=place, binary=binary, asker=self.program)

    def _note_interpreter(self) -> None:
        name, found = self.program.binary.elf.interpreter, self.interpreter
        if name is None:
            return
        how = How.INTERPRETER if found else How.MISSING
        entry = "" if found else "the interpreter is not there"
        path = found.path if found else None
        self.edges.append(Edge(asker=self.program.path, name=name, how=how, path=path, entry=entry))

    def _load(self, name: str, asker: Loaded, *, preload: bool = False) -> None:
        hit = self.find(name, asker)
        if preload and hit.loaded is not None:
            hit = hit._replace(edge=Edge(asker=asker.path, name=name, how=How.PRELOAD, path=hit.loaded.path))
        self.edges.append(hit.edge)
        if hit.loaded is None:
            return
        if hit.is_new:
            self.objects.append(hit.loaded)
            if hit.loaded is not self.interpreter:
                self._files[hit.loaded.place.identity] = hit.loaded
        self.register(hit.loaded, name, asker, is_new=hit.is_new)

    def search(self, name: str, asker: Loaded, stages: Iterator[Stage]) -> Hit:
        """Return the first file that can be loaded, stage by stage."""
        passed: list[str] = []
        for how, owner, candidates in stages:
            for path, entry in candidates:
                outcome = self.look(path)
                if outcome.place is not None:
                    edge = Edge(
                        asker=asker.path,
                        name=name,
                        how=how,
                        path=path,
                        owner=owner,
                        entry=entry,
                        passed=tuple(passed),
                    )
                    return self._hit(outcome, edge, asker)
                if outcome.fatal:
                    return self.miss(name, asker, How.DAMAGED, outcome.reason, passed)
                if outcome.reason:
                    passed.append(outcome.reason)
                if outcome.ends_list:
                    break
        return self.miss(name, asker, How.MISSING, "", passed)

    def miss(self, name: str, asker: Loaded, how: How, reason: str, passed: Iterable[str] = ()) -> Hit:
        """Return the answer for a name that leads to no file."""
        return Hit(Edge(asker=asker.path, name=name, how=how, entry=reason, passed=tuple(passed)))

    def again(self, loaded: Loaded, name: str, asker: Loaded, entry: str) -> Hit:
        """Return the answer for a file that is in the process already, known by `entry`."""
        if loaded is self.interpreter:
            edge = Edge(asker=asker.path, name=name, how=How.INTERPRETER, path=loaded.path)
            return Hit(edge, loaded, is_new=loaded not in self.objects)
        return Hit(Edge(asker=asker.path, name=name, how=How.LOADED, path=loaded.path, entry=entry), loaded)

    def _hit(self, outcome: Outcome, edge: Edge, asker: Loaded) -> Hit:
        assert outcome.place is not None
        assert outcome.binary is not None
        assert edge.path is not None
        known = self._files.get(outcome.place.identity)
        if known is not None:
            return self.again(known, edge.name, asker, "file")
        return Hit(
            edge,
            Loaded(path=edge.path, place=outcome.place, binary=outcome.binary, asker=asker),
            is_new=True,
        )

    def absolute(self, path: str) -> str:
        """Return where a path as the loader writes it is in the root."""
        return path if path.startswith("/") else f"{self.surroundings.directory}/{path}"

    def origin(self, loaded: Loaded) -> str:
        """Return `$ORIGIN`: of the program where it really is, of a library where it was found."""
        if loaded is self.program and loaded.binary.elf.interpreter is not None:
            return loaded.place.path.rpartition("/")[0] or "/"
        return self.absolute(loaded.path).rpartition("/")[0] or "/"

    def tokens(self, loaded: Loaded) -> Tokens:
        """Return what the tokens in a file's paths stand for."""
        return Tokens(self.origin(loaded), self.loader.lib, self.loader.platform(self.cpu))

    def look(self, path: str) -> Outcome:
        """Look whether the file at `path` can be loaded."""
        try:
            place = self.cache.root.locate(self.absolute(path))
        except OSError as error:
            ends = error.errno not in _PASSED_OVER
            return Outcome(reason=f"{path}: {error.strerror}", ends_list=True) if ends else _ABSENT
        if not os.access(place.host, os.R_OK):
            return Outcome(reason=f"{path}: may not be read")
        try:
            binary = self.cache.binary(place)
        except (ElfError, InputError) as error:
            if _is_foreign(self.cache.ident(place), self.program.binary.elf.header):
                return Outcome(reason=f"{path}: for another machine")
            return Outcome(reason=f"{path}: {error.message.removeprefix(f'{path}: ')}", fatal=True)
        return self._judge(path, place, binary)

    def _judge(self, path: str, place: Place, binary: Binary) -> Outcome:
        header, wanted = binary.elf.header, self.program.binary.elf.header
        trouble = _mismatch(header, wanted)
        if trouble:
            return Outcome(reason=f"{path}: {trouble}")
        trouble = _refusal(binary, wanted)
        if trouble:
            return Outcome(reason=f"{path}: {trouble}", fatal=True)
        return Outcome(place=place, binary=binary)


def _is_foreign(ident: bytes, wanted: Header) -> bool:
    """Whether a damaged file was for another kind of process: the loader looks no further."""
    if not ident.startswith(MAGIC) or len(ident) < 20:
        return False
    if ident[4] != wanted.elf_class:
        return True
    machine = int.from_bytes(ident[18:20], "big" if wanted.is_big_endian else "little")
    return ident[5] == wanted.data and machine != wanted.machine


def _mismatch(header: Header, wanted: Header) -> str:
    """Return why a search goes on behind such a file: it is for another kind of process."""
    if header.elf_class != wanted.elf_class:
        return "for 64-bit programs" if header.is_wide else "for 32-bit programs"
    if header.data == wanted.data and header.machine != wanted.machine:
        return f"for another machine ({header.machine})"
    mask = _ABI_FLAGS.get(wanted.machine, 0)
    return "for another ABI" if (header.flags ^ wanted.flags) & mask else ""


def _refusal(binary: Binary, wanted: Header) -> str:
    """Return why loading ends at such a file; empty when it can be loaded."""
    header, dynamic = binary.elf.header, binary.elf.dynamic
    if header.data != wanted.data:
        return "of another byte order"
    if header.os_abi not in _OS_ABIS:
        return f"OS ABI {header.os_abi} is not Linux's"
    if header.type == Type.EXEC or (dynamic and dynamic.flags_1 & Flag1.PIE):
        return "a program, not a library"
    if header.type != Type.DYN:
        return "not a shared object"
    return "" if dynamic else "has no dynamic segment"
