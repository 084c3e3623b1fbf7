"""Which locales a sealed prefix has: C.UTF-8 wherever there is one, others when they are asked for."""

import shutil
import subprocess
from pathlib import Path

import pytest
from loader_oracle import own_loader

from belljar.seal import doing
from belljar.seal.plan import Options, plan

SOURCE = r"""
#include <locale.h>
int main(int argc, char **argv) { return !setlocale(LC_ALL, argv[1]); }
"""
C = Path("usr/lib/locale/C.utf8")


@pytest.fixture
def prefix(zig_cc, tmp_path):
    (tmp_path / "prefix/bin").mkdir(parents=True)
    shutil.copy(zig_cc(SOURCE), tmp_path / "prefix/bin/has")
    return tmp_path / "prefix"


@pytest.fixture
def root(tmp_path):
    """A root with this machine's libc, and locales that no machine has."""
    top = tmp_path / "root"
    loader = Path(own_loader())
    libraries = top / loader.resolve().parent.relative_to("/")
    libraries.mkdir(parents=True)
    (top / str(loader.parent).strip("/")).mkdir(parents=True, exist_ok=True)
    for name in (loader.name, "libc.so.6"):
        shutil.copy(loader.resolve().with_name(name), libraries / name)
    shutil.copy(loader, top / str(loader).strip("/"))
    if not (top / "lib").exists():
        (top / "lib").symlink_to("usr/lib")
    for name in ("C.utf8", "xx_YY.utf8", "xx_YY.utf8@euro"):
        shutil.copytree("/" / C, top / C.with_name(name))
    return top


def has(prefix, name):
    return subprocess.run([prefix / "bin/has", name], check=False).returncode == 0


def test_c_utf8_is_always_there_by_all_its_names(prefix):
    sealing = plan(prefix)
    doing.seal(sealing)
    assert [source for name, source in sealing.bundle.trees.items() if "locale" in name] == ["/" / C]
    assert has(prefix, "C.UTF-8")
    assert has(prefix, "C.utf8")
    assert not has(prefix, "xx_YY.UTF-8")


@pytest.mark.parametrize("name", ["xx_YY.UTF-8", "xx_YY.utf8", "xx_YY.UTF-8@euro"])
def test_what_is_asked_for_is_there_by_all_its_names(prefix, root, name):
    doing.seal(plan(prefix, Options(locales=(name,), root=root)))
    assert has(prefix, name)
    assert has(prefix, name.replace("UTF-8", "utf8"))
    assert has(prefix, "C.UTF-8")


def test_one_that_is_nowhere_is_a_refusal(prefix):
    sealing = plan(prefix, Options(locales=("zz_ZZ.UTF-8",)))
    assert [item.reason.partition(":")[0] for item in sealing.changes.refusals] == ["locale zz_ZZ.UTF-8"]
