"""A linker lets one string be the tail of another: what is overwritten in a libc must leave such tails.

`PATH`, which execvp looks up, is the tail of `LOCPATH` in every glibc from 2.17 to 2.43.
"""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from test_seal_embed import LOADER, libc_of

from belljar.elf.layout import Layout
from belljar.seal import doing
from belljar.seal.libc import VARIABLES, private_libc, private_loader
from belljar.seal.plan import plan
from belljar.splice import spliced

EXECVP = "#include <unistd.h>\nint main(int c, char **v) { execvp(v[1], v + 1); return 99; }"
SPAWNP = r"""
#include <spawn.h>
#include <sys/wait.h>
extern char **environ;
int main(int c, char **v) {
    int pid, status;
    if (posix_spawnp(&pid, v[1], 0, 0, v + 1, environ)) return 99;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}
"""


@pytest.mark.parametrize("source", [EXECVP, SPAWNP])
def test_a_sealed_program_finds_programs_on_path(zig_cc, tmp_path, source):
    for place in ("prefix/bin", "tools"):
        (tmp_path / place).mkdir(parents=True)
    shutil.copy(zig_cc(source), tmp_path / "prefix/bin/starts")
    shutil.copy(zig_cc("int main(void) { return 42; }"), tmp_path / "tools/only-there")
    environment = {"PATH": str(tmp_path / "tools")}

    def status():
        command = [tmp_path / "prefix/bin/starts", "only-there"]
        return subprocess.run(command, env=environment, check=False).returncode

    assert status() == 42
    doing.seal(plan(tmp_path / "prefix"))
    assert status() == 42


def test_names_of_variables_keep_the_tail_that_others_may_use():
    for name, own in VARIABLES.items():
        assert len(name) == len(own)
        assert name.endswith("PATH")
        assert own.endswith("PATH")
        assert own != name


@pytest.mark.parametrize("name", ["loader", "libc"])
def test_what_code_refers_to_is_overwritten_from_its_beginning_or_not_at_all(name):
    path, edits = {"loader": (LOADER, private_loader), "libc": (libc_of(LOADER), private_libc)}[name]
    image = Path(path).read_bytes()
    after = spliced(image, edits(image), subject=name)
    referred = set(_referred(image))
    assert any(image[at:].startswith(b"/") and after[at : at + 9] != image[at : at + 9] for at in referred)
    for at in referred:
        before, now = (it[at : it.find(b"\0", at)] for it in (image, after))
        is_tail = re.match(rb"[ -~]", image[at - 1 : at])
        assert before == now or not is_tail, f"{before} is used, and is the tail of what is overwritten"


def _referred(image):
    """Offsets of what x86-64 code takes the address of: lea with an offset from rip."""
    loads = Layout(image).loads
    for code in (row for row in loads if row.flags & 1):
        for match in re.finditer(
            rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](?s:.{4})", image[code.offset : code.end]
        ):
            target = code.address + match.end() + struct.unpack("<i", match[0][3:])[0]
            for row in loads:
                if row.address <= target < row.address + row.file_size:
                    yield target - row.address + row.offset
