"""Libraries of a sealed prefix come from the root that is named, and from nowhere else."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from loader_oracle import own_loader

from belljar.seal import doing
from belljar.seal.plan import Options, plan
from belljar.seal.survey import PRIVATE

LIBRARY = "int answer(void) { return %d; }"
PROGRAM = "int answer(void); int main(void) { return answer(); }"


@pytest.fixture
def root(zig_cc, tmp_path):
    """A root with this machine's libc and a library that this machine has not got, by an absolute link."""
    top = tmp_path / "root"
    loader = Path(own_loader())
    libraries = top / "lib" / f"{os.uname().machine}-linux-gnu"
    libraries.mkdir(parents=True)
    (top / str(loader.parent).strip("/")).mkdir(parents=True, exist_ok=True)
    for name in (loader.name, "libc.so.6"):
        shutil.copy(loader.resolve().with_name(name), libraries / name)
    if loader.parent != Path("/lib") / libraries.name:
        (top / str(loader).strip("/")).symlink_to(f"/lib/{libraries.name}/{loader.name}")
    shutil.copy(zig_cc(LIBRARY % 7, "-shared", "-Wl,-soname,libanswer.so.1"), libraries / "libreal.so")
    (libraries / "libanswer.so.1").symlink_to(f"/lib/{libraries.name}/libreal.so")
    return top


@pytest.fixture
def prefix(root, zig_cc, tmp_path):
    tree = tmp_path / "prefix"
    (tree / "bin").mkdir(parents=True)
    library = shutil.copy(next(root.glob("lib/*/libreal.so")), tmp_path / "libanswer.so")
    shutil.copy(zig_cc(PROGRAM, Path(library)), tree / "bin/ask")
    return tree


def test_a_need_that_this_machine_cannot_meet_is_met_by_the_root(prefix, root):
    assert plan(prefix).changes.refusals, "this machine has no libanswer.so.1"
    sealing = plan(prefix, Options(root=root))
    assert not sealing.changes.refusals
    assert all(path.is_relative_to(root) for path in sealing.bundle.files.values())
    doing.seal(sealing)
    assert subprocess.run([prefix / "bin/ask"], check=False).returncode == 7
    assert (prefix / PRIVATE / "libc.so.6").exists()


def test_the_prefix_s_own_library_comes_before_the_root_s(prefix, root, zig_cc):
    (prefix / "lib").mkdir()
    shutil.copy(zig_cc(LIBRARY % 9, "-shared", "-Wl,-soname,libanswer.so.1"), prefix / "lib/libanswer.so.1")
    doing.seal(plan(prefix, Options(root=root)))
    assert not (prefix / PRIVATE / "libanswer.so.1").exists()
    assert subprocess.run([prefix / "bin/ask"], check=False).returncode == 9


def test_a_prefix_that_lies_in_the_root_is_sealed_there(prefix, root):
    inside = Path(shutil.move(prefix, root / "opt"))
    doing.seal(plan(inside, Options(root=root)))
    assert subprocess.run([inside / "bin/ask"], check=False).returncode == 7
