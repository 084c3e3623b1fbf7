"""The Python interface: what the commands do, as typed calls on real trees."""

import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from belljar import api, placeholder
from belljar.fsys import walk
from belljar.relocate.journal import DIRECTORY

OLD = "/opt/vendor/old-1.0"


def contents(tree):
    return {
        entry.path: (os.readlink(tree / entry.path) if entry.is_link else (tree / entry.path).read_bytes())
        for entry in walk(tree, enter=lambda entry: entry.path != DIRECTORY)
        if not entry.is_dir
    }


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree"
    (path / "lib/pkgconfig").mkdir(parents=True)
    (path / "lib/pkgconfig/x.pc").write_text(f"prefix={OLD}\nlibdir={OLD}/lib\n")
    (path / "lib/link").symlink_to(f"{OLD}/lib/pkgconfig")
    return path


def test_a_virtual_environment_runs_where_it_was_copied_to(tmp_path):
    made, moved = tmp_path / "made", tmp_path / "a rather longer name"
    venv.create(made, symlinks=True)
    (made / "bin/hello").write_text(f"#!{made}/bin/python\nimport sys; print(sys.prefix)\n")
    (made / "bin/hello").chmod(0o755)
    events = []
    done = api.relocate(made, api.Relocation(old=str(made)), output=moved, progress=events.append)
    assert done.changed > 2
    assert {event.stage for event in events} == {"plan", "copy"} or {event.stage for event in events} == {
        "copy"
    }
    made.rename(tmp_path / "gone")
    run = subprocess.run([moved / "bin/hello"], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == str(moved)
    assert api.check(moved) == ()


def test_a_tree_is_planned_moved_checked_listed_and_taken_back(tree):
    before = contents(tree)
    plan = api.plan_relocation(tree)
    assert OLD in plan.found[0]
    assert [change.path for change in plan.changes] == ["lib/link", "lib/pkgconfig/x.pc"]
    assert plan.describe() == [
        f"lib/link: link: {OLD}/lib/pkgconfig -> {tree}/lib/pkgconfig: the target moves",
        "lib/pkgconfig/x.pc: text: put the new prefix (2 times)",
    ]
    assert contents(tree) == before
    assert api.relocate(tree).changed == 2
    assert (tree / "lib/pkgconfig/x.pc").read_text() == f"prefix={tree}\nlibdir={tree}/lib\n"
    assert api.check(tree) == ()
    assert [one.moves for one in api.relocations(tree)] == [((OLD.encode(), os.fsencode(tree)),)]
    (tree / "lib/late").write_text(OLD)
    assert [(found.path, found.offset) for found in api.check(tree)] == [("lib/late", 0)]
    (tree / "lib/late").unlink()
    assert api.resume(tree).changed == 0
    assert api.undo(tree).changed == 2
    assert contents(tree) == before
    with pytest.raises(api.InputError, match="nothing to undo"):
        api.undo(tree)
    with pytest.raises(api.InputError, match="records no relocation"):
        api.check(tree)


def test_what_cannot_be_moved_is_refused_and_nothing_changes(tree):
    (tree / "lib/x.bin").write_bytes(b"\0\1" + OLD.encode() + b"/x\0")
    before = contents(tree)
    wanted = api.Relocation(old=OLD, new=Path("/a/much/longer/place/than/before"))
    assert [one.path for one in api.plan_relocation(tree, wanted).refusals] == ["lib/x.bin"]
    with pytest.raises(api.InputError, match=r"lib/x\.bin"):
        api.relocate(tree, wanted)
    assert contents(tree) == before


def test_a_link_that_paths_go_through_is_made_and_goes_when_the_work_fails(tree, tmp_path):
    (tree / "lib/x.bin").write_bytes(b"\0\1" + OLD.encode() + b"/x\0")
    short = Path("/tmp") / f"bj{os.getpid()}"  # of few letters
    wanted = api.Relocation(old=OLD, new=tmp_path / "somewhere else", alias=short)
    plan = api.plan_relocation(tree, wanted)
    (tree / "lib/x.bin").write_bytes(b"other")
    with pytest.raises(api.InputError):
        api.relocate(tree, api.Relocation(old=OLD, new=tmp_path / "x", alias=tree / "lib/x.bin"))
    assert plan.refusals == ()
    assert not short.is_symlink()
    try:
        api.relocate(tree, wanted)
        assert short.readlink() == tmp_path / "somewhere else"
    finally:
        short.unlink(missing_ok=True)


def test_a_tree_is_scanned_for_references(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/run").write_text(f"#!{placeholder.PLACEHOLDER}/bin/sh\n")
    found = api.scan(tmp_path)
    assert found.is_relocatable
    assert [one.offset for one in found.table.files["bin/run"]] == [2]
    (tmp_path / f"bin/{placeholder.PLACEHOLDER[1:20]}").touch()
    assert not api.scan(tmp_path).is_relocatable


def test_a_toolchain_is_staged_and_compiles(tmp_path):
    zig = tmp_path / "zig"
    zig.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ziglang "$@"\n')
    zig.chmod(0o755)
    cache = shlex.quote(str(tmp_path / "cache"))
    toolchain = api.stage.of_zig(zig, "2.17", api.Arch.X86_64, version="zig of the tests", cache=cache)
    stage = api.stage.plan("/opt/made", toolchain, tmp_path / "stages", machine=api.Arch.X86_64)
    api.stage.write(stage)
    source = tmp_path / "x.c"
    source.write_text("int f(void) { return 7; }\n")
    subprocess.run(
        ["/bin/sh", "-c", f"{stage.variables['CC']} -c x.c -o x.o"],
        cwd=tmp_path,
        check=True,
        env=os.environ | {"PATH": f"{stage.bin}:{os.environ['PATH']}"},
    )
    assert (tmp_path / "x.o").read_bytes().startswith(b"\x7fELF")
