"""Sources beside the recipe: what counts in their hash, and what is copied."""

import os

import pytest

from belljar.errors import InputError
from belljar.placeholder import TAIL
from belljar.recipe.sources.path import copy, tree_digest


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "src"
    (root / "sub").mkdir(parents=True)
    (root / "sub/file").write_text("content")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("sub/file")
    return root


def add(root):
    (root / "new").touch()


def change(root):
    (root / "sub/file").write_text("Content")


def rename(root):
    (root / "sub/file").rename(root / "sub/other")


def turn(root):
    (root / "link").unlink()
    (root / "link").symlink_to("sub")


def empty_directory(root):
    (root / "empty").mkdir()


def file_for_link(root):
    (root / "link").unlink()
    (root / "link").write_text("sub/file")


@pytest.mark.parametrize(
    "edit",
    [
        add,
        change,
        rename,
        turn,
        empty_directory,
        file_for_link,
        lambda root: (root / "sub/file").chmod(0o755),
    ],
)
def test_every_change_that_a_build_could_see_changes_the_hash(tree, edit):
    before = tree_digest(tree)
    edit(tree)
    assert tree_digest(tree) != before


@pytest.mark.parametrize(
    "edit",
    [
        lambda root: os.utime(root / "run", (1, 1)),
        lambda root: (root / "sub/file").chmod(0o600),
        lambda root: (root / "belljar.lock").touch(),
        lambda root: (root / ".git").mkdir() or (root / ".git/x").touch(),
        lambda root: (root / "sub/.git").write_text("gitdir: elsewhere"),
        lambda root: (root / "result").symlink_to(f"/home/me/store{TAIL}/abc-hello-1"),
    ],
)
def test_what_does_not_count_leaves_the_hash_alone(tree, edit):
    before = tree_digest(tree)
    edit(tree)
    assert tree_digest(tree) == before


def test_the_hash_does_not_depend_on_the_place(tree, tmp_path):
    before = tree_digest(tree)
    tree.rename(tmp_path / "elsewhere")
    assert tree_digest(tmp_path / "elsewhere") == before


def test_a_copy_has_the_same_hash_and_normal_times(tree, tmp_path):
    (tree / "belljar.lock").touch()
    into = tmp_path / "into"
    into.mkdir()
    copy(tree, into, mtime=315_619_200)
    assert tree_digest(into) == tree_digest(tree)
    assert sorted(os.listdir(into)) == ["link", "run", "sub"]
    assert {os.lstat(into / name).st_mtime for name in (".", "link", "run", "sub", "sub/file")} == {
        315_619_200.0
    }


def test_a_file_is_a_source_too(tree, tmp_path):
    before = tree_digest(tree / "run")
    into = tmp_path / "into"
    into.mkdir()
    copy(tree / "run", into, mtime=1)
    assert tree_digest(into / "run") == before
    (tree / "run").chmod(0o644)
    assert tree_digest(tree / "run") != before


def test_what_cannot_be_a_source_is_refused(tree):
    with pytest.raises(InputError, match="No such file"):
        tree_digest(tree / "none")
    os.mkfifo(tree / "fifo")
    with pytest.raises(InputError, match="fifo: neither"):
        tree_digest(tree)
