"""What a supervisor is to do, and what it has to tell: values."""

from collections.abc import Iterator
from enum import StrEnum

from belljar.sandbox.values import value

SORTED = "sorted"
"""The order of a directory's entries that is by name: Policy.listing."""


class Trace(StrEnum):
    """Which calls that name files are told of; each includes the one before it."""

    NOTHING = "nothing"
    OPENED = "opened"
    """Opening and executing: whatever a program reads, and what it tried to."""
    ASKED = "asked"
    """Also stat, access, statfs: what it only looks for."""
    ALL = "all"
    """Also readlink, which realpath(3) calls for every directory of a path."""


_TRACED: dict[Trace, frozenset[str]] = {
    Trace.NOTHING: frozenset(),
    Trace.OPENED: frozenset({"open", "execute", "move"}),
    Trace.ASKED: frozenset({"open", "execute", "move", "look"}),
    Trace.ALL: frozenset({"open", "execute", "move", "look", "link"}),
}


@value
class Policy:
    """What a supervisor does besides filtering.

    `epoch`: where the clock of each program begins, in seconds since 1970 (None: the real clock). `seed`:
    what random numbers follow from (None: they are random). `release`: the kernel's version as uname(2) tells
    it. `processors`, `memory` (in bytes): how much of either the machine seems to have. `listing`: in which
    order directories list their entries, SORTED or a word that a shuffled order follows from (None: the
    filesystem's). `denied`: names of calls that fail besides those of the filter. `fence`: directories below
    which alone modes, owners and times can be changed (None: mounts see to that).
    """

    trace: Trace = Trace.ASKED
    epoch: int | None = None
    seed: str | None = None
    release: str | None = None
    processors: int | None = None
    memory: int | None = None
    listing: str | None = None
    denied: tuple[str, ...] = ()
    fence: tuple[str, ...] | None = None

    def classes(self) -> frozenset[str]:
        """Return the classes of calls that the supervisor has to hear of."""
        found = set(_TRACED[self.trace])
        if self.epoch is not None:
            found |= {"time", "sleep", "wait", "execute"}
        if self.seed is not None:
            found |= {"random", "device", "execute"}
        if self.release is not None or self.processors is not None or self.memory is not None:
            found.add("machine")
        if self.listing is not None:
            found.add("list")
        if self.fence is not None:
            found |= {"mode", "stamp"}
        return frozenset(found)

    def describe(self) -> str:
        """Say in one line what programs find otherwise than the kernel has it."""
        words = [
            "the machine's clock" if self.epoch is None else f"clock from second {self.epoch}",
            "random numbers" if self.seed is None else f"random numbers of {self.seed!r}",
            *([f"kernel {self.release}"] if self.release is not None else []),
            *([f"{self.processors} CPUs"] if self.processors is not None else []),
            *([f"{self.memory >> 20} MiB of memory"] if self.memory is not None else []),
            *([f"directories listed {self.listing}"] if self.listing is not None else []),
            f"calls filtered{''.join(f', no {name}' for name in self.denied)}",
        ]
        return f"supervised: {', '.join(words)}"

    def faults(self) -> Iterator[str]:
        """Say what of it makes no sense."""
        if self.epoch is not None and not 0 <= self.epoch < 2**33:
            yield f"epoch {self.epoch}: out of range"
        if self.processors is not None and not 1 <= self.processors <= 64:
            yield f"processors {self.processors}: not 1 to 64"
        if self.memory is not None and not 1 << 20 <= self.memory < 1 << 60:
            yield f"memory {self.memory}: out of range"
        if self.release is not None and len(self.release.encode("utf-8", "surrogateescape")) > 64:
            yield "release: longer than 64 bytes"


class How(StrEnum):
    """What a program wanted of a path."""

    READ = "read"
    WRITE = "write"
    """To open it for writing, or make it."""
    EXECUTE = "execute"
    ASK = "ask"
    """To know whether it is there, or what it is."""


@value
class Lookup:
    """A path that a program asked for, once for each way and program.

    `path` is absolute, as seen inside; links in it are not resolved. `found`: whether it was there at the
    first time. `pid` is the first process's number inside.
    """

    path: str
    how: How
    found: bool
    program: str
    pid: int


@value
class Blocked:
    """A call that was denied to a program, and how often; told at the end."""

    call: str
    why: str
    program: str
    count: int


@value
class Disarmed:
    """A file whose set-user-ID or set-group-ID bit was left out when a program asked for it."""

    path: str
    program: str


@value
class Unseen:
    """Something that the supervisor could not do: a gap in the report, or in the clock; told once each."""

    what: str
    program: str


Event = Lookup | Blocked | Disarmed | Unseen

_FIELDS = 6


def encode(event: Event) -> bytes:
    """Return an event as fields that end with NUL."""
    words: tuple[object, ...]
    if isinstance(event, Lookup):
        words = ("lookup", event.path, event.how, int(event.found), event.program, event.pid)
    elif isinstance(event, Blocked):
        words = ("blocked", event.call, event.why, event.program, event.count, "")
    elif isinstance(event, Disarmed):
        words = ("disarmed", event.path, event.program, "", "", "")
    else:
        words = ("unseen", event.what, event.program, "", "", "")
    return b"".join(str(word).encode("utf-8", "surrogateescape") + b"\0" for word in words)


def decode(data: bytes) -> tuple[list[Event], bytes]:
    """Return the events of `data`, and the rest that is not complete yet."""
    fields = data.split(b"\0")
    whole = (len(fields) - 1) // _FIELDS * _FIELDS
    words = [field.decode("utf-8", "surrogateescape") for field in fields[:whole]]
    events = [_event(words[at : at + _FIELDS]) for at in range(0, whole, _FIELDS)]
    return events, b"\0".join(fields[whole:])


def _event(words: list[str]) -> Event:
    kind, one, two, three, four, five = words
    if kind == "lookup":
        return Lookup(path=one, how=How(two), found=three == "1", program=four, pid=int(five))
    if kind == "blocked":
        return Blocked(call=one, why=two, program=three, count=int(four))
    if kind == "disarmed":
        return Disarmed(path=one, program=two)
    return Unseen(what=one, program=two)
