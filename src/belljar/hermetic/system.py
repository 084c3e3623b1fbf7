"""What of the machine a command sees: programs and libraries, and a synthetic /etc and /proc; nothing else.

`/usr` without `/usr/local` (where administrators put what only this machine has; gcc looks there first),
the directories that /bin and /lib lead to, and /etc/alternatives, which says what Debian's `cc` is. The
tools of another root (`--system`) take the place of the machine's.
"""

import contextlib
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from belljar.hermetic.request import HOME, MACHINE, MARK
from belljar.sandbox import Bind, Devices, Directory, File, Operation, Proc, Symlink, Tmpfs, machine

LINKER = "/run/belljar/ld.lld"
"""Where a linker that is no C compiler is called by: rustc takes from the name how to call it."""
PATH = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
_TOPS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = {
    "passwd": f"root:x:0:0::/:/noshell\nbuild:x:1000:100::{HOME}:/bin/sh\nnobody:x:65534:65534::/:/noshell\n",
    "group": "root:x:0:\nbuild:x:100:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
_NETWORK_ETC = ("resolv.conf", "hosts", "nsswitch.conf", "host.conf", "services", "protocols", "gai.conf")
_CERTIFICATES = ("/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted")
_COMPILER = re.compile(
    r"(.*-)?(cc|gcc|g\+\+|c\+\+|clang|clang\+\+|c89|c99|cpp|clang-cpp|tcc|icx|icpx)(-[0-9.]+)?"
)
_INNER = ("usr/lib/gcc/*/*", "usr/libexec/gcc/*/*", "usr/lib/gcc-cross/*/*")
_INNER_NAMES = ("cc1", "cc1plus", "cc1obj", "collect2", "lto1", "f951")


def operations(system: Path, *, network: bool) -> tuple[Operation, ...]:
    """Return how the machine, or the root at `system`, is shown; with `network`, what names hosts too."""
    return (*_tops(system), *_etc(network=network), *_private(), *machine.covers())


def _tops(system: Path) -> Iterator[Operation]:
    for name in (*_TOPS, *(() if system == MACHINE else ("opt",))):
        top = system / name
        if top.is_symlink():
            yield Symlink(target=f"/{name}", link=os.readlink(top))
        elif top.is_dir():
            yield Bind(source=str(top), target=f"/{name}")
    if (system / "usr/local").is_dir():
        yield Tmpfs(target="/usr/local", mode=0o755)
    if (system / "etc/alternatives").is_dir():
        yield Bind(source=str(system / "etc/alternatives"), target="/etc/alternatives")


def _etc(*, network: bool) -> Iterator[Operation]:
    shown = [name for name in _NETWORK_ETC if network and os.path.isfile(f"/etc/{name}")]
    yield from (Bind(source=os.path.realpath(f"/etc/{name}"), target=f"/etc/{name}") for name in shown)
    yield from (File(target=f"/etc/{name}", text=text) for name, text in _ETC.items() if name not in shown)
    if network:
        tops = [path for path in _CERTIFICATES if os.path.exists(path)]
        yield from (Bind(source=path, target=path) for path in tops)


def _private() -> Iterator[Operation]:
    yield from (Proc(), Devices(), Directory(target="/sys"), Tmpfs(target="/tmp"))
    yield from (Tmpfs(target=HOME, mode=0o700), Symlink(target="/var/tmp", link="../tmp"))
    yield File(target=MARK, text="")


def extra(system: Path, patterns: tuple[str, ...]) -> tuple[Bind, ...]:
    """Return the binds of what a profile's `host` patterns match in a system, each at its own path."""
    found = sorted({path for pattern in patterns for path in glob.glob(str(system / pattern[1:]))})
    inside = (f"/{os.path.relpath(path, system)}" for path in found)
    return tuple(
        Bind(source=os.path.realpath(path), target=target) for path, target in zip(found, inside, strict=True)
    )


def linker() -> tuple[Bind, ...]:
    """Return the script that stands for a linker which is called without a C compiler."""
    return (Bind(source=str(Path(__file__).parent / "linkers/ld.lld"), target=LINKER),)


def without_compilers(system: Path) -> tuple[Bind, ...]:
    """Return what lies over every C compiler of the system: nothing that can be read or executed."""
    from belljar.ldso.root import Root

    root = Root(system)
    found = []
    for directory in PATH:
        top = system / directory[1:]
        names = sorted(os.listdir(top)) if top.is_dir() else []
        found += [f"{directory}/{name}" for name in names if _COMPILER.fullmatch(name)]
    for pattern in _INNER:
        tops = [f"/{Path(path).relative_to(system)}" for path in glob.glob(str(system / pattern))]
        found += [f"{top}/{name}" for top in tops for name in _INNER_NAMES]
    real = set()
    for path in found:
        with contextlib.suppress(OSError):
            real.add(root.locate(path).path)
    return tuple(Bind(source="/dev/null", target=path) for path in sorted(real))
