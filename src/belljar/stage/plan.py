"""A stage: the directory of wrappers for a prefix, and the variables that lead a build to them.

The directory is `stage/HASH` below belljar's cache, HASH being that of all that is written there: the
prefix holds nothing but what is installed into it, two stages do not disturb each other, and staging
again gives the same paths, so that a build tree that was configured yesterday still works. Each file is
written whole or not at all; staging again completes what a crash left.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys
from belljar.errors import InputError
from belljar.stage import files, scripts
from belljar.stage.toolchain import Kind, Toolchain
from belljar.types import Arch

FORMAT = 1
"""Raised whenever the same toolchain would give other files."""

# Not ld: gcc takes the one on PATH, and a build may call the host's gcc for programs that it runs itself.
_NATIVE = {"cc": ("cc", "gcc"), "c++": ("c++", "g++"), "cpp": ("cpp",), "ar": ("ar",), "ranlib": ("ranlib",)}
"""What a build for this machine may also call, whatever $CC says."""
_GO = {Arch.X86_64: "amd64", Arch.AARCH64: "arm64"}
UNSET = ("PKG_CONFIG_SYSROOT_DIR",)
"""It would be put before the prefix's own paths."""
NAMES = (
    *("BELLJAR_STAGE", "BELLJAR_GLIBC", "BELLJAR_TARGET", "BELLJAR_HOST", "BELLJAR_MESON_FILE", "SYSROOT"),
    *("CC", "CXX", "CPP", "AR", "RANLIB", "LD", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"),
    *("CMAKE_TOOLCHAIN_FILE", "CMAKE_PREFIX_PATH", "CGO_ENABLED", "GOOS", "GOARCH"),
    *(f"{tool}_{arch}_unknown_linux_gnu" for arch in Arch for tool in ("CC", "CXX", "AR")),
    *(f"CARGO_TARGET_{arch.upper()}_UNKNOWN_LINUX_GNU_LINKER" for arch in Arch),
)
"""Every variable that a stage may set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is to be written below `directory`, files and links by path, and the variables for a build."""

    directory: Path
    prefix: str
    toolchain: Toolchain
    files: Mapping[str, str]
    links: Mapping[str, str]
    variables: Mapping[str, str]

    @property
    def bin(self) -> Path:
        """The directory of the wrappers."""
        return self.directory / "bin"


def place(cache: Path) -> Path:
    """Return the directory of all stages below a cache."""
    return cache / "stage"


def check_prefix(prefix: Path) -> str:
    """Return the absolute path of a prefix. Raises InputError for one that cannot be staged."""
    path = os.path.normpath(prefix.absolute())
    if bad := sorted({char for char in path if char in ":;\n"}):
        raise InputError(
            f"{path!r}: holds {', '.join(map(repr, bad))}, which lists of directories take for syntax",
            hint="choose another prefix; spaces are fine",
        )
    if path in ("/", "/usr"):
        raise InputError(
            f"{path}: the host's own headers and libraries are there", hint="choose a prefix of your own"
        )
    return path


def plan(
    prefix: str, toolchain: Toolchain, below: Path, *, machine: Arch, directory: Path | None = None
) -> Stage:
    """Return the stage of a toolchain for a prefix; its directory is `directory`, else HASH below `below`.

    `machine` is the architecture that builds. Raises InputError for a directory whose path wrappers, make
    or CMake would split.
    """
    is_native = toolchain.arch is machine
    libraries = ("lib", "lib64", f"lib/{toolchain.triple}")
    wrappers = toolchain.wrappers(prefix, libraries)
    seen = directory or below / _digest(toolchain, wrappers, is_native=is_native)
    _require_plain(seen)
    texts = {f"bin/{toolchain.triple}-{name}": text for name, text in wrappers.items()}
    for name in ("cc", "c++"):
        texts[f"cmake/{toolchain.triple}-{name}"] = scripts.without_path(wrappers[name])
    search = (*scripts.program_paths(libraries), "$ORIGIN")
    texts["toolchain.cmake"] = files.cmake(toolchain.triple, toolchain.arch, search, is_native=is_native)
    texts["meson.ini"] = files.meson(str(seen), toolchain.triple, toolchain.arch)
    return Stage(
        directory=seen,
        prefix=prefix,
        toolchain=toolchain,
        files=texts,
        links=_links(toolchain, is_native=is_native),
        variables=_variables(seen, prefix, libraries, toolchain, wrappers, is_native=is_native),
    )


def write(stage: Stage, place: Path | None = None) -> None:
    """Put the files where the stage says, or at `place` when it is seen from elsewhere. Raises HostError."""
    root = place or stage.directory
    for name, text in stage.files.items():
        path = root / name
        data = os.fsencode(text)
        if not path.is_file() or path.read_bytes() != data:
            fsys.write_atomic(path, data, mode=0o644 if name.endswith((".cmake", ".ini")) else 0o755)
    for name, goal in stage.links.items():
        path = root / name
        if not path.is_symlink() or os.readlink(path) != goal:
            fresh = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
            fresh.symlink_to(goal)
            fresh.replace(path)


def _digest(toolchain: Toolchain, wrappers: Mapping[str, str], *, is_native: bool) -> str:
    text = json.dumps([FORMAT, toolchain.triple, is_native, sorted(wrappers.items())])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _require_plain(directory: Path) -> None:
    if not re.fullmatch(r"[\w/.+@-]+", str(directory)):
        raise InputError(
            f"{directory}: make and shells would split $CC there",
            hint="set BELLJAR_HOME to a path of letters, digits and / . _ - + @ (PREFIX may have spaces)",
        )


def _links(toolchain: Toolchain, *, is_native: bool) -> dict[str, str]:
    """Return the other names of wrappers: of the compilers, and for this machine those without the triple."""
    links = {f"{toolchain.triple}-gcc": "cc", f"{toolchain.triple}-g++": "c++"}
    if is_native:
        links |= {alias: name for name, aliases in _NATIVE.items() for alias in aliases}
    return {f"bin/{alias}": f"{toolchain.triple}-{name}" for alias, name in links.items()}


def _variables(
    directory: Path,
    prefix: str,
    libraries: tuple[str, ...],
    toolchain: Toolchain,
    wrappers: Mapping[str, str],
    *,
    is_native: bool,
) -> dict[str, str]:
    programs = {name: f"{directory}/bin/{toolchain.triple}-{name}" for name in wrappers}
    rust = f"{toolchain.arch}_unknown_linux_gnu"
    packages = ":".join(f"{prefix}/{name}/pkgconfig" for name in (*libraries, "share"))
    found = {
        "BELLJAR_STAGE": str(directory),
        "BELLJAR_GLIBC": toolchain.glibc,
        "BELLJAR_TARGET": f"{toolchain.triple}.{toolchain.glibc}",
        "BELLJAR_HOST": toolchain.triple,
        "BELLJAR_MESON_FILE": f"{directory}/meson.ini",
        "CC": programs["cc"],
        "CXX": programs["c++"],
        "CPP": programs["cpp"],
        "AR": programs["ar"],
        "RANLIB": programs["ranlib"],
        "PKG_CONFIG_PATH": packages,
        "PKG_CONFIG_LIBDIR": packages,
        "CMAKE_TOOLCHAIN_FILE": f"{directory}/toolchain.cmake",
        "CMAKE_PREFIX_PATH": prefix,
        f"CARGO_TARGET_{rust.upper()}_LINKER": programs["cc"],
        f"CC_{rust}": programs["cc"],
        f"CXX_{rust}": programs["c++"],
        f"AR_{rust}": programs["ar"],
        "CGO_ENABLED": "1",
    }
    if toolchain.sysroot is not None:
        found["SYSROOT"] = str(toolchain.sysroot)
    if toolchain.kind is Kind.ZIG:
        found["LD"] = programs["ld"]
    if not is_native:
        found |= {"GOOS": "linux", "GOARCH": _GO[toolchain.arch]}
    return found
