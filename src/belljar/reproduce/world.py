"""What a build can see of where and when it runs, and how a sandbox and its supervisor show it that.

A sandbox of belljar is the same everywhere; here its fixed values are fields. A world turns the sandbox of a
usual build into one that shows other values: mounts and the directories that variables name move, and what
the kernel is asked for the supervisor answers. What is read from /proc, /sys and /etc are files put there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from belljar.hermetic.request import HOME, PROJECT
from belljar.hermetic.sight import locate
from belljar.hermetic.variables import EPOCH
from belljar.sandbox import SORTED, Bind, Policy, Sandbox, Symlink, Tmpfs, Trace, machine

CLOCK = 2_051_308_800
"""2035-01-02: files get the real time, and make, meson and tar mind those from the future."""
LOCALES = "/run/belljar/locale"
"""Where a build sees locales that its system does not have (LOCPATH of glibc)."""
_UTF8 = ("C.utf8", "C.UTF-8")
_HIDING = ("LC_ALL", "TAR_OPTIONS")
"""Variables of a hermetic run that keep an influence from showing, or that are set anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that varies. Times are seconds since 1970, `memory` is in bytes, `timestamps` are of the sources.

    `listing` is the order of directories (belljar.sandbox.Policy); `pids` how many process numbers are used
    up before the build; `variables` are added to its environment.
    """

    path: str = PROJECT
    home: str = HOME
    temporary: str = "/tmp"
    user: str = "build"
    uid: int = 1000
    gid: int = 100
    host: str = "localhost"
    umask: int = 0o022
    locale: str = "C.UTF-8"
    zone: str = "UTC"
    clock: int = CLOCK
    source_date: int = EPOCH
    timestamps: int = EPOCH
    processors: int = machine.PROCESSORS
    memory: int = machine.MEMORY
    jobs: int = 1
    kernel: str = machine.RELEASE
    seed: str = "belljar"
    hash_seed: int = 0
    listing: str = SORTED
    fixed_addresses: bool = True
    pids: int = 0
    variables: tuple[tuple[str, str], ...] = ()

    def policy(self) -> Policy:
        """Return what the supervisor answers."""
        return Policy(
            trace=Trace.NOTHING,
            epoch=self.clock,
            seed=self.seed,
            release=self.kernel,
            processors=self.processors,
            memory=self.memory,
            listing=self.listing,
        )

    def sandbox(self, usual: Sandbox, files: Path) -> Sandbox:
        """Return the sandbox of a usual build as it is in this world.

        `files` is a directory that the machine's files are written to, before the sandbox runs.
        """
        shown = dict(self._files())
        operations = [replace(item, target=self._moved(item.target)) for item in usual.operations]
        operations = [self._linked(item) if isinstance(item, Symlink) else item for item in operations]
        operations = [item for item in operations if item.target not in shown]
        if self.temporary != "/tmp":
            operations.append(Tmpfs(target=self.temporary))
        operations += [
            Bind(source=str(files / target.strip("/").replace("/", "-")), target=target) for target in shown
        ]
        if (files / "locale").is_dir():
            operations.append(Bind(source=str(files / "locale"), target=LOCALES))
        return replace(
            usual,
            operations=tuple(operations),
            env=self._environment(usual),
            cwd=self._moved(usual.cwd),
            uid=self.uid,
            gid=self.gid,
            hostname=self.host,
            umask=self.umask,
            fixed_addresses=self.fixed_addresses,
            pids_before=self.pids,
        )

    def command(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command as it is in this world: paths of the project and of the home move."""
        return tuple(map(self._moved, words))

    def write_files(self, files: Path) -> None:
        """Write what the sandbox shows of the machine."""
        for target, text in self._files():
            (files / target.strip("/").replace("/", "-")).write_text(text)

    def _environment(self, usual: Sandbox) -> dict[str, str]:
        own = {
            "HOME": self.home,
            "LANG": self.locale,
            "LC_ALL": self.locale,
            "LOGNAME": self.user,
            "PERL_HASH_SEED": str(self.hash_seed),
            "PYTHONHASHSEED": str(self.hash_seed),
            "SOURCE_DATE_EPOCH": str(self.source_date),
            "TMPDIR": self.temporary,
            "TZ": self.zone,
            "USER": self.user,
        }
        if self.locale != World().locale:
            del own["LC_ALL"]
            own["LOCPATH"] = LOCALES
            if any(locate(usual, f"/usr/lib/locale/{name}/LC_CTYPE") for name in _UTF8):
                # Only what sorts and formats: the encoding of texts stays UTF-8.
                own["LC_CTYPE"] = World().locale
        if self.jobs > 1:
            own |= {"MAKEFLAGS": f"-j{self.jobs}", "CMAKE_BUILD_PARALLEL_LEVEL": str(self.jobs)}
            own |= {"CARGO_BUILD_JOBS": str(self.jobs)}
        if "JOBS" in usual.env:
            own["JOBS"] = str(self.jobs)
        kept = {name: self._moved(value) for name, value in usual.env.items() if name not in _HIDING}
        return kept | own | dict(self.variables)

    def _moved(self, text: str) -> str:
        """Return a text with the paths of project and home as they are here."""
        for old, new in ((PROJECT, self.path), (HOME, self.home)):
            if old != new:
                text = re.sub(rf"(?<![\w./-]){re.escape(old)}(?![\w.-])", new, text)
        return text

    def _linked(self, item: Symlink) -> Symlink:
        return replace(item, link=self._moved(item.link))

    def _files(self) -> Iterator[tuple[str, str]]:
        own = f"{self.user}:x:{self.uid}:{self.gid}::{self.home}:/bin/sh\n"
        nobody = "nobody:x:65534:65534::/:/noshell\n"
        yield "/etc/passwd", f"root:x:0:0::/:/noshell\n{own}{nobody}"
        yield "/etc/group", f"root:x:0:\n{self.user}:x:{self.gid}:\nnogroup:x:65534:\n"
        for name in ("online", "possible", "present"):
            yield f"/sys/devices/system/cpu/{name}", f"0-{self.processors - 1}\n"
        numbers = range(self.processors)
        yield "/proc/cpuinfo", "".join(f"processor\t: {n}\nmodel name\t: belljar\n\n" for n in numbers)
        yield "/proc/stat", "".join(f"cpu{n} 0 0 0 0 0 0 0 0 0 0\n" for n in ("", *numbers))
        kib = self.memory >> 10
        yield "/proc/meminfo", f"MemTotal: {kib} kB\nMemFree: {kib // 2} kB\nMemAvailable: {kib // 2} kB\n"
        yield "/proc/version", f"Linux version {self.kernel} (belljar) #1 SMP\n"
        yield "/proc/sys/kernel/osrelease", f"{self.kernel}\n"
