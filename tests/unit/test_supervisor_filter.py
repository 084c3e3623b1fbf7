"""The filter's laws, by running its BPF: what the kernel would decide for each number and argument."""

import errno
import itertools
import os
import struct

import pytest

from belljar.sandbox.filter import CLASSES, MACHINES, NESTING, Action, assemble, describe, rules
from belljar.sandbox.policy import Policy, Trace, decode, encode

from belljar.sandbox.policy import Blocked, Disarmed, How, Lookup, Unseen  # isort: skip

ALLOW, NOTIFY, ERRNO, KILL = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x80000000
NOTIFYING = {name for name, item in CLASSES.items() if item.action is Action.NOTIFY}
X32 = 0x40000000


def decided(program, number, *, arch, arguments=()):
    """Run a classic BPF program over `struct seccomp_data`, as the kernel does."""
    steps = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    words = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number, arch, 0, *words)
    accumulator, at = 0, 0
    while True:
        code, yes, no, value = steps[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x05:
                at += value
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x45:
                at += yes if accumulator & value else no
            case 0x54:
                accumulator &= value
            case 0x06:
                return value
            case _:
                raise AssertionError(f"not in our filter: {code:#x}")


def expected(rule, *, heard):
    if rule.action is Action.ALLOW:
        return ALLOW
    return NOTIFY if rule.action is Action.NOTIFY or heard else ERRNO | rule.errno


def holds(test, words):
    """Say what a test says, without BPF."""
    word = words[test.argument]
    found = bool(word & test.bits) if test.equal is None else word & test.bits & 2**32 - 1 == test.equal
    return found is not test.unless


def tried(rule):
    """Return arguments of all kinds, those in which the rule's tests differ above all."""
    rows = [[0] * 6, [2**64 - 1] * 6]
    for test in itertools.chain.from_iterable(rule.tests):
        for bits in (test.bits, test.equal or 0, test.bits >> 32 << 32, test.bits & -test.bits):
            for row in rows[:64]:
                rows.append([bits if at == test.argument else word for at, word in enumerate(row)])
    return rows


@pytest.mark.parametrize("machine", list(MACHINES))
@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("told", [set(), {"device"}, NOTIFYING])
def test_the_program_decides_each_call_as_its_rule_says(machine, heard, told):
    found = rules(machine, told=told)
    program, arch = assemble(found, machine, heard=heard), MACHINES[machine]
    for rule in found:
        verdicts = set()
        for words in tried(rule):
            meets = not rule.tests or any(all(holds(test, words) for test in row) for row in rule.tests)
            verdict = decided(program, rule.number, arch=arch, arguments=words)
            assert verdict == (expected(rule, heard=heard) if meets else ALLOW), (rule, words)
            verdicts.add(verdict)
        assert len(verdicts) == (2 if rule.tests else 1), rule


@pytest.mark.parametrize("machine", list(MACHINES))
def test_what_has_no_rule_does_not_exist(machine):
    found = rules(machine)
    program, arch = assemble(found, machine, heard=False), MACHINES[machine]
    known = {rule.number for rule in found}
    unknown = [number for number in range(1024) if number not in known]
    assert len(unknown) > 400
    for number in (*unknown, X32, X32 | 1, X32 | 521, 2**31, 2**32 - 1):
        assert decided(program, number, arch=arch) == ERRNO | errno.ENOSYS


@pytest.mark.parametrize("arch", [0x40000003, 0x40000028, 0, 2**32 - 1])
def test_calls_of_other_abis_do_not_exist(arch):
    for machine in MACHINES:
        program = assemble(rules(machine), machine, heard=False)
        assert {decided(program, number, arch=arch) for number in range(500)} == {ERRNO | errno.ENOSYS}


@pytest.mark.parametrize(
    ("call", "arguments", "verdict"),
    [
        ("futex", (0, 0x109, 0, 0x7FFF00000000), NOTIFY),  # the timeout's low half may be zero
        ("futex", (0, 0x109, 0, 0), ALLOW),
        ("futex", (0, 0x89, 0, 1), ALLOW),
        ("clone", (0, 0x1200011), ALLOW),
        ("clone", (0x10000011,), NOTIFY),
        ("ioctl", (0, 0x5413), ALLOW),
        ("ioctl", (0, 0xFFFFFFFF00005412), NOTIFY),  # the kernel looks at the low half
        ("clock_gettime", (0,), NOTIFY),
        ("clock_gettime", (11,), NOTIFY),
        ("clock_gettime", (1,), ALLOW),
        ("clock_gettime", (0xFFFFFFFF00000001,), ALLOW),
        ("clock_gettime", (2**64 - 3,), NOTIFY),  # a clock that a device gives
        ("newfstatat", (3, 0, 0, 0x1000), ALLOW),
        ("newfstatat", (3, 0, 0, 0x100), NOTIFY),
        ("chmod", (0, 0o755), ALLOW),
        ("chmod", (0, 0o4755), NOTIFY),
        ("fchmodat", (0, 0o4755, 0o755), ALLOW),
        ("fchmodat", (0, 0, 0o2755), NOTIFY),
        ("mknodat", (0, 0, 0o10755), ALLOW),
        ("mknodat", (0, 0, 0o104755), NOTIFY),
        ("openat", (0, 0, os.O_WRONLY), NOTIFY),
    ],
)
def test_arguments_decide_where_a_rule_has_tests(call, arguments, verdict):
    decides(call, arguments, verdict, NOTIFYING - {"mode"})


@pytest.mark.parametrize(
    ("flags", "verdict"),
    [
        (os.O_RDONLY, NOTIFY),
        (os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, NOTIFY),
        (os.O_NOCTTY, ALLOW),
        (os.O_WRONLY | os.O_CREAT, ALLOW),
        (os.O_DIRECTORY, ALLOW),
    ],
)
def test_for_random_numbers_alone_only_what_may_open_a_device_is_told(flags, verdict):
    decides("openat", (0, 0, flags), verdict, Policy(trace=Trace.NOTHING, seed="x").classes())
    decides("openat", (0, 0, flags), NOTIFY, Policy(trace=Trace.OPENED, seed="x").classes())


@pytest.mark.parametrize("told", [Trace.NOTHING, Trace.ALL])
@pytest.mark.parametrize("seed", [None, "x"])
def test_whoever_makes_an_armed_file_is_told_of_whatever_else_is(told, seed):
    classes = Policy(trace=told, seed=seed).classes()
    for flags in (os.O_CREAT, os.O_CREAT | os.O_WRONLY, os.O_TMPFILE | os.O_RDWR, -1):
        for mode in (0o4755, 0o2755, 0o6000, 2**64 - 1):
            decides("openat", (0, 0, flags & 2**64 - 1, mode), NOTIFY, classes)
            decides("open", (0, flags & 2**64 - 1, mode), NOTIFY, classes)
            decides("creat", (0, mode), NOTIFY, classes)
            decides("fchmodat2", (0, 0, mode, 0), NOTIFY, classes)
    decides("openat2", (0, 0, 0, 0), NOTIFY, classes)
    if told is Trace.NOTHING:
        decides("openat", (0, 0, os.O_CREAT | os.O_WRONLY, 0o1777), ALLOW, classes)
        decides("openat", (0, 0, os.O_WRONLY, 0o4755), ALLOW, classes)


def test_within_a_fence_every_change_of_a_mode_an_owner_or_times_is_told():
    for call in ("chmod", "fchmodat", "chown", "fchown", "utimensat"):
        decides(call, (0, 0, 0o755), NOTIFY, {"mode", "stamp"})
        decides(call, (0, 0, 0o755), ALLOW, set())


def decides(call, arguments, verdict, told):
    found = rules("x86_64", told=told)
    program = assemble(found, "x86_64", heard=True)
    number = next(rule.number for rule in found if rule.call == call)
    assert decided(program, number, arch=MACHINES["x86_64"], arguments=arguments) == verdict


def test_numbers_are_those_of_the_kernel():
    # From asm/unistd_64.h and asm-generic/unistd.h.
    some = {
        "read": (0, 63),
        "openat": (257, 56),
        "execve": (59, 221),
        "ptrace": (101, 117),
        "bpf": (321, 280),
    }
    for column, machine in enumerate(MACHINES):
        found = {rule.call: rule.number for rule in rules(machine)}
        assert {call: found[call] for call in some} == {call: pair[column] for call, pair in some.items()}
        assert len(set(found.values())) == len(found)
        assert all(number < 512 for number in found.values())


def test_nothing_is_denied_without_a_reason():
    for machine in MACHINES:
        for rule in rules(machine):
            seems_done = rule.kind == "cores"
            assert (rule.action is Action.ALLOW) or (
                rule.why and (rule.errno or rule.action is Action.NOTIFY or seems_done)
            )


def test_nesting_allows_mounts_and_namespaces_only():
    plain = {rule.call for rule in rules("x86_64") if rule.action is Action.ERRNO}
    nested = {rule.call for rule in rules("x86_64", allowed=NESTING) if rule.action is Action.ERRNO}
    assert {"mount", "unshare", "setns", "pivot_root", "clone"} <= plain - nested
    assert {"bpf", "io_uring_setup", "init_module", "kexec_load", "keyctl", "perf_event_open"} <= nested


def test_the_filter_can_be_printed():
    lines = describe(rules("x86_64", denied=("ptrace",))).splitlines()
    assert any(line.split()[:4] == ["io_uring_setup", "425", "errno", "ENOSYS"] for line in lines)
    assert any(line.split()[:4] == ["ptrace", "101", "errno", "EPERM"] for line in lines)
    assert lines[-1].split()[:5] == ["all", "others", "-", "errno", "ENOSYS"]


def test_events_survive_the_pipe_however_it_cuts_them():
    events = [
        Lookup(path="/a\nb/\udcff", how=How.READ, found=False, program="/usr/bin/x y", pid=7),
        Blocked(call="bpf", why="because", program="", count=3),
        Disarmed(path="/a\udcff", program="/p"),
        Unseen(what="it", program="/p"),
    ]
    data = b"".join(map(encode, events))
    for size in range(1, len(data)):
        got, rest = [], b""
        for at in range(0, len(data), size):
            some, rest = decode(rest + data[at : at + size])
            got += some
        assert (got, rest) == (events, b"")


def test_a_policy_that_makes_no_sense_is_refused():
    assert not list(Policy().faults())
    wrong = Policy(trace=Trace.NOTHING, epoch=-1, processors=0, memory=5, release="x" * 65)
    assert len(list(wrong.faults())) == 4
