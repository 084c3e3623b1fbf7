"""A store or an installation that was moved is at home again after one command, whatever happens in it."""

import gzip
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import pytest

from belljar import fsys
from belljar.errors import InputError, IntegrityError
from belljar.placeholder import PLACEHOLDER, TAIL
from belljar.references import Table
from belljar.relocate import moving, request, rewrite_tree, scan
from belljar.relocate.moved import moved
from belljar.store import Record, Store, StoreName, describe
from belljar.types import Digest


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    """A kill takes nothing from the kernel's cache."""
    monkeypatch.setattr(moving, "_flush", lambda _root: None)


@pytest.fixture
def place():
    """A directory with a short path, and what is read-only removed at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)
        fsys.remove_tree(Path(scratch))
        Path(scratch).mkdir()


def add(store, package):
    """Add an entry with text, wide text, a link, a hard link and an archive's checksum."""
    name = StoreName.make(package, "1.0", Digest(hashlib.sha256(package.encode()).hexdigest()))
    with store.lock(name), fsys.staging(store.directory / "staging") as stage:
        tree = stage / "tree"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin/run").write_text(f"#!{PLACEHOLDER}/{name}/bin/sh {package}\n{PLACEHOLDER}/x")
        (tree / "bin/run").chmod(0o755)
        (tree / "data").write_bytes(os.urandom(500) + PLACEHOLDER.encode("utf-16-le") + bytes(9))
        (tree / "stored.gz").write_bytes(gzip.compress(PLACEHOLDER.encode(), 0))
        (tree / "plain").write_text("nothing")
        os.link(tree / "bin/run", tree / "bin/twin")
        (tree / "link").symlink_to(f"{PLACEHOLDER}/{name}/bin")
        found = scan(tree)
        manifest = describe(tree, found.table, PLACEHOLDER.encode())
        rewrite_tree(tree, found.table, old=PLACEHOLDER.encode(), new=store.location)
        record = Record(
            name=name,
            content=manifest.digest,
            size=manifest.size,
            files=5,
            references=len(found.table),
            closure=(),
            inputs={},
            portability={},
            relocatable=True,
        )
        store.add(tree, stage, record=record, table=found.table, manifest=manifest, audit={})
    return name


@pytest.fixture
def store(place):
    store = Store(directory=place / "ann/store")
    for package in ("hello", "other"):
        add(store, package)
    (store.directory / "staging").rmdir()
    return store


def sound(store):
    return bool(list(store.names())) and all(store.verify(name) == () for name in store.names())


def everything(directory):
    return {
        entry.path: (
            *(entry.info.st_mode, entry.info.st_mtime_ns if entry.is_file else 0),
            os.readlink(directory / entry.path) if entry.is_link else "",
            (directory / entry.path).read_bytes() if entry.is_file else b"",
        )
        for entry in fsys.walk(directory)
        if not entry.path.endswith(".lock")
    }


def test_a_store_under_a_new_user_name_is_at_home_after_one_command(store, place):
    before = everything(store.directory)
    assert sound(store)
    (place / "ann").rename(place / "a-much-longer-name")
    here = Store(directory=place / "a-much-longer-name/store")
    assert not sound(here)
    done = moved(here.directory)
    assert [(one.old, one.new, one.changed > 0) for one in done] == 2 * [
        (store.directory, here.directory, True)
    ]
    assert sound(here)
    assert moved(here.directory)[0].changed == 0
    twins = [os.stat(here.path(done[0].name) / "bin" / name).st_ino for name in ("run", "twin")]
    assert len(set(twins)) == 1
    (place / "a-much-longer-name").rename(place / "ann")
    moved(store.directory)
    assert everything(store.directory) == before


def test_a_copy_is_at_home_elsewhere_and_the_source_is_only_read(store, place):
    (store.directory / "bin").symlink_to(f"{TAIL[1:]}/{next(store.names())}/bin")
    (place / "ann").rename(place / "bob")
    source, output = place / "bob/store", place / "out"
    before = everything(source)
    moved(source, output=output)
    assert everything(source) == before
    assert sound(Store(directory=output))
    assert str(output) in (output / "bin/run").read_text()
    with pytest.raises(InputError, match="lies in"):
        moved(source, output=source / "new")


def test_damage_in_an_entry_is_told_before_it_is_written(store, place):
    (place / "ann").rename(place / "bob")
    here = Store(directory=place / "bob/store")
    name = next(here.names())
    data = here.path(name) / "data"
    content, mode = data.read_bytes(), data.stat().st_mode
    data.chmod(0o644)
    data.write_bytes(content[:520] + b"!!" + content[522:])
    data.chmod(mode)
    before = everything(here.path(name))
    with pytest.raises(IntegrityError, match="offset 500"):
        moved(here.directory)
    assert everything(here.path(name)) == before


def test_a_location_that_will_not_do_is_refused(store, place):
    before = everything(store.directory)
    (place / "ann").rename(place / ("x" * 90))
    with pytest.raises(InputError, match="too long"):
        moved(place / ("x" * 90) / "store")
    (place / ("x" * 90)).rename(place / "ann")
    assert everything(store.directory) == before
    with pytest.raises(InputError, match="neither a store"):
        moved(place)


def test_a_first_reference_that_is_no_location_is_refused(store):
    name = next(store.names())
    script = store.path(name) / "bin/run"
    content = script.read_bytes()
    script.chmod(0o755)
    script.write_bytes(content.replace(os.fsencode(store.directory), b"/../" + bytes(4)))
    with pytest.raises((InputError, IntegrityError)):
        moved(store.directory)


def test_an_entry_without_references_stays(place):
    store = Store(directory=place / "s")
    name = add(store, "x")
    (store.record_path(name) / "table.json").chmod(0o644)
    (store.record_path(name) / "table.json").write_text('{"version":1,"files":{},"links":{}}')
    assert moved(store.directory)[0].changed == 0
    assert len(Table(files={}, links={})) == 0


def test_whenever_it_is_killed_the_next_run_completes_it(store, place):
    steps = ("os.rename", "os.link", "os.mkdir", "os.chmod", "os.remove", "os.symlink", "os.rmdir")
    original = place / "original"
    shutil.copytree(store.directory, original, symlinks=True)
    number, kills = 0, 0
    while True:
        number += 1
        here = Store(directory=place / f"new{number}")
        shutil.copytree(original, here.directory, symlinks=True)
        if not killed_at(number, steps, lambda here=here: moved(here.directory)):
            break
        kills += 1
        moved(here.directory)
        assert sound(here), number
        fsys.remove_tree(here.directory)
    assert sound(here)
    assert kills > 30


def killed_at(number, steps, work):
    """Run `work` in a child that kills itself at the `number`-th of the steps that Python reports."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event, _arguments):
            nonlocal count
            count += event in steps
            if event in steps and count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            work()
        except Exception:  # noqa: BLE001 - a child of pytest must end here, whatever happened
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def test_an_entry_is_checked_by_its_table_and_has_nothing_to_undo(store, place):
    assert request.check(store.directory) == ()
    with pytest.raises(InputError, match=r"built it.*nothing is kept"):
        request.undo(store.directory)
    (place / "ann").rename(place / "bob")
    here = place / "bob/store"
    assert ["names" in one.what for one in request.check(here)] == [True, True]
    moved(here)
    assert request.check(here) == ()
    victim = next(Store(directory=here).root.glob("*-hello-*/data"))
    victim.chmod(0o644)
    with victim.open("r+b") as file:
        file.seek(510)
        file.write(b"?")
    assert ["offset 500" in one.what for one in request.check(here)] == [True]
