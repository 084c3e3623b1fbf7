"""Relocating for real: killed at any moment, on a disk that is full, where nothing may be written.

Processes of their own; small filesystems are mounted in a namespace.
"""

import inspect
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from belljar.fsys import remove_tree, walk
from belljar.relocate import moving
from belljar.relocate.change import FileChange, Plan
from belljar.relocate.consistency import status
from belljar.relocate.moving import apply, resume, undo
from belljar.splice import Splice

SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, sys.path)])}
KILLS = 100
OLD, NEW = b"/old/prefix", b"/a/longer/prefix"
HEAD = """
import os, re, sys
from pathlib import Path
from belljar.errors import BelljarError
from belljar.fsys import walk
from belljar.relocate.change import FileChange, Plan
from belljar.relocate.consistency import check, status
from belljar.relocate.moving import apply, resume, undo
from belljar.splice import Splice
OLD, NEW = b"/old/prefix", b"/a/longer/prefix"
tree = Path(sys.argv[1])

def contents():
    found = [entry for entry in walk(tree) if entry.is_file and ".belljar" not in entry.path]
    return {entry.path: (tree / entry.path).read_bytes() for entry in found}

"""


def plan(tree):
    changes = []
    for entry in walk(tree, enter=lambda entry: entry.path != ".belljar-relocation"):
        content = (tree / entry.path).read_bytes() if entry.is_file else b""
        places = [match.start() for match in re.finditer(OLD, content)]
        splices = tuple(Splice(offset=at, old=OLD, new=NEW) for at in places)
        if splices:
            changes.append(FileChange(path=entry.path, kind="text", splices=splices))
    return Plan(tree=tree, moves=((OLD, NEW),), changes=changes)


HEAD += inspect.getsource(plan)


@pytest.fixture
def tree():
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        yield tree
        remove_tree(tree)


def fill(tree):
    for number in range(40):
        path = tree / f"d{number % 5}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(number * 999) + b"/old/prefix " * (number % 4))
        os.utime(path, ns=(1, 10**18 + number))


def facts(tree):
    return {
        entry.path: (
            entry.info.st_mode,
            entry.info.st_mtime_ns,
            (tree / entry.path).read_bytes() if entry.is_file else b"",
        )
        for entry in walk(tree)
    }


def python(script, *words):
    return [sys.executable, "-c", script, *map(str, words)]


def run(script, tree):
    done = subprocess.run(python(script, tree), env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def kill_at_work(tree, seconds, *, syncing):
    """Let a child relocate and undo without end, and kill it; mostly without waiting for the disk."""
    child = os.fork()
    if child == 0:
        if not syncing:
            moving._flush = lambda _root: None  # a kill takes nothing from the kernel's cache
        try:
            while True:
                apply(plan(tree))
                undo(tree)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_hundred_kills_at_random_moments_lose_nothing(tree):
    fill(tree)
    before, dice, unfinished = facts(tree), random.Random(1), 0
    for number in range(KILLS):
        kill_at_work(tree, dice.uniform(0.01, 0.1), syncing=number % 5 == 0)
        phases = [one.phase.value for one in status(tree)]
        unfinished += phases in (["applying"], ["undoing"])
        for path, fact in facts(tree).items():
            if path in before and fact[2] != before[path][2]:
                assert fact[2] == before[path][2].replace(b"/old/prefix", b"/a/longer/prefix")
        if number % 2:
            resume(tree)
        if status(tree):
            undo(tree)
        resume(tree)  # one that was killed before its journal had an entry left the directory
        assert facts(tree) == before
    assert unfinished > KILLS // 5


MOUNT = """
import ctypes
libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
def mount(*words):
    assert libc.mount(*words) == 0, os.strerror(ctypes.get_errno())
assert libc.unshare(0x10020000) == 0  # CLONE_NEWUSER | CLONE_NEWNS
Path("/proc/self/setgroups").write_text("deny")
Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
mount(b"tmpfs", os.fsencode(tree), b"tmpfs", 0, b"size=1m")
"""


def test_a_full_disk_changes_nothing_however_full_it_is(tree):
    script = (
        HEAD
        + MOUNT
        + """
for number in range(30):
    (tree / f"f{number}").write_bytes(OLD + os.urandom(9000))
before, ends = contents(), []
for free in range(0, 150, 3):
    rest = os.statvfs(tree).f_bavail - free
    (tree / "ballast").write_bytes(bytes(4096 * rest))
    try:
        apply(plan(tree))
        ends.append("done")
        assert check(tree) == ()
        (tree / "ballast").unlink()
        undo(tree)
    except BelljarError as error:
        assert type(error).__name__ == "HostError", error
        ends.append("room" if "no room" in error.message else "full")
        (tree / "ballast").unlink()
    assert contents() == before
    assert [path.name for path in tree.iterdir() if path.name.startswith(".belljar")] == []
print(*ends)
"""
    )
    ends = run(script, tree)
    assert ends[0] == "full"
    assert ends[-1] == "done"
    assert len(ends) == 50


def test_a_read_only_filesystem_is_told_and_can_be_copied_from(tree):
    script = (
        HEAD
        + MOUNT
        + """
(tree / "in").mkdir()
(tree / "in/f").write_bytes(OLD)
(tree / "out").mkdir()
tree = tree / "in"
mount(os.fsencode(tree), os.fsencode(tree), None, 4096, None)  # MS_BIND
mount(None, os.fsencode(tree), None, 4096 | 32 | 1, None)  # MS_BIND | MS_REMOUNT | MS_RDONLY
try:
    apply(plan(tree))
except BelljarError as error:
    print(type(error).__name__, "read-only" in (error.message + str(error.hint)).lower())
apply(plan(tree), output=tree.parent / "out")
print((tree.parent / "out/f").read_text(), (tree / "f").read_text())
"""
    )
    assert run(script, tree) == ["HostError", "True", "/a/longer/prefix", "/old/prefix"]


def test_capabilities_and_set_id_bits_stay_through_a_move_and_back(tree):
    script = (
        HEAD
        + MOUNT
        + """
import struct
path, name = tree / "ping", "security.capability"
path.write_bytes(OLD + os.urandom(200_000))
path.chmod(0o6755)
os.setxattr(path, name, struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))  # version 2, effective: cap_net_raw
before = os.getxattr(path, name), path.stat().st_mode
apply(plan(tree))
assert NEW in path.read_bytes()
assert (os.getxattr(path, name), path.stat().st_mode) == before
undo(tree)
print((os.getxattr(path, name), path.stat().st_mode) == before)
"""
    )
    assert run(script, tree) == ["True"]


def test_two_processes_at_a_time_on_one_tree_take_turns_or_are_refused(tree):
    fill(tree)
    before = facts(tree)
    script = HEAD + "made = plan(tree); print('ready', flush=True); input(); print(apply(made).changed)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    every = [subprocess.Popen(python(script, tree), env=ENVIRONMENT, **pipes) for _ in range(4)]
    for one in every:
        assert one.stdout.readline() == "ready\n"
    for one in every:
        one.stdin.write("go\n")
        one.stdin.flush()
    ends = [(one.stdout.read().strip() or one.stderr.read(), one.wait())[0] for one in every]
    assert ends.count("30") == 1, ends
    for end in ends:
        assert end in ("0", "30") or "another process" in end or "cannot be relocated" in end, end
    assert len(status(tree)) == 1
    undo(tree)
    assert facts(tree) == before


def test_others_may_not_undo_and_are_told_so(tree):
    script = (
        HEAD
        + """
(tree / "f").write_bytes(OLD)
apply(plan(tree))
tree.chmod(0o755)
(tree / ".belljar-relocation").chmod(0)
os.geteuid() or os.setresuid(65534, 65534, 65534)
try:
    undo(tree)
except BelljarError as error:
    print(type(error).__name__, "permission" in error.message.lower())
"""
    )
    tree.parent.chmod(0o755)
    assert run(script, tree) == ["HostError", "True"]
    (tree / ".belljar-relocation").chmod(0o700)


def test_an_immutable_file_is_refused_before_anything_is_written(tree):
    script = (
        HEAD
        + """
import fcntl
(tree / "a").write_bytes(OLD)
(tree / "f").write_bytes(OLD)
fd = os.open(tree / "f", os.O_RDONLY)
def flags(value):
    try:
        fcntl.ioctl(fd, 0x40086602, value.to_bytes(8, "little"))  # FS_IOC_SETFLAGS
        return True
    except OSError:
        return False
if not flags(16):
    print("refused")  # an ordinary user, or a filesystem without such flags: nothing can be immutable
    sys.exit()
try:
    apply(plan(tree))
    print("done")
except BelljarError as error:
    print("refused" if "immutable" in error.message else error)
flags(0)
assert contents() == {"a": OLD, "f": OLD}
"""
    )
    assert run(script, tree) == ["refused"]
