"""The sandbox's own tests, `belljar run` and sealed programs on other kernels and another machine (qemu)."""

import re
import shutil

import kernels
import pytest
from kernels import Ended, Kernel
from test_supervisor_hostile import HOSTILE
from test_supervisor_laws import CLOCK, REALTIME

from belljar.seal import doing
from belljar.seal.launcher import Form
from belljar.seal.plan import Options, plan
from belljar.types import Arch

pytestmark = pytest.mark.extended  # half a gigabyte of packages, a minute and more for each machine

AARCH64, X86_64 = Arch.AARCH64, Arch.X86_64
TOO_OLD = [Kernel(arch=arch, suite="bullseye") for arch in (X86_64, AARCH64)]
ABLE = [
    Kernel(arch=arch, suite=suite) for suite in ("bookworm", "trixie", "sid") for arch in (AARCH64, X86_64)
]
WITH_LANDLOCK = ("trixie", "sid")
"""Landlock 3 or newer: bookworm has 2."""
PROGRAMS = ((CLOCK, ()), (REALTIME, ("-pthread",)), (HOSTILE, ("-pthread", "-O1")))
LIBCS = ("linux-gnu.2.17", "linux-gnu.2.31", "linux-musl")
APP = r"""
#include <stdio.h>
int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++) puts(argv[i]);
    puts("--");
    FILE *maps = fopen("/proc/self/maps", "r");
    for (int c; (c = getc(maps)) != EOF;) putchar(c);
    return 0;
}
"""
NOT_THERE = "not (make_builds or strace or gcc or go_program)"
"""Without tests that need compilers of their own."""
NOT_NOW = "not (threads_forks or signals)"
"""Without tests that count on a machine which executes instructions itself: they end after a minute."""


def named(kernel: Kernel) -> str:
    return f"{kernel.suite}-{kernel.arch.value}"


@pytest.fixture
def files(zig_cc, tmp_path):
    """Return what a machine needs besides the system: compiled and sealed programs."""

    def made(arch: Arch) -> dict[str, kernels.File]:
        found: dict[str, kernels.File] = {
            f"programs/{kernels.program_name(source, flags, f'any-{libc}')}": zig_cc(
                source, *flags, target=f"{arch.value}-{libc}"
            )
            for source, flags in PROGRAMS
            for libc in LIBCS
        }
        app = zig_cc(APP, target=f"{arch.value}-linux-gnu.2.17")
        system = kernels.unpacked(arch, "bookworm", kernels.SYSTEM)
        for form in (None, *(Form(name) for name in ("embedded", "static", "sh"))):
            prefix = tmp_path / (form.value if form else "plain")
            (prefix / "bin").mkdir(parents=True)
            shutil.copy(app, prefix / "bin/app")
            if form is not None:
                doing.seal(plan(prefix, Options(root=system, form=form)))
            found |= {f"sealed/{path.relative_to(tmp_path)}": path for path in sorted(prefix.rglob("*"))}
        return found

    return made


def all_pass(kernel: Kernel, files, *words: str, packages=(), timeout: float = 600) -> Ended:
    """Run pytest there; every test must pass."""
    pytest_ = "python3.11 -m pytest --no-header -v --color=no --tb=short -p no:cacheprovider -m ''"
    command = ("/bin/sh", "-c", f'cd /checkout && exec {pytest_} "$@"', "sh", *words)
    ended = kernels.boot(kernel, command, files(kernel.arch), packages=packages, timeout=timeout)
    bad = {name: result for name, result in ended.results.items() if result != "PASSED"}
    assert (ended.status, bad) == (0, {}), ended.console[-20_000:]
    return ended


# --- in every run -----------------------------------------------------------------------------------


def test_sandbox_supervisor_and_sealed_programs_hold_on_aarch64(files):
    names = ("kernel/trials", "system/test_sandbox_laws", "system/test_supervisor_laws")
    words = [f"tests/{name}.py" for name in names]
    ended = all_pass(ABLE[0], files, *words, "-k", f"(ordinary or sealed) and {NOT_THERE}")
    assert len(ended.results) >= 30


@pytest.mark.parametrize("kernel", TOO_OLD, ids=named)
def test_a_kernel_that_is_too_old_is_named(kernel):
    runs = "for w in -q --allow-weaker; do python3.11 -m belljar run $w -- true; echo got $?; done"
    ended = kernels.boot(kernel, ("/bin/sh", "-c", f"mkdir /p; cd /p; {runs}"), {})
    assert re.findall(r"^got (\d+)", ended.console, re.M) == ["4", "4"]
    assert ended.console.count("the sandbox needs Linux 5.12 or newer; this is 5.10.") == 2
    assert "Traceback" not in ended.console


# --- the whole --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ABLE, ids=named)
def test_all_of_the_sandboxs_tests_pass(kernel, files):
    names = ["sandbox_laws", "sandbox_support", "sandbox_hosts", "sandbox_endings"]
    names += ["supervisor_laws", "supervisor_hostile"]
    names += ["sandbox_weaker"] if kernel.suite in WITH_LANDLOCK else []
    words = [f"tests/system/test_{name}.py" for name in names]
    all_pass(
        kernel, files, "tests/kernel/trials.py", *words, "-k", f"{NOT_THERE} and {NOT_NOW}", timeout=1800
    )


@pytest.mark.parametrize("kernel", ABLE[:2], ids=named)
def test_a_compiler_makes_the_same_at_two_times(kernel, files):
    packages = ("gcc", "libc6-dev", "make")
    all_pass(kernel, files, "tests/kernel/trials.py", "-k", "gcc", packages=packages)


@pytest.mark.parametrize("kernel", ABLE[:2], ids=named)
def test_a_clock_is_fixed_where_tracing_is_restricted_and_refused_where_it_is_forbidden(kernel):
    """kernel.yama.ptrace_scope, which Ubuntu sets to 1; the machine is of no use after 3."""
    run = "python3.11 -m belljar run -q --clock -- date +%Y"
    each = f"echo $s > $S; {run}; echo got $?; setpriv --reuid=65534 --clear-groups {run}; echo got $?"
    text = f"S=/proc/sys/kernel/yama/ptrace_scope; mkdir /p; cd /p; for s in 1 2 3; do {each}; done"
    ended = kernels.boot(kernel, ("/bin/sh", "-c", text), {})
    said = re.findall(r"^(?:got )?(\d+)$", ended.console, re.M)
    assert said == ["2037", "0"] * 4 + ["4"] * 2, ended.console
    assert ended.console.count("kernel.yama.ptrace_scope is 3") == 2
