"""A sysroot: a directory with the headers, start files and libraries of one glibc.

Which glibc it is stands in its own `features.h`; for which machine, in its `crt1.o`. Debian's come from
the packages of a suite: libc6-dev and libstdc++-dev with what they need. Their absolute links are made
relative, for a linker follows them to the host's libraries, sysroot or not.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from belljar import elf, fsys
from belljar.elf.const import Machine
from belljar.errors import InputError
from belljar.home import Home
from belljar.types import Arch, Event, Progress, quiet

SUITES = {"2.31": "bullseye", "2.36": "bookworm", "2.41": "trixie"}
"""glibc version -> the Debian release that has it."""
_LIBSTDCXX = {"bullseye": 10, "bookworm": 12, "trixie": 14}
_EPOCH = 315_619_200
_LIMIT = 1 << 20
_MACROS = ("__GLIBC__", "__GLIBC_MINOR__")
_MACHINES = {Machine.X86_64: Arch.X86_64, Machine.AARCH64: Arch.AARCH64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysroot:
    """The directory, its glibc ("2.17"), where its headers and libraries are, and its C++ library, if any.

    `cxx` are the directories of C++ headers; `gcc` is GCC's own directory in it: start files and libgcc.
    """

    path: Path
    arch: Arch
    glibc: str
    includes: tuple[Path, ...]
    libraries: tuple[Path, ...]
    cxx: tuple[Path, ...] = ()
    gcc: Path | None = None


def read(path: Path) -> Sysroot:
    """Look at a directory. Raises InputError when it has no glibc headers or no start files."""
    root = path.absolute()
    if not root.is_dir():
        raise InputError(f"{path}: not a directory")
    features = root / "usr/include/features.h"
    version = _version(features)
    for arch in Arch:
        libraries = _libraries(root, arch)
        start = next((place / "crt1.o" for place in libraries if (place / "crt1.o").is_file()), None)
        if start is not None and _machine(start) is arch:
            gcc = next(iter(_gcc_directories(root, arch)), None)
            return Sysroot(
                path=root,
                arch=arch,
                glibc=version,
                includes=_existing(root / "usr/include" / triple(arch), root / "usr/include"),
                libraries=libraries,
                cxx=_cxx_headers(root, arch, gcc),
                gcc=gcc,
            )
    raise InputError(
        f"{path}: holds headers of glibc {version}, but no crt1.o",
        hint="a sysroot also has the libraries to link with: libc6-dev, or glibc-devel",
    )


def triple(arch: Arch) -> str:
    """Return Debian's name of an architecture in paths, which compilers print too."""
    return f"{arch}-linux-gnu"


def _version(features: Path) -> str:
    try:
        text = features.read_bytes()[:_LIMIT].decode("utf-8", "replace")
    except OSError as error:
        raise InputError(
            f"{features}: {error.strerror}",
            hint="a sysroot has headers in usr/include: libc6-dev, or glibc-devel",
        ) from error
    found = [re.search(rf"^#\s*define\s+{name}\s+(\d{{1,3}})\b", text, re.M) for name in _MACROS]
    if found[0] is None or found[1] is None:
        raise InputError(f"{features}: does not say which glibc it is", hint="musl's headers do not")
    return f"{found[0][1]}.{found[1][1]}"


def _libraries(root: Path, arch: Arch) -> tuple[Path, ...]:
    names = [f"usr/lib/{triple(arch)}", "usr/lib64", "usr/lib", f"lib/{triple(arch)}", "lib64", "lib"]
    return _existing(*(root / name for name in names))


def _existing(*places: Path) -> tuple[Path, ...]:
    return tuple({place.resolve(): place for place in reversed(places) if place.is_dir()}.values())[::-1]


def _machine(path: Path) -> Arch | None:
    try:
        number = elf.read(memoryview(path.read_bytes()[:_LIMIT])).header.machine
        return _MACHINES.get(Machine(number))
    except (OSError, ValueError, elf.ElfError):
        return None


def _gcc_directories(root: Path, arch: Arch) -> tuple[Path, ...]:
    """Return GCC's own directories in a sysroot, the newest release first."""
    found = [path for path in (root / "usr/lib/gcc" / triple(arch)).glob("*") if path.name.isdigit()]
    return tuple(sorted(found, key=lambda path: -int(path.name)))


def _cxx_headers(root: Path, arch: Arch, gcc: Path | None) -> tuple[Path, ...]:
    """Return the C++ library's header directories, if its archive is there too."""
    if gcc is None or not (gcc / "libstdc++.a").is_file():
        return ()
    plain = root / "usr/include/c++" / gcc.name
    return _existing(plain, root / "usr/include" / triple(arch) / "c++" / gcc.name, plain / "backward")


def of_debian(suite: str, home: Home, progress: Progress = quiet) -> Path:
    """Return the sysroot made of a suite's libc6-dev and libstdc++-dev, fetched now unless it is there.

    Raises InputError for a suite that the mirror has not got, RemoteError without a network.
    """
    target = home.cache / "sysroots" / f"debian-{suite}"
    with fsys.locked(target.with_name(f".{suite}.lock")), fsys.staging(target.parent / "staging") as stage:
        if not target.is_dir():
            _make_debian(stage / "tree", suite, home, progress)
            (stage / "tree").rename(target)
    return target


def _make_debian(tree: Path, suite: str, home: Home, progress: Progress) -> None:
    from belljar.archive.unpack import unpack
    from belljar.recipe.fetch import fetch
    from belljar.recipe.lock import Lock, machine_arch
    from belljar.recipe.sources import kind_named
    from belljar.recipe.sources.base import Context, UnresolvedError, Wanted
    from belljar.recipe.specs import DebPackage

    names = ("libc6-dev", f"libstdc++-{_LIBSTDCXX[suite]}-dev")
    context = Context(home=home, arch=machine_arch(), suite=suite, progress=progress)
    wanted = [Wanted(key=(name,), spec=DebPackage(name=name, version=None)) for name in names]
    try:
        files = tuple(kind_named("deb").resolve(wanted, context))
    except UnresolvedError as error:
        raise InputError(f"Debian {suite}: {error.message}", hint="does the mirror have it?") from error
    lock = Lock(arch=machine_arch(), requests={"environment.suite": suite}, environment=files)
    paths = fetch(lock, home, progress=progress)
    for file in files:
        progress(Event(stage="unpack", subject=file.name))
        unpack(paths[file.sha256], tree, merged_usr=True, mtime=_EPOCH)
    _make_relative(tree)


def _make_relative(tree: Path) -> None:
    """Let absolute links lead where they lead once the tree is the root."""
    for entry in fsys.walk(tree):
        path = tree / entry.path
        if entry.is_link and (goal := os.readlink(path)).startswith("/"):
            path.unlink()
            path.symlink_to(os.path.relpath(goal, f"/{os.path.dirname(entry.path)}"))
