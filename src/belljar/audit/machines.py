"""Processor architectures as users name them, and the loaders that their ABIs prescribe."""

import re

from belljar.elf import Header
from belljar.elf.const import Machine
from belljar.errors import InputError

# By machine: the name for 32 and for 64 bits, little-endian and big-endian (as `uname -m`).
_NAMES: dict[int, tuple[str, str, str, str]] = {
    Machine.I386: ("i386", "i386", "i386", "i386"),
    Machine.X86_64: ("x32", "x86_64", "x32", "x86_64"),
    Machine.ARM: ("arm", "arm", "armeb", "armeb"),
    Machine.AARCH64: ("aarch64_ilp32", "aarch64", "aarch64_be_ilp32", "aarch64_be"),
    Machine.PPC: ("ppcle", "ppcle", "ppc", "ppc"),
    Machine.PPC64: ("ppc64le", "ppc64le", "ppc64", "ppc64"),
    Machine.S390: ("s390", "s390x", "s390", "s390x"),
    Machine.RISCV: ("riscv32", "riscv64", "riscv32", "riscv64"),
    Machine.LOONGARCH: ("loongarch32", "loongarch64", "loongarch32", "loongarch64"),
    Machine.MIPS: ("mipsel", "mips64el", "mips", "mips64"),
    Machine.SPARC: ("sparc", "sparc", "sparc", "sparc"),
    Machine.SPARCV9: ("sparc64", "sparc64", "sparc64", "sparc64"),
    Machine.M68K: ("m68k", "m68k", "m68k", "m68k"),
    Machine.ALPHA: ("alpha", "alpha", "alpha", "alpha"),
}

# Source: glibc's ABIList and shlib-versions.
_LOADERS: dict[str, tuple[str, ...]] = {
    "i386": ("/lib/ld-linux.so.2",),
    "x86_64": ("/lib64/ld-linux-x86-64.so.2",),
    "x32": ("/libx32/ld-linux-x32.so.2",),
    "arm": ("/lib/ld-linux-armhf.so.3", "/lib/ld-linux.so.3"),
    "aarch64": ("/lib/ld-linux-aarch64.so.1",),
    "ppc": ("/lib/ld.so.1",),
    "ppc64": ("/lib64/ld64.so.1",),
    "ppc64le": ("/lib64/ld64.so.2",),
    "s390": ("/lib/ld.so.1",),
    "s390x": ("/lib/ld64.so.1",),
    "riscv64": ("/lib/ld-linux-riscv64-lp64d.so.1", "/lib/ld-linux-riscv64-lp64.so.1"),
    "loongarch64": ("/lib64/ld-linux-loongarch-lp64d.so.1",),
}
BASELINES = {"x86_64": "x86-64", "aarch64": "armv8-a"}
"""The CPU that every machine of an architecture has."""
_MUSL = re.compile(r"/lib/ld-musl-[\w-]+\.so\.1")

_ISA = re.compile(
    r"(?P<x86_64>x86[-_]64(-v[234])?)|(?P<aarch64>aarch64|armv[89](\.[0-9])?-a)|(?P<i386>i[3-6]86)"
)


def arch_of(header: Header) -> str:
    """Return the name of the architecture that a file is for."""
    names = _NAMES.get(header.machine)
    return names[2 * header.is_big_endian + header.is_wide] if names else f"machine {header.machine}"


def arch_of_isa(isa: str) -> str:
    """Return the architecture of a CPU level like `x86-64-v2`; raises InputError for an unknown one."""
    match = _ISA.fullmatch(isa)
    if match is not None:
        return str(match.lastgroup)
    if isa in _LOADERS:
        return isa
    raise InputError(f"isa {isa!r}: not known", hint="known are x86-64 and aarch64, for example")


def level(isa: str) -> int:
    """Return the rank of a CPU level among those of its architecture, 1 for the baseline."""
    last = isa.rpartition("-v")[2]
    return int(last) if isa.startswith("x86-64-v") and last.isdigit() else 1


def loaders(arch: str) -> tuple[str, ...]:
    """Return the paths at which every glibc system of that architecture has its loader."""
    return _LOADERS.get(arch, ())


def is_musl(interpreter: str) -> bool:
    """Whether an interpreter is the one of musl."""
    return _MUSL.fullmatch(interpreter) is not None
