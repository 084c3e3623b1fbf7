"""Other kernels, on other machines: Debian's, started by Debian's qemu, with belljar in their first root.

A kernel is taken out of its package and started with a root in memory (cpio, which the kernel unpacks): a
Debian system with Python, belljar's own source and tests, and what a test adds. Nothing is installed and no
disk is made. What the command there says comes by the serial console. qemu translates every instruction:
no rights are needed, and a machine starts in 4 seconds, but runs at a tenth of the speed.

Packages, and the system as one file, are kept in the system's directory for temporary files.
"""

import functools
import hashlib
import json
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar.types import Arch

TESTS = Path(__file__).parent
SYSTEM = ("python3.11", "dash", "coreutils", "grep", "util-linux")
"""Of bookworm: whatever the kernel, Python and the C library are the same."""
_LIBRARIES = ("click", "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py.py")
_SKIPPED = re.compile(r"usr/share/(doc|man|locale|info|lintian|bash-completion|zoneinfo)(/|$)")
_ETC = {"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n"}

File = Path | str
"""Where a file is, or what is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The newest kernel of a Debian suite for an architecture."""

    arch: Arch
    suite: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command in a virtual machine ended (None: it never did), and all that the console showed."""

    status: int | None
    console: str

    @property
    def results(self) -> dict[str, str]:
        """What pytest said of each test."""
        return dict(re.findall(r"^\S+::(.+?) (PASSED|FAILED|ERROR)\b", self.console, re.M))


def boot(
    kernel: Kernel,
    command: Sequence[str],
    files: Mapping[str, File],
    *,
    packages: Sequence[str] = (),
    timeout: float = 600,
) -> Ended:
    """Start a kernel and run a command there as root; `files` are added to the system by their paths."""
    with tempfile.TemporaryDirectory() as scratch:
        first = Path(scratch) / "root.cpio"
        with first.open("wb") as file:
            file.write(_system(kernel.arch, (*SYSTEM, *packages)).read_bytes())
            file.writelines(_archive(_ours() | files | {"command.json": json.dumps(command)}))
        words = [*_qemu(kernel.arch), "-kernel", _image(kernel), "-initrd", first]
        console = _run(list(map(str, words)), timeout).replace("\r", "")
    found = re.search(r"^ENDED (-?\d+)$", console, re.M)
    return Ended(status=int(found[1]) if found else None, console=console)


def program_name(source: str, flags: Sequence[str], target: str) -> str:
    """Return what a compiled program is called there; `target` is zig's, of any machine."""
    words = repr((source, tuple(flags), target.partition("-")[2]))
    return hashlib.sha256(words.encode()).hexdigest()[:16]


# --- qemu -----------------------------------------------------------------------------------------


def _run(words: Sequence[str], timeout: float) -> str:
    env = {"QEMU_MODULE_DIR": str(_emulators() / "usr/lib/x86_64-linux-gnu/qemu")}
    try:
        done = subprocess.run(
            words,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace")
    return done.stdout.decode(errors="replace")


def _qemu(arch: Arch) -> list[str | Path]:
    """Return the command that starts a machine of two processors; it is over when that starts anew."""
    root = _emulators()
    loader, libraries = root / "usr/lib64/ld-linux-x86-64.so.2", root / "usr/lib/x86_64-linux-gnu"
    # x86 kernels patch themselves as they run, which several threads of qemu do not always bear.
    machine, console = {
        Arch.X86_64: (("-M", "pc", "-accel", "tcg,thread=single"), "ttyS0"),
        Arch.AARCH64: (("-M", "virt", "-accel", "tcg,thread=multi", "-cpu", "cortex-a72"), "ttyAMA0"),
    }[arch]
    return [
        *(loader, "--library-path", libraries, root / f"usr/bin/qemu-system-{arch.value}"),
        *("-m", "2G", "-smp", "2", "-nodefaults", "-no-user-config"),
        *("-display", "none", "-serial", "stdio", "-no-reboot", "-L", root / "usr/share/qemu"),
        *("-L", root / "usr/share/seabios", *machine),
        # The last word becomes a variable of process 1: there are no random numbers yet.
        *("-append", f"console={console} quiet panic=-1 oops=panic PYTHONHASHSEED=0"),
    ]


@functools.cache
def _emulators() -> Path:
    return unpacked(Arch.X86_64, "trixie", ("qemu-system-x86", "qemu-system-arm"))


# --- packages -------------------------------------------------------------------------------------


def _image(kernel: Kernel) -> Path:
    name = f"linux-image-cloud-{kernel.arch.debian}"
    root = unpacked(kernel.arch, kernel.suite, (name,), only=r"linux-(image|binary)-[0-9].*")
    found = [*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]
    assert len(found) == 1, found
    return found[0]


def unpacked(arch: Arch, suite: str, names: Sequence[str], *, only: str = ".*") -> Path:
    """Return where packages and what they need are unpacked, once; of all these, those named like `only`."""
    from belljar.archive.unpack import unpack
    from belljar.home import Home
    from belljar.recipe import Lock
    from belljar.recipe.fetch import fetch
    from belljar.recipe.sources import kind_named
    from belljar.recipe.sources.base import Context, Wanted
    from belljar.recipe.specs import DebPackage

    place = Path(tempfile.gettempdir()) / f"belljar-tests-kernels-{os.getuid()}"
    into = place / "-".join((suite, arch.value, *names))
    if into.is_dir():
        return into
    home = Home(data=place, cache=place / "cache")
    context = Context(home=home, arch=arch, suite=suite, progress=lambda _: None)
    wanted = [Wanted(key=(name,), spec=DebPackage(name=name, version=None)) for name in names]
    files = kind_named("deb").resolve(wanted, context)
    chosen = tuple(item for item in files if re.fullmatch(only, item.name))
    stage = into.with_name(f"{into.name}.{os.getpid()}")
    lock = Lock(arch=arch, requests={"environment.suite": suite}, environment=chosen)
    for archive in fetch(lock, home).values():
        unpack(archive, stage, merged_usr=True, mtime=1)
    stage.rename(into)
    return into


# --- the system -------------------------------------------------------------------------------------


def _system(arch: Arch, packages: Sequence[str]) -> Path:
    """Return the system without what is ours, as one file."""
    root = unpacked(arch, "bookworm", packages)
    kept = root.with_name(f"{root.name}.cpio")
    if not kept.exists():
        made = kept.with_name(f"{kept.name}.{os.getpid()}")
        names = {str(path.relative_to(root)): path for path in sorted(root.rglob("*"))}
        with made.open("wb") as file:
            file.writelines(
                _archive({name: path for name, path in names.items() if not _SKIPPED.match(name)})
            )
        made.rename(kept)
    return kept


def _ours() -> dict[str, File]:
    """Return belljar, its tests, what both need, and process 1."""
    import pytest

    libraries = Path(pytest.__file__).parents[1]
    trees = {"checkout/src/belljar": TESTS.parent / "src/belljar", "checkout/tests": TESTS}
    trees |= {f"opt/{name}": libraries / name for name in _LIBRARIES}
    found: dict[str, File] = {
        str(Path(top) / path.relative_to(tree)): path
        for top, tree in trees.items()
        for path in ([tree] if tree.is_file() else sorted(tree.rglob("*")))
        if path.is_file() and "__pycache__" not in path.parts
    }
    init = "#!/usr/bin/python3.11 -S\n" + (TESTS / "kernel/init.py").read_text()
    here = {"checkout/pyproject.toml": TESTS.parent / "pyproject.toml"}
    return found | here | _ETC | {"init": init, "checkout/tests/conftest.py": TESTS / "kernel/programs.py"}


def _archive(files: Mapping[str, File]) -> Iterator[bytes]:
    """Yield an archive of the "newc" form, cpio(5); the kernel takes several, one behind the other."""
    made: set[str] = set()
    for name, file in files.items():
        for parent in reversed(Path(name).parents[:-1]):
            if str(parent) not in made and str(parent) not in files:
                made.add(str(parent))
                # Whoever imports something first keeps it compiled, for all others.
                yield _entry(str(parent), stat.S_IFDIR | 0o777, b"")
        if isinstance(file, str):
            yield _entry(name, stat.S_IFREG | 0o755, file.encode())
        else:
            mode = file.lstat().st_mode
            link = os.fsencode(os.readlink(file)) if stat.S_ISLNK(mode) else b""
            yield _entry(name, mode, file.read_bytes() if stat.S_ISREG(mode) else link)
    yield _entry("TRAILER!!!", 0, b"")


def _entry(name: str, mode: int, data: bytes) -> bytes:
    """Return one file of an archive, root's."""
    fields = (0, mode, 0, 0, 1, 1, len(data), 0, 0, 0, 0, len(os.fsencode(name)) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + os.fsencode(name) + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
