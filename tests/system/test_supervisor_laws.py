"""The supervisor's laws: what is denied and told, what is reported, what time it is; with controls."""

import ctypes
import errno
import json
import os
import re
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import compilers
import pytest
from test_sandbox_support import AS_ROOT, BOX, IDENTITIES, become_nobody, box_for, in_child, output_of, python

from belljar.build.sandboxed import root_of
from belljar.sandbox import (
    Bind,
    Blocked,
    Devices,
    How,
    Lookup,
    Policy,
    Proc,
    Sandbox,
    SandboxError,
    Tmpfs,
    Trace,
    run,
)
from belljar.sandbox.filter import Action, rules

PR_SET_DUMPABLE = 4

EPOCH = 1_500_000_000
FIXED = Policy(epoch=EPOCH, seed="seed", release="5.10.0", processors=3, memory=4 << 30)
SEEN = Policy(trace=Trace.ALL)
QUIET = Policy(trace=Trace.NOTHING)

CLOCK = r"""
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
int main(void) {
    struct timeval a; struct timespec b; struct timespec c;
    gettimeofday(&a, 0); clock_gettime(CLOCK_REALTIME, &b); clock_gettime(CLOCK_MONOTONIC, &c);
    printf("%ld %ld %ld %ld\n", (long)time(0), (long)a.tv_sec, (long)b.tv_sec, (long)c.tv_sec);
    return 0;
}
"""
CALL = r"""
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *words):
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), *(ctypes.c_long(word) for word in words))
    return ctypes.get_errno()
print(json.dumps([call(*words) for words in json.loads(sys.argv[1])]))
"""


def told(box, command, policy, **options):
    """Return what a command wrote and what was told of it."""
    events = []
    return output_of(box, command, policy=policy, on_event=events.append, **options), events


def supervised(work):
    """Return a root with gcc, make and strace, and `work` at /w."""
    operations = (*root_of(compilers.environment("supervised")), Proc(), Devices(), Tmpfs(target="/tmp"))
    return Sandbox(
        operations=(*operations, Bind(source=str(work), target="/w", writable=True)),
        env={"PATH": "/usr/bin", "LC_ALL": "C.UTF-8"},
        cwd="/w",
    )


# --- the filter -----------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", IDENTITIES)
def test_each_call_that_is_denied_fails_as_its_rule_says_and_is_told(identity):
    machine = os.uname().machine
    denied = [rule for rule in rules(machine) if rule.action is Action.ERRNO]
    calls = [[rule.number, *_arguments(rule)] for rule in denied]
    unknown = [[number, -1, -1, -1] for number in (1000, 0x40000000 | 521, 0x7FFFFFFF)]
    command = python(CALL, json.dumps(calls + unknown))

    def both():
        box = box_for(identity)
        some = [words for words, rule in zip(calls, denied, strict=True) if rule.kind in {"ring", "keys"}]
        return output_of(box, python(CALL, json.dumps(some))), told(box, command, QUIET)

    control, (text, events) = in_child(both, ordinary=identity == "ordinary")
    got = json.loads(text)
    assert got == [rule.errno for rule in denied] + [errno.ENOSYS] * 3
    assert errno.ENOSYS not in json.loads(control)
    counts = {event.call: event.count for event in events if isinstance(event, Blocked)}
    assert {rule.call: 1 for rule in denied}.items() <= counts.items()
    assert len(counts) == len(denied) + 3


def _arguments(rule):
    words = [-1] * 5  # what can only fail, were it allowed
    for test in rule.tests[0] if rule.tests else ():
        if not test.unless:
            words[test.argument] = test.bits if test.equal is None else test.equal
    return words


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="int 0x80 is of x86")
def test_the_32_bit_entry_point_does_not_exist():
    # mov eax, 20 (getpid); int 0x80; ret
    text = (
        "import ctypes, mmap; m = mmap.mmap(-1, 99, prot=7); m.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3');"
        "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m))); print(f())"
    )
    assert int(output_of(BOX, python(text))) > 0
    text, events = told(BOX, python(text), QUIET)
    assert int(text) == -errno.ENOSYS
    assert [(event.call, event.count) for event in events] == [("system calls of another ABI", 1)]


def test_a_policy_can_deny_more():
    text = "import os\ntry: os.symlink('a', '/tmp/b')\nexcept OSError as error: print(error.errno)"
    assert output_of(BOX, python(text)) == ""
    text, events = told(BOX, python(text), replace(QUIET, denied=("symlink", "symlinkat")))
    assert int(text) == errno.EPERM
    assert [event.count for event in events] == [1]


# --- the clock, random numbers, the machine ---------------------------------------------------------


@pytest.mark.parametrize("target", ["x86_64-linux-gnu.2.17", "x86_64-linux-musl"])
@pytest.mark.parametrize("identity", IDENTITIES)
def test_programs_see_the_clock_of_the_policy_static_ones_too(zig_cc, target, identity):
    program = zig_cc(CLOCK, target=target)

    def times(place):
        box = box_for(identity)
        box = replace(box, operations=(*box.operations, Bind(source=place, target="/t")))
        return [output_of(box, ["/t/clock"], policy=policy).split() for policy in (None, FIXED, FIXED)]

    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)  # for an ordinary user, who cannot look where pytest keeps files
        shutil.copy(program, f"{place}/clock")
        real, first, second = in_child(lambda: times(place), ordinary=identity == "ordinary")
    assert abs(int(real[0]) - time.time()) < 60
    assert first[:3] == second[:3] == [str(EPOCH)] * 3
    assert all(
        1000 <= int(words[3]) < 1030 for words in (first, second)
    )  # real, and so as fast as the machine


@pytest.mark.extended
def test_a_go_program_sees_the_clock_of_the_policy(tmp_path):
    (tmp_path / "t.go").write_text(
        'package main\nimport "time"\nfunc main() { println(time.Now().Unix()) }\n'
    )
    compilers.shell("go", "CGO_ENABLED=0 go build -o t t.go", tmp_path)
    box = replace(BOX, operations=(*BOX.operations, Bind(source=str(tmp_path), target="/w")))
    assert abs(int(output_of(box, ["/w/t"])) - time.time()) < 60
    assert int(output_of(box, ["/w/t"], policy=FIXED)) == EPOCH


FACTS = r"""
import os, random, sys, tempfile, time, uuid
print(time.time(), time.gmtime().tm_year, os.urandom(8), random.random(), uuid.uuid4(), hash("x"))
print(tempfile.mktemp(), open("/dev/urandom", "rb").read(100_000)[-9:], id(object()))
print(tuple(os.uname())[:4], len(os.sched_getaffinity(0)))
"""


def test_a_program_learns_the_same_in_each_run():
    controls = {output_of(BOX, python(FACTS)) for _ in range(2)}
    assert len(controls) == 2
    first, second = (output_of(BOX, python(FACTS), policy=FIXED) for _ in range(2))
    assert first == second
    assert "2017" in first
    assert "('Linux', 'localhost', '5.10.0'" in first
    assert first.splitlines()[-1].endswith(" 3")
    assert output_of(BOX, python(FACTS), policy=replace(FIXED, seed="other")) != first


def test_processes_do_not_share_random_numbers():
    text = "i=0; while [ $i -lt 6 ]; do od -An -tx8 -N8 /dev/urandom; i=$((i+1)); done"
    numbers = output_of(BOX, ["/bin/sh", "-c", text], policy=FIXED).split()
    assert len(set(numbers)) == 6
    assert output_of(BOX, ["/bin/sh", "-c", text], policy=FIXED).split() == numbers


UUID = "cat /proc/sys/kernel/random/uuid; head -c 9 /proc/sys/kernel/random/uuid"


def test_the_kernels_uuids_follow_from_the_seed_and_are_as_the_kernels():
    form = re.compile(
        r"([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})\n([0-9a-f]{8}-)"
    )
    command = ["/bin/sh", "-c", UUID]
    plain = [form.fullmatch(output_of(BOX, command, policy=QUIET)).groups() for _ in range(2)]
    fixed = [form.fullmatch(output_of(BOX, command, policy=FIXED)).groups() for _ in range(2)]
    other = form.fullmatch(output_of(BOX, command, policy=replace(FIXED, seed="x"))).groups()
    assert plain[0] != plain[1]
    assert fixed[0] == fixed[1] != other
    assert fixed[0][0][:9] != fixed[0][1]


def test_an_ordinary_callers_groups_which_he_cannot_leave_are_not_told():
    def action():
        if AS_ROOT:
            become_nobody(groups=(4, 20))
        box, command = box_for("ordinary"), python("import os; print(os.getgroups())")
        return os.getgroups(), *(output_of(box, command, policy=policy) for policy in (QUIET, FIXED))

    groups, plain, fixed = in_child(action)
    assert plain == f"{[65534] * len(groups)}\n"
    assert fixed == "[]\n"
    assert groups or not AS_ROOT


WAITS = {
    "sleep": "t = time.time(); time.sleep(1); assert 1 <= time.time() - t < 1.1",
    "busy": "t = time.time()\nwhile time.time() < t + 0.2: pass",
    "event": "import threading; e = threading.Event(); t = now(); e.wait(0.3); assert now() - t >= 0.3",
    "timed lock": "import threading; l = threading.Lock(); l.acquire(); assert not l.acquire(timeout=0.3)",
    "select": "import select; t = now(); select.select([], [], [], 0.3); assert now() - t >= 0.3",
    "monotone": "ts = [time.time() for _ in range(2000)]; assert ts == sorted(set(ts)), 'not monotone'",
}


@pytest.mark.parametrize("text", WAITS.values(), ids=WAITS)
def test_who_waits_for_time_to_pass_gets_there(text):
    assert (
        run(BOX, python(f"import time\nnow = time.monotonic\n{text}"), policy=FIXED, timeout=30).status == 0
    )


SLOWLY = r"""
import ctypes, time
class Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("rest", ctypes.c_long))
def sleep(length, late):
    before, start = time.time(), time.monotonic_ns()
    until = Time(*divmod(start + length, 10**9))
    while time.monotonic_ns() < start + late: pass
    assert ctypes.CDLL(None).clock_nanosleep(1, 1, ctypes.byref(until), None) == 0
    return round((time.time() - before) * 10**6)
for late in (0, 3, 15):
    print(*(sleep(length * 10**6, late * 10**6) for length in (250, 500)))
"""


def test_a_slow_machine_sleeps_until_a_moment_as_long_as_a_fast_one():
    lines = output_of(BOX, python(SLOWLY), policy=FIXED).splitlines()
    assert lines == ["250050 500050"] * 3


REALTIME = r"""
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
int main(void) {
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    struct timespec until, before, after;
    clock_gettime(CLOCK_MONOTONIC, &before); clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 300000000;
    if (until.tv_nsec >= 1000000000) { until.tv_nsec -= 1000000000; until.tv_sec++; }
    pthread_mutex_lock(&m);
    int why = pthread_cond_timedwait(&c, &m, &until);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    printf("%d %d\n", why == ETIMEDOUT, ms >= 290 && ms < 5000);
    return 0;
}
"""


@pytest.mark.parametrize("target", ["x86_64-linux-gnu.2.31", "x86_64-linux-musl"])
def test_a_timeout_that_is_a_time_of_day_is_as_long_as_meant(zig_cc, target):
    program = zig_cc(REALTIME, "-pthread", target=target)
    box = replace(BOX, operations=(*BOX.operations, Bind(source=str(program), target="/program")))
    assert output_of(box, ["/program"], policy=FIXED) == "1 1\n"


def test_a_compiler_writes_the_same_at_two_times_and_make_builds_what_has_changed(tmp_path):
    (tmp_path / "a.c").write_text(
        'int puts(const char *); int main(void) { return puts(__DATE__ " " __TIME__) < 0; }\n'
    )
    (tmp_path / "Makefile").write_text("a: a.c\n\tgcc -o $@ $<\n\techo made >> log\n")
    box = supervised(tmp_path)
    script = "rm -f a; make -s 2>/dev/null; ./a; cat a | sha256sum"
    real = [output_of(box, ["/usr/bin/sh", "-euc", script])]
    fixed = [output_of(box, ["/usr/bin/sh", "-euc", script], policy=FIXED)]
    time.sleep(1.1)
    real.append(output_of(box, ["/usr/bin/sh", "-euc", script]))
    fixed.append(output_of(box, ["/usr/bin/sh", "-euc", script], policy=FIXED))
    assert real[0] != real[1]
    assert fixed[0] == fixed[1]
    assert fixed[0].startswith("Jul 14 2017 02:40:00")
    again = "make; make; touch a.c; make; make"
    output_of(box, ["/usr/bin/sh", "-euc", again], policy=FIXED)
    assert (tmp_path / "log").read_text() == "made\n" * 5


# --- the report -----------------------------------------------------------------------------------


def test_the_report_names_every_path_that_strace_saw(tmp_path):
    (tmp_path / "a.c").write_text('#include <stdio.h>\n#include "b.h"\nint main(void) { return B; }\n')
    (tmp_path / "b.h").write_text("#define B 0\n")
    box = supervised(tmp_path)
    compile_ = ["/usr/bin/gcc", "-O1", "-o", "a", "a.c"]
    calls = "trace=open,openat,openat2,execve,stat,lstat,newfstatat,access,readlink,statx,faccessat"
    output_of(box, ["/usr/bin/strace", "-f", "-qq", "-s", "4096", "-e", calls, "-o", "log", *compile_])
    wanted = _absolute((tmp_path / "log").read_text())
    (tmp_path / "log").unlink()
    (tmp_path / "a").unlink()
    _, events = told(box, compile_, SEEN)
    got = {event.path for event in events if isinstance(event, Lookup)}
    assert len(wanted) > 200
    assert _named(wanted) - _named(got) == set()
    found = {event.path: event.found for event in events if event.how is How.READ}
    assert found["/w/b.h"]
    assert found["/usr/include/stdio.h"]
    assert any(not there for there in found.values())
    assert {event.path for event in events if event.how is How.WRITE} >= {"/w/a"}
    assert "/usr/bin/as" in {
        os.path.basename(event.path) and event.path for event in events if event.how is How.EXECUTE
    }


def _absolute(log):
    names = re.findall(r'^\d+ +\w+\((?:AT_FDCWD, )?"((?:[^"\\]|\\.)+)"', log, re.MULTILINE)
    return {os.path.normpath(os.path.join("/w", name)) for name in names}


def _named(paths):
    """Return what is not named at random."""
    real = {os.path.realpath(path) if path.startswith("/proc") else path for path in paths}
    return {path for path in real if not path.startswith(("/tmp/cc", "/usr/bin/strace", "/w/log"))}


def test_relative_paths_are_told_as_absolute_ones():
    text = (
        "import os; os.mkdir('/tmp/d'); os.chdir('/tmp/d'); os.access('one', 0); os.chdir('..');"
        "os.access('two', 0); fd = os.open('d', os.O_RDONLY); os.access('three', 0, dir_fd=fd);"
        "os.fchdir(fd); os.access('four', 0);"
        "os.symlink('/usr/lib', 'link'); os.access('link/../five', 0); os.access('./a//b', 0)"
    )
    _, events = told(BOX, python(text), SEEN)
    paths = {event.path for event in events}
    assert {"/tmp/d/one", "/tmp/two", "/tmp/d/three", "/tmp/d/four", "/usr/five", "/tmp/d/a/b"} <= paths


def test_each_path_is_told_once_with_who_asked_for_it():
    loop = "i=0; while [ $i -lt 50 ]; do read x < /etc/none; i=$((i+1)); done"
    text = f"exec 2>/dev/null; cat /nothing; {loop}; :"
    _, events = told(BOX, ["/bin/sh", "-c", text], Policy(trace=Trace.OPENED))
    assert len(events) == len({(event.path, event.how, event.program) for event in events})
    by = {event.path: event for event in events}
    assert os.path.basename(by["/nothing"].program) == "cat"
    assert by["/nothing"].pid != by["/etc/none"].pid
    assert not by["/nothing"].found


# --- endings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", -15),
        ("kill -SEGV $$", -11),
        ("trap 'exit 4' INT; kill -INT $$", 4),
    ],
)
def test_it_ends_as_it_does_without(text, status):
    assert run(BOX, ["/bin/sh", "-c", text]).status == status
    assert run(BOX, ["/bin/sh", "-c", text], policy=FIXED).status == status


def test_a_program_that_is_missing_is_an_error_here_too():
    with pytest.raises(SandboxError, match="start /no: No such file"):
        run(BOX, ["/no"], policy=FIXED)


def test_time_runs_out_while_the_supervisor_has_much_to_tell():
    text = "import os\nn = 0\nwhile True:\n    n += 1\n    os.access(f'/{n}' * 60, 0)"
    assert run(BOX, python(text), policy=SEEN, on_event=lambda _: time.sleep(0.001), timeout=1).timed_out


def test_an_exception_of_the_listener_ends_it():
    def tell(event):
        raise KeyError(event.path)

    with pytest.raises(KeyError):
        run(BOX, ["/bin/sh", "-c", "sleep 60"], policy=SEEN, on_event=tell)


def test_the_supervisors_death_ends_the_build():
    def die(_event):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)

    def action():
        started = time.monotonic()
        with pytest.raises(SandboxError):
            run(BOX, ["/bin/sh", "-c", "cat /nothing; sleep 60; exit 0"], policy=SEEN, on_event=die, stderr=1)
        return time.monotonic() - started

    # Ours alone: the test's process may have other children.
    assert in_child(action) < 20


STORM = r"""
import os, threading
def burst():
    for _ in range(50):
        os.stat("/"); os.urandom(4)
threads = [threading.Thread(target=burst) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
for _ in range(1000):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
for n in range(40):
    pid = os.posix_spawn("/bin/true" if n % 2 else "/bin/none", ["true"], {}) if n % 2 else 0
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
    else:
        try: os.execv("/bin/none", ["none"])
        except FileNotFoundError: pass
print("done")
"""


def test_threads_forks_and_failing_execs_go_on():
    assert output_of(BOX, python(STORM), policy=FIXED, timeout=60) == "done\n"


def test_stopping_and_going_on_work():
    text = "sleep 60 & p=$!; kill -STOP $p; kill -CONT $p; kill -TERM $p; wait $p 2>/dev/null; echo $?"
    assert output_of(BOX, ["/bin/sh", "-c", text], policy=FIXED) == "143\n"


def test_a_second_supervisor_is_refused_with_a_reason():
    def inner():
        # As where a supervised command starts a supervised sandbox: one listener is there already.
        from belljar.sandbox import kernel, notify
        from belljar.sandbox.supervisor import program_of

        kernel._prctl(38, 1)
        program = program_of(QUIET, nested=True)
        notify.install(program)
        try:
            notify.install(program)
        except OSError as error:
            return error.errno
        return 0

    assert in_child(inner) == errno.EBUSY


def test_a_caller_that_may_not_be_looked_into_can_be_supervised():
    """As a process is that was another user for a while."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        assert output_of(BOX, ["/bin/sh", "-c", "echo well"], policy=FIXED) == "well\n"
    finally:
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
