"""A relocation that is killed, or meets a full disk or an attacker, loses nothing.

A forked child kills itself at the n-th call that changes a tree, for every n; then each file is wholly old
or wholly new, and both ways out, forwards and back, end exactly where they should.
"""

import errno
import hashlib
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from belljar.errors import BelljarError, HostError, InputError, IntegrityError
from belljar.fsys import remove_tree, walk
from belljar.relocate import inode, journal, moving
from belljar.relocate.change import FileChange, LinkChange, NewFile, Plan, Refusal
from belljar.relocate.consistency import check, status
from belljar.relocate.journal import DIRECTORY
from belljar.relocate.moving import apply, resume, undo
from belljar.splice import Splice

OLD, NEW, THIRD = b"/old/prefix", b"/a/longer/prefix/x", b"/third"
WHEN = 1_600_000_000_123_456_789
CALLS = [
    "open",
    "mkdir",
    "rename",
    "link",
    "symlink",
    "unlink",
    "rmdir",
    "pwrite",
    "copy_file_range",
    "ftruncate",
    "fchmod",
    "fchown",
    "utime",
    "setxattr",
    "fsync",
]


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    """A kill takes nothing from the kernel's cache; that data reach the disk is asked for elsewhere."""
    monkeypatch.setattr(moving, "_flush", lambda _root: None)


def put(path, content, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(WHEN, WHEN))


@pytest.fixture
def tree(tmp_path):
    yield make_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")


def make_tree(tree):
    put(tree / "bin/script", b"#!" + OLD + b"/bin/sh\nexec " + OLD + b"/bin/x\n", 0o755)
    put(tree / "bin/tool", os.urandom(9000) + b"\0" + OLD + b"\0" + os.urandom(90), 0o4755)
    put(tree / "etc/\xe4 new\nline\udcff", b"x=" + OLD, 0o640)
    put(tree / "etc/large", os.urandom(inode.SMALL) + OLD)
    put(tree / "etc/empty", b"")
    put(tree / "etc/plain", b"nothing")
    with (tree / "etc/sparse").open("wb") as file:
        file.seek(300 << 10)
        file.write(OLD)
        file.truncate(500 << 10)
    os.link(tree / "bin/script", tree / "etc/twin")
    os.link(tree / "bin/script", tree / "bin/third name")
    os.symlink(OLD + b"/bin/tool", tree / "etc/absolute")
    os.symlink("nowhere", tree / "etc/dangling")
    os.mkfifo(tree / "etc/fifo")
    os.setxattr(tree / "bin/script", "user.note", b"kept")
    os.utime(tree / "etc/absolute", ns=(WHEN, WHEN), follow_symlinks=False)
    for name, mode in (("bin", 0o555), ("etc", 0o2750)):
        os.utime(tree / name, ns=(WHEN, WHEN))
        (tree / name).chmod(mode)
    return tree


def make_plan(tree, old=OLD, new=NEW, **more):
    """Replace `old` wherever it stands."""
    changes, seen = [], {}
    for entry in walk(tree, enter=lambda entry: entry.path != DIRECTORY):
        path = tree / entry.path
        if entry.is_link and old in (target := os.fsencode(os.readlink(path))):
            changes.append(LinkChange(path=entry.path, old=target, new=target.replace(old, new)))
        if entry.is_file and old in (content := path.read_bytes()):
            seen.setdefault(entry.info.st_ino, (content, []))[1].append(entry.path)
    for content, (first, *aliases) in seen.values():
        places = [match.start() for match in re.finditer(re.escape(old), content)]
        splices = tuple(Splice(offset=at, old=old, new=new) for at in places)
        changes.append(FileChange(path=first, kind="text", splices=splices, aliases=tuple(aliases)))
    return Plan(tree=tree, moves=((old, new),), changes=changes, **more)


def plan_all(tree):
    plan = make_plan(tree)
    new = NewFile(path="bin/.launch", content=b"#!/bin/sh\n", mode=0o755)
    return Plan(tree=tree, moves=plan.moves, changes=[*plan.changes, new])


def snapshot(tree):
    """All of a tree: content, mode, owner, times, attributes, which names are one file."""
    facts, first = {}, {}
    for entry in walk(tree, enter=lambda entry: entry.path != DIRECTORY):
        path, info = tree / entry.path, entry.info
        content = os.readlink(path) if entry.is_link else ""
        attributes = {}
        if entry.is_file:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        twin = first.setdefault(info.st_ino, entry.path)
        facts[entry.path] = (
            *(info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns),
            *(content, twin, tuple(sorted(attributes.items()))),
        )
    return facts


def no_trace(tree):
    return not [entry.path for entry in walk(tree) if ".belljar-" in entry.path]


def contents(tree):
    return {path: fact[4] for path, fact in snapshot(tree).items()}


def killed_at(number, work):
    """Run `work` in a child that kills itself just before its `number`-th changing call; whether it did."""
    child = os.fork()
    if child == 0:
        count, lock = 0, threading.Lock()

        def deadly(call):
            def wrapped(*args, **more):
                nonlocal count
                reads = call is real_open and not args[1] & (os.O_CREAT | os.O_WRONLY)
                with lock:
                    count += not reads
                    if count == number and not reads:
                        os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **more)

            return wrapped

        real_open = os.open
        for name in CALLS:
            setattr(os, name, deadly(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def every_kill(tmp_path, work, judge, before=lambda _tree: None):
    """Kill `work` at its first, second, ... call, each on a new tree; return how often it was killed."""
    number = 0
    while True:
        number += 1
        tree = make_tree(tmp_path / "t")
        old = snapshot(tree)
        before(tree)
        was_killed = killed_at(number, lambda tree=tree: work(tree))
        if was_killed:
            judge(tree, old)
        remove_tree(tree)
        if not was_killed:
            return number - 1


def expected(tmp_path):
    tree = make_tree(tmp_path / "expected")
    apply(plan_all(tree))
    return tree


def wholly_one_or_the_other(tree, old):
    for path, (*_, content, _twin, _attributes) in snapshot(tree).items():
        if ".belljar-" in path:
            continue
        if path not in old:
            assert path == "bin/.launch"
        elif content != old[path][4]:
            text = os.readlink(tree / path).encode() if os.path.islink(tree / path) else None
            text = (tree / path).read_bytes() if text is None else text
            assert OLD not in text, path
            assert NEW in text, path


def test_a_plan_is_done_and_undone_to_the_last_byte_mode_and_time(tree):
    before, home = snapshot(tree), tree.stat()
    assert apply(plan_all(tree)).changed == 7
    after = snapshot(tree)
    assert {path for path in before if after[path] != before[path]} == {
        *("bin/script", "bin/third name", "bin/tool", "etc/\xe4 new\nline\udcff", "etc/absolute"),
        *("etc/large", "etc/sparse", "etc/twin"),
    }
    assert {fact[:4] for path, fact in before.items()} >= {
        fact[:4] for path, fact in after.items() if path != "bin/.launch"
    }
    assert (tree / "etc/sparse").stat().st_blocks * 512 < 100 << 10
    assert check(tree) == ()
    assert undo(tree).changed == 7
    assert snapshot(tree) == before
    assert (tree.stat().st_mode, tree.stat().st_mtime_ns) == (home.st_mode, home.st_mtime_ns)
    assert no_trace(tree)


def test_whenever_it_is_killed_it_can_be_completed(tmp_path):
    def judge(tree, old):
        wholly_one_or_the_other(tree, old)
        begun = bool(status(tree))
        resume(tree)
        if begun:
            assert not {path: fact for path, fact in snapshot(tree).items() if OLD.decode() in str(fact)}
            assert check(tree) == ()
            assert {path: fact[:4] for path, fact in old.items() if path != "bin/.launch"} == {
                path: fact[:4] for path, fact in snapshot(tree).items() if path != "bin/.launch"
            }
        else:
            assert snapshot(tree) == old
        apply(plan_all(tree) if not begun else make_plan(tree))
        assert (tree / "bin/.launch").exists()
        assert check(tree) == ()
        undo(tree)
        assert snapshot(tree) == old
        assert no_trace(tree)

    assert every_kill(tmp_path, lambda tree: apply(plan_all(tree)), judge) >= 50


def test_whenever_it_is_killed_it_can_be_undone(tmp_path):
    def judge(tree, old):
        if status(tree):
            undo(tree)
        assert snapshot(tree) == old

    assert every_kill(tmp_path, lambda tree: apply(plan_all(tree)), judge) >= 50


@pytest.mark.parametrize("go_on", [undo, resume])
def test_an_undoing_that_is_killed_is_completed_by_either_way(tmp_path, go_on):
    def judge(tree, old):
        wholly_one_or_the_other(tree, old)
        if (found := status(tree)) and (found[0].phase == "undoing" or go_on is undo):
            go_on(tree)
            assert snapshot(tree) == old
            assert no_trace(tree)

    assert every_kill(tmp_path, undo, judge, before=lambda tree: apply(plan_all(tree))) >= 50


def test_the_same_plan_again_completes_and_another_is_refused(tmp_path):
    tree = make_tree(tmp_path / "tree")
    assert killed_at(40, lambda: apply(plan_all(tree)))
    with pytest.raises(InputError, match="not finished"):
        apply(make_plan(tree, new=THIRD))
    half = make_plan(tree)
    apply(Plan(tree=tree, moves=half.moves, refusals=[Refusal(path="x", reason="half moved")]))
    assert [one.phase for one in status(tree)] == ["applied"]
    assert check(tree) == ()
    remove_tree(tree)


def test_relocations_are_a_stack(tree):
    before = snapshot(tree)
    apply(make_plan(tree))
    middle = snapshot(tree)
    apply(make_plan(tree, old=NEW, new=THIRD))
    assert [one.number for one in status(tree)] == [1, 2]
    assert check(tree) == ()
    undo(tree)
    assert snapshot(tree) == middle
    undo(tree)
    assert snapshot(tree) == before
    with pytest.raises(InputError, match="nothing to undo"):
        undo(tree)


def test_nothing_is_written_for_a_plan_with_a_refusal_or_for_another_tree(tree):
    before = snapshot(tree)
    with pytest.raises(InputError, match="too long"):
        apply(make_plan(tree, refusals=[Refusal(path="bin/tool", reason="too long")]))
    plan = plan_all(tree)
    (tree / "bin/tool").chmod(0o755)
    for path, content in (("bin/tool", b"other"), ("etc/plain", b"something")):
        kept = (tree / path).read_bytes()
        (tree / path).write_bytes(content)
        if path == "bin/tool":
            with pytest.raises(IntegrityError, match=r"bin/tool.*offset"):
                apply(plan)
        (tree / path).write_bytes(kept)
    assert contents(tree) == {path: fact[4] for path, fact in before.items()}
    assert no_trace(tree)


@pytest.mark.parametrize(
    "path", ["../out", "/etc/x", "bin/../../x", f"{DIRECTORY}/1.applied", "", "bin//tool"]
)
def test_a_path_that_leaves_the_tree_is_refused(tree, path):
    plan = Plan(tree=tree, moves=(), changes=[NewFile(path=path, content=b"")])
    with pytest.raises(InputError, match="not a path of the tree"):
        apply(plan)


def test_a_changed_file_is_neither_undone_nor_lost(tree):
    apply(make_plan(tree))
    name = tree / "etc/\xe4 new\nline\udcff"
    name.write_bytes(b"my own")
    after = snapshot(tree)
    with pytest.raises(IntegrityError, match="changed by somebody else"):
        undo(tree)
    assert snapshot(tree) == after
    assert [finding.path for finding in check(tree)] == ["etc/\xe4 new\nline\udcff"]


def test_check_finds_what_is_left_of_the_old_prefix(tree):
    apply(make_plan(tree))
    (tree / "etc/late").write_bytes(b" " * (1 << 20) + OLD + b"2 " + OLD + b"/x")
    (tree / "etc/edge").write_bytes(b" " * ((1 << 20) - 5) + OLD)
    os.symlink(OLD, tree / "etc/ln")
    found = {(finding.path, finding.offset) for finding in check(tree)}
    edge = ("etc/edge", (1 << 20) - 5)
    assert found == {("etc/late", (1 << 20) + len(OLD) + 2), edge, ("etc/ln", 0)}


def test_check_passes_over_what_the_plan_said_would_stay(tree):
    put(tree / "etc/kept", OLD + b"2 " + OLD)
    plan = make_plan(tree)
    changes = [change for change in plan.changes if change.path != "etc/kept"]
    for notes, findings in (((), 1), (("left as it is, as you said: etc/kept: a document",), 0)):
        apply(Plan(tree=tree, moves=plan.moves, changes=changes, notes=notes))
        assert len(check(tree)) == findings
        undo(tree)


def test_an_old_prefix_inside_the_new_one_is_not_left_over(tree):
    apply(make_plan(tree, new=b"/mnt" + OLD))
    assert check(tree) == ()


def test_an_error_on_the_way_goes_back_by_itself(tree, monkeypatch):
    before, real, count = snapshot(tree), os.rename, 0

    def full(*args, **more):
        nonlocal count
        count += 1
        if count == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **more)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(HostError, match=r"No space left.*as it was"):
        apply(plan_all(tree))
    assert snapshot(tree) == before
    assert no_trace(tree)


def test_a_limit_on_the_size_of_files_changes_nothing(tree):
    before = snapshot(tree)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, limits[1]))
    try:
        with pytest.raises(HostError, match="as it was"):
            apply(plan_all(tree))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert snapshot(tree) == before


def test_too_little_room_for_one_file_is_told_before(tree, monkeypatch):
    before = snapshot(tree)
    monkeypatch.setattr(moving, "free_space", lambda _root: 9000)
    with pytest.raises(HostError, match=r"no room .*as it was"):
        apply(plan_all(tree))
    assert snapshot(tree) == before
    monkeypatch.setattr(moving, "free_space", lambda _root: 200_000)
    apply(plan_all(tree))
    assert check(tree) == ()


def test_a_second_run_is_refused_while_the_first_is_at_work(tree, monkeypatch):
    monkeypatch.setattr(journal, "PATIENCE", 0.2)
    plan = plan_all(tree)
    working = moving.opened(tree)
    with working as root, journal.locked(root), pytest.raises(HostError, match="another process"):
        apply(plan)


def test_a_hard_link_from_outside_keeps_the_old_file(tree, tmp_path):
    os.link(tree / "bin/tool", tmp_path / "outside")
    old = (tmp_path / "outside").read_bytes()
    (note,) = apply(plan_all(tree)).notes
    assert "hard link" in note
    assert (tmp_path / "outside").read_bytes() == old
    assert NEW in (tree / "bin/tool").read_bytes()


def test_undoing_gives_the_bytes_back_but_joins_no_link_from_outside(tree, tmp_path):
    before = snapshot(tree)
    os.link(tree / "bin/tool", tmp_path / "outside")
    inode_before = (tmp_path / "outside").stat().st_ino
    apply(make_plan(tree))
    undo(tree)
    assert snapshot(tree) == before
    assert (tmp_path / "outside").stat().st_ino == inode_before != (tree / "bin/tool").stat().st_ino
    assert (tmp_path / "outside").stat().st_nlink == (tree / "bin/tool").stat().st_nlink == 1


@pytest.mark.parametrize("change", ["gone", "a link", "a directory", "longer", "only its mode"])
def test_what_changed_after_the_move_is_refused_whole_or_kept(tree, change):
    before = snapshot(tree)
    apply(make_plan(tree))
    path = tree / "bin/tool"
    (tree / "bin").chmod(0o755)
    content = path.read_bytes()
    if change == "only its mode":
        path.chmod(0o700)
        undo(tree)
        assert snapshot(tree)["bin/tool"][4] == before["bin/tool"][4]
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        return
    path.unlink()
    if change == "a link":
        path.symlink_to("script")
    if change == "a directory":
        path.mkdir()
    if change == "longer":
        path.write_bytes(content + b"x")
    after = snapshot(tree)
    for _ in range(2):
        with pytest.raises(IntegrityError, match=r"changed by somebody else: bin/tool"):
            undo(tree)
        assert snapshot(tree) == after
        assert [one.phase for one in status(tree)] == ["applied"]
    assert "bin/tool" in [finding.path for finding in check(tree)]


def test_a_directory_swapped_for_a_link_leads_nowhere(tree, tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.mkdir()
    put(outside / "script", (tree / "bin/script").read_bytes())
    put(outside / "tool", (tree / "bin/tool").read_bytes())
    before, real = snapshot(outside), moving._stage

    def swapping(*args):
        done = real(*args)
        tree.joinpath("bin").rename(tree / "was")
        (tree / "bin").symlink_to(outside)
        return done

    monkeypatch.setattr(moving, "_stage", swapping)
    with pytest.raises(BelljarError):
        apply(plan_all(tree))
    assert snapshot(outside) == before


def test_a_running_program_keeps_its_file(tmp_path):
    tree = tmp_path / "tree"
    tool = Path(os.path.realpath("/bin/sleep")).read_bytes()
    put(tree / "sleep", tool + OLD, 0o755)
    with subprocess.Popen([tree / "sleep", "30"]) as running:
        apply(make_plan(tree))
        assert running.poll() is None
        assert Path(f"/proc/{running.pid}/exe").read_bytes() == tool + OLD
        running.kill()
    assert subprocess.run([tree / "sleep", "0"], check=False).returncode == 0
    assert (tree / "sleep").read_bytes() == tool + NEW


def test_a_copy_leaves_the_source_alone_and_can_be_undone(tree, tmp_path):
    before = snapshot(tree)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tree / "socket"))
    plan, output = make_plan(tree), tmp_path / "out"
    done = apply(plan, output=output)
    assert [note for note in done.notes if "socket" in note]
    (tree / "socket").unlink()
    assert snapshot(tree) == before
    apply(plan)
    assert snapshot(output) == snapshot(tree)
    assert check(output) == ()
    undo(output)
    assert snapshot(output) == before
    assert not (tmp_path / ".belljar-staging").exists()
    with pytest.raises(InputError, match="is there already"):
        apply(plan, output=output)
    with pytest.raises(InputError, match="lies in the tree"):
        apply(plan, output=tree / "etc/new")
    remove_tree(output)


def test_copying_without_the_kernel_gives_the_same(tree, tmp_path, monkeypatch):
    apply(make_plan(tree), output=tmp_path / "a")

    def refused(*_args):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refused)
    apply(make_plan(tree), output=tmp_path / "b")
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    remove_tree(tmp_path / "a")
    remove_tree(tmp_path / "b")


def test_a_filesystem_without_attributes_is_no_error(tree, monkeypatch):
    def none(*_args):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "listxattr", none)
    apply(plan_all(tree))
    assert check(tree) == ()


def test_a_default_acl_of_the_directory_is_not_inherited(tree):
    acl = bytes.fromhex("02000000 0100 0700 ffffffff 0400 0500 ffffffff 2000 0000 ffffffff".replace(" ", ""))
    (tree / "bin").chmod(0o755)
    os.setxattr(tree / "bin", "system.posix_acl_default", acl)
    before = snapshot(tree)
    apply(make_plan(tree))
    assert os.listxattr(tree / "bin/tool") == []
    assert stat.S_IMODE((tree / "bin/tool").stat().st_mode) == 0o4755
    undo(tree)
    assert snapshot(tree) == before


def test_privileges_that_cannot_be_kept_are_refused(tree, monkeypatch):
    info = (tree / "bin/tool").stat()
    monkeypatch.setattr(os, "geteuid", lambda: info.st_uid + 1)
    fd = os.open(tree / "bin/tool", os.O_RDONLY)
    reason = inode.refusal(fd, info)
    os.close(fd)
    assert reason is not None
    assert "set-ID" in reason


def test_memory_stays_bounded_for_a_file_of_five_gigabytes(tmp_path):
    script = f"""
import os, resource, sys
from pathlib import Path
from belljar.relocate import moving
from belljar.relocate.change import FileChange, Plan
from belljar.splice import Splice
tree = Path(sys.argv[1])
with (tree / "big").open("wb") as file:
    for at in (0, 3 << 30, (5 << 30) - 64):
        file.seek(at); file.write({OLD!r})
    file.truncate(5 << 30)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
splices = [Splice(offset=at, old={OLD!r}, new={NEW!r}) for at in (0, 3 << 30, (5 << 30) - 64)]
change = FileChange(path="big", kind="bytes", splices=splices)
plan = Plan(tree=tree, moves=(({OLD!r}, {NEW!r}),), changes=[change])
moving.apply(plan)
moving.undo(tree)
ends = [Splice(offset=0, old={OLD!r}, new=b"/longer" + {OLD!r}),
        Splice(offset=(5 << 30) - 64, old={OLD!r}, new={OLD!r}[7:])]
change = FileChange(path="big", kind="bytes", splices=ends)
plan = Plan(tree=tree, moves=(({OLD!r}, {NEW!r}),), changes=[change])
moving.apply(plan)
moving.undo(tree)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, (tree / "big").stat().st_blocks)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kilobytes, blocks = map(int, done.stdout.split())
    assert kilobytes < 20_000
    assert blocks < 100
