"""The influences as data: what each varies, what of the varied value can be told in an output, what helps.

Varied values are ones that nobody has: where `varied-host` stands in an output, the host name got there, and
no build is needed to show it (belljar.reproduce.search). A variable of the environment is an influence of its
own, `environment:NAME`.
"""

import enum
import fnmatch
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from belljar.errors import UsageError
from belljar.reproduce.world import World
from belljar.schema import nearest

_DAY = 86_400
_USUAL = World()


class Kind(enum.StrEnum):
    """What kind of thing differs."""

    TIME = "time"
    PATH = "path"
    ORDER = "order"
    RANDOM = "random"
    HOST = "host"
    USER = "user"
    CPU = "machine"
    KERNEL = "kernel"
    LOCALE = "locale"
    ENVIRONMENT = "environment"
    MODE = "mode"
    ADDRESS = "address"
    NUMBER = "number"
    CONTENT = "content"
    PRESENCE = "presence"
    FAILURE = "failure"
    DERIVED = "derived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """Something that a build should not depend on; `changes` are fields of a World.

    `marks` are texts that stand in an output only when this was varied and got there. What is `declared` is
    an input by convention: a build may depend on it and still be reproducible.
    """

    name: str
    title: str
    kind: Kind
    changes: Mapping[str, Any]
    marks: tuple[str, ...] = ()
    declared: bool = False
    remedy: str = ""

    def vary(self, world: World) -> World:
        """Return a world in which this differs."""
        fields = dict(self.changes)
        if "variables" in fields:
            fields["variables"] = (*world.variables, *fields["variables"])
        return replace(world, **fields)

    def describe(self) -> tuple[str, str]:
        """Return what it usually is, and what it is varied to."""
        usual = [_shown(name, getattr(_USUAL, name)) for name in self.changes]
        return ", ".join(usual), ", ".join(_shown(name, value) for name, value in self.changes.items())


def _shown(name: str, value: Any) -> str:
    if name == "variables":
        return " ".join(f"{key}={text}" for key, text in value) or "as in any run"
    if name == "umask":
        return f"{value:04o}"
    if name in {"clock", "source_date", "timestamps"}:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(value))
    if name == "memory":
        return f"{value >> 30} GiB"
    if name == "fixed_addresses":
        return "fixed" if value else "random"
    return str(value) or "none"


_ENVIRONMENT = {
    "BUILD_NUMBER": "varied-build-number",
    "CI": "varied-ci",
    "COLUMNS": "173",
    "EDITOR": "varied-editor",
    "GIT_AUTHOR_NAME": "varied-author",
    "JOB_NAME": "varied-job-name",
    "SHLVL": "37",
    "TERM": "varied-term",
    "UNHEARD_OF": "varied-unheard-of",
}
"""Variables that shells, terminals and build farms set, and one that nobody does."""
ENVIRONMENT = "environment"
NOBODYS = f"{ENVIRONMENT}:UNHEARD_OF"
"""Who depends on this depends on the environment as a whole: a list of it, or its size."""
CARRIED = frozenset(
    {"path", "home", "tmpdir", "exec-path", "user", "locale", "timezone", "source-date", "jobs", "hash-seed"}
)
"""Influences that variables of the environment carry, besides those that are called after one."""


def is_variable(name: str) -> bool:
    """Whether an influence is one variable of the environment."""
    return name.startswith(f"{ENVIRONMENT}:")


def is_carried(name: str) -> bool:
    """Whether an influence changes the environment of the build."""
    return name in CARRIED or is_variable(name)


def variable(name: str, value: str) -> Influence:
    """Return a variable of the environment as an influence."""
    return Influence(
        name=f"environment:{name}",
        title=f"the variable {name}",
        kind=Kind.ENVIRONMENT,
        changes={"variables": ((name, value),)},
        marks=(value,) if len(value) > 5 and not value.isdigit() else (),
        remedy=f"unset {name} in the build, or declare it as an input",
    )


_LOCALE_NAMES = tuple(
    f"V{name}y"
    for name in (
        *("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Jan", "Feb", "Mar", "Apr", "May"),
        *("Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    )
)
"""Names of days and months in the varied locale (varied.locale)."""
PATHS = "relative paths; -ffile-prefix-map=$PWD=. (C, C++), --remap-path-prefix (Rust), -trimpath (Go)"
"""What helps against a directory's name in outputs."""
ALL: tuple[Influence, ...] = (
    *(variable(name, value) for name, value in _ENVIRONMENT.items()),
    Influence(
        name="path",
        title="the directory that it is built in",
        kind=Kind.PATH,
        changes={"path": "/varied/place/of/the/project"},
        marks=("/varied/place",),
        remedy=PATHS,
    ),
    Influence(
        name="home",
        title="the home directory",
        kind=Kind.PATH,
        changes={"home": "/home/varied"},
        marks=("/home/varied",),
        remedy="write no path below $HOME into outputs",
    ),
    Influence(
        name="tmpdir",
        title="the directory for temporary files",
        kind=Kind.PATH,
        changes={"temporary": "/tmp/varied"},
        marks=("/tmp/varied",),
        remedy="write no path below $TMPDIR into outputs",
    ),
    Influence(
        name="exec-path",
        title="the directories that programs are looked for in (PATH)",
        kind=Kind.PATH,
        changes={"programs": "/varied/programs"},
        marks=("/varied/programs",),
        remedy="do not write $PATH into outputs",
    ),
    Influence(
        name="user",
        title="the user's name and number",
        kind=Kind.USER,
        changes={"user": "varieduser", "uid": 4242, "gid": 4343},
        marks=("varieduser", "uid 4242", "gid 4343"),
        remedy="do not record who builds; tar --owner=0 --group=0 --numeric-owner",
    ),
    Influence(
        name="host",
        title="the host name",
        kind=Kind.HOST,
        changes={"host": "varied-host", "domain": "varied-domain"},
        marks=("varied-host", "varied-domain"),
        remedy="do not record where it is built",
    ),
    Influence(
        name="locale",
        title="the locale: sort order, decimal point, names of months",
        kind=Kind.LOCALE,
        changes={"locale": "vr_VR"},
        marks=("vr_VR", *_LOCALE_NAMES),
        remedy="LC_ALL=C before sort, ls, date",
    ),
    Influence(
        name="timezone",
        title="the time zone",
        kind=Kind.TIME,
        changes={"zone": "VARY-05:45"},
        marks=("VARY",),
        remedy="date -u, gmtime",
    ),
    Influence(
        name="clock",
        title="the time of day",
        kind=Kind.TIME,
        changes={"clock": _USUAL.clock + 398 * _DAY + 5025},
        remedy="take the date from SOURCE_DATE_EPOCH, or leave it out",
    ),
    Influence(
        name="source-date",
        title="SOURCE_DATE_EPOCH",
        kind=Kind.TIME,
        changes={"source_date": _USUAL.source_date + 211 * _DAY + 7449},
        declared=True,
        remedy="an input by convention: give it the date of the sources, or leave dates out",
    ),
    Influence(
        name="timestamps",
        title="the time stamps of the sources",
        kind=Kind.TIME,
        changes={"timestamps": _USUAL.timestamps + 97 * _DAY + 4242},
        remedy="tar --mtime=@$SOURCE_DATE_EPOCH, zip -X after touch, ar D",
    ),
    Influence(
        name="cpus",
        title="the number of CPUs",
        kind=Kind.CPU,
        changes={"processors": 5},
        remedy="a fixed number of threads, blocks or partitions",
    ),
    Influence(
        name="memory",
        title="the size of the memory",
        kind=Kind.CPU,
        changes={"memory": 24 << 30},
        marks=(str(24 << 30), str(24 << 20)),
        remedy="a fixed size of heaps and buffers",
    ),
    Influence(
        name="cpu-model",
        title="the CPU's name and flags, as /proc/cpuinfo tells them",
        kind=Kind.CPU,
        changes={"model": "varied-cpu"},
        marks=("varied-cpu",),
        remedy="a fixed -march; ask for the CPU's abilities when the program runs",
    ),
    Influence(
        name="uptime",
        title="how long the machine is up, and its load",
        kind=Kind.TIME,
        changes={"uptime": 7_654_321},
        marks=("7654321", "7.65 4.32 1.98"),
        remedy="do not record the state of the machine",
    ),
    Influence(
        name="jobs",
        title="the number of parallel jobs (MAKEFLAGS)",
        kind=Kind.ORDER,
        changes={"jobs": 5},
        remedy="state what depends on what; let no two jobs write one file",
    ),
    Influence(
        name="kernel",
        title="the kernel's version",
        kind=Kind.KERNEL,
        changes={"kernel": "9.8.7-varied"},
        marks=("9.8.7-varied",),
        remedy="do not record uname; test for features when it runs",
    ),
    Influence(
        name="aslr",
        title="the addresses of programs and their memory",
        kind=Kind.ADDRESS,
        changes={"fixed_addresses": False},
        remedy="order and hash by content, not by pointer; print no %p",
    ),
    Influence(
        name="random",
        title="random numbers",
        kind=Kind.RANDOM,
        changes={"seed": "varied"},
        remedy="a fixed seed; -frandom-seed for gcc; uuid from a hash of the content",
    ),
    Influence(
        name="hash-seed",
        title="the hash seed of Python and Perl: the order of sets and of hashes",
        kind=Kind.ORDER,
        changes={"hash_seed": 4711},
        remedy="sorted(...) where a set, or keys of a hash, are written",
    ),
    Influence(
        name="pids",
        title="the numbers of processes",
        kind=Kind.NUMBER,
        changes={"pids": 211},
        remedy="no $$ and no names of temporary files in outputs",
    ),
    Influence(
        name="directory-order",
        title="the order in which directories list their entries",
        kind=Kind.ORDER,
        changes={"listing": "varied"},
        remedy="sort what is listed: $(sort $(wildcard ...)), sorted(os.listdir(...)), tar --sort=name",
    ),
    Influence(
        name="umask",
        title="the umask",
        kind=Kind.MODE,
        changes={"umask": 0o077},
        remedy="install -m, tar --mode, chmod",
    ),
)
CHANCE = frozenset({"clock", "user", "aslr", "random", "pids"})
"""What seeds of random numbers are made of: bash's $RANDOM of all but the fourth."""


def chosen(known: Sequence[Influence], vary: Iterable[str], dont: Iterable[str]) -> tuple[Influence, ...]:
    """Return the influences that names choose; `environment` and patterns with * choose several.

    Raises UsageError for a name that chooses none, and when none is left.
    """
    wanted, unwanted = list(vary), list(dont)
    for name in (*wanted, *unwanted):
        if not any(_chooses(name, item) for item in known):
            near = nearest(name, [item.name for item in known])
            hint = "`belljar reproduce --list` names all"
            raise UsageError(f"{name}: there is no such influence{near}", hint=hint)
    found = tuple(
        item
        for item in known
        if (not wanted or any(_chooses(name, item) for name in wanted))
        and not any(_chooses(name, item) for name in unwanted)
    )
    if not found:
        raise UsageError("reproduce: no influence is left to vary")
    return found


def _chooses(name: str, item: Influence) -> bool:
    return fnmatch.fnmatchcase(item.name, name) or item.name.partition(":")[0] == name


def world_of(influences: Iterable[Influence]) -> World:
    """Return the usual world with these influences varied."""
    return reduce(lambda world, item: item.vary(world), influences, _USUAL)
