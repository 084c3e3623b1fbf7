"""The roots that belljar knows by name, made of packages that the machine's own clients fetch.

    glibc-2.17     the runtime of a glibc 2.17 system (CentOS 7's age), as a cross toolchain's sysroot
    debian:SUITE   the suite's libc6, libc-bin, base-files, dash and coreutils, with what they need
    musl           Debian's musl and busybox-static: no glibc anywhere
    empty          nothing: what runs here brings all that it needs

The first is pinned to one file: the proof for the oldest floor must not move. A suite moves with its
archive, within one glibc; the root says which versions it was made of. Packages' scripts are not
run: what they would have made and programs look for (`/bin/sh`, `/etc/passwd`) is put there.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from belljar.build.output import EPOCH
from belljar.errors import HostError, InputError
from belljar.home import Home
from belljar.recipe.lock import Lock, LockedFile, machine_arch
from belljar.types import Arch, Digest, Event, Progress
from belljar.verify import root
from belljar.verify.root import Root

GLIBC_2_17 = "glibc-2.17"
MUSL, EMPTY = "musl", "empty"
DEBIAN = "debian:"
KNOWN = (GLIBC_2_17, MUSL, EMPTY, f"{DEBIAN}SUITE")
"""The built-in names, as a user writes them."""

_SYSROOT = LockedFile(
    kind="npm",
    name="@napi-rs/cross-toolchain-x64-target-x86_64",
    version="1.0.0",
    file="napi-rs-cross-toolchain-x64-target-x86_64-1.0.0.tgz",
    sha256=Digest("351f6ee9bc8e444dfb8ac6eddfe9daed02c9508399bd20c511e3f9e027d6e988"),
    size=48_651_755,
)
_TOOLCHAIN = "x86_64-unknown-linux-gnu"
_MUSL_SUITE = "bookworm"
_MUSL_PACKAGES = ("busybox-static", "musl")
_APPLETS = (
    *("awk", "cat", "chmod", "cp", "cut", "date", "dirname", "echo", "env", "expr", "false", "find", "grep"),
    *("head", "id", "ls", "mkdir", "mv", "printf", "pwd", "readlink", "rm", "sed", "sh", "sleep", "sort"),
    *("tail", "test", "touch", "tr", "true", "uname", "wc", "xargs"),
)
_PACKAGES = ("base-files", "coreutils", "dash", "libc-bin", "libc6")
_ETC = {
    "passwd": "root:x:0:0::/:/bin/sh\nuser:x:1000:100::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "group": "root:x:0:\nusers:x:100:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def is_builtin(name: str) -> bool:
    """Whether belljar knows how to make a root of that name."""
    return name in (GLIBC_2_17, MUSL, EMPTY) or re.fullmatch(rf"{DEBIAN}[a-z][a-z0-9.-]*", name) is not None


def make(name: str, stage: Path, home: Home, progress: Progress) -> tuple[Path, str]:
    """Make the built-in root in the private directory `stage`; return its tree there and its origin.

    Raises RemoteError without a network, InputError for a suite that the archive has not got, HostError
    without the client program or on an architecture for which there is no such root.
    """
    if name == EMPTY:
        (stage / EMPTY).mkdir()
        return stage / EMPTY, "nothing"
    if name == GLIBC_2_17:
        return _make_glibc_2_17(stage, home, progress)
    if name == MUSL:
        return _make_musl(stage, home, progress)
    return _make_debian(name.removeprefix(DEBIAN), stage, home, progress)


def describe(name: str, tree: Path, origin: str) -> Root:
    """Return the built-in root in `tree`; the empty one is for this machine's programs."""
    if name == EMPTY:
        return Root(name=name, path=tree, origin=origin, arch=machine_arch(), glibc=None, loader=None)
    return root.describe(name, tree, origin)


def _make_glibc_2_17(stage: Path, home: Home, progress: Progress) -> tuple[Path, str]:
    if machine_arch() is not Arch.X86_64:
        raise HostError(f"{GLIBC_2_17}: there is one for {Arch.X86_64} only", hint="use debian:SUITE")
    (archive,) = _fetched((_SYSROOT,), None, home, progress)
    _unpack(archive, stage / "package", progress)
    inner = stage / f"package/package/{_TOOLCHAIN}.tar.xz"
    _unpack(inner, stage / "toolchain", progress)
    tree = stage / f"toolchain/{_TOOLCHAIN}/sysroot"
    _complete(tree)
    return tree, f"npm:{_SYSROOT.name}@{_SYSROOT.version}"


def _make_musl(stage: Path, home: Home, progress: Progress) -> tuple[Path, str]:
    files = _resolved(_MUSL_SUITE, _MUSL_PACKAGES, home, progress)
    tree = _unpacked(files, _MUSL_SUITE, stage / MUSL, home, progress)
    for name in _APPLETS:
        (tree / "usr/bin" / name).symlink_to("busybox")
    versions = {file.name: file.version for file in files}
    return tree, "deb:" + " and ".join(f"{name}={versions.get(name, '')}" for name in _MUSL_PACKAGES)


def _make_debian(suite: str, stage: Path, home: Home, progress: Progress) -> tuple[Path, str]:
    files = _resolved(suite, _PACKAGES, home, progress)
    tree = _unpacked(files, suite, stage / "debian", home, progress)
    versions = ",".join(sorted(f"{file.name}={file.version}" for file in files))
    digest = hashlib.sha256(versions.encode()).hexdigest()[:12]
    libc = next((file.version for file in files if file.name == "libc6"), "")
    return tree, f"deb:libc6={libc} and {len(files) - 1} packages ({digest})"


def _resolved(suite: str, names: Sequence[str], home: Home, progress: Progress) -> Sequence[LockedFile]:
    from belljar.recipe.sources import kind_named
    from belljar.recipe.sources.base import Context, UnresolvedError, Wanted
    from belljar.recipe.specs import DebPackage

    context = Context(home=home, arch=machine_arch(), suite=suite, progress=progress)
    wanted = [Wanted(key=(name,), spec=DebPackage(name=name, version=None)) for name in names]
    try:
        return kind_named("deb").resolve(wanted, context)
    except UnresolvedError as error:
        raise InputError(
            f"{DEBIAN}{suite}: {error.message}", hint="name a suite that the mirror has"
        ) from error


def _unpacked(files: Sequence[LockedFile], suite: str, tree: Path, home: Home, progress: Progress) -> Path:
    for archive in _fetched(files, suite, home, progress):
        _unpack(archive, tree, progress, merged_usr=True)
    _complete(tree)
    return tree


def _fetched(
    files: Sequence[LockedFile], suite: str | None, home: Home, progress: Progress
) -> tuple[Path, ...]:
    from belljar.recipe.fetch import fetch

    requests = {} if suite is None else {"environment.suite": suite}
    lock = Lock(arch=machine_arch(), requests=requests, environment=tuple(files))
    paths = fetch(lock, home, progress=progress)
    return tuple(paths[file.sha256] for file in files)


def _unpack(archive: Path, into: Path, progress: Progress, *, merged_usr: bool = False) -> None:
    from belljar.archive.unpack import unpack

    # A download is named <sha256>-<name>.
    progress(Event(stage="unpack", subject=archive.name[65:] or archive.name))
    unpack(archive, into, merged_usr=merged_usr, mtime=EPOCH)


def _complete(tree: Path) -> None:
    """Put there what a system has that was installed by running its packages' scripts."""
    (tree / "etc").mkdir(exist_ok=True)
    for name, text in _ETC.items():
        path = tree / "etc" / name
        if not os.path.lexists(path):
            path.write_text(text)
    shell = tree / "usr/bin/sh"
    if (tree / "usr/bin/dash").exists() and not os.path.lexists(shell):
        shell.symlink_to("dash")
