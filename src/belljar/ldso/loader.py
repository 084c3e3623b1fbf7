"""The dynamic loader of a root: glibc's or musl's, and what was built into it.

Which directories are searched by default, what `$LIB` stands for and which subdirectories are known
differ between distributions and releases. The loader's own bytes say it, so they are asked: constants
are found by their form. Where there is no loader, upstream's defaults stand in.
"""

import enum
import re
from dataclasses import dataclass

from belljar.elf import Header
from belljar.elf.const import Class, Machine
from belljar.ldso.cpu import Cpu


class Libc(enum.StrEnum):
    """Whose loader it is."""

    GLIBC = "glibc"
    MUSL = "musl"


_GLIBC_NAMES = {
    (Machine.X86_64, Class.ELF64): "/lib64/ld-linux-x86-64.so.2",
    (Machine.X86_64, Class.ELF32): "/libx32/ld-linux-x32.so.2",
    (Machine.I386, Class.ELF32): "/lib/ld-linux.so.2",
    (Machine.AARCH64, Class.ELF64): "/lib/ld-linux-aarch64.so.1",
    (Machine.ARM, Class.ELF32): "/lib/ld-linux-armhf.so.3",
    (Machine.RISCV, Class.ELF64): "/lib/ld-linux-riscv64-lp64d.so.1",
    (Machine.PPC64, Class.ELF64): "/lib64/ld64.so.2",
    (Machine.S390, Class.ELF64): "/lib/ld64.so.1",
    (Machine.LOONGARCH, Class.ELF64): "/lib64/ld-linux-loongarch-lp64d.so.1",
}
_MUSL_NAMES = {
    Machine.X86_64: "/lib/ld-musl-x86_64.so.1",
    Machine.I386: "/lib/ld-musl-i386.so.1",
    Machine.AARCH64: "/lib/ld-musl-aarch64.so.1",
    Machine.ARM: "/lib/ld-musl-armhf.so.1",
    Machine.RISCV: "/lib/ld-musl-riscv64.so.1",
    Machine.PPC64: "/lib/ld-musl-powerpc64le.so.1",
    Machine.S390: "/lib/ld-musl-s390x.so.1",
    Machine.LOONGARCH: "/lib/ld-musl-loongarch64.so.1",
}
_LEGACY_LAST = (2, 36)
_MODELS_SINCE = (2, 26)
_RELEASE = re.compile(rb"release version (\d{1,3})\.(\d{1,3})")
_SYSTEM_DIRS = re.compile(rb"(?<=\0)(?:/[!-~]{0,250}/\0){1,16}")
_MUSL_ARCH = re.compile(rb"/etc/ld-musl-([\w.-]{1,32})\.path\0")
_MUSL_PATH = re.compile(rb"\0(/[!-~]+(?::/[!-~]+)+)\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """A loader: the name that programs give it, its release where it says so, its constants.

    `directories` end in no slash; `lib` is the value of `$LIB`; `path_file` is where musl is told
    which directories to search.
    """

    name: str
    libc: Libc
    found: bool
    release: tuple[int, int] | None = None
    directories: tuple[str, ...]
    lib: str = "lib"
    has_levels: bool = False
    path_file: str = ""

    @property
    def has_legacy(self) -> bool:
        """Whether it searches `tls` and the like (glibc up to 2.36)."""
        return self.found and self.libc is Libc.GLIBC and (self.release or (2, 0)) <= _LEGACY_LAST

    def platform(self, cpu: Cpu) -> str | None:
        """Return the value of `$PLATFORM`."""
        has_models = self.has_legacy and (self.release or (2, 0)) >= _MODELS_SINCE
        return cpu.model if has_models and cpu.model else cpu.platform

    def legacy(self, cpu: Cpu) -> tuple[str, ...]:
        """Return the names of its older subdirectories, the strongest first."""
        if not self.has_legacy:
            return ()
        platform = self.platform(cpu)
        return ("tls", *((platform,) if platform else ()), *cpu.features)

    def subdirectories(self, cpu: Cpu) -> tuple[str, ...]:
        """Return what is searched below each directory, in order, before the directory itself."""
        levels = tuple(f"glibc-hwcaps/{level}/" for level in cpu.levels) if self.has_levels else ()
        names = self.legacy(cpu)
        return levels + tuple(_combine(names, number) for number in range((1 << len(names)) - 1, 0, -1))


def _combine(names: tuple[str, ...], number: int) -> str:
    """Return the subdirectory of those names whose bits are set, the first name being the highest."""
    last = len(names) - 1
    return "".join(f"{name}/" for at, name in enumerate(names) if number >> (last - at) & 1)


def default_names(header: Header) -> tuple[str, ...]:
    """Return the names of the loaders for files like that: glibc's, then musl's."""
    glibc = {(int(machine), int(size)): name for (machine, size), name in _GLIBC_NAMES.items()}
    musl = {int(machine): name for machine, name in _MUSL_NAMES.items()}
    found = (glibc.get((header.machine, header.elf_class)), musl.get(header.machine))
    return tuple(name for name in found if name)


def absent(name: str, header: Header) -> Loader:
    """Return what upstream's loader of that name would be like."""
    if "ld-musl" in name:
        return _musl(name, b"", found=False)
    wide = ("/lib64", "/usr/lib64") if header.is_wide else ("/lib", "/usr/lib")
    return Loader(
        name=name, libc=Libc.GLIBC, found=False, directories=wide, lib=wide[0].strip("/"), has_levels=True
    )


def inspect(name: str, data: bytes, header: Header) -> Loader:
    """Return what the loader with these bytes says of itself."""
    if _MUSL_ARCH.search(data) or "ld-musl" in name:
        return _musl(name, data, found=True)
    release = _RELEASE.search(data)
    directories = _system_directories(data) or absent(name, header).directories
    return Loader(
        name=name,
        libc=Libc.GLIBC,
        found=True,
        release=(int(release[1]), int(release[2])) if release else None,
        directories=directories,
        lib=_lib(directories[0]),
        has_levels=b"glibc-hwcaps" in data,
    )


def _system_directories(data: bytes) -> tuple[str, ...]:
    """Return glibc's default directories: constants in a row that end in a slash, libraries' all of them."""
    for match in _SYSTEM_DIRS.finditer(data):
        items = match[0].split(b"\0")[:-1]
        if all(b"lib" in item for item in items):
            return tuple(_text(item).rstrip("/") for item in items)
    return ()


def _musl(name: str, data: bytes, *, found: bool) -> Loader:
    arch = _MUSL_ARCH.search(data)
    path = _MUSL_PATH.search(data)
    arch_name = _text(arch[1]) if arch else name.rpartition("ld-musl-")[2].partition(".so")[0]
    prefix = name.rpartition("/")[0].rpartition("/")[0]
    return Loader(
        name=name,
        libc=Libc.MUSL,
        found=found,
        directories=tuple(_text(path[1]).split(":")) if path else ("/lib", "/usr/local/lib", "/usr/lib"),
        path_file=f"{prefix}/etc/ld-musl-{arch_name}.path",
    )


def _lib(directory: str) -> str:
    """Return `$LIB` from the first default directory: its name, with what stands behind `lib` in it."""
    before, mark, behind = directory.removeprefix("/usr").partition("/lib/")
    return f"lib/{behind}" if mark and not before else directory.rpartition("/")[2]


def _text(raw: bytes) -> str:
    """Return bytes of a file as text, undecodable ones kept."""
    return raw.decode("utf-8", "surrogateescape")
