"""The lock: canonical, complete, refused when stale or damaged."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.errors import InputError, IntegrityError, RemoteError
from belljar.home import Home
from belljar.recipe import downloads, lock
from belljar.recipe.fetch import fetch
from belljar.recipe.lock import Lock, LockedFile, check, requests_of, require_fresh
from belljar.recipe.recipe import FILE, load
from belljar.types import Arch

RECIPE = """\
[package]
name = "hello"
version = "2.10"
[sources]
hello = "deb-src:hello=2.10-3"
here = { path = "." }
[environment]
suite = "bookworm"
packages = ["deb:bash", "pypi:six==1.16.0"]
[build]
script = "make"
"""
CONTENT = b"content"
SHA = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


def locked(**fields):
    return LockedFile(
        **{"kind": "deb", "name": "bash", "version": "1:5-2+b3", "arch": "amd64", "file": "bash.deb"}
        | {"sha256": SHA, "size": len(CONTENT)}
        | fields
    )


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / FILE).write_text(RECIPE)
    return load(tmp_path)


@pytest.fixture
def home(tmp_path):
    return Home(data=tmp_path / "data", cache=tmp_path / "cache")


def lock_of(recipe, **fields):
    return Lock(
        **{
            "arch": Arch.X86_64,
            "requests": requests_of(recipe),
            "sources": {"hello": (locked(kind="deb-src", name="hello", arch="", file="hello.tar.gz"),)},
            "environment": (
                locked(),
                locked(kind="npm", name="@a/b", arch="", file="b.tgz", sha256="b" * 64),
            ),
        }
        | fields
    )


def test_a_lock_reads_back_as_it_was_written(recipe, tmp_path):
    path = tmp_path / lock.FILE
    lock.write(path, lock_of(recipe))
    assert lock.read(path) == lock_of(recipe)
    assert lock.read(path).to_text() == path.read_text()


def test_its_text_is_canonical_and_a_line_says_one_thing(recipe):
    text = lock_of(recipe).to_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert f'      "sha256": "{SHA}",\n' in text


def test_nothing_is_stale_right_after_locking(recipe):
    assert check(recipe, lock_of(recipe), arch=Arch.X86_64) == ()
    require_fresh(recipe, lock_of(recipe), arch=Arch.X86_64)


@pytest.mark.parametrize(
    ("old", "new", "described"),
    [
        ("2.10-3", "2.10-4", ["sources.hello: was deb-src:hello=2.10-3, is deb-src:hello=2.10-4"]),
        ("bookworm", "bullseye", ["environment.suite: was bookworm, is bullseye"]),
        ('"deb:bash", ', '"deb:dash", ', ["environment.packages: was deb:bash, is deb:dash"]),
        ('"deb:bash", ', "", ["environment.packages: was deb:bash, is without"]),
        ("hello = ", "other = ", [
            "sources.hello: was deb-src:hello=2.10-3, is not there",
            "sources.other: was not there, is deb-src:hello=2.10-3",
        ]),
        ('"deb:bash", "pypi:six==1.16.0"', '"pypi:six==1.16.0", "deb:bash"', []),
        ('path = "."', 'path = "elsewhere"', []),
        ('script = "make"', 'script = "make all"', []),
    ],
)  # fmt: skip
def test_each_changed_key_is_named_with_what_it_was_and_is(recipe, old, new, described):
    before = lock_of(recipe)
    assert old in RECIPE
    recipe.path.write_text(RECIPE.replace(old, new))
    changes = check(load(recipe.directory), before, arch=Arch.X86_64)
    assert [change.describe() for change in changes] == described


def test_a_stale_lock_is_refused_with_the_remedy(recipe):
    with pytest.raises(InputError, match="arch: was x86_64, is aarch64") as caught:
        require_fresh(recipe, lock_of(recipe), arch=Arch.AARCH64)
    assert caught.value.hint == "run `belljar lock`"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.update(version=2), "version 2 is not known"),
        (lambda value: value.update(arch="vax"), "arch: 'vax'"),
        (lambda value: value.pop("requests"), "requests: missing"),
        (lambda value: value.update(more=1), "more: unknown"),
        (lambda value: value.update(environment={}), "environment: not a list"),
        (lambda value: value.update(sources=[]), "sources: not an object"),
        (lambda value: value["requests"].update(x=1), r"requests\.x: neither"),
        (lambda value: value["environment"].append(3), r"environment\[2\]: not an object"),
        (lambda value: value["environment"][0].update(sha256="F" * 64), r"environment\[0\]\.sha256"),
        (lambda value: value["environment"][0].update(sha256=3), r"environment\[0\]\.sha256"),
        (lambda value: value["environment"][0].update(size=-1), r"environment\[0\]\.size"),
        (lambda value: value["environment"][0].update(size=True), r"environment\[0\]\.size"),
        (lambda value: value["environment"][0].update(file="../x"), r"environment\[0\]\.file"),
        (lambda value: value["environment"][0].update(name="a/../../x"), r"environment\[0\]\.name"),
        (lambda value: value["environment"][0].update(name="--x"), r"environment\[0\]\.name"),
        (lambda value: value["environment"][0].update(version="-x"), r"environment\[0\]\.version"),
        (lambda value: value["environment"][0].update(kind="git"), r"environment\[0\]\.kind"),
        (lambda value: value["environment"][0].pop("file"), r"environment\[0\]\.file: missing"),
        (lambda value: value["sources"]["hello"][0].update(x=1), r"sources\.hello\[0\]\.x: unknown"),
    ],
)
def test_a_damaged_lock_is_refused_with_the_key(recipe, tmp_path, change, message):
    value = json.loads(lock_of(recipe).to_text())
    change(value)
    (tmp_path / "l").write_text(json.dumps(value))
    with pytest.raises(InputError, match=message):
        lock.read(tmp_path / "l")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_lock_at_all_is_refused(tmp_path, data):
    (tmp_path / "l").write_bytes(data)
    with pytest.raises(InputError, match=r"l: "):
        lock.read(tmp_path / "l")
    with pytest.raises(InputError, match="not there"):
        lock.read(tmp_path / "none")


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_mutated_lock_is_read_or_refused_in_words(tmp_path_factory, data):
    text = bytearray(Lock(arch=Arch.X86_64, requests={"a": "b"}, environment=(locked(),)).to_text().encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    path = tmp_path_factory.mktemp("lock") / "l"
    path.write_bytes(text)
    try:
        lock.read(path)
    except InputError as error:
        assert str(error).startswith(str(path))


def put(home, file, content):
    path = downloads.path_of(file, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_offline_names_what_is_missing(recipe, home):
    lock_ = lock_of(recipe, environment=())
    with pytest.raises(RemoteError, match=r"1 of 1 files are not there:\n  hello\.tar\.gz"):
        fetch(lock_, home, offline=True)
    path = put(home, lock_.sources["hello"][0], CONTENT)
    assert fetch(lock_, home, offline=True) == {SHA: path}


def test_a_download_that_was_changed_is_removed_and_reported(recipe, home):
    lock_ = lock_of(recipe, environment=())
    path = put(home, lock_.sources["hello"][0], b"meddled")
    with pytest.raises(IntegrityError, match=f"want {SHA}") as caught:
        fetch(lock_, home)
    assert caught.value.exit_code == 6
    assert not path.exists()


def test_a_download_of_another_size_is_refused_too(home, tmp_path):
    (tmp_path / "f").write_bytes(CONTENT)
    with pytest.raises(IntegrityError):
        downloads.admit(tmp_path / "f", locked(size=3), home)
    assert not (tmp_path / "f").exists()
    assert not home.downloads.exists()
