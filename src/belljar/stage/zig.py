"""The zig that staging uses: one release, pinned by hash, from PyPI through the machine's pip.

It is fetched when it is first asked for and unpacked once, below belljar's cache: made in a staging
directory and renamed in, so that a crash leaves nothing that could be taken for it. A zig of the user's
own (`--zig`) is used where it lies.
"""

import os
from pathlib import Path

from belljar import fsys
from belljar.errors import BelljarError, HostError, InputError
from belljar.home import Home
from belljar.recipe import LockedFile
from belljar.recipe.recipe import ZIG
from belljar.types import Arch, Digest, Event, Progress, quiet

VERSION = ZIG
_PROGRAM = "ziglang/zig"
_EPOCH = 315_619_200  # 2 January 1980, as of everything that belljar unpacks
_WHEELS = {
    Arch.X86_64: (
        "manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64",
        "97079827064a7492cce5541ceb438ae8003ce1e54e399676da2d62fb7a5dc08b",
        101_011_302,
    ),
    Arch.AARCH64: (
        "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
        "d2804f94f54f7fcf8169f4b212a619ad688a4e2e6592e976f0cf2e58e2cd8af3",
        97_992_724,
    ),
}


def wheel(arch: Arch) -> LockedFile:
    """Return the pinned wheel that runs on an architecture."""
    tags, digest, size = _WHEELS[arch]
    return LockedFile(
        kind="pypi",
        name="ziglang",
        version=VERSION,
        file=f"ziglang-{VERSION}-py3-none-{tags}.whl",
        sha256=Digest(digest),
        size=size,
    )


def obtain(home: Home, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """Return the path of the pinned zig, fetched and unpacked now unless it is there.

    Raises HostError without pip or space, RemoteError without a network, each with the other ways to
    come by a zig.
    """
    from belljar.recipe.lock import machine_arch

    file = wheel(machine_arch())
    target = home.cache / "toolchains" / f"zig-{VERSION}-{file.sha256[:16]}"
    if not (target / _PROGRAM).is_file():
        try:
            _install(file, target, home, offline, progress)
        except BelljarError as error:
            ways = f"`pip install ziglang=={VERSION}` elsewhere and --zig PATH, or --toolchain cc"
            error.hint = f"{error.hint}; other ways: {ways}" if error.hint else f"other ways: {ways}"
            raise
    return target / _PROGRAM


def given(path: Path) -> Path:
    """Return the absolute path of the user's own zig. Raises InputError when it is no program."""
    found = path.absolute()
    if not found.is_file() or not os.access(found, os.X_OK):
        raise InputError(f"{path}: not a program", hint="--zig names the file `zig` of an unpacked zig")
    return found.resolve()


def _install(file: LockedFile, target: Path, home: Home, offline: bool, progress: Progress) -> None:
    from belljar.archive.unpack import unpack
    from belljar.recipe.fetch import fetch
    from belljar.recipe.lock import Lock, machine_arch

    lock = Lock(arch=machine_arch(), requests={}, environment=(file,))
    archive = fetch(lock, home, offline=offline, progress=progress)[file.sha256]
    lock_file = target.parent / f".{target.name}.lock"
    with fsys.locked(lock_file), fsys.staging(target.parent / "staging") as stage:
        if target.exists():
            return
        progress(Event(stage="unpack", subject=f"zig {VERSION}"))
        unpack(archive, stage / "tree", mtime=_EPOCH)
        if not (stage / "tree" / _PROGRAM).is_file():
            raise HostError(f"{file.file}: holds no {_PROGRAM}")
        (stage / "tree").rename(target)
