"""Rewriting a tree in place and copying it rewritten: the same bytes, all checked before any is written."""

import hashlib
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from belljar.errors import BelljarError, HostError, InputError, IntegrityError
from belljar.fsys import walk
from belljar.placeholder import LENGTH, PLACEHOLDER, location
from belljar.references import Reference, Table
from belljar.relocate import copy_tree, rewrite_tree, scan

ORIGIN = PLACEHOLDER.encode()
A = location(Path("/srv/a"))
B = location(Path("/home/somebody/with/a/rather/deep/directory/of/their/own"))
WHEN = 1_600_000_000_123_456_789


def put(path, content, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(WHEN, WHEN))
    return path


@pytest.fixture
def tree(tmp_path):
    """A tree with one of everything: text, binary, links of both kinds, holes, read-only parts."""
    tree = tmp_path / "tree"
    put(tree / "bin/script", b"#!" + ORIGIN + b"/bin/sh\nexec " + ORIGIN + b"/bin/x\n", 0o555)
    put(tree / "bin/tool", random.Random(1).randbytes(70_000) + ORIGIN * 3, 0o4755)
    put(tree / "share/plain", b"nothing here", 0o444)
    put(tree / "share/empty", b"")
    put(tree / "share/private", b"x" + ORIGIN, 0o400)
    os.link(tree / "bin/script", tree / "share/twin")
    with (tree / "share/sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(ORIGIN)
        file.truncate(9 << 20)
    os.symlink(f"{PLACEHOLDER}/bin/tool", tree / "share/absolute")
    os.symlink("../bin/tool", tree / "share/relative")
    os.utime(tree / "share/absolute", ns=(WHEN, WHEN), follow_symlinks=False)
    for directory, mode in (("share", 0o555), ("bin", 0o750)):
        os.utime(tree / directory, ns=(WHEN, WHEN))
        (tree / directory).chmod(mode)
    yield tree
    (tree / "share").chmod(0o755)


def snapshot(tree, *, links=False):
    """All that must be the same in two equal trees, with (links) which files are one."""
    facts, first = {}, {}
    for entry in walk(tree):
        path, info = tree / entry.path, entry.info
        if entry.is_link:
            content = os.readlink(path)
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest() if entry.is_file else None
        twin = first.setdefault(info.st_ino, entry.path) if links else None
        mode = 0 if entry.is_link else stat.S_IMODE(info.st_mode)
        facts[entry.path] = (content, mode, info.st_mtime_ns, twin)
    return facts


def test_there_and_back_restores_everything(tree):
    before, table = snapshot(tree, links=True), scan(tree).table
    assert len(table) == 2 + 2 + 3 + 1 + 1 + 1
    rewrite_tree(tree, table, old=ORIGIN, new=A)
    after = snapshot(tree, links=True)
    assert after != before
    assert {path for path in before if before[path] != after[path]} == {*table.files, *table.links}
    assert len(scan(tree).table) == 0
    rewrite_tree(tree, table, old=A, new=ORIGIN)
    assert snapshot(tree, links=True) == before


def test_only_content_and_targets_change(tree):
    before, table = snapshot(tree, links=True), scan(tree).table
    rewrite_tree(tree, table, old=ORIGIN, new=A)
    after = snapshot(tree, links=True)
    assert {path: facts[1:] for path, facts in before.items()} == {p: facts[1:] for p, facts in after.items()}


def test_moving_twice_is_moving_once(tree, tmp_path):
    table = scan(tree).table
    copy_tree(tree, tmp_path / "direct", table=table, old=ORIGIN, new=B)
    copy_tree(tree, tmp_path / "a", table=table, old=ORIGIN, new=A)
    copy_tree(tmp_path / "a", tmp_path / "twice", table=table, old=A, new=B)
    assert snapshot(tmp_path / "twice", links=True) == snapshot(tmp_path / "direct", links=True)


def test_a_rewritten_copy_is_what_rewriting_in_place_gives_and_leaves_its_source_alone(tree, tmp_path):
    before, table = snapshot(tree, links=True), scan(tree).table
    copy_tree(tree, tmp_path / "copy", table=table, old=ORIGIN, new=B)
    assert snapshot(tree, links=True) == before
    rewrite_tree(tree, table, old=ORIGIN, new=B)
    assert snapshot(tmp_path / "copy", links=True) == snapshot(tree, links=True)


def test_a_copy_has_the_bytes_that_replacing_the_text_gives(tree, tmp_path):
    copy_tree(tree, tmp_path / "copy", table=scan(tree).table, old=ORIGIN, new=A)
    for entry in walk(tree):
        if entry.is_file:
            expected = (tree / entry.path).read_bytes().replace(ORIGIN, A)
            assert (tmp_path / "copy" / entry.path).read_bytes() == expected
    assert os.readlink(tmp_path / "copy/share/absolute") == os.fsdecode(A) + "/bin/tool"


def test_hard_links_stay_links_to_one_file_rewritten_once(tree, tmp_path):
    table = scan(tree).table
    copy_tree(tree, tmp_path / "copy", table=table, old=ORIGIN, new=A)
    rewrite_tree(tree, table, old=ORIGIN, new=A)
    for root in (tree, tmp_path / "copy"):
        assert (root / "bin/script").samefile(root / "share/twin")
        assert (root / "bin/script").stat().st_nlink == 2


def test_holes_stay_holes(tree, tmp_path):
    copy_tree(tree, tmp_path / "copy", table=scan(tree).table, old=ORIGIN, new=A)
    before, after = (tree / "share/sparse").stat(), (tmp_path / "copy/share/sparse").stat()
    assert after.st_size == before.st_size
    assert after.st_blocks <= before.st_blocks


@pytest.mark.parametrize("number", [1, 2, 3, 5, 95])
def test_a_wrong_byte_changes_nothing_anywhere(tree, number):
    table = scan(tree).table
    last = "share/sparse"
    path = tree / last
    content = bytearray(path.read_bytes())
    content[table.files[last][-1].offset + number] ^= 1
    path.chmod(0o644)
    put(path, content)
    before = snapshot(tree)
    with pytest.raises(IntegrityError, match=rf"{last}: offset {table.files[last][-1].offset}:"):
        rewrite_tree(tree, table, old=ORIGIN, new=A)
    assert snapshot(tree) == before


def test_a_wrong_link_changes_nothing_anywhere(tree):
    table = scan(tree).table
    (tree / "share").chmod(0o755)
    (tree / "share/absolute").unlink()
    os.symlink("elsewhere", tree / "share/absolute")
    before = snapshot(tree)
    with pytest.raises(IntegrityError, match="absolute: offset 0:"):
        rewrite_tree(tree, table, old=ORIGIN, new=A)
    assert snapshot(tree) == before


def test_a_wrong_byte_ends_a_copy_and_leaves_the_source_alone(tree, tmp_path):
    table = scan(tree).table
    before = snapshot(tree)
    with pytest.raises(IntegrityError, match="script: offset 2:"):
        copy_tree(tree, tmp_path / "copy", table=table, old=A, new=B)
    assert snapshot(tree) == before


@pytest.mark.parametrize("offset", [12, 13, 107, 108, 10**6, 2**63 - 1, 2**63, 2**80])
def test_a_reference_beyond_the_end_is_an_integrity_error(tmp_path, offset):
    put(tmp_path / "tree/file", b"." * 12 + ORIGIN[:-1])
    table = Table(files={"file": (Reference(offset=offset),)}, links={})
    before = snapshot(tmp_path / "tree")
    with pytest.raises(IntegrityError, match=f"file: offset {offset}:"):
        rewrite_tree(tmp_path / "tree", table, old=ORIGIN, new=A)
    with pytest.raises(IntegrityError, match=f"file: offset {offset}:"):
        copy_tree(tmp_path / "tree", tmp_path / "copy", table=table, old=ORIGIN, new=A)
    assert snapshot(tmp_path / "tree") == before


def test_a_table_that_names_what_is_not_there_or_is_of_another_kind_is_refused(tree, tmp_path):
    whole = (Reference(offset=0),)
    hostile = [
        Table(files={name: whole}, links={}) for name in ("missing", "bin", "share/absolute", "bin/tool/x")
    ] + [Table(files={}, links={name: whole}) for name in ("missing", "bin", "bin/tool")]
    before = snapshot(tree)
    for number, table in enumerate(hostile):
        with pytest.raises(IntegrityError):
            rewrite_tree(tree, table, old=ORIGIN, new=A)
        with pytest.raises(IntegrityError):
            copy_tree(tree, tmp_path / f"copy{number}", table=table, old=ORIGIN, new=A)
    assert snapshot(tree) == before


def test_a_table_cannot_reach_out_of_the_tree_through_a_link(tmp_path):
    victim = put(tmp_path / "outside/victim", ORIGIN)
    (tmp_path / "tree").mkdir()
    os.symlink(tmp_path / "outside", tmp_path / "tree/door")
    table = Table(files={"door/victim": (Reference(offset=0),)}, links={})
    with pytest.raises(IntegrityError, match="named in the relocation table"):
        rewrite_tree(tmp_path / "tree", table, old=ORIGIN, new=A)
    with pytest.raises(IntegrityError, match="named in the relocation table"):
        copy_tree(tmp_path / "tree", tmp_path / "copy", table=table, old=ORIGIN, new=A)
    assert victim.read_bytes() == ORIGIN


def test_two_names_of_one_file_with_different_references_are_refused(tmp_path):
    os.link(put(tmp_path / "tree/a", ORIGIN * 2), tmp_path / "tree/b")
    table = Table(files={"a": (Reference(offset=0),), "b": (Reference(offset=LENGTH),)}, links={})
    with pytest.raises(IntegrityError, match="hard link"):
        rewrite_tree(tmp_path / "tree", table, old=ORIGIN, new=A)
    with pytest.raises(IntegrityError, match="hard link"):
        copy_tree(tmp_path / "tree", tmp_path / "copy", table=table, old=ORIGIN, new=A)
    assert (tmp_path / "tree/a").read_bytes() == ORIGIN * 2


def test_pieces_are_rewritten_by_their_own_bytes(tmp_path):
    put(tmp_path / "tree/file", ORIGIN[8:16] + b"--" + ORIGIN[:40])
    table = Table(
        files={"file": (Reference(offset=0, start=8, length=8), Reference(offset=10, length=40))}, links={}
    )
    rewrite_tree(tmp_path / "tree", table, old=ORIGIN, new=B)
    assert (tmp_path / "tree/file").read_bytes() == B[8:16] + b"--" + B[:40]


def test_a_fifo_cannot_be_copied(tmp_path):
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree/fifo")
    with pytest.raises(InputError, match="fifo: neither"):
        copy_tree(tmp_path / "tree", tmp_path / "copy", table=Table(files={}, links={}), old=ORIGIN, new=A)


def test_a_target_that_exists_is_refused(tree, tmp_path):
    put(tmp_path / "copy/mine", b"mine")
    with pytest.raises(HostError, match="copy: File exists"):
        copy_tree(tree, tmp_path / "copy", table=scan(tree).table, old=ORIGIN, new=A)
    assert [entry.path for entry in walk(tmp_path / "copy")] == ["mine"]


def test_an_empty_tree_is_copied(tmp_path):
    (tmp_path / "tree").mkdir(mode=0o755)
    copy_tree(tmp_path / "tree", tmp_path / "copy", table=Table(files={}, links={}), old=ORIGIN, new=A)
    assert list(walk(tmp_path / "copy")) == []


def test_without_copy_file_range_the_bytes_are_the_same(tree, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    table = scan(tree).table
    copy_tree(tree, tmp_path / "one", table=table, old=ORIGIN, new=A)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    copy_tree(tree, tmp_path / "two", table=table, old=ORIGIN, new=A)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


@pytest.mark.parametrize(("call", "size"), [("pread", 100_000), ("copy_file_range", 200_000)])
def test_a_file_that_shrinks_while_it_is_copied_is_an_integrity_error(tmp_path, monkeypatch, call, size):
    path = put(tmp_path / "tree/file", b"x" * size)
    real = getattr(os, call)

    def shrink_first(*arguments):
        os.truncate(path, 10)
        return real(*arguments)

    monkeypatch.setattr(os, call, shrink_first)
    with pytest.raises(IntegrityError, match="file: became shorter"):
        copy_tree(tmp_path / "tree", tmp_path / "copy", table=Table(files={}, links={}), old=ORIGIN, new=A)


def test_a_copy_reports_all_its_bytes(tree, tmp_path):
    events = []
    copy_tree(tree, tmp_path / "copy", table=scan(tree).table, old=ORIGIN, new=A, progress=events.append)
    assert events[-1].stage == "copy"
    assert events[-1].done == events[-1].total > 9 << 20


ORDINARY = """
import os, sys
from pathlib import Path
from belljar.placeholder import PLACEHOLDER, location
from belljar.relocate import copy_tree, rewrite_tree, scan
import belljar.fsys, tempfile, shutil
os.chdir("/")
os.getuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))
home = Path(tempfile.mkdtemp())
tree, old, new = home / "tree", PLACEHOLDER.encode(), location(Path("/srv/a"))
(tree / "lib").mkdir(parents=True)
(tree / "lib/file").write_bytes(b"-" + old)
(tree / "lib/link").symlink_to(PLACEHOLDER)
belljar.fsys.make_read_only(tree)
table = scan(tree).table
copy_tree(tree, home / "copy", table=table, old=old, new=new)
rewrite_tree(tree, table, old=old, new=new)
for root in (tree, home / "copy"):
    modes = [oct((root / name).stat().st_mode & 0o7777) for name in ("", "lib", "lib/file")]
    content, target = (root / "lib/file").read_bytes(), os.readlink(root / "lib/link")
    print(modes, content == b"-" + new, target == new.decode())
belljar.fsys.remove_tree(home)
"""


def test_an_ordinary_user_rewrites_and_copies_a_read_only_tree():
    out = subprocess.run([sys.executable, "-c", ORDINARY], capture_output=True, text=True, check=False)
    assert out.stderr == ""
    assert out.stdout.splitlines() == ["['0o555', '0o555', '0o444'] True True"] * 2


def test_every_failure_is_one_that_belljar_explains(tree, tmp_path):
    table = scan(tree).table
    for target in (tmp_path / "no/such/parent", Path("/proc/nowhere")):
        with pytest.raises(BelljarError, match=target.name):
            copy_tree(tree, target, table=table, old=ORIGIN, new=A)
    with pytest.raises(BelljarError):
        rewrite_tree(tmp_path / "nowhere", table, old=ORIGIN, new=A)
