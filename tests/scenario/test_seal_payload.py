"""Programs that carry data of their own: in sections, behind them, or with a shell script before it all.

Those whose data lies in a section or segment are sealed as any other. Data behind the sections is looked for
from the file's end, or where the headers say that the program ends: neither may change.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from edit_oracle import debian_tools
from loader_oracle import own_loader

from belljar.seal import doing
from belljar.seal.launcher import Form
from belljar.seal.padded import STUB
from belljar.seal.plan import Options, plan
from belljar.seal.record import PRIVATE

KEPT = Path(tempfile.gettempdir()) / f"belljar-tests-payloads-{os.getuid()}"
READER = r"""
#include <elf.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    /* As AppImage's runtime: behind the section headers of itself. */
    FILE *self = fopen(argc > 1 ? argv[1] : "/proc/self/exe", "rb");
    Elf64_Ehdr header;
    char text[64] = {0};
    if (!self || fread(&header, sizeof header, 1, self) != 1) return 9;
    fseek(self, header.e_shoff + header.e_shnum * header.e_shentsize, SEEK_SET);
    size_t size = fread(text, 1, sizeof text - 1, self);
    printf("%.*s\n", (int)size, text);
    return strcmp(text, "PAYLOAD") != 0;
}
"""
APP = """
import json, ssl, sys
print(getattr(sys, "frozen", False), json.dumps(sys.argv[1:]), ssl.OPENSSL_VERSION[:7])
"""


def run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, **options)
    return done.returncode, done.stdout, done.stderr[-300:]


def tree_of(program, place):
    (place / "bin").mkdir(parents=True)
    shutil.copy(program, place / "bin/app")
    return place


def tools(scratch):
    """A directory with the programs that PyInstaller starts: Debian's binutils, and ldd."""
    debian_tools(scratch / "binutils")
    kept = Path(tempfile.gettempdir()) / f"belljar-tests-binutils-{os.getuid()}"
    loader = next(kept.glob("**/lib/*/ld-linux-*.so.*"))
    libraries = ":".join(f"{kept}/{path}/{loader.parent.name}" for path in ("usr/lib", "lib"))
    directory = scratch / "tools"
    directory.mkdir()
    commands = {"ldd": f"{own_loader()} --list"}
    for name in ("objcopy", "objdump"):
        program = next((kept / "usr/bin").glob(f"*-linux-gnu-{name}"))
        commands[name] = f"{loader} --library-path {libraries} {program}"
    for name, command in commands.items():
        (directory / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (directory / name).chmod(0o755)
    return directory


@pytest.mark.parametrize("name", ["cat", "tail"])
def test_a_program_with_data_behind_its_sections_keeps_size_and_headers_and_reads_itself(name, tmp_path):
    """Where it has padding, as most of Debian's programs."""
    tree = tree_of(shutil.which(name), tmp_path / "tree")
    program = tree / "bin/app"
    with program.open("ab") as file:
        file.write(b"PAYLOAD")
    before = program.read_bytes()
    words = ["/proc/self/exe"]
    assert subprocess.run([program, *words], capture_output=True, check=True).stdout[-7:] == b"PAYLOAD"
    doing.seal(plan(tree))
    moved = tree.rename(tmp_path / "moved to")
    assert doing.check(moved) == ()
    image = (moved / "bin/app").read_bytes()
    assert len(image) == len(before)
    where_sections_are = slice(40, 64)
    assert image[where_sections_are] == before[where_sections_are]
    done = subprocess.run([moved / "bin/app", *words], capture_output=True, check=True)
    assert done.stdout[-7:] == b"PAYLOAD"
    maps = subprocess.run([moved / "bin/app", "/proc/self/maps"], capture_output=True, text=True, check=False)
    libraries = {line.split(maxsplit=5)[5] for line in maps.stdout.splitlines() if ".so" in line}
    assert libraries or name == "tail"  # which shows the last lines
    assert all(path.startswith(f"{moved}/{PRIVATE}/") for path in libraries)
    (moved / PRIVATE / STUB).rename(tmp_path / "stub")
    assert run(moved / "bin/app", "x")[0] == 127
    assert [fault.path for fault in doing.check(moved)] == [f"{PRIVATE}/{STUB}"]
    doing.seal(plan(moved))
    assert doing.check(moved) == ()
    doing.unseal(doing.unseal_plan(moved))
    assert (moved / "bin/app").read_bytes() == before
    assert not (moved / "lib").exists()


def test_what_was_changed_since_is_not_taken_back(tmp_path):
    tree = tree_of("/bin/cat", tmp_path / "tree")
    with (tree / "bin/app").open("ab") as file:
        file.write(b"PAYLOAD")
    doing.seal(plan(tree))
    image = bytearray((tree / "bin/app").read_bytes())
    image[64 + 56 * 2 + 16] ^= 1  # an address in a program header
    (tree / "bin/app").write_bytes(image)
    (refusal,) = doing.unseal_plan(tree).changes.refusals
    assert "was changed since it was sealed" in refusal.reason


def test_where_there_is_no_padding_it_is_a_refusal_that_says_why_and_what_to_do(zig_cc, tmp_path):
    program = Path(shutil.copy(zig_cc(READER), tmp_path / "reader"))
    with program.open("ab") as file:
        file.write(b"PAYLOAD")
    tree = tree_of(program, tmp_path / "tree")
    assert run(tree / "bin/app") == (0, "PAYLOAD\n", "")
    (refusal,) = plan(tree).changes.refusals
    assert refusal.path == "bin/app"
    assert "carries 7 bytes behind its sections" in refusal.reason
    doing.seal(plan(tree, Options(form=Form.AUTO)))
    # It stays intact, for who looks for it by its name; what looks in /proc/self/exe finds the loader.
    assert run(tree / "bin/app", tree / "libexec/app") == (0, "PAYLOAD\n", "")
    assert run(tree / "bin/app")[0] != 0
    doing.unseal(doing.unseal_plan(tree))
    assert (tree / "bin/app").read_bytes() == program.read_bytes()


def test_a_script_with_data_behind_it_is_left_as_it_is(tmp_path):
    """As makeself makes them."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/cat", tree / "bin/cat")
    script = b'#!/bin/sh\ntail -n +4 "$0" | gzip -dc | tar -xOf -\nexit\n'
    (tmp_path / "file").write_text("packed\n")
    packed = subprocess.run(["tar", "-czC", tmp_path, "file"], check=True, capture_output=True).stdout
    (tree / "bin/setup").write_bytes(script + packed)
    (tree / "bin/setup").chmod(0o755)
    doing.seal(plan(tree))
    assert (tree / "bin/setup").read_bytes() == script + packed
    assert run(tree / "bin/setup") == (0, "packed\n", "")


@pytest.mark.extended
def test_a_program_of_pyinstaller_unpacks_itself_and_runs_on_what_is_bundled(tmp_path):
    """What it unpacks has RUNPATHs and is found by LD_LIBRARY_PATH: a traced run tells of it."""
    if not (KEPT / "pyinstaller/PyInstaller").is_dir():
        words = ["install", "--quiet", "--target", KEPT / "pyinstaller", "pyinstaller==6.*"]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "PyInstaller", "--onefile", "--log-level=ERROR", "app.py"]
    paths = {"PYTHONPATH": str(KEPT / "pyinstaller"), "PATH": f"{tools(tmp_path)}:{os.environ['PATH']}"}
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **paths}, check=True)
    tree = tree_of(tmp_path / "dist/app", tmp_path / "tree")
    wanted = run(tree / "bin/app", "a b")
    assert wanted[:2] == (0, 'True ["a b"] OpenSSL\n')
    sealing = [sys.executable, "-m", "belljar", "seal", tree]
    subprocess.run([*sealing, "--trace", f"{tree}/bin/app"], check=True, capture_output=True)
    moved = tree.rename(tmp_path / "moved to")
    assert run(moved / "bin/app", "a b") == wanted
    assert run(moved / "bin/app", "a b", env={"LD_LIBRARY_PATH": "/nowhere"}) == wanted


@pytest.mark.extended
def test_a_program_of_bun_finds_the_script_in_itself(tmp_path):
    bun = KEPT / "package/bin/bun"
    if not bun.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", "@oven/bun-linux-x64"], cwd=KEPT, check=True)
        subprocess.run(["tar", "-xzf", next(KEPT.glob("*.tgz"))], cwd=KEPT, check=True)
    (tmp_path / "app.js").write_text("console.log(process.argv.slice(2), process.execPath)")
    command = [bun, "build", "--compile", "app.js", "--outfile", "app"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    tree = tree_of(tmp_path / "app", tmp_path / "tree")
    doing.seal(plan(tree))
    moved = tree.rename(tmp_path / "moved")
    assert run(moved / "bin/app", "x")[:2] == (0, f'[ "x" ] {moved}/bin/app\n')
