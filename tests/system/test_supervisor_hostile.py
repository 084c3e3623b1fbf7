"""Programs that do what a supervisor may stumble over: they end, and none sees the real clock."""

import os
import resource
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_sandbox_support import AS_ROOT, BOX, IDENTITIES, box_for, in_child, output_of, python

from belljar.sandbox import (
    Bind,
    Blocked,
    Disarmed,
    How,
    Lookup,
    Policy,
    Trace,
    Unseen,
    lookups,
    run,
    supervisor,
)

EPOCH = 1_500_000_000
FIXED = Policy(trace=Trace.ASKED, epoch=EPOCH, seed="seed", release="5.10.0", processors=3, listing="sorted")

HOSTILE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
extern char **environ;
static long now(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return t.tv_sec; }
static void tick(int n) { (void)n; now(); }
static void self(const char *what, int n) {
    char number[16], *words[] = {"p", (char *)what, number, 0};
    snprintf(number, sizeof number, "%d", n);
    execve("/proc/self/exe", words, environ);
    _exit(3);
}
static void *reads(void *x) { for (int i = 0; i < 5; i++) if (now() > 1600000000) _exit(9); return x; }
static void *executes(void *x) { self("clock", 0); return x; }
static int threads(int n, void *(*body)(void *)) {
    pthread_t *t = calloc(n, sizeof *t); pthread_attr_t a;
    pthread_attr_init(&a); pthread_attr_setstacksize(&a, 65536);
    for (int i = 0; i < n; i++) if (pthread_create(&t[i], &a, body, 0)) return 2;
    for (int i = 0; i < n; i++) pthread_join(t[i], 0);
    return 0;
}
static int child(const char *what, int n) {
    int status; pid_t pid = vfork();
    if (!pid) self(what, n);
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}
int main(int c, char **v) {
    int n = c > 2 ? atoi(v[2]) : 0; (void)c;
    if (!strcmp(v[1], "clock")) { printf("%ld\n", now()); return 0; }
    if (!strcmp(v[1], "threads")) return threads(n, reads) || printf("ok\n") < 0;
    if (!strcmp(v[1], "executions")) {
        threads(n, executes); /* Linux makes no thread while another one executes: EAGAIN */
        for (;;) pause();
    }
    if (!strcmp(v[1], "nest")) return n ? child("nest", n - 1) : printf("%ld\n", now()) < 0;
    if (!strcmp(v[1], "again")) { if (n) self("again", n - 1); return printf("%ld\n", now()) < 0; }
    if (!strcmp(v[1], "fail")) {
        char *words[] = {"p", 0};
        for (int i = 0; i < n; i++) execve("/none", words, environ);
        self("clock", 0);
    }
    if (!strcmp(v[1], "signals")) {
        struct itimerval often = {{0, 500}, {0, 500}}; long last = 0;
        signal(SIGALRM, tick); setitimer(ITIMER_REAL, &often, 0);
        for (int i = 0; i < n; i++) { long t = now(); if (t < last) return 1; last = t; access("/none", 0); }
        return printf("ok\n") < 0;
    }
    if (!strcmp(v[1], "addresses")) {
        int calls[] = {SYS_clock_gettime, SYS_gettimeofday, SYS_getrandom, SYS_uname, SYS_execve, SYS_openat};
        for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
            if (syscall(calls[i], 8L, 8L, 8L, 0L) != -1) return 10 + i;
        return printf("ok\n") < 0;
    }
    if (!strcmp(v[1], "traced")) {
        int status; pid_t pid = fork();
        if (!pid) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); self("clock", 0); }
        while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) ptrace(PTRACE_CONT, pid, 0, 0);
        return WEXITSTATUS(status);
    }
    return 8;
}
"""

ENDS = {
    "a thousand threads": (("threads", "1000"), "ok"),
    "threads that execute at once": (("executions", "24"), str(EPOCH)),
    "a chain of vforks": (("nest", "30"), str(EPOCH)),
    "one process that executes again and again": (("again", "200"), str(EPOCH)),
    "executions that fail": (("fail", "200"), str(EPOCH)),
    "signals in the middle of calls": (("signals", "3000"), "ok"),
    "addresses that are none": (("addresses",), "ok"),
}


@pytest.fixture(scope="module")
def box(zig_cc):
    def made(target):
        program = zig_cc(HOSTILE, "-pthread", "-O1", target=target)
        return replace(BOX, operations=(*BOX.operations, Bind(source=str(program), target="/p")))

    return made


@pytest.mark.parametrize("target", ["x86_64-linux-gnu.2.31", "x86_64-linux-musl"])
@pytest.mark.parametrize(("words", "said"), ENDS.values(), ids=ENDS)
def test_it_ends_and_sees_no_real_clock(box, target, words, said):
    events = []
    text = output_of(box(target), ["/p", *words], policy=FIXED, on_event=events.append, timeout=60)
    assert text == f"{said}\n"
    assert not [event for event in events if isinstance(event, Unseen)]


def test_what_a_debugger_starts_keeps_the_real_clock_and_that_is_told(box):
    events = []
    program = box("x86_64-linux-musl")
    text = output_of(program, ["/p", "traced"], policy=FIXED, on_event=events.append, timeout=60)
    assert abs(int(text) - time.time()) < 60
    assert [event.what for event in events if isinstance(event, Unseen)] == [
        "the clock of what a traced process executes"
    ]


@pytest.mark.extended
def test_ten_thousand_executions(box):
    started = time.monotonic()
    text = output_of(box("x86_64-linux-musl"), ["/p", "again", "10000"], policy=FIXED)
    assert (text, time.monotonic() - started < 600) == (f"{EPOCH}\n", True)


def test_a_path_is_told_as_it_was_when_a_program_first_asked():
    """That it may be another thing by the next time, or for the kernel itself, is stated."""
    text = "cd /tmp; echo a > one; cat one; mv one two; cat one; cat two"
    events = []
    run(BOX, ["/bin/sh", "-c", f"{{ {text}; }} > /dev/null 2>&1"], policy=FIXED, on_event=events.append)
    read = [(event.path, event.found) for event in events if event.program.endswith("/cat")]
    assert [pair for pair in read if pair[0] in {"/tmp/one", "/tmp/two"}] == [
        ("/tmp/one", True),
        ("/tmp/two", True),
    ]


def test_a_keeper_that_hangs_is_killed_and_all_with_it(monkeypatch):
    """As where a process inside holds it in a call that no signal ends."""
    from belljar.sandbox import enter, supervisor

    def action():
        monkeypatch.setattr(supervisor.Supervisor, "guard", lambda _self, _init, **_: signal.pause())
        monkeypatch.setattr(enter, "_GRACE_SECONDS", 0.5)
        started = time.monotonic()
        outcome = run(BOX, ["/bin/sh", "-c", "sleep 4242"], policy=FIXED, timeout=0.5)
        return outcome.timed_out, time.monotonic() - started

    timed_out, seconds = in_child(action)
    assert timed_out
    assert seconds < 10
    time.sleep(0.3)
    assert not [item for item in Path("/proc").glob("[0-9]*/cmdline") if b"4242" in read(item)]


def read(item: Path) -> bytes:
    try:
        return item.read_bytes()
    except OSError:
        return b""  # gone meanwhile


LINKS = r"""
import os
os.chdir("/tmp")
os.symlink("/tmp", "l0")
for n in range(3000):
    os.symlink(f"l{n}", f"l{n + 1}")
for name in ("l3000/../x", "l30/../tmp/y", "none/../z", "l0/../" + "a" * 4000):
    try: os.stat(name)
    except OSError: pass
print("well")
"""


def told(text, policy=FIXED, **options):
    """Return what a Python text writes inside, and what is told of it."""
    events = []
    said = output_of(BOX, python(text), policy=policy, on_event=events.append, timeout=60, **options)
    return said, events


def test_a_chain_of_links_longer_than_any_stack_leads_nowhere():
    said, events = told(LINKS)
    assert said == "well\n"
    paths = {event.path for event in events if isinstance(event, Lookup)}
    assert "/tmp/y" in paths  # by fewer than 40 links, and by where they lead
    assert not [path for path in paths if "/../" in path]


def test_calls_that_are_made_up_do_not_fill_the_memory():
    text = "import ctypes; c = ctypes.CDLL(None).syscall; [c(n) for n in range(1000, 9000)]; print('well')"
    said, events = told(text)
    blocked = [event for event in events if isinstance(event, Blocked)]
    assert said == "well\n"
    assert sum(event.count for event in blocked) == 8000
    assert len(blocked) <= 1001


def test_long_names_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(lookups, "_ROOM", 1 << 20)
    text = "import os; [os.access(f'/{n}' + '/x' * 2000, 0) for n in range(1000)]; print('well')"
    said, events = told(text)
    assert said == "well\n"
    assert sum(len(event.path) for event in events if isinstance(event, Lookup)) < 2 << 20
    assert [event for event in events if isinstance(event, Unseen)]


MANY_FILES = r"""
import os, sys, time
held = []
try:
    while True:
        held.append(os.open("/dev/urandom", os.O_RDONLY))
except OSError as error:
    print(error.errno, len(held) > 100)
first = [os.read(fd, 8) for fd in held[:3]]
print(len(set(first)), int(time.time()))
sys.stdout.flush()
os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "import time; print(int(time.time()))"])
"""


def test_who_opens_all_random_numbers_there_are_gets_no_real_ones_and_no_real_time():
    """The supervisor holds a descriptor for each, and has no more of them than its caller may have."""

    def action():
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
        return told(MANY_FILES)

    said, events = in_child(action)
    assert said.split() == ["23", "True", "3", str(EPOCH), str(EPOCH)]
    assert not [event for event in events if isinstance(event, Unseen)]


BY_OTHER_NAMES = r"""
import ctypes, os, shutil, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir("/tmp")
os.mkdir("d")
def spawn(action):
    child = os.fork()
    if child == 0:
        try: action()
        finally: os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
def executed(fd):
    words = (ctypes.c_char_p * 2)(b"x", None)
    number = {"x86_64": 322, "aarch64": 281}[os.uname().machine]
    libc.syscall(number, fd, b"", words, (ctypes.c_char_p * 1)(None), 0x1000)
for name in ("one", "two", "three"):
    shutil.copy("/bin/true", f"d/{name}")
spawn(lambda: executed(os.open("d/one", os.O_PATH)))
spawn(lambda: os.execv(f"/proc/self/fd/{os.open('d/two', os.O_PATH)}", ["x"]))
try: os.execv("/tmp/later", ["x"])
except FileNotFoundError: pass
os.rename("d/three", "later")
spawn(lambda: os.execv("/tmp/later", ["x"]))
memory = os.memfd_create("m")
with open("/bin/true", "rb") as file: os.write(memory, file.read())
spawn(lambda: executed(memory))
print("well")
"""


def test_what_is_executed_is_told_whatever_names_it():
    """A descriptor, a link of /proc's, a file in memory, and a file that was not there the first time."""
    said, events = told(BY_OTHER_NAMES, replace(FIXED, trace=Trace.OPENED))
    assert said == "well\n"
    executed = {
        event.path
        for event in events
        if isinstance(event, Lookup) and event.how is How.EXECUTE and event.found
    }
    assert {"/tmp/d/one", "/tmp/d/two", "/tmp/later", "/memfd:m (deleted)"} <= executed


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_program_that_may_not_be_read_is_seen_or_told_as_a_gap(identity):
    """One of the caller's own is seen all the same; of another user's the kernel tells nothing."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        shutil.copy("/bin/cat", f"{place}/cat")
        os.chmod(f"{place}/cat", 0o711)

        def action():
            events, box = [], box_for(identity)
            box = replace(box, operations=(*box.operations, Bind(source=place, target="/w")))
            output_of(
                box, ["/w/cat", "/etc/passwd"], policy=Policy(trace=Trace.OPENED), on_event=events.append
            )
            return events

        events = in_child(action, ordinary=identity == "ordinary")
    gaps = [(event.what, event.program) for event in events if isinstance(event, Unseen)]
    seen = [event for event in events if isinstance(event, Lookup) and event.path == "/etc/passwd"]
    if AS_ROOT and identity == "ordinary":
        assert (gaps, seen) == ([("the paths of a program that may not be read", "")], [])
    else:
        assert (gaps, len(seen)) == ([], 1)


def test_a_mode_of_all_bits_is_one_that_the_kernel_knows():
    text = (
        "import ctypes, os; os.close(os.open('/tmp/f', os.O_CREAT));"
        "number = {'x86_64': 268, 'aarch64': 53}[os.uname().machine];"
        "print(ctypes.CDLL(None).syscall(number, -100, b'/tmp/f', ctypes.c_long(-1)));"
        "print(oct(os.stat('/tmp/f').st_mode & 0o7777))"
    )
    assert told(text)[0].split() == ["0", "0o1777"]


def test_files_that_are_armed_again_and_again_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(supervisor, "_MOST_ONCE", 20)
    text = (
        "import os; os.chdir('/tmp'); [os.close(os.open(str(n), os.O_CREAT)) for n in range(100)];"
        "[os.chmod(str(n), 0o4755) for n in range(100) for _ in range(20)]; print('well')"
    )
    said, events = told(text)
    disarmed = [event for event in events if isinstance(event, Disarmed)]
    assert said == "well\n"
    assert len(set(disarmed)) == len(disarmed) == 20
    assert [event.what for event in events if isinstance(event, Unseen)] == [
        "more than 20 files that were to be armed, or gaps"
    ]
