"""A recipe's [toolchain], built: gcc and cc compile for the baseline, and a seal comes with the output."""

import subprocess
from pathlib import Path

import pytest
import test_build_support as support

SCRIPT = """
printf '#include <pthread.h>\\n#include <stdio.h>\\nstatic void *f(void *p) { puts("threads"); return p; }\\n\
int main(void) { pthread_t t; return pthread_create(&t, 0, f, 0) || pthread_join(t, 0); }\\n' > a.c
mkdir -p $PREFIX/bin
gcc a.c -o $PREFIX/bin/a -lpthread
cmp "$(command -v gcc)" "$CC"
"""


def build(place: Path, toolchain: str, script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    packages = (*support.TINY, "deb:diffutils", "pypi:ziglang==0.17.0")
    directory = support.recipe(
        place / "recipe", script, packages=packages, more=f"[toolchain]\n{toolchain}", name="threads"
    )
    home = support.home(place / "home")
    return support.belljar("build", "--no-link", "--format", "json", directory, home=home)


def entry(place: Path) -> Path:
    (found,) = (place / "home/store").glob("*/*-threads-1.0")
    return found


def test_gcc_means_the_baseline_and_the_sealed_output_runs_on_its_own_libc(tmp_path: Path) -> None:
    done = build(tmp_path, "seal = true")
    assert done.returncode == 0, done.stderr
    path = entry(tmp_path)
    home = tmp_path / "home"
    audited = support.belljar("audit", "--target-glibc", "2.17", path / "bin/a", home=home)
    assert audited.returncode == 0, audited.stdout
    checked = support.belljar("seal", "--check", path, home=home)
    assert checked.returncode == 0, checked.stdout
    assert (path / "lib/belljar").is_dir()
    assert subprocess.run([path / "bin/a"], capture_output=True, text=True, check=True).stdout == "threads\n"


@pytest.mark.parametrize(
    ("toolchain", "status", "says"),
    [('glibc = "2.16"', 3, "zig 0.17.0 has 2.17 to 2."), ("enabled = false", 5, "gcc")],
)
def test_a_glibc_that_zig_lacks_and_no_toolchain_are_failures(
    tmp_path: Path, toolchain: str, status: int, says: str
) -> None:
    done = build(tmp_path, toolchain)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
