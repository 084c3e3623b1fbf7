"""The launcher for aarch64: qemu tells what it executes, which is then run by qemu too.

qemu's user emulation does not follow an execve into another program unless the machine is set up for it.
"""

import re
import shutil
import subprocess

from test_seal_aarch64 import kept, qemu, system

from belljar.seal import doing
from belljar.seal.launcher import Form
from belljar.seal.plan import Options, plan

__all__ = ["kept", "qemu", "system"]
PROGRAM = r"""
#include <stdio.h>
int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++) puts(argv[i]);
    FILE *maps = fopen("/proc/self/maps", "r");
    return maps == 0;
}
"""


def test_it_executes_the_loader_with_the_program_as_its_argument(zig_cc, system, qemu, tmp_path):
    prefix = tmp_path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    shutil.copy(zig_cc(PROGRAM, target="aarch64-linux-gnu.2.17"), prefix / "bin/app")
    doing.seal(plan(prefix, Options(root=system, form=Form.STATIC)))
    moved = prefix.rename(tmp_path / "moved to")
    told = subprocess.run(
        [qemu, "-strace", moved / "bin/app", "a b"], capture_output=True, text=True, check=False
    ).stderr
    path, words = re.search(r'execve\("([^"]*)",\{"(.*)",NULL\}', told).groups()
    arguments = words.split('","')
    assert path == arguments[0] == f"{moved}/lib/belljar/ld-linux-aarch64.so.1"
    assert arguments[-3:] == [str(moved / "bin/app"), str(moved / "libexec/app"), "a b"]
    done = subprocess.run([qemu, path, *arguments[1:]], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(moved / "bin/app"), "a b"]
