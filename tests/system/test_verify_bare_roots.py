"""Roots without a glibc: musl's, and one with nothing at all."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from belljar.errors import UsageError
from belljar.home import Home
from belljar.verify import roots, verify

SOURCE = '#include <stdio.h>\nint main(void) { puts("hi"); }\n'
OWN_GLIBC, STATIC, MUSL = "x86_64-linux-gnu.2.17", "-static", "x86_64-linux-musl"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    downloads = Path(tempfile.gettempdir()) / f"belljar-tests-cache-{os.getuid()}"
    return Home(data=tmp_path_factory.mktemp("bare"), cache=downloads)


@pytest.fixture
def tree(tmp_path, zig_cc):
    shutil.copy(zig_cc(SOURCE, "-s"), tmp_path / "dynamic")
    shutil.copy(zig_cc(SOURCE, "-s", STATIC, target=MUSL), tmp_path / "static")
    shutil.copy(zig_cc(SOURCE, "-s", "-dynamic", target=MUSL), tmp_path / "musl")
    return tmp_path


def test_the_empty_root_holds_nothing_but_the_tree(tree, home):
    root = roots.obtain("empty", home)
    assert (root.libc, root.glibc, root.loader, list(root.path.iterdir())) == ("no libc", None, None, [])
    assert roots.find("empty", home) == root
    assert verify(tree, ["static"], [root]).passed
    for name in ("dynamic", "musl"):
        (result,) = verify(tree, [name], [root]).results
        assert "its interpreter /lib" in result.problem
    (result,) = verify(tree, ["sh"], [root]).results
    assert "neither in the tree nor on PATH" in result.problem


def test_the_root_of_musl_runs_what_is_made_for_musl_and_no_glibc(tree, home):
    root = roots.obtain("musl", home)
    assert (root.libc, root.glibc) == ("musl", None)
    assert not list(root.path.glob("**/libc.so.6"))
    matrix = verify(tree, ["musl"], [root])
    assert (matrix.passed, matrix.to_json()["results"][0]["libc"]) == (True, "musl")
    assert verify(tree, ["sh", "-c", "echo `ls` | grep -q static && exec ./static"], [root]).passed
    assert "its interpreter /lib64/ld-linux" in verify(tree, ["dynamic"], [root]).results[0].problem


@pytest.mark.parametrize("name", ["musl", "empty"])
def test_their_names_are_taken(name, home, tmp_path):
    with pytest.raises(UsageError, match="cannot name"):
        roots.add(f"{name}={tmp_path}", home)
