"""The record of a relocation, in the tree itself: written before the first change, kept for undoing.

    TREE/.belljar-relocation/          0700: old bytes of private files stand in it
        lock                           held (flock) by whoever changes the tree; goes with the process
        1.applied, 2.applying          one file a relocation, a stack; the last suffix says what goes on

A relocation of a relocated tree lies on top of the first; undoing takes the topmost away. `applying` and
`undoing` are those that were begun and not finished, of which there is at most one, the topmost. Such a
file is complete and on the disk before it gets that name, so it is never half written.

Lines of JSON: the head, one step each, the number of steps. A pair of byte strings, old and new, stands once,
before its first use; `[offset, number of the pair]` is an edit. Of a file with many edits all but the last
thousands stand in lines before it (`edits` alone), so that no line needs much memory. Bytes are text where
they are UTF-8, else {"base64": ...}; paths keep undecodable bytes as surrogates. What was read is trusted no
further than that: all paths stay inside the tree (belljar.relocate.root), and bytes are compared before each
change.

Rejected: a journal outside the tree, which a copy or a move of the tree would part from it; a line for each
change that was made, since the bytes themselves tell (belljar.relocate.steps), and never lie.
"""

import base64
import contextlib
import enum
import fcntl
import itertools
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from belljar.errors import HostError, InputError
from belljar.relocate.edits import Edits, Pair
from belljar.relocate.root import Root
from belljar.relocate.steps import Retarget, Rewrite, Small, Step
from belljar.splice import Splice

DIRECTORY = ".belljar-relocation"
"""The journal's name in a tree; whoever walks a tree to change it leaves it out."""
VERSION = 2
_KNOWN = (1, VERSION)
"""Version 1 had all edits of a file in one line, and no witness."""
_EDITS_A_LINE = 1 << 13
PATIENCE = 3.0
"""For how many seconds to wait for another process that changes the tree."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Phase(enum.StrEnum):
    """Where a relocation stands."""

    APPLYING = "applying"
    APPLIED = "applied"
    UNDOING = "undoing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """What a directory was like before names in it changed: mode, (atime, mtime) in nanoseconds."""

    mode: int
    times: tuple[int, int]

    @classmethod
    def of(cls, info: os.stat_result) -> "Directory":
        """Take it from what stat says."""
        return cls(mode=stat.S_IMODE(info.st_mode), times=(info.st_atime_ns, info.st_mtime_ns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A relocation: where the tree lay, its (old, new) prefixes, its steps, the directories it touches.

    `key` is part of the names of what is staged, so that they are known again.
    """

    key: str
    tree: str
    moves: tuple[tuple[bytes, bytes], ...]
    steps: tuple[Step, ...]
    directories: Mapping[str, Directory] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def temp(self, index: int) -> str:
        """Return the name under which step number `index` is staged."""
        return f".belljar-{self.key}-{index}"


@dataclass(slots=True, kw_only=True)
class Journal:
    """The journal of an open tree. `home` is what the tree's own directory was like."""

    root: Root
    fd: int
    home: Directory

    def top(self) -> tuple[int, Phase] | None:
        """Return the number and phase of the latest relocation."""
        return max(self.entries(), default=None)

    def entries(self) -> list[tuple[int, Phase]]:
        """Return number and phase of all relocations, in their order."""
        found = []
        for name in os.listdir(self.fd):
            number, _dot, phase = name.partition(".")
            if number.isascii() and number.isdigit() and phase in set(Phase):
                found.append((int(number), Phase(phase)))
        return sorted(found)

    def read(self, number: int, phase: Phase) -> Record:
        """Read a relocation's record; raises InputError when it is damaged or of another version."""
        name = f"{number}.{phase}"
        with open(os.open(name, _READ, dir_fd=self.fd), "rb") as file:
            return _decode(file, f"{self.root.path}/{DIRECTORY}/{name}")

    def begin(self, record: Record) -> int:
        """Write a record and return its number; when this returns it is on the disk."""
        top = self.top()
        number = top[0] + 1 if top else 1
        with contextlib.suppress(FileNotFoundError):
            os.unlink("new", dir_fd=self.fd)
        with open(os.open("new", _WRITE, 0o600, dir_fd=self.fd), "wb") as file:
            file.writelines(_encode(record))
            file.flush()
            os.fsync(file.fileno())
        self._rename("new", f"{number}.{Phase.APPLYING}")
        os.fsync(self.root.fd)
        return number

    def turn(self, number: int, before: Phase, after: Phase) -> None:
        """Let a relocation pass from one phase to the next."""
        if before != after:
            self._rename(f"{number}.{before}", f"{number}.{after}")

    def forget(self, number: int, phase: Phase) -> None:
        """Take a relocation off the stack."""
        os.unlink(f"{number}.{phase}", dir_fd=self.fd)
        os.fsync(self.fd)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        os.fsync(self.fd)


@contextlib.contextmanager
def locked(root: Root) -> Iterator[Journal]:
    """Hold the right to change a tree; an empty journal goes away again, and leaves no trace.

    Raises HostError when another process is at work there; OSError when the tree cannot be written.
    """
    home = Directory.of(os.fstat(root.fd))
    if not root.is_writable(""):
        root.set_directory("", home.mode | stat.S_IRWXU)
    fd = lock = None
    try:
        fd, lock = _enter(root)
        journal = Journal(root=root, fd=fd, home=home)
        try:
            yield journal
        finally:
            home = journal.home
            if not journal.entries():
                _leave(root, fd)
    finally:
        for one in (fd, lock):
            if one is not None:
                os.close(one)
        root.set_directory("", home.mode, home.times)


@contextlib.contextmanager
def reading(root: Root) -> Iterator[Journal | None]:
    """Open a tree's journal to look at it; None where there is none."""
    try:
        fd = os.open(DIRECTORY, _READ | os.O_DIRECTORY, dir_fd=root.fd)
    except FileNotFoundError:
        yield None
        return
    try:
        yield Journal(root=root, fd=fd, home=Directory.of(os.fstat(root.fd)))
    finally:
        os.close(fd)


def _enter(root: Root) -> tuple[int, int]:
    """Open the journal's directory and the lock in it, made where they are missing."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(DIRECTORY, 0o700, dir_fd=root.fd)
        try:
            fd = os.open(DIRECTORY, _READ | os.O_DIRECTORY, dir_fd=root.fd)
        except FileNotFoundError:  # its last owner just removed it
            continue
        try:
            if (lock := _lock(root, fd)) is not None:
                return fd, lock
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _lock(root: Root, fd: int) -> int | None:
    """Lock the file in the journal's directory; None when it was removed before it was ours."""
    try:
        lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
    except FileNotFoundError:
        return None
    try:
        _wait_for(lock, root)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat("lock", dir_fd=fd, follow_symlinks=False)):
                return lock
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _wait_for(lock: int, root: Root) -> None:
    """Take the lock; one who was just killed may take a moment to let go of it."""
    end = time.monotonic() + PATIENCE
    while not _is_taken(lock):
        if time.monotonic() > end:
            raise HostError(f"{root.path}: another process is relocating it", hint="wait until it has ended")
        time.sleep(0.05)


def _is_taken(lock: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _leave(root: Root, fd: int) -> None:
    """Remove the journal's directory, the lock last."""
    for name in ("new", "lock"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)
    with contextlib.suppress(OSError):  # somebody else's file is in it, or the next owner's lock
        os.rmdir(DIRECTORY, dir_fd=root.fd)


def _encode(record: Record) -> Iterator[bytes]:
    head = {
        "belljar-relocation": VERSION,
        "key": record.key,
        "tree": record.tree,
        "moves": [[_text(old), _text(new)] for old, new in record.moves],
        "notes": list(record.notes),
        "directories": {path: [one.mode, *one.times] for path, one in record.directories.items()},
    }
    yield _line(head)
    pairs: dict[Pair, int] = {}
    for step in record.steps:
        for pair in _pairs(step):
            if pair not in pairs:
                pairs[pair] = len(pairs)
                yield _line({"pair": list(map(_text, pair))})
        if isinstance(step, Rewrite):
            yield from _encode_rewrite(step, pairs)
        else:
            yield _line(_step_to_json(step))
    yield _line({"steps": len(record.steps)})


def _pairs(step: Step) -> tuple[Pair, ...]:
    if not isinstance(step, Rewrite):
        return ()
    return (*step.splices.shapes, *((one.old, one.new) for one in step.witnesses))


def _encode_rewrite(step: Rewrite, pairs: Mapping[Pair, int]) -> Iterator[bytes]:
    edits, starts = step.splices, range(0, len(step.splices) or 1, _EDITS_A_LINE)
    numbers = [pairs[pair] for pair in edits.shapes]
    for begin in starts:
        part = edits[begin : begin + _EDITS_A_LINE]
        found = [[at, numbers[number]] for at, number in zip(part.offsets, part.numbers, strict=True)]
        last = {"file": list(step.names), "size": step.size} if begin == starts[-1] else {}
        for one in step.witnesses if last else ():
            last["witness"] = [one.offset, pairs[one.old, one.new]]
        yield _line(last | {"edits": found})


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _step_to_json(step: Step) -> dict[str, Any]:
    match step:
        case Retarget():
            return {"link": step.path, "old": _text(step.old), "new": _text(step.new)}
        case Small(new=bytes(content)):
            return {"create": step.path, "content": _text(content), "mode": step.mode}
        case _:
            raise TypeError(f"no step of a record: {step!r}")


def _text(data: bytes) -> str | dict[str, str]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytes(value: str | Mapping[str, str]) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"], validate=True)


def _decode(lines: Iterable[bytes], subject: str) -> Record:
    """Read what `_encode` wrote."""
    try:
        found = map(json.loads, lines)
        head: Any = next(found, {})
        if head["belljar-relocation"] not in _KNOWN:
            raise InputError(f"{subject}: version {head['belljar-relocation']!r} is not known")
        steps, count = _decode_steps(found)
        if count != len(steps):
            raise ValueError("it is not complete")
        return Record(
            key=_key(head["key"]),
            tree=str(head["tree"]),
            moves=tuple((_bytes(old), _bytes(new)) for old, new in head["moves"]),
            steps=steps,
            directories={
                _path(path, empty=True): Directory(mode=_mode(mode), times=(int(atime), int(mtime)))
                for path, (mode, atime, mtime) in head["directories"].items()
            },
            notes=tuple(map(str, head["notes"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{subject}: damaged ({type(error).__name__}: {error})") from error


def _decode_steps(values: Iterable[Any]) -> tuple[tuple[Step, ...], int]:
    pairs: list[Pair] = []
    steps: list[Step] = []
    parts: list[Edits] = []
    for value in values:
        if "pair" in value:
            old, new = value["pair"]
            pairs.append((_bytes(old), _bytes(new)))
        elif "steps" in value:
            return tuple(steps), value["steps"]
        elif "edits" in value:
            parts.append(Edits.of(_splices(value["edits"], pairs)))
            if "file" in value:
                edits = Edits.of(itertools.chain.from_iterable(parts))
                steps.append(_decode_rewrite(value, edits, pairs))
                parts = []
        else:
            steps.append(_decode_small(value))
    return tuple(steps), -1


def _decode_rewrite(value: Mapping[str, Any], edits: Edits, pairs: list[Pair]) -> Rewrite:
    (witness,) = _splices([value["witness"]], pairs) if "witness" in value else (None,)
    return Rewrite(
        names=tuple(map(_path, value["file"])) or _fail("no name"),
        size=_number(value["size"]),
        splices=edits,
        witness=witness,
    )


def _decode_small(value: Mapping[str, Any]) -> Step:
    if "link" in value:
        return Retarget(path=_path(value["link"]), old=_bytes(value["old"]), new=_bytes(value["new"]))
    content, mode = _bytes(value["content"]), _mode(value["mode"]) & 0o777
    return Small(path=_path(value["create"]), old=None, new=content, mode=mode)


def _splices(edits: Iterable[Any], pairs: list[Pair]) -> Iterator[Splice]:
    for offset, number in edits:
        old, new = pairs[_number(number, len(pairs))]
        yield Splice(offset=_number(offset), old=old, new=new)


def _number(value: Any, limit: int = 1 << 62) -> int:
    return value if type(value) is int and 0 <= value < limit else _fail(f"not a number in range: {value!r}")


def _mode(value: Any) -> int:
    return _number(value, 0o10000)


def _key(value: str) -> str:
    return value if value.isascii() and value.isalnum() and len(value) <= 32 else _fail(f"no key: {value!r}")


def _path(value: str, *, empty: bool = False) -> str:
    return value if (empty and not value) or is_inside(value) else _fail(f"not a path inside: {value!r}")


def is_inside(path: str) -> bool:
    """Whether a relative path stays inside the tree and out of the journal."""
    parts = path.split("/")
    return not {"", ".", ".."} & set(parts) and "\0" not in path and parts[0] != DIRECTORY


def _fail(what: str) -> NoReturn:
    raise ValueError(what)
