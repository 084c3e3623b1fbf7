"""Results as values, as JSON and as text."""

import json
import signal
from pathlib import Path

import pytest

from belljar.errors import InputError
from belljar.report.verify_text import render
from belljar.types import Arch
from belljar.verify import Captured, Matrix, Result, Root
from belljar.verify.root import describe

ROOT = Root(
    name="old", path=Path("/r"), origin="directory /r", arch=Arch.X86_64, glibc="2.17", loader="/lib64/ld.so"
)


def matrix(*results: Result) -> Matrix:
    return Matrix(tree=Path("/t"), command=("bin/x", "a b"), results=results)


@pytest.mark.parametrize(
    ("result", "verdict", "status", "killed_by"),
    [
        (Result(root=ROOT, status=0), "passed", 0, None),
        (Result(root=ROOT, status=3), "exit 3", 3, None),
        (Result(root=ROOT, status=-signal.SIGSEGV), "SIGSEGV", None, "SIGSEGV"),
        (Result(root=ROOT, status=-40), "signal 40", None, "signal 40"),
        (Result(root=ROOT, status=None, timed_out=True, problem="late"), "timed out", None, None),
        (Result(root=ROOT, status=None, problem="gone"), "not started", None, None),
    ],
)
def test_only_status_zero_is_a_pass_and_each_end_has_its_word(result, verdict, status, killed_by):
    assert result.verdict == verdict
    assert result.passed == (verdict == "passed")
    value = result.to_json()
    assert (value["status"], value["signal"], value["passed"]) == (status, killed_by, result.passed)


def test_a_matrix_passes_when_every_root_does():
    good, bad = Result(root=ROOT, status=0), Result(root=ROOT, status=1)
    assert matrix(good, good).passed
    assert not matrix(good, bad).passed
    assert not matrix(bad, good).to_json()["passed"]


def test_the_json_is_versioned_and_plain():
    value = matrix(Result(root=ROOT, status=0, stdout=Captured(text="hi\n", truncated=True))).to_json()
    assert json.loads(json.dumps(value)) == value
    assert value["version"] == 1
    assert value["command"] == ["bin/x", "a b"]
    assert value["results"][0]["stdout"] == {"text": "hi\n", "truncated": True}


def test_a_root_survives_its_json_and_its_tree_may_move(tmp_path):
    kept = Root(
        name="k", path=tmp_path / "tree", origin="x", arch=Arch.X86_64, glibc=None, loader="/lib/ld-musl"
    )
    assert Root.from_json(ROOT.to_json(tmp_path), tmp_path) == ROOT
    assert Root.from_json(kept.to_json(tmp_path), Path("/elsewhere")).path == Path("/elsewhere/tree")


@pytest.mark.parametrize("value", [None, [], {}, {"version": 2}, {"version": 1}, {"version": 1, "name": 3}])
def test_a_damaged_root_record_is_refused(value):
    with pytest.raises(InputError):
        Root.from_json(value, Path("/"))


def test_the_table_shows_what_a_failure_said_first_with_the_trees_path_left_out():
    failed = Result(
        root=ROOT,
        status=1,
        seconds=0.25,
        stderr=Captured(text="/t/bin/x: not found\nmore\n"),
        stdout=Captured(),
    )
    lines = render(matrix(failed))
    assert lines[1].split(None, 5) == [
        "old",
        "2.17",
        "exit",
        "1",
        "0.25",
        "s  bin/x: not found (and 1 more line)",
    ]
    assert lines[-1] == "bin/x 'a b': passed on 0 of 1 roots"


def test_the_table_is_safe_to_show_on_a_terminal():
    evil = Result(root=ROOT, status=0, stdout=Captured(text="\x1b[2J\x07\u202e\udc80" + "x" * 999))
    text = "".join(render(matrix(evil)))
    assert all(char.isprintable() for char in text)
    assert "\\x1b[2J" in text
    assert len(text) < 500


def test_a_directory_without_loader_is_no_root(tmp_path):
    with pytest.raises(InputError, match="holds no loader"):
        describe("x", tmp_path, "directory")


@pytest.mark.parametrize("content", [b"", b"GNU C Library release", b"\0" * 4096])
def test_a_libc_that_does_not_say_its_version_is_no_root(tmp_path, content):
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64/ld-linux-x86-64.so.2").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no /lib64/libc\.so\.6"):
        describe("x", tmp_path, "directory")
    (tmp_path / "lib64/libc.so.6").write_bytes(content)
    with pytest.raises(InputError, match="does not say"):
        describe("x", tmp_path, "directory")


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        (b"GNU C Library (Debian GLIBC 2.31-13+deb11u11) stable release version 2.31.\n", "2.31"),
        (
            b"GNU C Library (crosstool-NG 1.26) stable release version 2.17, by Roland McGrath et al.\n",
            "2.17",
        ),
        (b"GNU C Library (GNU libc) development release version 2.42.9000.\n", "2.42"),
    ],
)
def test_the_glibc_is_what_its_banner_says(tmp_path, banner, version):
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64/ld-linux-x86-64.so.2").write_bytes(b"x")
    (tmp_path / "lib64/libc.so.6").write_bytes(b"\x7fELF" + b"\0" * 5000 + banner + b"\0")
    assert describe("x", tmp_path, "directory").glibc == version
