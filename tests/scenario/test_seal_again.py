"""Sealing again: what came to the prefix since is noticed, what was bundled stays, what broke is mended."""

import shutil
import subprocess
import sys

import pytest

from belljar.errors import InputError
from belljar.seal import doing, record
from belljar.seal.launcher import Form
from belljar.seal.plan import Options, plan
from belljar.seal.record import PRIVATE

DEEP = "int deep(void) { return 42; }"
LATE = "int deep(void); int late(void) { return deep(); }"
OPENER = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    void *library = dlopen(argv[1], RTLD_NOW);
    int (*late)(void) = library ? (int (*)(void))dlsym(library, "late") : 0;
    return puts(late ? late() == 42 ? "42" : "?" : dlerror()) < 0;
}
"""


@pytest.fixture
def libraries(zig_cc, tmp_path):
    """Directories: `outside` has libdeep.so.1, `late` has liblate.so, which needs it."""
    for name in ("outside", "late"):
        (tmp_path / name).mkdir()
    deep = shutil.copy(zig_cc(DEEP, "-shared", "-Wl,-soname,libdeep.so.1"), tmp_path / "libdeep.so")
    shutil.copy(deep, tmp_path / "outside/libdeep.so.1")
    # What the system's loader would do with its cache, a RUNPATH does here: it names a place outside.
    path = f"-Wl,--enable-new-dtags,-rpath,{tmp_path}/outside"
    shutil.copy(zig_cc(LATE, tmp_path / "libdeep.so", "-shared", path), tmp_path / "late/liblate.so")
    return tmp_path


@pytest.fixture(params=[Form.EMBEDDED, Form.STATIC])
def prefix(request, zig_cc, libraries):
    tree = libraries / "prefix"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(zig_cc(OPENER), tree / "bin/opener")
    doing.seal(plan(tree, Options(form=request.param)))
    return tree


def said(prefix, *words):
    return subprocess.run([prefix / "bin/opener", *words], capture_output=True, text=True, check=True).stdout


def faults(prefix):
    return {fault.path: fault.what for fault in doing.check(prefix)}


def test_a_library_that_came_later_is_noticed_and_sealing_again_bundles_what_it_needs(prefix, libraries):
    (prefix / "lib/plugins").mkdir()
    shutil.copy(libraries / "late/liblate.so", prefix / "lib/plugins")
    before = (prefix / "lib/plugins/liblate.so").read_bytes()
    assert set(faults(prefix)) == {"lib/plugins/liblate.so"}
    doing.seal(plan(prefix))
    assert faults(prefix) == {}
    assert (prefix / PRIVATE / "libdeep.so.1").exists()
    shutil.rmtree(libraries / "outside")
    moved = prefix.rename(libraries / "moved")
    assert said(moved, moved / "lib/plugins/liblate.so") == "42\n"
    assert plan(moved).bundle is None, "there is nothing to do"
    doing.unseal(doing.unseal_plan(moved))
    assert (moved / "lib/plugins/liblate.so").read_bytes() == before
    assert not (moved / PRIVATE).exists()


def test_a_library_with_a_runpath_of_its_own_finds_what_is_bundled(zig_cc, libraries):
    """Such a one does not heed its program's DT_RPATH; it may come from anywhere (PyInstaller's do)."""
    for form in (Form.EMBEDDED, Form.STATIC, Form.SH):
        prefix = libraries / form
        (prefix / "bin").mkdir(parents=True)
        shutil.copy(zig_cc(OPENER), prefix / "bin/opener")
        doing.seal(plan(prefix, Options(form=form, opened=(libraries / "outside/libdeep.so.1",))))
    shutil.rmtree(libraries / "outside")
    for form in (Form.EMBEDDED, Form.STATIC, Form.SH):
        assert said(libraries / form, libraries / "late/liblate.so") == "42\n", form


def test_a_library_that_came_later_and_has_not_what_it_needs_is_a_refusal(prefix, libraries):
    shutil.copy(libraries / "late/liblate.so", prefix / "lib")
    shutil.rmtree(libraries / "outside")
    assert faults(prefix)["lib/liblate.so"]
    with pytest.raises(InputError, match=r"lib/liblate\.so: libdeep\.so\.1 is not found"):
        doing.seal(plan(prefix))
    assert said(prefix, "libnone.so").startswith("libnone.so: cannot open")


@pytest.mark.parametrize("how", ["gone", "other"])
def test_what_is_damaged_of_a_seal_is_mended(how, prefix):
    libc = prefix / PRIVATE / "libc.so.6"
    good = libc.read_bytes()
    libc.unlink() if how == "gone" else libc.write_bytes(good[:-1])
    assert set(faults(prefix)) >= {f"{PRIVATE}/libc.so.6"}
    doing.seal(plan(prefix))
    assert faults(prefix) == {}
    assert libc.read_bytes() == good


def test_what_was_bundled_because_it_was_asked_for_stays(zig_cc, libraries):
    prefix = libraries / "prefix"
    (prefix / "bin").mkdir(parents=True)
    shutil.copy(zig_cc(OPENER), prefix / "bin/opener")
    options = Options(opened=(libraries / "outside/libdeep.so.1",), from_host=("libcuda.so.1",))
    doing.seal(plan(prefix, options))
    shutil.copy("/bin/cat", prefix / "bin/cat")
    doing.seal(plan(prefix))
    assert (prefix / PRIVATE / "libdeep.so.1").exists()
    assert (prefix / PRIVATE / "host-1/libcuda.so.1").is_symlink()
    assert record.read(prefix)["host"] == ["libcuda.so.1"]
    shutil.copy("/bin/cat", prefix / "bin/cat2")
    shutil.rmtree(libraries / "outside")
    with pytest.raises(
        InputError, match=r"lib/belljar/libdeep\.so\.1: was bundled from .*, which is not there"
    ):
        doing.seal(plan(prefix))
    with pytest.raises(InputError, match="is sealed so that no program looks for libx"):
        plan(prefix, Options(from_host=("libx.so.1",)))


def test_scripts_that_came_later_are_freed(prefix):
    shutil.copy("/bin/sh", prefix / "bin/dash")
    doing.seal(plan(prefix))
    (prefix / "bin/script").write_text(f"#!{prefix}/bin/dash\necho here\n")
    (prefix / "bin/script").chmod(0o755)
    assert plan(prefix).bundle is None
    doing.seal(plan(prefix, Options(scripts=True)))
    moved = prefix.rename(prefix.parent / "elsewhere")
    done = subprocess.run([moved / "bin/script"], capture_output=True, text=True, check=True)
    assert done.stdout == "here\n"
    doing.unseal(doing.unseal_plan(moved))
    assert (moved / "bin/script").read_text() == f"#!{prefix}/bin/dash\necho here\n"


def test_the_command_says_that_it_mended_and_when_there_is_nothing_to_do(prefix):
    form = record.read(prefix)["form"]
    words = [sys.executable, "-m", "belljar", "seal", prefix, "--launcher", form]

    def said_by_seal():
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    assert said_by_seal().startswith("nothing to do")
    (prefix / PRIVATE / "libc.so.6").write_bytes(b"damaged")
    assert said_by_seal().startswith("mended, ")
    assert faults(prefix) == {}
    assert said_by_seal().startswith("nothing to do")
