"""Which files a command opens, maps and executes, with all that it starts: a tracer by ptrace(2).

Whoever wants to prove that a program reads nothing of its host has to see what the kernel does for it, not
what the program says. Every system call of every process stops here; for those that open a file the kernel's
own answer is recorded: what /proc/PID/fd/N leads to, links resolved. Attempts that fail count too: on another
machine the file may be there. What a loader maps is seen in its mmap calls; what exec maps itself (the
interpreter of PT_INTERP, without any call), and what is mapped at the end, in /proc/PID/maps. Files that the
command itself made are left out, by whatever name they are opened.

Three processes: the caller, a tracer of its own (waiting for all children is no business of the caller's) and
the command. When the tracer dies, everything that it traces is killed.

Not seen are files that come by io_uring, system calls of another machine's ABI, processes that ask to be
untraced, and what paths mean after chroot and mounts; each is told as a gap.
Rejected: strace (may be missing), fanotify (needs root), LD_AUDIT and LD_PRELOAD (the program's loader has to
play along, and exec and static programs escape them), eBPF (needs root).
"""

import contextlib
import ctypes
import enum
import errno
import itertools
import json
import os
import re
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NoReturn

from belljar.sandbox import kernel
from belljar.sandbox.diagnosis import SandboxError

_SEIZE, _SYSCALL, _LISTEN, _SYSCALL_INFO = 0x4206, 24, 0x4208, 0x420E
# PTRACE_O_TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, TRACEEXIT, EXITKILL
_OPTIONS = 1 | 2 | 4 | 8 | 16 | 64 | 1 << 20
_EXEC, _EXIT, _STOP = 4, 6, 128
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_ALL = 0x40000000  # __WALL of waitpid(2): threads too
_ENTRY, _LEAVE = 1, 2
# struct ptrace_syscall_info: op, arch; then number and six arguments, or result and whether it is an error.
_HEAD, _CALL, _RESULT = struct.Struct("<B3xI16x"), struct.Struct("<7Q"), struct.Struct("<qB")
_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOADER = re.compile(r"ld(-.*|64)?\.so(\.[0-9])?|ld-.*")
_CWD, _PATH, _RESTART, _WORDS = -100, 4096, 512, 4096
_OPENAT2 = 437


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opener:
    """Where a system call has the directory (None: it has none), the path and the flags of what it opens."""

    directory: int | None = None
    path: int | None = None
    flags: int | None = None


_AT = _Opener(directory=0, path=1, flags=2)
_OPENERS = {
    "x86_64": {
        2: _Opener(path=0, flags=1),
        85: _Opener(path=0),
        257: _AT,
        304: _Opener(),
        _OPENAT2: _AT,
        59: _Opener(path=0),
        322: _Opener(directory=0, path=1),
    },
    "aarch64": {
        56: _AT,
        265: _Opener(),
        _OPENAT2: _AT,
        221: _Opener(path=0),
        281: _Opener(directory=0, path=1),
    },
}.get(os.uname().machine, {})
"""open, creat, openat, open_by_handle_at, openat2, execve, execveat."""
_GAPS = {
    "x86_64": {161: "chroot", 155: "pivot_root", 165: "mount", 308: "setns"},
    "aarch64": {51: "chroot", 41: "pivot_root", 40: "mount", 268: "setns"},
}.get(os.uname().machine, {}) | {425: "io_uring", 429: "move_mount"}
"""Calls after which not all can be seen, or paths mean something else."""
_CLONE, _CLONE3, _UNTRACED = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine, -1), 435, 0x00800000
_CREAT = 85 if os.uname().machine == "x86_64" else -1
_EXECS, _MMAP = {"x86_64": ((59, 322), 9), "aarch64": ((221, 281), 222)}.get(os.uname().machine, ((), -1))

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class How(enum.StrEnum):
    """What was done with a file."""

    OPENED = "opened"
    TRIED = "tried"
    """It could not be opened: it was not there, or may not be read."""
    MAPPED = "mapped"
    """As code."""
    EXECUTED = "executed"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Access:
    """A file, by its path without links, the name it was asked for by, and the program that asked.

    Where that is a loader that was executed itself, `runs` is the program that it was given to run, as far as
    its arguments tell.
    """

    path: str
    how: How
    by: str
    asked: str = ""
    runs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """How a command ended (negative: the signal), what it did with files, and what could not be seen.

    `last_words` are the last bytes of its output.
    """

    status: int
    accesses: tuple[Access, ...]
    gaps: tuple[str, ...]
    last_words: bytes = b""


def trace(argv: Sequence[str], *, env: Mapping[str, str], cwd: str, timeout: float) -> Trace:
    """Run a command, whose first word is a path, to the end of all that it starts; it reads nothing.

    Raises SandboxError when it cannot be traced or started, or does not end within `timeout` seconds;
    nothing of it is left then.
    """
    if not _OPENERS:
        raise SandboxError("trace", f"not known how on {os.uname().machine}")
    sys.stdout.flush()
    sys.stderr.flush()
    (reading, writing), (listening, saying) = os.pipe(), os.pipe()
    tracer = os.fork()
    if tracer == 0:
        _be_tracer(argv, env, cwd, saying, writing)
    os.close(writing)
    os.close(saying)
    try:
        report, words = _read(reading, listening, time.monotonic() + timeout)
    finally:
        os.close(reading)
        os.close(listening)
        with contextlib.suppress(ProcessLookupError):
            os.kill(tracer, signal.SIGKILL)
        os.waitpid(tracer, 0)
    if report is None:
        raise SandboxError("trace", f"{argv[0]} did not end within {timeout:g} seconds")
    value = json.loads(report or b'{"error": "the tracer died"}')
    if "error" in value:
        raise SandboxError("trace", value["error"], hint=value.get("hint"))
    accesses = (Access(**item | {"how": How(item["how"])}) for item in value["accesses"])
    return Trace(
        status=value["status"], accesses=tuple(accesses), gaps=tuple(value["gaps"]), last_words=words
    )


def _read(pipe: int, output: int, deadline: float) -> tuple[bytes | None, bytes]:
    """Return what comes through a pipe until it ends, None when time runs out first; and the last output."""
    report = words = b""
    open_ = [pipe, output]
    while pipe in open_:
        left = deadline - time.monotonic()
        if left <= 0:
            return None, words
        for ready in select.select(open_, [], [], left)[0]:
            chunk = os.read(ready, 1 << 16)
            if not chunk:
                open_.remove(ready)
            elif ready == pipe:
                report += chunk
            else:
                words = (words + chunk)[-_WORDS:]
    while output in open_ and (chunk := os.read(output, 1 << 16)):  # nobody is left who writes
        words = (words + chunk)[-_WORDS:]
    return report, words


def _be_tracer(argv: Sequence[str], env: Mapping[str, str], cwd: str, output: int, pipe: int) -> NoReturn:
    """Be the process that traces; tell what was seen through the pipe."""
    try:
        kernel.die_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        report = json.dumps(_traced(argv, env, cwd, output))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's to hear
        words = (error.strerror or str(error)) if isinstance(error, OSError) else str(error) or repr(error)
        report = json.dumps({"error": words, "hint": _hint(error)})
    rest = memoryview(report.encode())
    while rest:
        rest = rest[os.write(pipe, rest) :]
    os._exit(0)


def _hint(error: BaseException) -> str | None:
    if isinstance(error, PermissionError):
        return (
            "ptrace is forbidden: by a container's seccomp filter, kernel.yama.ptrace_scope=3, another tracer"
        )
    return None


def _traced(argv: Sequence[str], env: Mapping[str, str], cwd: str, output: int) -> dict[str, object]:
    reading, writing = os.pipe()
    root = os.fork()
    if root == 0:
        _be_command(argv, env, cwd, output, (reading, writing))
    os.close(reading)
    _ptrace(_SEIZE, root, 0, _OPTIONS)
    os.write(writing, b"go")
    os.close(writing)
    log = _Log(argv[0])
    status = _follow(root, log)
    if not log.has_started:
        raise OSError(0, f"{argv[0]} cannot be executed")
    accesses = [asdict(item) for item in sorted(log.accesses)]
    return {"status": status, "accesses": accesses, "gaps": sorted(log.gaps)}


def _be_command(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, output: int, pipe: tuple[int, int]
) -> NoReturn:
    """Be the command, once it is traced."""
    try:
        os.close(pipe[1])
        if os.read(pipe[0], 2) != b"go":
            os._exit(127)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for number, descriptor in enumerate((nothing, output, output)):
            os.dup2(descriptor, number)
        kernel.close_range(3, 2**32 - 1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(cwd)
        os.execve(argv[0], list(argv), dict(env))
    finally:
        os._exit(127)


def _ptrace(request: int, process: int, address: int, data: int) -> int:
    result: int = _libc.ptrace(request, process, address, data)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")
    return result


def _follow(root: int, log: "_Log") -> int:
    """Let all processes run from stop to stop until none is left; return how the first one ended."""
    ended = -signal.SIGKILL
    while True:
        try:
            process, status = os.waitpid(-1, _ALL)
        except ChildProcessError:
            return ended
        if not os.WIFSTOPPED(status):
            log.forget(process)
            ended = os.waitstatus_to_exitcode(status) if process == root else ended
            continue
        # A process may be killed at any moment, and be gone for whoever asks.
        with contextlib.suppress(OSError):
            request, passed = log.stopped(process, os.WSTOPSIG(status), status >> 16)
            _ptrace(request, process, 0, passed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    """A system call that has begun: its number, and what it is about to open."""

    number: int
    asked: str = ""
    by: str = ""
    runs: str = ""
    makes: bool = False


class _Log:
    """What was seen so far."""

    def __init__(self, command: str) -> None:
        self.accesses: set[Access] = set()
        self.gaps: set[str] = set()
        self.has_started = False
        self._command = command
        self._pending: dict[int, _Pending] = {}
        self._made: set[tuple[int, int]] = set()
        self._buffer = ctypes.create_string_buffer(128)

    def forget(self, process: int) -> None:
        """Forget a process, whose number may come again."""
        self._pending.pop(process, None)

    def stopped(self, process: int, number: int, event: int) -> tuple[int, int]:
        """Look at a process that has stopped; return how it is to go on, and with which signal."""
        if event == _STOP:
            return (_LISTEN if number in _STOPPING else _SYSCALL), 0
        with contextlib.suppress(OSError):
            if event == _EXEC:
                self._executed(process)
            elif event == _EXIT:
                self._mapped(process)
            elif number == _SYSCALL_STOP:
                self._called(process)
        is_signal = not event and number != _SYSCALL_STOP
        return _SYSCALL, number if is_signal else 0

    def _called(self, process: int) -> None:
        size = _ptrace(_SYSCALL_INFO, process, len(self._buffer), ctypes.addressof(self._buffer))
        info = self._buffer.raw[:size]
        kind, arch = _HEAD.unpack_from(info)
        if not self.has_started:  # our own preparations
            return
        if arch != _ARCHES[os.uname().machine]:
            self.gaps.add(f"{_program(process)}: system calls of another machine's ABI ({arch:#x})")
        elif kind == _ENTRY:
            number, *arguments = _CALL.unpack_from(info, _HEAD.size)
            self._begun(process, number, arguments)
        elif kind == _LEAVE and (pending := self._pending.pop(process, None)) is not None:
            result, is_error = _RESULT.unpack_from(info, _HEAD.size)
            self._done(process, pending, -result if is_error else 0, result)

    def _begun(self, process: int, number: int, arguments: Sequence[int]) -> None:
        if (gap := _gap(process, number, arguments)) is not None:
            self.gaps.add(f"{_program(process)}: {gap}")
        opener = _OPENERS.get(number)
        if number == _MMAP and arguments[2] & 4 and not arguments[3] & 0x20:  # PROT_EXEC, no MAP_ANONYMOUS
            path = os.readlink(f"/proc/{process}/fd/{_signed(arguments[4])}")
            self._add(process, path, How.MAPPED, path)
        if opener is None:
            return
        asked = "" if opener.path is None else _asked(process, opener, arguments)
        flags = 0 if opener.flags is None else arguments[opener.flags]
        if number == _OPENAT2:
            flags = int.from_bytes(_memory(process, flags, 8), "little")
        makes = bool(number == _CREAT or flags & os.O_CREAT) and not os.path.exists(asked)
        makes = makes or flags & os.O_TMPFILE == os.O_TMPFILE
        by, runs = _asker(process)
        self._pending[process] = _Pending(number=number, asked=asked, by=by, runs=runs, makes=makes)

    def _done(self, process: int, pending: _Pending, error: int, result: int) -> None:
        if pending.number in _EXECS or error >= _RESTART:
            return
        if error:
            if error != errno.EFAULT and pending.asked:
                path = os.path.realpath(pending.asked)
                self._note(path, How.TRIED, pending.asked, (pending.by, pending.runs))
            return
        place = f"/proc/{process}/fd/{result}"
        if pending.makes:
            info = os.stat(place)
            self._made.add((info.st_dev, info.st_ino))
        self._add(process, os.readlink(place), How.OPENED, pending.asked, place)

    def _executed(self, process: int) -> None:
        """Record a program that has begun, and the interpreter that the kernel has mapped with it."""
        program = os.readlink(f"/proc/{process}/exe")
        pending = self._pending.pop(process, _Pending(number=0, asked=self._command))
        self.has_started = True
        self._add(process, program, How.EXECUTED, pending.asked, asker=(pending.by, pending.runs))
        self._mapped(process)

    def _mapped(self, process: int) -> None:
        with open(f"/proc/{process}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(None, 5)
                if len(fields) == 6 and "x" in fields[1]:
                    self._add(process, fields[5], How.MAPPED, fields[5])

    def _note(self, path: str, how: How, asked: str, asker: tuple[str, str]) -> None:
        self.accesses.add(Access(path=path, how=how, by=asker[0], asked=asked, runs=asker[1]))

    def _add(
        self,
        process: int,
        path: str,
        how: How,
        asked: str,
        place: str = "",
        *,
        asker: tuple[str, str] | None = None,
    ) -> None:
        """Record a file, unless it is none, or the command's own."""
        if not path.startswith("/") or path.startswith(("/memfd:", "/SYSV", "/anon_hugepage")):
            return
        with contextlib.suppress(OSError):
            info = os.stat(place or path)
            if (info.st_dev, info.st_ino) in self._made:
                return
        self._note(path, how, asked, _asker(process) if asker is None else asker)


def _gap(process: int, number: int, arguments: Sequence[int]) -> str | None:
    """Return why not all can be seen after a system call; None where it can."""
    if number & _ALL:
        return "system calls of the x32 ABI"
    if number in (_CLONE, _CLONE3):
        flags = arguments[0]
        if number == _CLONE3:
            flags = int.from_bytes(_memory(process, flags, 8), "little")
        return "a process that is not to be traced" if flags & _UNTRACED else None
    return _GAPS.get(number)


def _program(process: int) -> str:
    try:
        return os.readlink(f"/proc/{process}/exe")
    except OSError:
        return ""


def _asker(process: int) -> tuple[str, str]:
    """Return the program of a process, and what that runs if it is a loader."""
    program = _program(process)
    if not _LOADER.fullmatch(os.path.basename(program)):
        return program, ""
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            words = list(map(os.fsdecode, file.read().split(b"\0")))
    except OSError:
        return program, ""
    pairs = itertools.pairwise(words)
    return program, next((word for before, word in pairs if before != "--argv0" and word[:1] == "/"), "")


def _signed(value: int) -> int:
    """Return a descriptor, of which the kernel takes 32 bits."""
    return (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)


def _asked(process: int, opener: _Opener, arguments: Sequence[int]) -> str:
    """Return the path that a call names, absolute."""
    assert opener.path is not None
    path = os.fsdecode(b"".join(_string(process, arguments[opener.path])))
    directory = _CWD if opener.directory is None else _signed(arguments[opener.directory])
    where = "cwd" if directory == _CWD else f"fd/{directory}"
    return path if path.startswith("/") else os.path.join(os.readlink(f"/proc/{process}/{where}"), path)


def _string(process: int, address: int) -> Iterator[bytes]:
    """Yield the pieces of a NUL-terminated string, page by page."""
    left = _PATH
    while left > 0:
        size = min(_PATH - address % _PATH, left)
        piece, end, _ = _memory(process, address, size).partition(b"\0")
        yield piece
        if end:
            return
        address, left = address + size, left - size


def _memory(process: int, address: int, size: int) -> bytes:
    descriptor = os.open(f"/proc/{process}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, size, address)
    finally:
        os.close(descriptor)
