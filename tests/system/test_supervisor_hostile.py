"""Programs that do what a supervisor may stumble over: they end, and none sees the real clock."""

import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_sandbox_support import BOX, in_child, output_of

from belljar.sandbox import Bind, Policy, Trace, Unseen, run

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
        monkeypatch.setattr(supervisor.Supervisor, "guard", lambda _self, _init: signal.pause())
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
