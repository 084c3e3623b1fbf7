"""The system call filter: rules as data, and their assembly into the kernel's classic BPF.

A program that is supervised may make the calls of `belljar.sandbox.calls`, each by the rule of its class. All
others, those of other machines' ABIs (32 bits, x32) among them, fail with ENOSYS: to the program they do not
exist. A call that is denied fails with an errno; where a supervisor listens it is he who answers, so that it
can be counted and told. Some calls are denied with some arguments only (`_TESTS`).

The kernel runs the filter at every call, so it is a binary search over the numbers: nine comparisons.

Rejected: libseccomp (a library more), killing (a program that asks politely can do without), a list of what
is forbidden (what the next kernel brings would be allowed).
"""

import errno
import functools
import os
import struct
from collections.abc import Iterable, Sequence
from enum import StrEnum
from operator import itemgetter
from typing import NamedTuple

from belljar.sandbox.calls import TABLE
from belljar.sandbox.values import value

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of linux/audit.h; also the order of the columns of TABLE."""

_RET_ALLOW, _RET_NOTIFY, _RET_ERRNO, _RET_KILL = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x80000000
_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_FROM, _JUMP_BITS, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_AND = 0x54
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_FARTHEST = 255
_LOW, _EVERY_BIT = 2**32 - 1, 2**64 - 1


class Action(StrEnum):
    """What happens at a call."""

    ALLOW = "allow"
    ERRNO = "errno"
    NOTIFY = "notify"
    KILL = "kill"


@value
class Class:
    """Calls of one kind: what happens, with which errno, and why."""

    action: Action
    why: str
    errno: int = 0


@value
class Test:
    """Holds when an argument has one of `bits`; with `equal`, when those of its low half are that.

    `unless` turns it round.
    """

    argument: int
    bits: int
    equal: int | None = None
    unless: bool = False


class Rule(NamedTuple):
    """What happens at one call; where it has `tests`, only if all of a row hold, and it is allowed otherwise.

    A tuple: there are 370, to be made at each start.
    """

    call: str
    number: int
    kind: str
    action: Action
    why: str
    errno: int = 0
    tests: tuple[tuple[Test, ...], ...] = ()

    def describe(self) -> str:
        """Say it in one line."""
        name = errno.errorcode.get(self.errno, "")
        some = " for some arguments" if self.tests else ""
        return f"{self.call:24} {self.number:3} {self.action:6} {name:6} {self.why}{some}".rstrip()


def _deny(number: int, why: str) -> Class:
    return Class(action=Action.ERRNO, errno=number, why=why)


def _tell(why: str) -> Class:
    return Class(action=Action.NOTIFY, why=why)


CLASSES = {
    "allow": Class(action=Action.ALLOW, why=""),
    "open": _tell("names a file"),
    "execute": _tell("names a program; its clock has to be hidden as it begins"),
    "look": _tell("asks about a file"),
    "move": _tell("changes what relative paths mean"),
    "link": _tell("asks about a file; realpath(3) does for every directory above it"),
    "time": _tell("reads the clock"),
    "sleep": _tell("lets time pass"),
    "wait": _tell("waits until a time of the clock"),
    "random": _tell("reads random numbers"),
    "machine": _tell("asks what machine, or whose, this is"),
    "list": _tell("lists a directory"),
    "mode": _tell("arms a file: it would run as its owner, outside too"),
    "stamp": _tell("changes the owner or the times of a file"),
    "node": _tell("makes a file that is armed: it would run as its owner, outside too"),
    "ring": _deny(errno.ENOSYS, "opens files unseen by filter and supervisor"),
    "kernel": _deny(errno.EPERM, "changes, instruments or measures the kernel or the machine"),
    "keys": _deny(errno.ENOSYS, "keys are kept outside of all namespaces"),
    "mounts": _deny(errno.EPERM, "what is mounted is the sandbox"),
    "spaces": _deny(errno.EPERM, "namespaces open much of the kernel that only root reaches otherwise"),
    "set-time": _deny(errno.EPERM, "reads or sets the machine's clock"),
    "host": _deny(errno.EPERM, "names and terminals are the sandbox's"),
    "watch": _deny(errno.EPERM, "watches whole filesystems"),
    "handles": _deny(errno.EPERM, "finds files past the directories that lead to them"),
    "typing": _deny(errno.EPERM, "types into the caller's terminal (TIOCSTI)"),
    "families": _deny(errno.EAFNOSUPPORT, "network namespaces do not hold all kinds of sockets (vsock)"),
    "leases": _deny(errno.EACCES, "a lease keeps everybody, outside too, from opening a file"),
    "cores": _deny(0, "the host's program for cores is not to be started: set in appearance only"),
    "others": Class(action=Action.ALLOW, why="looks into other processes: none but the sandbox's own"),
    "hidden": _deny(errno.ENOSYS, "has its arguments in memory, where a filter cannot see them"),
    "gone": _deny(errno.ENOSYS, "a relic that programs do without"),
}
"""By the names that the table of calls uses. An errno of 0: the call seems to succeed."""

_ARMED_ONLY = frozenset({"mode", "node"})
NESTING = frozenset({"mounts", "spaces"})
"""The classes to be allowed where a sandbox is to have sandboxes of its own."""


def _by_name(flags: int) -> tuple[Test, ...]:
    """Return what does not hold for fstat(3) as libcs make it: AT_EMPTY_PATH and a descriptor."""
    return (Test(argument=flags, bits=0x1000, unless=True),)


def _as_device(flags: int) -> tuple[Test, ...]:
    """Return what holds where a device may be opened to be read.

    Not with O_WRONLY, O_RDWR, O_CREAT, O_DIRECTORY or O_PATH, nor as compilers open sources, which is the
    most frequent call of all: O_NOCTTY and no other.
    """
    others = os.O_ACCMODE | os.O_CREAT | os.O_DIRECTORY | os.O_PATH
    return (
        Test(argument=flags, bits=others, unless=True),
        Test(argument=flags, bits=_LOW, equal=os.O_NOCTTY, unless=True),
    )


_AS_DEVICE = {"open": _as_device(1), "openat": _as_device(2)}
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
_OTHER_FAMILY = tuple(Test(argument=0, bits=_LOW, equal=family, unless=True) for family in _FAMILIES)
_F_SETLEASE, _RLIMIT_CORE = 1024, 4
_TESTS = {
    "clone": (Test(argument=0, bits=0x7E020000),),  # CLONE_NEW*
    "ioctl": (Test(argument=1, bits=_LOW, equal=0x5412),),  # TIOCSTI
    "futex": (
        Test(argument=1, bits=0x100),
        Test(argument=3, bits=_EVERY_BIT),
    ),  # FUTEX_CLOCK_REALTIME, timeout
    # The clocks that are no time of day: monotonic, CPU time, raw, coarse, boot.
    "clock_gettime": tuple(
        Test(argument=0, bits=_LOW, equal=clock, unless=True) for clock in (1, 2, 3, 4, 6, 7)
    ),
    "newfstatat": _by_name(3),
    "statx": _by_name(2),
    "socket": _OTHER_FAMILY,
    "socketpair": _OTHER_FAMILY,
    "fcntl": (Test(argument=1, bits=_LOW, equal=_F_SETLEASE),),
    "setrlimit": (Test(argument=0, bits=_LOW, equal=_RLIMIT_CORE),),
    "prlimit64": (
        Test(argument=1, bits=_LOW, equal=_RLIMIT_CORE),
        Test(argument=2, bits=_EVERY_BIT),
    ),  # the new limit
}
_OR = {"prlimit64": ((Test(argument=0, bits=_LOW, equal=1), Test(argument=2, bits=_EVERY_BIT)),)}
"""More rows: process 1, which is the sandbox itself, would not outlive a limit of CPU time."""
_FLAGS_OF_FILES = (0x40086602, 0x401C5820)  # FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR
_OF_OTHERS: dict[str, tuple[tuple[Test, ...], ...]] = {
    "ioctl": (_TESTS["ioctl"], *((Test(argument=1, bits=_LOW, equal=flags),) for flags in _FLAGS_OF_FILES)),
    "prlimit64": ((Test(argument=0, bits=_LOW),), _TESTS["prlimit64"]),
    "setpriority": ((Test(argument=1, bits=_LOW),), (Test(argument=0, bits=2),)),  # PRIO_USER: all of his
}
"""When a call that is denied by name is: where it reaches other processes; else it is always."""
_ATTRIBUTES = ("setxattr", "lsetxattr", "fsetxattr", "setxattrat")
_SAID = {"clone3": errno.ENOSYS} | dict.fromkeys(_ATTRIBUTES, errno.EOPNOTSUPP)
"""What a call that is denied by name says, if not EPERM: after it, libcs make a call whose flags can be seen,
and `cp -a` does without."""
ARMED = 0o6000
"""The mode bits by which a file runs as its owner or its group: S_ISUID, S_ISGID."""
MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "mknod": 1, "mknodat": 2, "creat": 1}
"""Where a call has the mode of a file, whatever else it says."""
MADE = {"open": 1, "openat": 2}
"""Where a call has the flags by which a file is made; its mode is the next argument."""
MAKING = os.O_CREAT | 0o20000000  # __O_TMPFILE without O_DIRECTORY
_ARMING = {
    **{call: (Test(argument=at, bits=ARMED),) for call, at in MODES.items()},
    **{
        call: (Test(argument=at, bits=MAKING), Test(argument=at + 1, bits=ARMED)) for call, at in MADE.items()
    },
}
"""What holds where a file would be armed: it is always told of."""


@functools.cache
def _table(machine: str) -> tuple[tuple[str, int, str], ...]:
    column = 1 + list(MACHINES).index(machine)
    rows = map(str.split, TABLE.strip().splitlines())
    return tuple((row[0], int(row[column]), row[3]) for row in rows if row[column] != "-")


def rules(
    machine: str, *, told: Iterable[str] = (), allowed: Iterable[str] = (), denied: Iterable[str] = ()
) -> tuple[Rule, ...]:
    """Return the rules of a machine, sorted by number.

    `told` are the classes that a supervisor hears of: others that would notify are allowed; "device" is
    "open" where it may open a device to read it. `allowed` are classes that are not to be denied after all,
    `denied` names of calls that are, with EPERM: `setpriority` and `prlimit64` where they name others.
    """
    return _rules(machine, frozenset(told), frozenset(allowed), frozenset(denied))


@functools.cache
def _rules(
    machine: str, told: frozenset[str], allowed: frozenset[str], never: frozenset[str]
) -> tuple[Rule, ...]:
    silent = {name for name, item in CLASSES.items() if item.action is Action.NOTIFY} - told - _ARMED_ONLY
    arming = _ARMED_ONLY - (told & {"mode"})
    devices = "device" in told and "open" not in told
    free = (silent | allowed) - ({"open"} if devices else set())
    some = _TESTS | _AS_DEVICE if devices else _TESTS
    found = []
    for call, number, kind in _table(machine):
        item = CLASSES["allow" if kind in free else kind]
        some_only = call in some and item.action is not Action.ALLOW
        tests: tuple[tuple[Test, ...], ...] = (some[call], *_OR.get(call, ())) if some_only else ()
        always = item.action is Action.NOTIFY and not tests and kind not in arming
        if call in _ARMING and not always:
            item, tests = CLASSES[kind], (*tests, _ARMING[call])
        if call in never:
            item = _deny(_SAID.get(call, errno.EPERM), "not in this sandbox")
            tests = _OF_OTHERS.get(call, ())
        found.append(Rule(call, number, kind, item.action, item.why, item.errno, tests))
    return tuple(sorted(found, key=itemgetter(1)))


def describe(found: Sequence[Rule]) -> str:
    """Return the rules one a line: call, number, action, errno, reason."""
    lines = [rule.describe() for rule in found]
    return "\n".join([*lines, f"{'all others':24}   - errno  ENOSYS not known to belljar"])


def assemble(found: Sequence[Rule], machine: str, *, heard: bool) -> bytes:
    """Return the filter as an array of `struct sock_filter`: seccomp(2).

    `heard`: a supervisor listens and is to answer the calls that are denied, too.
    """
    unknown = _verdict(Action.ERRNO, errno.ENOSYS, heard=heard)
    spans: list[tuple[int, bytes]] = [(0, unknown)]
    for rule in found:
        _append(spans, rule.number, _leaf(rule, heard=heard))
        _append(spans, rule.number + 1, unknown)
    arch = [_step(_LOAD, _ARCH), _step(_JUMP_EQUAL, MACHINES[machine], 1, 0), unknown, _step(_LOAD, _NUMBER)]
    return b"".join(arch) + _search(spans)


def _append(spans: list[tuple[int, bytes]], first: int, code: bytes) -> None:
    """Have `code` decide from the number `first` on."""
    if spans[-1][0] == first:
        spans.pop()
    if not spans or spans[-1][1] != code:
        spans.append((first, code))


def _search(spans: Sequence[tuple[int, bytes]]) -> bytes:
    """Return a binary search for the span that a number lies in."""
    if len(spans) == 1:
        return spans[0][1]
    middle = len(spans) // 2
    below, above = _search(spans[:middle]), _search(spans[middle:])
    far = len(below) // 8
    if far <= _FARTHEST:
        return _step(_JUMP_FROM, spans[middle][0], far, 0) + below + above
    return _step(_JUMP_FROM, spans[middle][0], 0, 1) + _step(_JUMP, far) + below + above


def _leaf(rule: Rule, *, heard: bool) -> bytes:
    verdict = _verdict(rule.action, rule.errno, heard=heard)
    code = [_step(_RETURN, _RET_ALLOW)] if rule.tests else [verdict]
    for row in reversed(rule.tests):
        met = [verdict]
        for test in reversed(row):
            met = _tested(test, otherwise=len(met)) + met
        code = met + code
    return b"".join(code)


def _tested(test: Test, otherwise: int) -> list[bytes]:
    """Return what goes on where a test holds, and skips `otherwise` steps where it does not."""
    at = _ARGUMENTS + 8 * test.argument  # little-endian: the low half comes first
    low, high = test.bits & _LOW, test.bits >> 32
    way = (otherwise, 0) if test.unless else (0, otherwise)
    if test.equal is not None:
        return [_step(_LOAD, at), _step(_AND, low), _step(_JUMP_EQUAL, test.equal, *way)]
    if test.unless:
        assert not high, "only of the low half"
        return [_step(_LOAD, at), _step(_JUMP_BITS, low, *way)]
    last = [_step(_LOAD, at + 4), _step(_JUMP_BITS, high, 0, otherwise)] if high else []
    first = _step(_JUMP_BITS, low, len(last), 0 if last else otherwise)
    return [_step(_LOAD, at), first, *last]


def _verdict(action: Action, number: int, *, heard: bool) -> bytes:
    if action is Action.ALLOW:
        return _step(_RETURN, _RET_ALLOW)
    if action is Action.KILL:
        return _step(_RETURN, _RET_KILL)
    if action is Action.NOTIFY or heard:
        return _step(_RETURN, _RET_NOTIFY)
    return _step(_RETURN, _RET_ERRNO | number)


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def this_machine() -> str:
    """Return the name of this machine, which must be one of MACHINES; raises ValueError."""
    machine = os.uname().machine
    if machine not in MACHINES:
        raise ValueError(f"no system call filter for {machine}: there is one for {' and '.join(MACHINES)}")
    return machine
