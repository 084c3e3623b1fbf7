"""What a path means in a root that has a tree in it, and what the sandbox is told."""

import os
from pathlib import Path

import pytest

from belljar.errors import InputError
from belljar.verify.tree import examine
from belljar.verify.view import View, resolve


def make(root: Path, *paths: str, **links: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


def test_links_are_followed_within_the_root_only(tmp_path):
    root = make(tmp_path / "r", "usr/lib/x", lib="/usr/lib", up="../../../usr", loop="loop", out="/etc")
    view = View(root=root)
    assert view.lookup("/lib/x") == root / "usr/lib/x"
    assert view.lookup("/up/lib/x") == root / "usr/lib/x"
    assert view.lookup("/usr/../../usr/lib/./x") == root / "usr/lib/x"
    assert view.lookup("/loop/x") is None
    assert view.lookup("/out/passwd") is None, "the host's /etc must not be reached"


def test_a_loop_of_links_is_an_error_and_not_a_hang():
    with pytest.raises(OSError, match="Too many levels"):
        resolve("/a/b", lambda path: "/a" if path == "/a" else None)


def test_what_the_sandbox_makes_itself_is_not_looked_for_in_the_root(tmp_path):
    root = make(tmp_path / "r", "tmp/x", "dev/x", "usr/x")
    assert View(root=root).lookup("/usr/x") is not None
    assert View(root=root).lookup("/tmp/x") is None
    assert View(root=root).lookup("/dev/x") is None


def test_a_root_without_a_tree_is_shown_entry_by_entry(tmp_path):
    root = make(tmp_path / "r", "usr/lib/x", "etc/x", "tmp/x", lib="usr/lib")
    operations = View(root=root).operations()
    lines = [operation.describe() for operation in operations]
    assert f"bind {root}/usr -> /usr" in lines
    assert "symlink /lib -> usr/lib" in lines
    assert "tmpfs /tmp mode=1777" in lines
    assert not any(f"{root}/tmp" in line for line in lines)


def test_directories_on_the_way_to_a_tree_are_assembled_and_the_rest_is_bound(tmp_path):
    root = make(tmp_path / "r", "usr/bin/sh", "usr/local/bin/x", "usr/local/tree/old", "etc/x")
    lines = [
        operation.describe()
        for operation in View(root=root, binds={"/usr/local/tree": tmp_path / "t"}).operations()
    ]
    assert "directory /usr" in lines
    assert "directory /usr/local" in lines
    assert f"bind {root}/usr/bin -> /usr/bin" in lines
    assert f"bind {root}/usr/local/bin -> /usr/local/bin" in lines
    assert f"bind {root}/etc -> /etc" in lines
    assert f"bind {tmp_path}/t -> /usr/local/tree" in lines
    assert not any("old" in line or f"{root}/usr/local/tree" in line for line in lines)


def test_a_tree_is_put_where_the_roots_own_links_lead(tmp_path):
    root = make(tmp_path / "r", "usr/home/x", home="usr/home")
    view = View(root=root)
    assert view.spot(Path("/home/me/tree")) == "/usr/home/me/tree"
    assert view.spot(Path("/nowhere/tree")) == "/nowhere/tree"
    shown = View(root=root, binds={"/usr/home/me/tree": tmp_path})
    assert shown.lookup("/home/me/tree") == tmp_path


def test_a_file_of_the_root_on_the_way_to_the_tree_is_refused(tmp_path):
    root = make(tmp_path / "r", "opt")
    with pytest.raises(InputError, match="/opt: a file of the root"):
        View(root=root, binds={"/opt/x/tree": tmp_path}).operations()


def test_every_name_of_a_tree_leads_to_it(tmp_path):
    (tmp_path / "real/tree").mkdir(parents=True)
    (tmp_path / "alias").symlink_to("real")
    (tmp_path / "result").symlink_to(tmp_path / "alias/tree")
    (tmp_path / "r").mkdir()
    tree = examine(tmp_path / "result")
    assert tree.path == tmp_path / "real/tree"
    assert tree.names == (tmp_path / "result", tmp_path / "alias/tree")
    view = tree.within(View(root=tmp_path / "r"))
    for name in (tree.path, *tree.names):
        assert view.lookup(os.fspath(name)) == tree.path


def test_a_name_inside_the_tree_needs_no_link(tmp_path):
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/inner/self").symlink_to("..")
    (tmp_path / "r").mkdir()
    view = examine(tmp_path / "tree/inner/self").within(View(root=tmp_path / "r"))
    assert list(view.binds.values()) == [tmp_path / "tree"]
    assert view.links == {}


@pytest.mark.parametrize("path", ["missing", "file", "/"])
def test_what_is_no_tree_is_refused(tmp_path, path):
    make(tmp_path, "file")
    with pytest.raises(InputError):
        examine(tmp_path / path)
