"""What a build can see of where and when it runs, and how a sandbox and its supervisor show it that.

A sandbox of belljar is the same everywhere; here its fixed values are fields. A world turns the sandbox of a
usual build into one that shows other values: mounts and the directories that variables name move, and what
the kernel is asked for the supervisor answers. What is read from /proc and /etc are files put there.
"""

import re
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

    `model` is the CPU's, `uptime` in seconds, `programs` a directory more to look for programs in.

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
    domain: str = "(none)"
    umask: int = 0o022
    locale: str = "C.UTF-8"
    zone: str = "UTC"
    clock: int = CLOCK
    source_date: int = EPOCH
    timestamps: int = EPOCH
    processors: int = machine.PROCESSORS
    memory: int = machine.MEMORY
    model: str = "belljar x86-64"
    uptime: int = 1000
    programs: str = ""
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
        shown = self._files(usual)
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
            domain=self.domain,
            umask=self.umask,
            fixed_addresses=self.fixed_addresses,
            pids_before=self.pids,
        )

    def command(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command as it is in this world: paths of the project and of the home move."""
        return tuple(map(self._moved, words))

    def write_files(self, usual: Sandbox, files: Path) -> None:
        """Write what the sandbox shows of the machine."""
        for target, text in self._files(usual).items():
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
        if self.programs:
            own["PATH"] = f"{usual.env.get('PATH', '')}:{self.programs}"
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

    def _files(self, usual: Sandbox) -> dict[str, str]:
        """Return what is shown instead of files of the usual sandbox, by where; only what varies."""
        found = {}
        if self._varies("user", "uid", "gid", "home"):
            own = f"{self.user}:x:{self.uid}:{self.gid}::{self.home}:/bin/sh\n"
            nobody = "nobody:x:65534:65534::/:/noshell\n"
            found["/etc/passwd"] = f"root:x:0:0::/:/noshell\n{own}{nobody}"
            found["/etc/group"] = f"root:x:0:\n{self.user}:x:{self.gid}:\nnogroup:x:65534:\n"
        for target, names, change in (
            ("/proc/cpuinfo", ("processors", "model"), self._cpuinfo),
            ("/proc/stat", ("processors",), self._stat),
            ("/proc/meminfo", ("memory",), self._meminfo),
            ("/proc/version", ("kernel",), self._version),
            ("/proc/sys/kernel/osrelease", ("kernel",), self._version),
            ("/proc/uptime", ("uptime",), self._uptime),
            ("/proc/loadavg", ("uptime",), self._load),
        ):
            if self._varies(*names):
                shown = locate(usual, target)
                found[target] = change(Path(shown[1]).read_text() if shown else "")
        return found

    def _varies(self, *names: str) -> bool:
        return any(getattr(self, name) != getattr(World(), name) for name in names)

    def _cpuinfo(self, usual: str) -> str:
        first = usual.partition("\n\n")[0]
        first = re.sub(r"(?m)^(siblings|cpu cores)(\s*): .*", rf"\1\2: {self.processors}", first)
        if self._varies("model"):
            first = re.sub(r"(?m)^(model name\s*): .*", rf"\1: {self.model}", first)
            first = re.sub(r"(?m)^((?:flags|Features)\s*: .*)", r"\1 varied", first)
        number = re.compile(r"(?m)^(processor|core id|apicid|initial apicid)(\s*): .*")
        return "".join(number.sub(rf"\1\2: {n}", first) + "\n\n" for n in range(self.processors))

    def _stat(self, usual: str) -> str:
        lines = usual.splitlines(keepends=True)
        cpus = [line for line in lines if line.startswith("cpu")]
        own = [f"cpu{n} {cpus[-1].partition(' ')[2]}" for n in range(self.processors)] if cpus else []
        return "".join((*cpus[:1], *own, *lines[len(cpus) :]))

    def _meminfo(self, usual: str) -> str:
        def scaled(match: re.Match[str]) -> str:
            return f"{match[1]}{int(match[2]) * (self.memory >> 10) // (World().memory >> 10)}"

        return re.sub(r"(?m)^(Mem\w+:\s*)(\d+)", scaled, usual)

    def _version(self, usual: str) -> str:
        return usual.replace(World().kernel, self.kernel)

    def _uptime(self, _: str) -> str:
        return f"{self.uptime}.00 {self.uptime}.00\n"

    def _load(self, _: str) -> str:
        return "7.65 4.32 1.98 3/1234 4321\n"
