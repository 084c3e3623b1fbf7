"""Running a command on an old CPU, and naming the instruction that it could not run.

Code tells what a file may need; a run tells what it did need. qemu-user is the referee: it runs the
command on a CPU of each level, lowest first, until one does not stop it. Where it stops, qemu says at
which address, and its trace of system calls says which file was mapped there.

What a probe proves is need. That a run went through proves nothing about code that it did not reach;
level 4 cannot be tried, qemu has no AVX-512. Programs that the command starts run on the real CPU.

Some libraries choose their code by environment variables instead of by the CPU; those are taken out,
or what they name would be blamed.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar import proc
from belljar.audit.isa import Site, site_at
from belljar.audit.machines import arch_of
from belljar.elf import Elf, ElfError, read
from belljar.errors import HostError, InputError

TIMEOUT = 600.0
"""Seconds that one run may take; under qemu programs are ten to a hundred times slower."""
SCRUBBED = (
    *("OPENBLAS_CORETYPE", "OPENBLAS_VERBOSE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"),
    *("OPENSSL_ia32cap", "OPENSSL_armcap", "GLIBC_TUNABLES", "POLARS_SKIP_CPU_CHECK", "MKL_DEBUG_CPU_TYPE"),
    *("MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA"),
    *("LD_PRELOAD", "LD_HWCAP_MASK"),
)
"""Variables that make libraries take code for another CPU than the one they run on."""
# Level, and the CPU model of qemu that has it and nothing above.
_MODELS = {
    "x86_64": (
        ("x86-64", "qemu64,-pni,-cx16,-popcnt"),
        ("x86-64-v2", "Nehalem"),
        ("x86-64-v3", "Haswell-noTSX"),
    ),
    "aarch64": (("armv8-a", "cortex-a53"), ("armv8.2-a", "neoverse-n1"), ("armv9-a", "max")),
}
_STOPPED = re.compile(r"--- SIGILL \{.*si_addr=(0x[0-9a-f]+)")
_OPENED = re.compile(r'\bopen(?:at)?\((?:[^,"]*,)?"((?:[^"\\]|\\.)*)".* = (\d+)$')
_MAPPED = re.compile(r"\bmmap2?\([^,]*,(\d+),[^,]*,[^,]*,(\d+),(0x[0-9a-f]+|0)\) = (0x[0-9a-f]+)$")
_CLOSED = re.compile(r"\bclose\((\d+)\)")
_CODE_AT = re.compile(r"^start_code\s+(0x[0-9a-f]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMap:
    """A part of a file in memory: where it starts, its size and offset in the file in bytes."""

    start: int
    size: int
    offset: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What qemu's log says: the address of the illegal instruction, files mapped, where the program lies."""

    stopped_at: int | None
    maps: tuple[FileMap, ...]
    code_at: int | None

    def holding(self, address: int) -> FileMap | None:
        """Return the last file that was mapped at an address."""
        held = (item for item in reversed(self.maps) if 0 <= address - item.start < item.size)
        return next(held, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """The first instruction that the CPU did not know; `path` is empty when nothing known was there."""

    address: int
    path: str
    site: Site | None

    def __str__(self) -> str:
        if self.site is None:
            return f"{self.path or 'unknown file'}: {self.address:#x}"
        where = f"{self.path}: {self.site.function or 'no function'}"
        return f"{where}: {self.site.address:#x} {self.site.instruction} ({self.site.needs or 'unknown'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run on one CPU: its exit status (negative: the signal), and what stopped it."""

    level: str
    model: str
    status: int
    crash: Crash | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """All runs of a command, lowest level first; `scrubbed` are variables that were taken out."""

    command: tuple[str, ...]
    runs: tuple[Run, ...]
    scrubbed: tuple[str, ...]

    @property
    def needs(self) -> str | None:
        """The first level on which no instruction was illegal; None when every one was stopped."""
        return next((run.level for run in self.runs if run.crash is None), None)

    def to_json(self) -> dict[str, Any]:
        """Return the runs as JSON values."""
        return {
            "command": list(self.command),
            "needs": self.needs,
            "scrubbed": list(self.scrubbed),
            "runs": [
                {
                    "level": run.level,
                    "model": run.model,
                    "status": run.status,
                    "crash": None if run.crash is None else str(run.crash),
                }
                for run in self.runs
            ],
        }


def probe(
    command: Sequence[str],
    *,
    root: Path | None = None,
    env: Mapping[str, str] | None = None,
    qemu: Path | None = None,
    timeout: float = TIMEOUT,
) -> Probe:
    """Run a command on rising CPU levels until none of its instructions is illegal.

    `root` is where the loader and libraries are looked for first (qemu's -L); `qemu` is the emulator,
    found on PATH when it is not given. Raises InputError when the command is no program for a known
    CPU, HostError when qemu is missing or a run does not end within `timeout` seconds.
    """
    words, elf = _program(command)
    arch = arch_of(elf.header)
    given = os.environ if env is None else env
    clean = {name: value for name, value in given.items() if name not in SCRUBBED}
    bench = _Bench(
        emulator=qemu or _emulator(arch), words=words, elf=elf, root=root, env=clean, timeout=timeout
    )
    runs = []
    for level, model in _MODELS[arch]:
        runs.append(bench.run(level, model))
        if runs[-1].crash is None:
            break
    scrubbed = tuple(sorted(set(given) & set(SCRUBBED)))
    return Probe(command=tuple(command), runs=tuple(runs), scrubbed=scrubbed)


def parse(log: str) -> Trace:
    """Read qemu's log (-strace, with or without -d page)."""
    opened: dict[str, str] = {}
    maps = []
    stopped_at = code_at = None
    for line in log.splitlines():
        if match := _OPENED.search(line):
            opened[match[2]] = match[1]
        elif (match := _MAPPED.search(line)) and match[2] in opened:
            size, descriptor, offset, start = match.groups()
            maps.append(
                FileMap(start=int(start, 16), size=int(size), offset=int(offset, 0), path=opened[descriptor])
            )
        elif match := _CLOSED.search(line):
            opened.pop(match[1], None)
        elif match := _CODE_AT.search(line):
            code_at = int(match[1], 16)
        elif match := _STOPPED.search(line):
            stopped_at = int(match[1], 16)
    return Trace(stopped_at=stopped_at, maps=tuple(maps), code_at=code_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """All that stays the same from run to run."""

    emulator: Path
    words: tuple[str, ...]
    elf: Elf
    root: Path | None
    env: Mapping[str, str]
    timeout: float

    def run(self, level: str, model: str) -> Run:
        """Run the command on one CPU."""
        status, trace = self.trace(model)
        if trace.stopped_at is not None and trace.holding(trace.stopped_at) is None:
            # The program itself, which no system call has mapped. Asked where it lies, qemu breaks up
            # the lines that tell of the other files; so that is a run of its own.
            status, trace = self.trace(model, "-d", "page")
        crash = None if trace.stopped_at is None else self.explain(trace, trace.stopped_at)
        return Run(level=level, model=model, status=status, crash=crash)

    def trace(self, model: str, *options: str) -> tuple[int, Trace]:
        """Run the command; return its exit status and what qemu's log says."""
        sysroot = [] if self.root is None else ["-L", str(self.root)]
        with tempfile.TemporaryDirectory() as place:
            log = Path(place) / "log"
            logged = ["-strace", *options, "-D", str(log)]
            argv: list[str | os.PathLike[str]] = [
                self.emulator,
                "-cpu",
                model,
                *logged,
                *sysroot,
                *self.words,
            ]
            done = proc.run(argv, env=self.env, timeout=self.timeout)
            text = log.read_text(errors="surrogateescape") if log.exists() else ""
        return done.status, parse(text)

    def explain(self, trace: Trace, address: int) -> Crash:
        """Say which file holds the instruction at an address."""
        held = trace.holding(address)
        if held is not None:
            path, offset = held.path, address - held.start + held.offset
        else:
            path, offset = self.words[0], _offset_in_program(self.elf, address, trace.code_at)
        for place in _places(path, self.root):
            try:
                data = place.read_bytes()
                return Crash(address=address, path=path, site=site_at(data, read(data), offset))
            except (OSError, ElfError):
                continue
        return Crash(address=address, path="", site=None)


def _places(path: str, root: Path | None) -> Iterable[Path]:
    """Return where a file that the program opened may be: qemu looks into the root first."""
    inside = () if root is None else (root / path.lstrip("/"),)
    return (*inside, Path(path))


def _offset_in_program(elf: Elf, address: int, code_at: int | None) -> int:
    """Return where in the program an address lies, which qemu and no system call has mapped."""
    code = [item.address for item in elf.segments if item.type == 1 and item.flags & 1]
    bias = code_at - min(code) if code_at is not None and code else 0
    offset = elf.offset_of(address - bias)
    return -1 if offset is None else offset


def _program(command: Sequence[str]) -> tuple[tuple[str, ...], Elf]:
    """Return the command as qemu can start it, an interpreter in front of a script, and its program."""
    if not command:
        raise InputError("probe: no command is given")
    words = tuple(command)
    for _ in range(4):
        found = proc.find(words[0])
        if found is None:
            raise InputError(f"{words[0]}: not found, or not executable")
        words = (str(found), *words[1:])
        data = found.read_bytes()
        script = re.match(rb"#![ \t]*([^ \t\n]+)[ \t]*([^\n]*)", data)
        if script is None:
            try:
                elf = read(data)
            except ElfError as error:
                raise InputError(f"{words[0]}: {error.message}") from error
            if arch_of(elf.header) not in _MODELS:
                raise InputError(f"{words[0]}: is for {arch_of(elf.header)}, for which no CPU is known")
            return words, elf
        argument = os.fsdecode(script[2]).strip()
        words = (os.fsdecode(script[1]), *([argument] if argument else []), *words)
    raise InputError(f"{command[0]}: scripts that interpret one another")


def _emulator(arch: str) -> Path:
    for name in (f"qemu-{arch}-static", f"qemu-{arch}"):
        found = proc.find(name)
        if found is not None:
            return found
    raise HostError(
        f"qemu-{arch}: not found on this machine", hint="install Debian's qemu-user-static, or qemu-user"
    )
