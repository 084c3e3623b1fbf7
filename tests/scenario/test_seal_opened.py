"""Libraries that no program needs by name: those that a note tells of, and those that it was seen to open."""

import os
import shutil
import subprocess
import sys

import pytest

from belljar.errors import InputError, UsageError
from belljar.seal import doing
from belljar.seal.plan import Options, plan
from belljar.seal.record import PRIVATE
from belljar.seal.traced import trace

OPENER = r"""
#include <dlfcn.h>
#include <stdio.h>
NOTE
int main(int argc, char **argv) {
    void *it = dlopen(argc > 1 ? argv[1] : "libleaf.so.1", RTLD_NOW);
    if (!it) return puts(dlerror()), 1;
    printf("%d\n", ((int (*)(void))dlsym(it, "leaf"))());
    return 0;
}
"""
LEAF = "int deep(void); int leaf(void) { return deep() + 2; }"


def note(priority, *names):
    """The source of a note that tells of libraries."""
    listed = ",".join(f'"{name}"' for name in names)
    text = f'[{{"feature":"leaves","priority":"{priority}","soname":[{listed}]}}]'
    quoted = text.replace('"', r"\\\"")
    return (
        r'__asm__(".pushsection .note.dlopen, \"a\", %note\n.balign 4\n.long 4, 2f - 1f, 0x407c0c0a\n"'
        rf'".asciz \"FDO\"\n1: .asciz \"{quoted}\"\n2: .balign 4\n.popsection");'
    )


@pytest.fixture
def make(zig_cc, tmp_path, monkeypatch):
    """Make a prefix with a program that opens libleaf.so.1, which needs libdeep.so.1, both elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    deep = zig_cc("int deep(void) { return 40; }", "-shared", "-Wl,-soname,libdeep.so.1")
    shutil.copy(deep, outside / "libdeep.so.1")
    shutil.copy(deep, tmp_path / "libdeep.so")
    leaf = zig_cc(LEAF, "-shared", "-Wl,-soname,libleaf.so.1", tmp_path / "libdeep.so")
    shutil.copy(leaf, outside / "libleaf.so.1")

    def made(text=""):
        prefix = tmp_path / "prefix"
        (prefix / "bin").mkdir(parents=True)
        shutil.copy(zig_cc(OPENER.replace("NOTE", text)), prefix / "bin/opener")
        return prefix

    made.outside = outside
    return made


def output(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options).stdout


@pytest.mark.parametrize("priority", ["required", "recommended"])
def test_what_a_note_asks_for_is_bundled_with_its_needs(priority, make):
    prefix = make(note(priority, "libabsent.so.9", "libleaf.so.1"))
    doing.seal(plan(prefix, Options(search=(make.outside,))))
    assert {"libleaf.so.1", "libdeep.so.1"} <= {path.name for path in (prefix / PRIVATE).iterdir()}
    shutil.rmtree(make.outside)
    assert output(prefix / "bin/opener") == "42\n"


def test_what_a_note_suggests_is_bundled_where_that_is_asked_for(make):
    prefix = make(note("suggested", "libleaf.so.1"))
    assert "libleaf.so.1" not in plan(prefix, Options(search=(make.outside,))).bundle.files
    assert "libleaf.so.1" in plan(prefix, Options(search=(make.outside,), suggested=True)).bundle.files


def test_a_required_one_that_is_missing_is_a_refusal_and_a_recommended_one_is_told(make):
    required = plan(make(note("required", "libleaf.so.1")))
    assert "libleaf.so.1 is not found, which" in required.changes.refusals[0].reason
    shutil.rmtree(required.prefix)
    recommended = plan(make(note("recommended", "libleaf.so.1")))
    assert recommended.changes.refusals == ()
    assert any("libleaf.so.1 is not found" in item for item in recommended.notes)
    named = Options(from_host=("libleaf.so.1",))
    shutil.rmtree(required.prefix)
    assert plan(make(note("required", "libleaf.so.1")), named).changes.refusals == ()


def test_what_a_command_was_seen_to_open_is_bundled(make, monkeypatch):
    prefix = make()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(make.outside))
    traced = trace(f"sh -c '{prefix}/bin/opener'", prefix)
    assert {"libleaf.so.1", "libdeep.so.1", "libc.so.6"} <= {path.name for path in traced.libraries}
    doing.seal(plan(prefix, Options(search=(make.outside,), opened=traced.libraries)))
    monkeypatch.delenv("LD_LIBRARY_PATH")
    shutil.rmtree(make.outside)
    assert output(prefix / "bin/opener") == "42\n"


def test_what_was_opened_by_its_path_is_told_apart(make, monkeypatch):
    prefix = make()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(make.outside))
    path = make.outside / "libleaf.so.1"
    traced = trace(f"opener {path}", prefix)
    assert traced.by_path == (path,)


def test_a_command_that_fails_or_is_none_is_refused(make):
    prefix = make()
    for command, words in (("opener", "ended with status 1"), ("'", "not a command"), ("", "empty")):
        with pytest.raises(InputError, match=words):
            trace(command, prefix)


def test_the_command_line_traces_and_refuses_patterns(make):
    prefix = make()

    def belljar(*words):
        environment = os.environ | {"LD_LIBRARY_PATH": str(make.outside)}
        command = [sys.executable, "-m", "belljar", "seal", prefix, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    pattern = belljar("--from-host", "libnvidia-*")
    assert (pattern.returncode, "patterns are not known" in pattern.stderr) == (3, True)
    elsewhere = belljar("--trace", "opener", "--root", make.outside)
    assert elsewhere.returncode == UsageError.exit_code
    done = belljar("--trace", "opener")
    assert done.returncode == 0, done.stderr
    assert (prefix / PRIVATE / "libdeep.so.1").exists()
