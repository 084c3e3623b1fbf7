"""Programs that make calls at random: the supervisor answers all of them, and nothing outside changes.

All numbers, with arguments at random and plausible ones: addresses of names, of the end of a page,
descriptors, flags. Half a million found two faults (a mode of all bits; the host's /dev/null by standard
input); here are as many as a test may take. `BELLJAR_FUZZ=SEED,CALLS` makes others.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from test_sandbox_support import IDENTITIES, NOBODY, box_for, in_child

from belljar.sandbox import Bind, Policy, Trace, run

SEED, CALLS = os.environ.get("BELLJAR_FUZZ", "20261121,4000").split(",")
POLICIES = {
    "all": Policy(
        trace=Trace.ALL,
        epoch=1_500_000_000,
        seed="s",
        release="6.1.0",
        processors=2,
        memory=8 << 30,
        listing="sorted",
    ),
    "least": Policy(trace=Trace.NOTHING),
}
FUZZ = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static uint64_t state;
static char *page, paths[8][4200];
static uint64_t draw(void) { state ^= state << 13; state ^= state >> 7; return state ^= state << 17; }
/* What would end all, and what ends a victim too often. */
static const int never[] = {SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_exit_group, SYS_exit};
static const int seldom[] = {SYS_close, 436, SYS_munmap, SYS_rt_sigreturn, SYS_rt_sigsuspend, SYS_ppoll};
static int in(const int *list, int size, long n) {
    for (int i = 0; i < size; i++) if (list[i] == n) return 1;
    return 0;
}
static uint64_t word(void) {
    switch (draw() % 13) {
    case 0: return 0;
    case 1: return draw();
    case 2: return draw() % 64;
    case 3: return (uint64_t)page + draw() % 4096;
    case 4: return (uint64_t)page + 4090;
    case 5: case 6: case 7: return (uint64_t)paths[draw() % 8];
    case 8: return -100;
    case 9: return 1ull << draw() % 64;
    case 10: return -(draw() % 4096);
    case 11: return draw() % 20;
    default: return 0x5000 + draw() % 4096;
    }
}
static void victim(void) {
    const char *names[] = {"/build/a", "../x", "/proc/self/fd/3", "/bin/true", "l/../..", "/tmp/l/../q", ""};
    for (int i = 0; i < 7; i++) strcpy(paths[i], names[i]);
    memset(paths[7], 'a', 4190);
    paths[7][0] = '/';
    page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    for (int i = 0; i < 400; i++) page[draw() % 4096] = draw();
    if (chdir("/tmp") || symlink("/", "l")) {}
    open("/", O_RDONLY); open("/dev/null", O_RDWR); open("/usr/bin", O_RDONLY);
    ualarm(300000, 0);
    long me = syscall(SYS_getpid);
    for (int i = 0; i < 500; i++) {
        long n = draw() % 16 ? draw() % 472 : draw() % 8 ? draw() % 2048 : (uint32_t)draw();
        if (in(never, 6, n) || (in(seldom, 6, n) && draw() % 30)) continue;
        syscall(n, word(), word(), word(), word(), word(), word());
        if (syscall(SYS_getpid) != me) break;
    }
    syscall(SYS_exit_group, 0);
}
int main(int count, char **words) {
    state = strtoull(words[1], 0, 0) * 2654435761u + 88172645463325252ull;
    long calls = atol(words[2]);
    for (long done = 0; done < calls; done += 500) {
        state += 104729 * (done + count);
        draw();
        pid_t child = fork();
        if (!child) { setpgid(0, 0); victim(); }
        for (int i = 0; i < 60 && child; i++, usleep(10000))
            if (waitpid(child, 0, WNOHANG) == child) child = 0;
        if (child) { kill(-child, SIGKILL); kill(child, SIGKILL); waitpid(child, 0, 0); }
    }
    return 7;
}
"""


def state_of(top: Path) -> list[str]:
    """Return all that can be seen of a tree outside, and of the devices that a sandbox shows."""
    found = [top, *sorted(top.rglob("*")), *(Path("/dev") / name for name in ("null", "zero", "full", "tty"))]
    said = []
    for path in found:
        info = path.lstat()
        times = () if path.parent == Path("/dev") else (info.st_mtime_ns, info.st_size)
        names = os.listxattr(path, follow_symlinks=False)
        said.append(f"{path} {info.st_mode:o} {info.st_uid} {info.st_gid} {times} {names}")
    return said


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("identity", IDENTITIES)
def test_calls_at_random_end_and_change_nothing_outside(zig_cc, identity, policy):
    top = Path(tempfile.mkdtemp(prefix="belljar-fuzz-"))
    (top / "project/out").mkdir(parents=True)
    (top / "outside").mkdir()
    shutil.copy(zig_cc(FUZZ, "-O1", "-w", target="x86_64-linux-musl"), top / "project/fuzz")
    for path in (top / "project/a", top / "outside/x"):
        path.write_text("x")
    for path in (top, *top.rglob("*")):
        path.chmod(0o755)
    user = NOBODY if identity == "ordinary" and os.geteuid() == 0 else os.geteuid()
    subprocess.run(["chown", "-R", str(user), str(top)], check=True)

    def action():
        events = []
        box = box_for(identity)
        shown = (
            Bind(source=f"{top}/project", target="/build"),
            Bind(source=f"{top}/project/out", target="/build/out", writable=True),
        )
        box = replace(box, operations=(*box.operations, *shown), cwd="/build/out")
        with tempfile.TemporaryFile() as said:
            out = said.fileno()
            words = ["/build/fuzz", SEED, CALLS]
            return run(box, words, stdout=out, stderr=out, policy=policy, on_event=events.append).status

    before = state_of(top)
    try:
        assert in_child(action, ordinary=identity == "ordinary") == 7
        after = [line for line in state_of(top) if "/project/out" not in line]
        assert after == [line for line in before if "/project/out" not in line]
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", str(top)], check=False)
        shutil.rmtree(top)
