"""Compilers from Debian's packages, run in belljar's own sandbox: gcc, clang, rustc, go, cross compilers.

Each set of packages is resolved, downloaded and unpacked once, into the system's directory for
temporary files (300 to 700 MB a set); later runs need neither the network nor that time.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from belljar.build.environment import Environment, materialise
from belljar.build.sandboxed import root_of
from belljar.home import Home
from belljar.recipe import Lock, LockedFile
from belljar.recipe.fetch import fetch
from belljar.recipe.lock import machine_arch
from belljar.recipe.sources import kind_named
from belljar.recipe.sources.base import Context, Wanted
from belljar.recipe.specs import DebPackage
from belljar.sandbox import Bind, Devices, Proc, Sandbox, Tmpfs, run
from belljar.types import Arch

SUITE = "bookworm"
_SHELL = ("dash", "coreutils")
SETS: Mapping[str, tuple[str, ...]] = {
    "gcc": (*_SHELL, "gcc", "g++", "libc6-dev"),
    "gcc-32": (*_SHELL, "gcc", "gcc-multilib"),
    "gcc-aarch64": (*_SHELL, "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
    "clang": (*_SHELL, "clang-14", "lld-14", "libc6-dev", "libstdc++-12-dev"),
    "rustc": (*_SHELL, "rustc", "gcc", "libc6-dev"),
    "go": (*_SHELL, "golang-1.19-go"),
    "cargo": (*_SHELL, "cargo", "gcc", "libc6-dev"),
    "stage": (
        *(*_SHELL, "binutils", "diffutils", "findutils", "gawk", "grep", "make", "sed"),
        *("gcc", "libc6-dev", "cmake", "meson", "ninja-build", "pkgconf", "python3"),
    ),
    "run": (
        *("bash", "binutils", "cargo", "cmake", "coreutils", "dash", "gcc", "g++", "git", "golang-1.19-go"),
        *("grep", "libc6-dev", "make", "nodejs", "npm", "pkg-config", "python3", "python3-pip"),
        *("python3-setuptools", "python3-wheel", "rustc", "sed", "util-linux"),
    ),
    "run-c": (
        *(
            "bash",
            "binutils",
            "cmake",
            *_SHELL,
            "diffutils",
            "findutils",
            "gawk",
            "gcc",
            "g++",
            "grep",
            "gzip",
        ),
        *("libc6-dev", "make", "meson", "ninja-build", "python3", "python3-dev", "python3-pip", "sed", "tar"),
        *("python3-setuptools", "python3-wheel", "xz-utils"),
    ),
    "run-rust": (
        *("bash", *_SHELL, "cargo-web", "gcc", "grep", "libc6-dev", "lld", "make", "python3", "python3-dev"),
        *("rustc-web", "sed"),
    ),
    "run-go": (
        *("bash", *_SHELL, "git", "golang-1.19-go", "golang-github-mattn-go-isatty-dev"),
        *("golang-github-mattn-go-runewidth-dev", "golang-github-mattn-go-shellwords-dev"),
        *("golang-github-rivo-uniseg-dev", "golang-github-saracen-walker-dev", "golang-golang-x-term-dev"),
    ),
    "run-java": (
        *(
            "bash",
            *_SHELL,
            "findutils",
            "gawk",
            "grep",
            "libmaven-compiler-plugin-java",
            "libmaven-jar-plugin-java",
        ),
        *("libmaven-resources-plugin-java", "libsurefire-java", "maven", "openjdk-17-jdk-headless", "sed"),
    ),
    "run-small": (
        *("bash", "binutils", "coreutils", "dash", "gcc", "g++", "git", "grep", "libc6-dev", "make"),
        *("pkg-config", "python3", "sed", "util-linux"),
    ),
    "supervised": ("bash", *_SHELL, "gcc", "libc6-dev", "make", "strace"),
    "cgo": (*_SHELL, "golang-1.19-go", "gcc", "libc6-dev"),
    "gdb": (*_SHELL, "gdb"),
    "jre": ("bash", *_SHELL, "openjdk-17-jre-headless"),
    "qemu": ("qemu-user-static",),
    "gcc-11": (*_SHELL, "gcc-11", "libc6-dev"),
    "gcc-arm": (*_SHELL, "gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross"),
    "g++-aarch64": (*_SHELL, "g++-aarch64-linux-gnu"),
    "clang-13": (*_SHELL, "clang-13", "libc6-dev"),
    "clang-19": (*_SHELL, "clang-19", "libc6-dev"),
    "tcc": (*_SHELL, "tcc", "libc6-dev"),
    "elf": (
        *(
            "bash",
            *_SHELL,
            "binutils",
            "curl",
            "gcc",
            "git",
            "openjdk-17-jre-headless",
            "perl",
            "postgresql-15",
        ),
        *("python3.11", "python3-numpy", "python3-scipy", "samba-libs", "sqlite3", "systemd", "util-linux"),
    ),
    "pilots": (
        *("bash", "bsdutils", "coreutils", "curl", "dash", "git", "grep", "less", "libc-bin", "libstdc++6"),
        *("ncurses-base", "ncurses-bin", "openssl", "perl", "python3.11", "sed", "sqlite3", "vim-tiny"),
    ),
    "pilots-long": (
        *("bash", "coreutils", "clang-14", "g++-12", "grep", "libc-bin", "libc6-dev", "lld-14"),
        *("openjdk-17-jdk-headless", "sed"),
    ),
}


def _place() -> Path:
    return Path(tempfile.gettempdir()) / f"belljar-tests-compilers-{os.getuid()}"


def environment(name: str) -> Environment:
    """Return the root of a set of packages, made now unless it is there."""
    home = Home(data=_place(), cache=_place() / "cache")
    lock = _lock(name, home)
    return materialise(lock.environment, {}, fetch(lock, home), home=home)


def debs(name: str) -> dict[str, Path]:
    """Return the downloaded packages of a set by their names."""
    home = Home(data=_place(), cache=_place() / "cache")
    lock = _lock(name, home)
    files = fetch(lock, home)
    return {item.name: files[item.sha256] for item in lock.environment}


def _lock(name: str, home: Home) -> Lock:
    """Resolve a set, unless that was done before: files by name, version and hash."""
    kept = home.data / f"{name}.json"
    wanted = [Wanted(key=(item,), spec=DebPackage(name=item, version=None)) for item in SETS[name]]
    requests = {"environment.suite": SUITE, "environment.packages": SETS[name]}
    if kept.exists() and (known := json.loads(kept.read_text()))["packages"] == list(SETS[name]):
        files = tuple(LockedFile(**item) for item in known["files"])
    else:
        context = Context(home=home, arch=machine_arch(), suite=SUITE, progress=lambda _: None)
        files = tuple(kind_named("deb").resolve(wanted, context))
        home.data.mkdir(parents=True, exist_ok=True)
        value = {"packages": SETS[name], "files": [item.to_json() for item in files]}
        made = kept.with_name(f"{name}.{os.getpid()}")
        made.write_text(json.dumps(value))
        made.replace(kept)
    return Lock(arch=Arch(machine_arch()), requests=requests, environment=files)


def shell(name: str, script: str, work: Path, *, timeout: float = 600) -> None:
    """Run a shell script in a set's root with `work` as its directory, at /w; it must succeed."""
    root = root_of(environment(name))
    kept = _place() / "go-build"
    kept.mkdir(exist_ok=True)
    box = Sandbox(
        operations=(
            *root,
            Proc(),
            Devices(),
            Tmpfs(target="/tmp"),
            Bind(source=str(work), target="/w", writable=True),
            Bind(source=str(kept), target="/go-build", writable=True),
        ),
        env={
            "PATH": "/usr/bin:/usr/lib/go-1.19/bin",
            "GOROOT": "/usr/lib/go-1.19",
            "GOCACHE": "/go-build",
            "HOME": "/tmp",
            "LC_ALL": "C.UTF-8",
        },
        cwd="/w",
    )
    with (work / "log").open("wb") as log:
        ended = run(
            box, ["/usr/bin/sh", "-euc", script], stdout=log.fileno(), stderr=log.fileno(), timeout=timeout
        )
    assert ended.status == 0, (work / "log").read_text()


def compile_all(name: str, commands: Sequence[str], work: Path, *, jobs: int = 2) -> None:
    """Run many independent commands, `jobs` at a time."""
    (work / "commands").write_text("".join(f"{command}\n" for command in commands))
    parts = "\n".join(
        f"(i=0; while read -r line; do i=$((i+1)); [ $((i % {jobs})) = {job} ] || continue;"
        f' eval "$line" || exit 1; done < commands) & pids="$pids $!"'
        for job in range(jobs)
    )
    shell(name, f"pids=\n{parts}\nfor p in $pids; do wait $p; done", work)
