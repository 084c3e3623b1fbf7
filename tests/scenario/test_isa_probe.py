"""Programs run on old CPUs under qemu-user: the machine's own, else the one of Debian's package."""

import os
import tempfile
from pathlib import Path

import pytest

from belljar import proc
from belljar.archive.unpack import unpack
from belljar.audit.probe import probe
from belljar.errors import HostError, InputError
from belljar.home import Home
from belljar.recipe.fetch import fetch
from belljar.recipe.recipe import FILE, load
from belljar.recipe.resolve import lock

SOURCE = """
float buffer[64];
__attribute__((noinline)) float work(float x) {
    for (int i = 0; i < 64; i++) buffer[i] = buffer[i] * x + 2;
    return buffer[3];
}
int main(int argc, char **argv) { return (int)work(argc); }
"""
RECIPE = """
[package]
name = "qemu"
version = "1"
[build]
script = "true"
[environment]
suite = "bookworm"
packages = ["deb:qemu-user-static"]
"""


@pytest.fixture(scope="session")
def qemu(tmp_path_factory) -> Path:
    """An emulator that runs without being installed."""
    found = proc.find("qemu-x86_64-static")
    if found is not None:
        return found
    kept = Path(tempfile.gettempdir()) / f"belljar-tests-qemu-{os.getuid()}" / "qemu-x86_64-static"
    if not kept.exists():
        place = tmp_path_factory.mktemp("qemu")
        (place / FILE).write_text(RECIPE)
        home = Home(data=place / "home", cache=place / "cache")
        locked = lock(load(place), home)
        for package in fetch(locked, home).values():
            unpack(package, place / "root", mtime=1)
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        (place / "root/usr/bin/qemu-x86_64-static").replace(kept)
    return kept


@pytest.mark.parametrize("flags", [(), ("-fPIE", "-pie")], ids=["fixed address", "any address"])
def test_an_illegal_instruction_is_named_with_its_function(qemu, zig_cc, flags):
    program = zig_cc(SOURCE, "-mcpu=x86_64_v3", *flags)
    found = probe([str(program)], qemu=qemu)
    assert found.needs == "x86-64-v3"
    assert [run.level for run in found.runs] == ["x86-64", "x86-64-v2", "x86-64-v3"]
    assert found.runs[-1].status == 2
    crash = found.runs[0].crash
    assert crash is not None
    assert (crash.path, crash.site.function, crash.site.needs) == (str(program), "main", "x86-64-v3")
    assert crash.site.instruction.startswith("v")
    assert "main" in str(crash)
    assert found.to_json()["needs"] == "x86-64-v3"


def test_an_illegal_instruction_of_a_library_is_named_with_the_library(qemu, zig_cc, tmp_path):
    library = tmp_path / "libwork.so"
    library.write_bytes(
        zig_cc(SOURCE.split("int main")[0], "-shared", "-fPIC", "-mcpu=x86_64_v3").read_bytes()
    )
    program = zig_cc(
        "#include <dlfcn.h>\n"
        'int main(int c, char **v) { return (int)((float (*)(float))dlsym(dlopen(v[1], 2), "work"))(1); }',
        "-ldl",
    )
    found = probe([str(program), str(library)], qemu=qemu)
    crash = found.runs[0].crash
    assert crash is not None
    assert (crash.path, crash.site.function) == (str(library), "work")


def test_a_baseline_program_runs_on_the_oldest_cpu(qemu, zig_cc):
    found = probe([str(zig_cc(SOURCE))], qemu=qemu, env={"OPENBLAS_CORETYPE": "Haswell", "A": "b"})
    assert found.needs == "x86-64"
    assert [(run.level, run.status, run.crash) for run in found.runs] == [("x86-64", 2, None)]
    assert found.scrubbed == ("OPENBLAS_CORETYPE",)


def test_a_script_is_run_by_its_interpreter(qemu, zig_cc, tmp_path):
    program = zig_cc("int main(int c, char **v) { return c; }")
    script = tmp_path / "script"
    script.write_text(f"#!{program} -x\n")
    script.chmod(0o755)
    assert probe([str(script), "1"], qemu=qemu).runs[0].status == 4


@pytest.mark.parametrize("command", [[], ["no-such-program"], ["/etc/passwd"]])
def test_what_is_no_program_is_refused(qemu, command):
    with pytest.raises(InputError):
        probe(command, qemu=qemu)


def test_a_run_without_end_is_ended(qemu, zig_cc):
    with pytest.raises(HostError, match="did not end"):
        probe([str(zig_cc('int main(void) { for (;;) __asm__ volatile(""); }'))], qemu=qemu, timeout=1)
