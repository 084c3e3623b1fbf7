"""Files: what readers see, what is locked, what is swept, what can be removed."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from belljar import fsys
from belljar.errors import HostError


def test_walk_is_in_byte_order_parents_first_and_follows_no_link(tmp_path):
    for name in ("b", "a/z", "a/B", "a.c", "\udcff", "é"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (tmp_path / "c").symlink_to("a")
    found = [entry.path for entry in fsys.walk(tmp_path)]
    assert found == ["a", "a.c", "b", "c", "é", "\udcff", "a/B", "a/z"]
    assert [entry.path for entry in fsys.walk(tmp_path, enter=lambda entry: entry.path < "b")] == [
        "a",
        "a.c",
        "a/B",
        "a/z",
    ]
    assert "a/B" not in [entry.path for entry in fsys.walk(tmp_path, enter=lambda entry: entry.path != "a")]


def test_a_write_is_seen_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new/directory/file"
    fsys.write_atomic(path, b"x" * 1_000_000)
    seen = set()
    done = threading.Event()

    def look():
        while not done.is_set():
            seen.add(len(path.read_bytes()))

    reader = threading.Thread(target=look)
    reader.start()
    for size in (2_000_000, 1_000_000) * 5:
        fsys.write_atomic(path, b"x" * size)
    done.set()
    reader.join()
    assert seen <= {1_000_000, 2_000_000}
    assert os.listdir(path.parent) == ["file"]


def test_a_write_that_fails_leaves_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "file"
    fsys.write_atomic(path, "old")

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(HostError, match="file: File too large"):
            fsys.write_atomic(path, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(HostError, match="file: File exists"):
        fsys.write_atomic(path / "below", "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_written_file_has_its_mode_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        fsys.write_atomic(tmp_path / "file", "x", mode=0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only"), (errno.EIO, None)]
)
def test_an_os_error_is_explained_with_its_path_and_a_remedy(number, hint):
    error = fsys.explained(OSError(number, os.strerror(number), "/there/file"), Path("/else"))
    assert error.exit_code == 4
    assert error.message == f"/there/file: {os.strerror(number)}"
    assert (hint is None) == (error.hint is None)
    assert hint is None or hint in (error.hint or "")


def _tree(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_text("x")
    (root / "a/link").symlink_to("/etc")
    (root / "file").write_text("x")


def test_a_tree_that_was_made_read_only_can_be_removed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("x")
    _tree(tmp_path / "tree")
    (tmp_path / "tree/out").symlink_to(outside)
    fsys.make_read_only(tmp_path / "tree")
    modes = {oct(entry.info.st_mode) for entry in fsys.walk(tmp_path / "tree") if not entry.is_link}
    assert modes == {"0o40555", "0o100444"}
    fsys.remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == ["outside"]
    assert outside.stat().st_mode & 0o777 != 0


def test_a_tree_that_is_deeper_than_a_path_can_say_can_be_removed(tmp_path):
    here = os.getcwd()
    try:
        os.mkdir(tmp_path / "deep")
        os.chdir(tmp_path / "deep")
        for _ in range(3000):
            os.mkdir("dd")
            os.chdir("dd")
        Path("file").write_text("x")
    finally:
        os.chdir(here)
    with pytest.raises(OSError, match="too long"):
        list(fsys.walk(tmp_path / "deep"))
    fsys.remove_tree(tmp_path / "deep")
    assert os.listdir(tmp_path) == []


def test_removing_what_is_no_tree(tmp_path):
    fsys.remove_tree(tmp_path / "nothing")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    fsys.remove_tree(tmp_path / "link")
    (tmp_path / "dangling").symlink_to("nowhere")
    fsys.remove_tree(tmp_path / "dangling")
    assert os.listdir(tmp_path) == ["directory"]


def test_a_lock_lets_one_in_and_tells_the_other_that_it_waits(tmp_path):
    order = []
    with fsys.locked(tmp_path / "lock"):
        waits = threading.Event()

        def second():
            with fsys.locked(tmp_path / "lock", on_wait=lambda: (order.append("waits"), waits.set())):
                order.append("in")

        other = threading.Thread(target=second)
        other.start()
        assert waits.wait(5)
        order.append("out")
    other.join()
    assert order == ["waits", "out", "in"]


def test_shared_locks_do_not_exclude_each_other(tmp_path):
    def refuse():
        raise AssertionError("waits")

    with (
        fsys.locked(tmp_path / "lock", shared=True),
        fsys.locked(tmp_path / "lock", shared=True, on_wait=refuse),
    ):
        pass
    with fsys.locked(tmp_path / "lock", on_wait=refuse):
        pass


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_on_the_new_file(tmp_path):
    path = tmp_path / "lock"
    held = []
    with fsys.locked(path):
        waits = threading.Event()

        def second():
            with fsys.locked(path, on_wait=waits.set) as file:
                held.append(os.fstat(file.fileno()).st_ino == path.stat().st_ino)

        other = threading.Thread(target=second)
        other.start()
        assert waits.wait(5)
        path.unlink()
    other.join()
    assert held == [True]


def test_a_staging_directory_is_private_and_gone_afterwards(tmp_path):
    with fsys.staging(tmp_path / "s") as stage:
        assert stage.stat().st_mode & 0o777 == 0o700
        _tree(stage / "tree")
        fsys.make_read_only(stage / "tree")
    assert os.listdir(tmp_path / "s") == []
    with pytest.raises(ZeroDivisionError), fsys.staging(tmp_path / "s") as stage:
        _ = 1 / 0
    assert os.listdir(tmp_path / "s") == []
    with fsys.staging(tmp_path / "s", keep=lambda: True) as stage:
        (stage / "file").write_text("kept")
    assert os.listdir(tmp_path / "s") == [stage.name]
    with fsys.staging(tmp_path / "s"):
        assert (stage / "file").read_text() == "kept"


STAGE = """
import sys, time
from pathlib import Path
from belljar import fsys
with fsys.staging(Path(sys.argv[1])) as stage:
    (stage / "file").write_text("x")
    print(stage.name, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_staged_is_swept_and_what_a_living_one_does_is_not(tmp_path):
    source = str(Path(fsys.__file__).parents[1])
    others = [
        subprocess.Popen(
            [sys.executable, "-c", STAGE, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": source},
        )
        for _ in range(2)
    ]
    names = [other.stdout.readline().strip() for other in others if other.stdout]
    others[0].send_signal(signal.SIGKILL)
    others[0].wait()
    with fsys.staging(tmp_path):
        assert not (tmp_path / names[0]).exists()
        assert (tmp_path / names[1] / "file").read_text() == "x"
    others[1].kill()
    others[1].wait()
    fsys.sweep(tmp_path)
    assert os.listdir(tmp_path) == []
