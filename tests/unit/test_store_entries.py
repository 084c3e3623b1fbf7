"""The store: names, records, entries, what verifying says, how an entry is found."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import pytest

from belljar import fsys
from belljar.errors import InputError
from belljar.placeholder import PLACEHOLDER, TAIL
from belljar.references import Reference, Table
from belljar.store import Damage, Manifest, Record, Store, StoreName, describe, locate
from belljar.store.manifest import Line
from belljar.types import Digest

HASH = "abcdefghijklmnopqrstuvwxyz234567"
NOTHING = Table(files={}, links={})


def entry_name(package: str = "hello", version: str = "1.0", seed: str = "x") -> StoreName:
    return StoreName.make(package, version, Digest(hashlib.sha256(seed.encode()).hexdigest()))


def _record(name: StoreName, manifest: Manifest, table: Table = NOTHING) -> Record:
    return Record(
        name=name,
        content=manifest.digest,
        size=manifest.size,
        files=1,
        references=len(table),
        closure=(),
        inputs={"x": "y"},
        portability={"glibc": "2.17"},
        relocatable=True,
    )


def add_entry(store: Store, name: StoreName, files: dict[str, str]) -> Path:
    with store.lock(name), fsys.staging(store.directory / "staging") as stage:
        tree = stage / "tree"
        tree.mkdir()
        for path, text in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        offset = {path: text.index(PLACEHOLDER) for path, text in files.items() if PLACEHOLDER in text}
        table = Table(files={path: (Reference(offset=at),) for path, at in offset.items()}, links={})
        manifest = describe(tree, table, PLACEHOLDER.encode())
        for path in offset:
            (tree / path).write_bytes(files[path].encode().replace(PLACEHOLDER.encode(), store.location))
        record = _record(name, manifest, table)
        return store.add(tree, stage, record=record, table=table, manifest=manifest, audit={"a": 1})


@pytest.fixture
def store():
    """A store at a path that is short enough, whatever the test's name."""
    with tempfile.TemporaryDirectory() as scratch:
        yield Store(directory=Path(scratch))


# Names


def test_a_name_follows_from_the_inputs_and_can_be_read_again():
    name = entry_name()
    assert len(name.hash) == 32
    assert StoreName.parse(str(name)) == name
    assert entry_name(seed="y") != name
    assert str(StoreName(package="a-b", version="1.0~rc1+x", hash=HASH)) == f"{HASH}-a-b-1.0~rc1+x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello-1.0",
        f"{HASH}-hello",
        f"{HASH[:-1]}1-hello-1",
        f"{HASH}-Hello-1",
        f"{HASH}-x-1/y",
        f"{HASH}-../x-1",
    ],
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(InputError, match="not the name of a store entry"):
        StoreName.parse(text)


# Records and manifests


def test_a_record_survives_being_written_and_read():
    record = _record(entry_name(), Manifest(lines=()))
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("member", _record(entry_name(), Manifest(lines=())).to_json())
def test_a_record_without_one_of_its_members_is_refused(member):
    value = _record(entry_name(), Manifest(lines=())).to_json()
    del value[member]
    with pytest.raises(InputError, match="store record: damaged"):
        Record.from_json(value)


@pytest.mark.parametrize("value", [None, [], "x", 7, {"version": 2}])
def test_what_is_no_record_is_refused(value):
    with pytest.raises(InputError, match="store record"):
        Record.from_json(value)


def test_a_manifest_survives_names_of_any_bytes():
    lines = tuple(
        Line(path=path, kind="f", digest="0" * 64, size=3) for path in ("a b", "a\nb", "\udcff", "é")
    )
    manifest = Manifest(lines=(*lines, Line(path="d", kind="d")))
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.size == 12


@pytest.mark.parametrize("data", [b"z 1 2 3\0", b"f\0", b"f x\0", b"f x y z\0", b"\xff\0"])
def test_a_damaged_manifest_is_refused(data):
    with pytest.raises(InputError, match="manifest: damaged"):
        Manifest.from_bytes(data)


def test_the_content_hash_sees_content_kind_and_executable_bit_and_nothing_else(tmp_path):
    def digest() -> str:
        return describe(tmp_path, NOTHING, b"").digest

    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("x")
    first = digest()
    os.utime(tmp_path / "d/f", (1, 1))
    (tmp_path / "d/f").chmod(0o600)
    (tmp_path / "d").chmod(0o700)
    assert digest() == first
    seen = {first}
    for change in (
        lambda: (tmp_path / "d/f").chmod(0o700),
        lambda: (tmp_path / "d/f").write_text("y"),
        lambda: (tmp_path / "d/e").mkdir(),
        lambda: (tmp_path / "l").symlink_to("d"),
        lambda: ((tmp_path / "l").unlink(), (tmp_path / "l").symlink_to("d/f")),
    ):
        change()
        seen.add(digest())
    assert len(seen) == 6


# Entries


def test_an_entry_is_read_only_complete_and_found_again(store):
    name = entry_name()
    assert name not in store
    path = add_entry(store, name, {"bin/x": "one", "y": "two"})
    assert path == store.root / str(name)
    assert name in store
    assert list(store.names()) == [name]
    assert {oct(p.stat().st_mode & 0o777) for p in (path, path / "bin")} == {"0o555"}
    assert {oct(p.stat().st_mode & 0o777) for p in (path / "y", path / "bin/x")} == {"0o444"}
    assert store.record(name).name == name
    assert store.audit(name) == {"a": 1}
    assert store.verify(name) == ()


def test_two_stores_give_one_content_hash_to_what_points_into_them(store):
    other = Store(directory=store.directory / "somewhere/else")
    text = {"x": f"prefix={PLACEHOLDER}/bin"}
    add_entry(store, entry_name(), text)
    add_entry(other, entry_name(), text)
    assert (
        store.path(entry_name()).joinpath("x").read_text()
        != other.path(entry_name()).joinpath("x").read_text()
    )
    assert store.record(entry_name()).content == other.record(entry_name()).content
    assert store.verify(entry_name()) == other.verify(entry_name()) == ()


def test_adding_again_replaces_and_removing_leaves_nothing(store):
    add_entry(store, entry_name(), {"x": "old", "d/e": ""})
    add_entry(store, entry_name(), {"x": "new"})
    assert os.listdir(store.path(entry_name())) == ["x"]
    store.remove(entry_name())
    assert entry_name() not in store
    assert os.listdir(store.root) == [".records"]
    store.remove(entry_name())


def _damages(store: Store, change) -> tuple[Damage, ...]:
    path = add_entry(store, entry_name(), {"d/a": "one", "b": f"at {PLACEHOLDER}", "c": "three"})
    for place in (path, path / "d"):
        place.chmod(0o755)
    for file in ("d/a", "b", "c"):
        (path / file).chmod(0o644)
    change(path)
    return store.verify(entry_name())


@pytest.mark.parametrize(
    ("change", "path", "what"),
    [
        (lambda at: (at / "d/a").write_text("two"), "d/a", "changed"),
        (lambda at: (at / "d/a").unlink(), "d/a", "missing"),
        (lambda at: (at / "d/new").write_text(""), "d/new", "added"),
        (lambda at: (at / "c").chmod(0o755), "c", "changed"),
        (lambda at: ((at / "c").unlink(), (at / "c").symlink_to("b")), "c", "changed"),
        (lambda at: (at / "b").write_text("at home"), "b", "offset 3"),
        (lambda at: (at / "b").write_text("at"), "b", "offset 3"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(change, path, what, store):
    (damage,) = _damages(store, change)
    assert path in f"{damage.path} {damage.what}"
    assert what in damage.what


def test_nothing_is_wrong_with_a_sound_entry(store):
    assert _damages(store, lambda at: None) == ()


def test_several_damages_are_all_named(store):
    found = _damages(
        store, lambda at: [(at / "d/a").unlink(), (at / "c").write_text("x"), (at / "z").mkdir()]
    )
    assert [(item.path, item.what) for item in found] == [
        ("c", "changed"),
        ("d/a", "missing"),
        ("z", "added"),
    ]


def _tamper(store: Store, file: str, change) -> None:
    path = store.record_path(entry_name()) / file
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


def test_a_tampered_manifest_does_not_pass(store):
    path = add_entry(store, entry_name(), {"x": "one"})
    (path / "x").chmod(0o644)
    (path / "x").write_text("two")
    old, new = (hashlib.sha256(text).hexdigest().encode() for text in (b"one", b"two"))
    _tamper(store, "manifest", lambda data: data.replace(old, new))
    (damage,) = store.verify(entry_name())
    assert "does not have the recorded content hash" in damage.what


@pytest.mark.parametrize("file", ["record.json", "table.json", "manifest"])
@pytest.mark.parametrize(
    "change", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\xff" + data]
)
def test_a_damaged_record_is_refused_not_misread(file, change, store):
    add_entry(store, entry_name(), {"x": f"at {PLACEHOLDER}"})
    _tamper(store, file, change)
    try:
        assert store.verify(entry_name()) != ()
    except InputError as error:
        assert error.exit_code == 3


def test_what_is_no_entry_in_the_store_is_passed_over(store):
    add_entry(store, entry_name(), {"x": ""})
    (store.root / ".records/notes.txt").write_text("mine")
    (store.root / ".records" / f"{HASH}-half-1").mkdir()
    (store.root / f"{HASH}-tree-1").mkdir()
    assert list(store.names()) == [entry_name()]


# Finding


def test_an_entry_is_found_by_path_name_hash_and_package(store, tmp_path):
    name = entry_name()
    path = add_entry(store, name, {"bin/x": ""})
    (tmp_path / "result").symlink_to(path)
    for text in (
        str(name),
        "hello",
        "hello-1.0",
        str(name)[:4],
        str(path),
        str(path / "bin"),
        str(tmp_path / "result"),
    ):
        assert store.find(text) == name
    assert locate(path / "bin/x") == (store, name)
    assert locate(tmp_path) is None
    assert locate(store.root / "stray/file") is None
    assert locate(store.root / ".records") is None


@pytest.mark.parametrize("text", ["nothing", "hell", "", "abc", "/", "/etc", "./nowhere/x", "hello-2"])
def test_what_means_no_entry_is_refused(text, store):
    add_entry(store, entry_name(), {"x": ""})
    with pytest.raises(InputError, match=r"no such entry|not in the store"):
        store.find(text)


def test_an_ambiguous_text_shows_all_that_it_may_mean(store):
    names = [entry_name(seed="1"), entry_name(seed="2")]
    for name in names:
        add_entry(store, name, {"x": ""})
    with pytest.raises(InputError, match="2 entries match") as caught:
        store.find("hello")
    assert all(str(name) in caught.value.message for name in names)
    assert store.find(str(names[0])) == names[0]


def test_an_entry_that_is_not_there_is_refused(store):
    with pytest.raises(InputError, match="not in the store"):
        store.record(entry_name())
    assert list(Store(directory=store.directory / "none").names()) == []


def test_a_store_too_deep_for_a_location_says_so(tmp_path):
    with pytest.raises(InputError, match="too long by"):
        _ = Store(directory=tmp_path / ("x" * 80)).location
    assert Store(directory=tmp_path).root.name == TAIL[1:]
