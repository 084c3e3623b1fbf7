"""A process that dies at any step of changing the store leaves a whole entry or none.

Python reports each step to an audit hook (rename, mkdir, chmod, unlink, open); a forked child kills
itself at the n-th, for every n.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from belljar import fsys
from belljar.placeholder import PLACEHOLDER
from belljar.references import Reference, Table
from belljar.relocate.install import install, plan, uninstall
from belljar.store import Record, Store, StoreName, describe
from belljar.types import Digest

STEPS = {
    "open",
    "os.rename",
    "os.mkdir",
    "os.chmod",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.utime",
}
NAME = StoreName.make("hello", "1.0", Digest("0" * 64))
OTHER = StoreName.make("hello", "1.0", Digest("1" * 64))


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)
        fsys.remove_tree(Path(scratch))
        Path(scratch).mkdir()


def _add(store: Store, text: str, name: StoreName = NAME) -> None:
    with store.lock(name), fsys.staging(store.directory / "staging") as stage:
        tree = stage / "tree"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin/x").write_text(f"{text} {PLACEHOLDER}")
        (tree / "y").write_text(text)
        table = Table(files={"bin/x": (Reference(offset=len(text) + 1),)}, links={})
        manifest = describe(tree, table, PLACEHOLDER.encode())
        (tree / "bin/x").write_bytes(text.encode() + b" " + store.location)
        record = Record(
            name=name,
            content=manifest.digest,
            size=manifest.size,
            files=2,
            references=1,
            closure=(),
            inputs={},
            portability={},
            relocatable=True,
        )
        store.add(tree, stage, record=record, table=table, manifest=manifest, audit={})


def _dies_at(step: int, work) -> bool:
    """Do the work in a child that kills itself before step number `step`; False when it got to the end."""
    child = os.fork()
    if child == 0:
        left = step

        def count(event: str, _arguments: object) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def _at_every_step(work, check) -> int:
    step = 0
    while _dies_at(step, work):
        check()
        step += 1
    check()
    return step


def test_a_crash_while_an_entry_is_added_leaves_it_whole_or_out(place):
    store = Store(directory=place)
    outcomes = set()

    def check():
        outcomes.add(NAME in store)
        if NAME in store:
            assert store.verify(NAME) == ()
        _add(store, "text")
        assert store.verify(NAME) == ()
        assert os.listdir(place / "staging") == []
        assert sorted(os.listdir(store.root)) == [".records", str(NAME)]
        store.remove(NAME)

    steps = _at_every_step(lambda: _add(store, "text"), check)
    assert steps > 20
    assert outcomes == {True, False}


def test_a_crash_while_an_entry_is_replaced_leaves_one_of_the_two_or_none(place):
    store = Store(directory=place)
    _add(store, "old")
    seen = set()

    def check():
        if NAME in store:
            assert store.verify(NAME) == ()
            seen.add((store.path(NAME) / "y").read_text())
        else:
            seen.add(None)
        _add(store, "old")

    _at_every_step(lambda: _add(store, "new"), check)
    assert seen == {"old", "new", None}


def test_a_crash_while_an_entry_is_removed_leaves_it_whole_or_out_and_others_alone(place):
    store = Store(directory=place)
    _add(store, "mine")
    _add(store, "other", OTHER)

    def check():
        assert store.verify(OTHER) == ()
        if NAME in store:
            assert store.verify(NAME) == ()
        _add(store, "mine")

    assert _at_every_step(lambda: store.remove(NAME), check) > 5


def test_a_crash_at_any_step_of_installing_is_mended_by_installing_again(place):
    store = Store(directory=place / "s")
    _add(store, "text")
    target = Store(directory=place / "t")

    def check():
        if NAME in target:
            assert target.verify(NAME) == ()
        install(plan(store, NAME, target.directory))
        assert target.verify(NAME) == ()
        assert (target.directory / "y").read_text() == "text"
        uninstall(target.directory, NAME)
        assert os.listdir(target.directory) == []

    assert _at_every_step(lambda: install(plan(store, NAME, target.directory)), check) > 20
    assert store.verify(NAME) == ()


def test_a_crash_at_any_step_of_uninstalling_is_mended(place):
    store = Store(directory=place / "s")
    _add(store, "text")
    target = Store(directory=place / "t")
    install(plan(store, NAME, target.directory))
    (target.directory / "mine").write_text("mine")

    def check():
        assert (target.directory / "mine").read_text() == "mine"
        install(plan(store, NAME, target.directory))
        assert target.verify(NAME) == ()

    assert _at_every_step(lambda: uninstall(target.directory, NAME), check) > 5
    uninstall(target.directory, NAME)
    assert os.listdir(target.directory) == ["mine"]
