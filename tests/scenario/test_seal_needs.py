"""Needs that are met in company only: by a library that another one brings, or a wrapper's search path."""

import shutil
import subprocess
from pathlib import Path

import pytest

from belljar.errors import InputError
from belljar.seal import doing
from belljar.seal.plan import plan
from belljar.seal.survey import PRIVATE

DEEP = "int deep(void) { return 42; }"
MIDDLE = "int deep(void); int middle(void) { return deep(); }"
PLUGIN = "int middle(void); int plugin(void) { return middle(); }"
HOST = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) return puts(dlerror()), 1;
    return ((int (*)(void))dlsym(library, "plugin"))();
}
"""


@pytest.fixture
def prefix(zig_cc, tmp_path):
    """A plugin whose DT_RPATH serves two libraries: one of them needs the other, and says not where it is."""
    tree = tmp_path / "prefix"
    for name in ("bin", "lib/site/plugin", "lib/site/plugin.libs"):
        (tree / name).mkdir(parents=True)
    libraries = tree / "lib/site/plugin.libs"
    for name, source in (("deep", DEEP), ("middle", MIDDLE)):
        needs = [tmp_path / "libdeep.so"] if name == "middle" else []
        made = zig_cc(source, "-shared", f"-Wl,-soname,lib{name}.so", *needs)
        shutil.copy(made, libraries / f"lib{name}.so")
        shutil.copy(made, tmp_path / f"lib{name}.so")
    rpath = "-Wl,-rpath,$ORIGIN/../plugin.libs,--disable-new-dtags"
    plugin = zig_cc(PLUGIN, "-shared", tmp_path / "libmiddle.so", rpath)
    shutil.copy(plugin, tree / "lib/site/plugin/plugin.so")
    shutil.copy(zig_cc(HOST, "-ldl"), tree / "bin/host")
    return tree


def status(prefix):
    command = [prefix / "bin/host", prefix / "lib/site/plugin/plugin.so"]
    return subprocess.run(command, check=False, capture_output=True).returncode


def test_what_lies_in_the_prefix_is_not_missing_because_its_user_says_not_where(prefix):
    assert status(prefix) == 42
    doing.seal(plan(prefix))
    assert status(prefix) == 42
    assert not (prefix / PRIVATE / "libdeep.so").exists()
    assert doing.check(prefix) == ()


def test_what_lies_nowhere_is_missing_all_the_same(prefix):
    (prefix / "lib/site/plugin.libs/libdeep.so").unlink()
    with pytest.raises(InputError, match=r"libmiddle\.so: libdeep\.so is not found"):
        doing.seal(plan(prefix))


def test_a_program_that_needed_a_variable_finds_what_lies_at_one_place(prefix, zig_cc, tmp_path):
    (tmp_path / "libdeep.so").chmod(0o644)
    program = zig_cc("int deep(void); int main(void) { return deep(); }", tmp_path / "libdeep.so")
    shutil.copy(program, prefix / "bin/needy")
    needy, place = prefix / "bin/needy", Path(prefix, "lib/site/plugin.libs")
    assert subprocess.run([needy], check=False, capture_output=True).returncode == 127
    variable = {"LD_LIBRARY_PATH": str(place)}
    assert subprocess.run([needy], check=False, env=variable).returncode == 42
    doing.seal(plan(prefix))
    assert subprocess.run([needy], check=False).returncode == 42
    assert doing.check(prefix) == ()
