"""apt with a state of its own: one directory per suite and architecture, no root, nothing shared.

The machine's configuration says where the Debian archive is and which keys sign it; the suite is the
recipe's, whatever the machine runs. Everything else that could make two machines resolve differently
is set here: no installed packages, no preferences, no recommendations, no foreign architectures, no
hooks. A crash leaves a state that the next `apt-get update` mends; a lock keeps two of us apart.

Where the archive is, apt is asked: `indextargets` lists the configured repositories before any list
was downloaded. The one that counts has the component `main` and a plain suite (bookworm, not
bookworm-updates: those move weekly, and what was locked from them is soon gone).
"""

import errno
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from belljar import fsys, proc
from belljar.errors import HostError, RemoteError
from belljar.recipe.sources.base import Context, UnresolvedError
from belljar.types import Arch, Event

_CONFIG = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
quiet "2";
"""


FRESH = 300.0
"""For how many seconds lists are new enough to lock from: one run asks for them more than once."""
ANY_AGE = math.inf
"""To fetch what is locked, any lists will do that still have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A configured repository: its address, the suite it is configured for, and who signs it."""

    uri: str
    suite: str
    options: tuple[tuple[str, str], ...]

    def stanza(self, suite: str) -> str:
        """Return the deb822 text that names `suite` of it, binaries and sources (sources.list(5))."""
        fields = (("Types", "deb deb-src"), ("URIs", self.uri), ("Suites", suite), ("Components", "main"))
        return "".join(f"{name}: {value}\n" for name, value in (*fields, *self.options))


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt:
    """A private state of apt for one suite; made by `opened`."""

    directory: Path
    suite: str

    def get(self, *words: str, cwd: Path | None = None) -> proc.Completed:
        """Run apt-get."""
        return _run("apt-get", self._options(), words, cwd)

    def cache(self, *words: str) -> proc.Completed:
        """Run apt-cache."""
        return _run("apt-cache", self._options(), words, None)

    def stanzas(self, *words: str) -> list[dict[str, str]]:
        """Run apt-cache and read what it shows: fields by name, continuation lines kept."""
        texts = re.split(r"\n\n+", self.cache(*words).stdout.strip())
        return [
            dict(re.findall(r"^([^\s:]+):[ \t]*(.*(?:\n[ \t].*)*)", text, re.M)) for text in texts if text
        ]

    def update(self, context: Context, *, older_than: float = 0.0) -> None:
        """Download the package lists, unless they were updated within `older_than` seconds.

        Raises RemoteError when they cannot be had, UnresolvedError when there is no such suite.
        """
        stamp = self.directory / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < older_than:
            return
        context.progress(Event(stage="resolve", subject=f"package lists of {self.suite}"))
        ended = self.get("update")
        if ended.status != 0:
            raise self._update_error(ended)
        fsys.write_atomic(stamp, "")

    def _update_error(self, ended: proc.Completed) -> Exception:
        if full := _disk_full(ended):
            return full
        if re.search(r"does not have a Release file|404\s+Not Found", ended.stderr):
            return UnresolvedError((("environment", "suite"), f"the archive has no suite {self.suite!r}"))
        return RemoteError(
            f"apt: package lists of {self.suite} cannot be had:\n{_complaints(ended)}",
            hint="is there a network, and does `apt-get update` work on this machine?",
        )

    def _options(self) -> list[str]:
        here = self.directory
        settings = {
            "Dir::State": here / "state",
            "Dir::State::lists": here / "state/lists",
            "Dir::State::status": here / "state/status",
            "Dir::State::extended_states": here / "state/extended_states",
            "Dir::Cache": here / "cache",
            "Dir::Cache::archives": here / "cache/archives",
            "Dir::Cache::pkgcache": here / "cache/pkgcache.bin",
            "Dir::Cache::srcpkgcache": here / "cache/srcpkgcache.bin",
            "Dir::Etc::sourceparts": here / "sources.list.d",
        }
        words = [f"--config-file={here / 'apt.conf'}"]
        return words + [f"--option={name}={value}" for name, value in settings.items()]


@contextmanager
def opened(context: Context) -> Iterator[Apt]:
    """Hold the private state for the context's suite, set up for the machine's configuration.

    Raises HostError when apt is not installed or knows no Debian archive.
    """
    suite = context.suite or ""
    name = f"{suite}-{context.arch.debian}"

    def waiting() -> None:
        context.progress(Event(stage="resolve", subject=f"waiting for another belljar ({name})"))

    with fsys.locked(context.home.apt / f"{name}.lock", on_wait=waiting):
        apt = Apt(directory=context.home.apt / name, suite=suite)
        try:
            _set_up(apt, context.arch)
        except OSError as error:
            raise fsys.explained(error, apt.directory) from error
        yield apt


def _set_up(apt: Apt, arch: Arch) -> None:
    here = apt.directory
    for part in ("state/lists/partial", "cache/archives/partial", "sources.list.d"):
        (here / part).mkdir(parents=True, exist_ok=True)
    fsys.write_atomic(here / "apt.conf", _CONFIG.format(arch=arch.debian))
    (here / "state/status").touch()
    repositories = archive_for(apt.suite, _configured(here))
    sources = "\n".join(repository.stanza(apt.suite) for repository in repositories)
    place = here / "sources.list.d/belljar.sources"
    if not place.exists() or place.read_text() != sources:
        (here / "updated").unlink(missing_ok=True)
        fsys.write_atomic(place, sources)


def _configured(directory: Path) -> list[Repository]:
    """Return the repositories of the machine that have a `main` component, in apt's order."""
    columns = "$(CREATED_BY)\t$(COMPONENT)\t$(REPO_URI)\t$(RELEASE)\t$(SOURCESENTRY)"
    empty = directory / "empty"
    empty.mkdir(exist_ok=True)
    words = ("--no-release-info", "indextargets", "--format", columns)
    ended = _run("apt-get", [f"--option=Dir::State::lists={empty}"], words, None)
    if ended.status != 0:
        raise HostError(f"apt: does not say what it is configured for:\n{ended.last_words}")
    rows = [line.split("\t") for line in ended.stdout.splitlines()]
    found = [tuple(row[2:]) for row in rows if len(row) == 5 and row[:2] == ["Packages", "main"]]
    return [
        Repository(uri=uri, suite=suite, options=options_of(entry))
        for uri, suite, entry in dict.fromkeys(found)
    ]


def archive_for(suite: str, repositories: list[Repository]) -> list[Repository]:
    """Choose the repositories that hold the Debian archive: those of `suite`, else of the machine's own.

    Raises HostError when there are none.
    """
    plain = [repository for repository in repositories if re.fullmatch(r"[a-z]+", repository.suite)]
    for wanted in (suite, _own_suite()):
        chosen = [repository for repository in plain if repository.suite == wanted]
        if chosen:
            return chosen
    chosen = [
        repository for repository in plain if repository.suite in ("stable", "testing", "unstable", "sid")
    ]
    if not chosen:
        raise HostError("apt: no Debian archive is configured on this machine", hint="see sources.list(5)")
    return chosen


def options_of(entry: str) -> tuple[tuple[str, str], ...]:
    """Return the deb822 fields that say who signs the source at `entry`, which is `FILE:NUMBER`.

    In a one-line file the number is that of a line, in a .sources file that of a stanza. Nothing that
    can be read there means the machine's trusted keys.
    """
    name, _, number = entry.rpartition(":")
    try:
        text = Path(name).read_text(errors="replace")
        if not name.endswith(".sources"):
            found = re.findall(r"\b(signed-by|trusted)=([^\s\]]+)", text.splitlines()[int(number) - 1])
        else:
            text = re.sub(r"^#.*\n", "", text, flags=re.M)
            stanza = [part for part in re.split(r"\n\s*\n", text) if part.strip()][int(number) - 1]
            found = re.findall(r"^(Signed-By|Trusted):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.M | re.I)
    except (OSError, ValueError, IndexError):
        return ()
    return tuple((field.title(), value) for field, value in found)


def _own_suite() -> str:
    """Return the code name of the machine's own release (os-release(5)), or nothing."""
    try:
        found = re.search(r"^VERSION_CODENAME=[\"']?([a-z]+)", Path("/etc/os-release").read_text(), re.M)
    except OSError:
        return ""
    return found[1] if found else ""


def _run(program: str, options: list[str], words: tuple[str, ...], cwd: Path | None) -> proc.Completed:
    if proc.find(program) is None:
        raise HostError(
            f"{program}: not found on this machine",
            hint="deb: and deb-src: need apt: use a Debian-based machine or container",
        )
    return proc.run([program, *options, *words], env={**os.environ, "LC_ALL": "C"}, cwd=cwd)


def _complaints(ended: proc.Completed) -> str:
    """Return apt's errors, and its warnings where there are none, once each."""
    lines = dict.fromkeys(ended.stderr.splitlines())
    chosen = [line for line in lines if line.startswith("E:")] or list(lines)
    return "\n".join(chosen[-5:]) or ended.last_words


def _disk_full(ended: proc.Completed) -> HostError | None:
    if os.strerror(errno.ENOSPC) not in ended.stderr:
        return None
    return HostError(
        f"apt: {os.strerror(errno.ENOSPC)}:\n{_complaints(ended)}",
        hint="free some space there, or set BELLJAR_HOME to another filesystem",
    )


def fetch_error(ended: proc.Completed, what: str) -> Exception:
    """Return what a failed download by apt means."""
    from belljar.errors import IntegrityError

    words = _complaints(ended)
    if full := _disk_full(ended):
        return full
    if "Hash Sum mismatch" in ended.stderr or "unexpected size" in ended.stderr:
        return IntegrityError(f"apt: {what}: the archive's own hash does not match:\n{words}")
    if re.search(r"was not found|Unable to (locate|find)|Can't find|404\s+Not Found", ended.stderr):
        return RemoteError(
            f"apt: {what}: no longer in the archive:\n{words}",
            hint="the archive keeps only the newest versions of a suite; run `belljar lock`",
        )
    return RemoteError(f"apt: {what}: cannot be downloaded:\n{words}", hint="is there a network?")
