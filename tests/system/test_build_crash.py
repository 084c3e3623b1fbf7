"""Ctrl-C and kill -9 at any moment, and several builds at once: nothing half-made, nothing left running."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from test_build_support import (
    INTERRUPTED,
    alive,
    belljar,
    environment,
    home,
    leftovers,
    recipe,
    shared_cache,
    start,
    wait_for,
)

from belljar.store import Store, StoreName

# Each stage takes long enough to be hit: unpacking half a second, the script as much.
SLOW = """
mkdir "$PREFIX/bin"
for i in $(seq 200); do echo "$PREFIX $i" > "$PREFIX/bin/$i"; done
sleep 0.3
sleep 0.2 &
cp -r "$PREFIX/bin" "$PREFIX/lib"
"""


@pytest.fixture(scope="module")
def kitchen():
    """A home with environments of its own, so that unpacking can be interrupted."""
    with tempfile.TemporaryDirectory(prefix="belljar-crash-") as scratch:
        place = home(Path(scratch) / "h", own_environments=True)
        yield place, recipe(Path(scratch) / "r", SLOW)


def _names(place: Path) -> list[str]:
    return [str(name) for name in Store(directory=place / "store").names()]


def _forget(place: Path) -> None:
    """Take away what an earlier case finished."""
    store = Store(directory=place / "store")
    for name in list(store.names()):
        store.remove(name)
    environments = place / "cache/environments"
    if environments.exists():
        shutil.rmtree(environments)


def _is_whole(place: Path) -> None:
    """Every entry is sound, and a tree without a record is no entry."""
    store = Store(directory=place / "store")
    for name in store.names():
        assert store.verify(name) == ()


def _is_gone(process: subprocess.Popen[str], place: Path) -> None:
    assert alive(str(place)) == []
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(place) not in mounts


def _next_build_works(place: Path, directory: Path) -> None:
    done = belljar("build", "--no-link", "--offline", directory, home=place)
    assert done.returncode == 0, done.stderr
    assert leftovers(place) == []
    assert len(_names(place)) == 1
    _is_whole(place)


_RANDOM = random.Random(2)
# One in each tenth of the time that a build takes, unpacking its environment included.
MOMENTS = [_RANDOM.uniform(number, number + 1) * 0.17 for number in range(10)]


@pytest.mark.parametrize(
    ("moment", "whom"), [*zip(MOMENTS, ["the group", "the process"] * 5, strict=True)], ids=str
)
def test_ctrl_c_at_any_moment_ends_with_one_line_and_nothing_left(whom, moment, kitchen):
    place, directory = kitchen
    _forget(place)
    process = start("build", "--no-link", "--offline", directory, home=place)
    # What the interpreter itself says before that is not ours.
    assert process.stderr is not None
    assert process.stderr.readline() == "loading\n"
    time.sleep(moment)
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if whom == "the group" else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert "Traceback" not in err, err
    if process.returncode != 0:
        assert process.returncode == INTERRUPTED, err
        assert err.splitlines()[-1] == "interrupted"
        assert err.count("interrupted") == 1
    assert leftovers(place) == []
    _is_gone(process, place)
    _is_whole(place)
    # An interrupt between the rename into the store and the last word finds the entry there, and whole.
    if process.returncode == 0 or out:
        assert len(_names(place)) == 1


def test_after_an_interrupt_the_next_build_succeeds(kitchen):
    place, directory = kitchen
    _next_build_works(place, directory)


@pytest.mark.parametrize("moment", MOMENTS[1::2])
def test_kill_9_at_any_moment_leaves_nothing_that_the_next_build_does_not_sweep(moment, kitchen):
    place, directory = kitchen
    _forget(place)
    process = start("build", "--no-link", "--offline", directory, home=place)
    time.sleep(moment)
    process.kill()
    process.communicate(timeout=10)
    _is_gone(process, place)
    _is_whole(place)
    _next_build_works(place, directory)


def test_kill_9_while_packages_are_resolved_takes_apt_along(tmp_path):
    place = home(tmp_path / "h", own_cache=True)
    process = start("lock", recipe(tmp_path / "r", lock=False), home=place)
    wait_for(lambda: _children(process.pid))
    process.kill()
    process.communicate(timeout=10)
    assert alive(str(place)) == []
    assert not (tmp_path / "r/belljar.lock").exists()


@pytest.mark.parametrize("moment", [0.0, 0.3])
def test_ctrl_c_while_packages_are_resolved_leaves_no_apt_and_no_lock(moment, tmp_path):
    place = home(tmp_path / "h", own_cache=True)
    process = start("lock", recipe(tmp_path / "r", lock=False), home=place)
    wait_for(lambda: _children(process.pid))
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == INTERRUPTED, err
    assert err.splitlines()[-1] == "interrupted"
    assert alive(str(place)) == []
    assert sorted(os.listdir(tmp_path / "r")) == ["belljar.toml", "src"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_download_leaves_no_apt_and_goes_on_next_time(kind, tmp_path):
    place = home(tmp_path / "h", own_cache=True)
    (place / "cache").mkdir()
    (place / "cache/apt").symlink_to(shared_cache() / "apt")
    directory = recipe(tmp_path / "r")
    process = start("fetch", directory, home=place)
    wait_for(lambda: _children(process.pid))
    os.killpg(process.pid, kind)
    _, err = process.communicate(timeout=10)
    assert process.returncode == (INTERRUPTED if kind == signal.SIGINT else -kind), err
    assert "Traceback" not in err
    assert alive(str(place)) == []
    again = belljar("fetch", directory, home=place)
    assert again.returncode == 0, again.stderr
    assert leftovers(place) == []


def _children(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return []


@pytest.mark.parametrize("count", [2, 4])
def test_builds_of_one_recipe_at_once_build_once(count, tmp_path):
    place = home(tmp_path / "h")
    directory = recipe(tmp_path / "r", SLOW)
    running = [start("build", "--no-link", "--offline", directory, home=place) for _ in range(count)]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in running]
    assert [status for _, _, status in ended] == [0] * count, ended
    assert sum("tiny 1.0: built" in out for out, _, _ in ended) == 1
    assert sum("tiny 1.0: in the store already" in out for out, _, _ in ended) == count - 1
    assert len({line for out, _, _ in ended for line in out.splitlines() if "path" in line}) == 1
    waiting = [err for out, err, _ in ended if "already" in out]
    assert all("waiting for another build of" in err for err in waiting)
    assert len(list((place / "logs").iterdir())) == 1


def test_two_recipes_at_once_do_not_wait_for_each_other(tmp_path):
    place = home(tmp_path / "h")
    one = recipe(tmp_path / "one", SLOW)
    other = recipe(tmp_path / "other", SLOW, name="other")
    running = [start("build", "--no-link", "--offline", at, home=place) for at in (one, other)]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in running]
    assert [status for _, _, status in ended] == [0, 0], ended
    assert not any("waiting" in err for _, err, _ in ended)
    assert len(_names(place)) == 2
    assert leftovers(place) == []


def test_a_source_that_changes_while_the_build_waits_is_not_stored_under_the_old_name(tmp_path):
    place = home(tmp_path / "h")
    directory = recipe(tmp_path / "r")
    store = Store(directory=place / "store")
    plan = belljar("build", "--dry-run", "--format", "json", directory, home=place)
    name = StoreName.parse(json.loads(plan.stdout)["name"])
    with store.lock(name):
        process = start("build", "--no-link", "--offline", directory, home=place)
        assert process.stderr is not None
        assert process.stderr.readline() == "loading\n"
        assert "waiting" in process.stderr.readline()
        (directory / "src/word").write_text("another word")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "changed while it was being built" in err
    assert _names(place) == []


def test_readers_see_a_whole_entry_or_none_while_it_is_built_and_removed(tmp_path):
    place = home(tmp_path / "h")
    directory = recipe(tmp_path / "r", SLOW.replace("sleep", ": sleep"))
    store = Store(directory=place / "store")
    seen = 0
    for _ in range(3):
        process = start("build", "--no-link", "--offline", directory, home=place)
        while process.poll() is None:
            for name in list(store.names()):
                assert len(os.listdir(store.path(name))) == 2
                assert store.verify(name) == ()
                seen += 1
        out, err = process.communicate()
        assert process.returncode == 0, (out, err)
        (name,) = store.names()
        with store.lock(name):
            store.remove(name)
        assert list(store.names()) == []
    assert environment(place)["BELLJAR_HOME"] == str(place)
