"""`belljar store` on real entries, in text and in JSON."""

import json

import pytest
from click.testing import CliRunner
from test_store_entries import add_entry, entry_name, store  # noqa: F401 - a fixture

from belljar.cli.store import command


@pytest.fixture
def call(store, monkeypatch):  # noqa: F811
    """Run a command on the fixture's store; gives its status and what it printed."""
    home = store.directory / "home"
    monkeypatch.setenv("BELLJAR_HOME", str(home))
    inner = type(store)(directory=home / "store")
    add_entry(inner, entry_name(), {"bin/x": "one", "b": "two"})
    add_entry(inner, entry_name("other", "2.0"), {"y": "three"})

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(command, words, standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.return_value or 0, done.stdout

    run.store = inner
    return run


def test_list_shows_every_entry_with_its_size_and_hash(call):
    status, text = call("list")
    assert status == 0
    first, second = text.splitlines()
    assert first.split()[:3] == ["hello", "1.0", "6"]
    assert first.endswith(str(entry_name()))
    assert second.split()[:3] == ["other", "2.0", "5"]
    value = json.loads(call("list", "--format", "json")[1])
    assert [entry["name"] for entry in value["entries"]] == [
        str(entry_name()),
        str(entry_name("other", "2.0")),
    ]
    assert value["entries"][0]["content"].startswith("sha256:")


def test_path_gives_one_line_that_a_script_can_use(call):
    assert call("path", "hello") == (0, f"{call.store.path(entry_name())}\n")
    assert json.loads(call("path", "hello", "--format", "json")[1])["path"] == str(
        call.store.path(entry_name())
    )


def test_verify_names_what_is_damaged_and_passes_what_is_sound(call):
    assert call("verify") == (0, f"{entry_name()}: sound\n{entry_name('other', '2.0')}: sound\n")
    path = call.store.path(entry_name())
    path.chmod(0o755)
    (path / "b").unlink()
    (path / "new").write_text("x")
    status, text = call("verify")
    assert status == 6
    assert text.splitlines() == [
        f"{entry_name()}: DAMAGED",
        "  b: missing",
        "  new: added",
        f"{entry_name('other', '2.0')}: sound",
    ]
    status, text = call("verify", "--format", "json")
    assert status == 6
    entry, other = json.loads(text)["entries"]
    assert entry["damage"] == [{"path": "b", "what": "missing"}, {"path": "new", "what": "added"}]
    assert other["sound"]
    assert call("verify", "other")[0] == 0


def test_verify_goes_on_when_one_record_is_damaged(call):
    record = call.store.record_path(entry_name()) / "manifest"
    record.chmod(0o644)
    record.write_bytes(b"nonsense\0")
    status, text = call("verify")
    assert status == 6
    assert f"{entry_name()}: DAMAGED" in text
    assert "manifest: damaged" in text
    assert f"{entry_name('other', '2.0')}: sound" in text
