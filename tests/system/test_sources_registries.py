"""Locking and fetching with the machine's own apt, pip and npm, against the real archives."""

import dataclasses
import os
import shutil
import tempfile
import traceback
from pathlib import Path

import pytest

from belljar.archive.unpack import unpack
from belljar.errors import HostError, IntegrityError, RemoteError
from belljar.home import Home
from belljar.recipe import downloads
from belljar.recipe.fetch import fetch
from belljar.recipe.lock import Lock
from belljar.recipe.recipe import FILE, load
from belljar.recipe.resolve import lock
from belljar.recipe.sources import apt, kind_named
from belljar.schema import SchemaError
from belljar.types import Digest


def recipe(directory, packages, suite="bookworm", sources=""):
    directory.mkdir(parents=True, exist_ok=True)
    listed = ", ".join(f'"{name}"' for name in packages)
    (directory / FILE).write_text(
        f'[package]\nname = "x"\nversion = "1"\n[build]\nscript = "x"\n'
        f'[environment]\nsuite = "{suite}"\npackages = [{listed}]\n[sources]\n{sources}'
    )
    return load(directory)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    data = tmp_path_factory.mktemp("home")
    return Home(data=data, cache=data / "cache")


@pytest.fixture(scope="module")
def whole(home, tmp_path_factory):
    """A lock with every kind of registry in it."""
    every = ["npm:is-number@7.0.0", "deb:hello", "pypi:six==1.16.0"]
    return lock(recipe(tmp_path_factory.mktemp("r"), every, sources='hello = "deb-src:hello=2.10"\n'), home)


def problems(caught):
    return [(issue.line, issue.key, issue.message) for issue in caught.value.issues]


def without_network(monkeypatch, tmp_path):
    """Point all three clients at what is not there, whatever the machine's configuration says."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources/x.list").write_text(f"deb [trusted=yes] file:{tmp_path}/none bookworm main\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{tmp_path}/sources";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")


def test_every_kind_is_pinned_and_fetched(whole, home):
    assert [(file.kind, file.name) for file in whole.environment] == [
        ("deb", "gcc-12-base"),
        ("deb", "hello"),
        ("npm", "is-number"),
        ("deb", "libc6"),
        ("deb", "libgcc-s1"),
        ("pypi", "six"),
    ]
    (tarball,) = whole.sources["hello"]
    assert (tarball.version, tarball.file) == ("2.10-3", "hello_2.10.orig.tar.gz")
    assert tarball.sha256 == "31e066137a962676e89f69d1b65382de95a7ef7d914b8cb956f41ea72e0f516b"
    files = fetch(whole, home)
    assert set(files) == {file.sha256 for file in whole.files}
    assert fetch(whole, home, offline=True) == files


def test_what_was_fetched_unpacks_and_runs_in_its_own_root(whole, home, tmp_path):
    files = fetch(whole, home)
    for file in whole.environment:
        into = tmp_path if file.kind == "deb" else tmp_path / "opt" / file.name
        unpack(files[file.sha256], into, mtime=1, merged_usr=file.kind == "deb", strip_top=file.kind == "npm")
    unpack(files[whole.sources["hello"][0].sha256], tmp_path / "src", mtime=1, strip_top=True)
    for name in ("usr/bin/hello", "lib64/ld-linux-x86-64.so.2", "opt/six/six.py", "opt/is-number/index.js"):
        assert (tmp_path / name).is_file() or (tmp_path / name).is_symlink(), name
    assert os.access(tmp_path / "src/configure", os.X_OK)


def test_locking_twice_gives_the_same_bytes_and_nothing_of_the_machine(whole, home, tmp_path):
    every = ["deb:hello", "pypi:six==1.16.0", "npm:is-number@7.0.0"]
    second = recipe(tmp_path / "r", every, sources='hello = "deb-src:hello=2.10"\n')
    text = lock(second, home).to_text()
    assert text == whole.to_text()
    assert "http" not in text
    assert str(home.cache) not in text


def test_another_suite_than_the_machine_s_resolves_by_its_own_keys(home, tmp_path):
    sources = 'hello = "deb-src:hello=2.10-2"\n'
    locked = lock(recipe(tmp_path, ["deb:libc6"], suite="bullseye", sources=sources), home)
    versions = {file.name: file.version for file in locked.environment}
    assert versions["libc6"].startswith("2.31-")
    assert locked.sources["hello"][0].version == "2.10-2"
    assert set(fetch(locked, home)) == {file.sha256 for file in locked.files}


def test_everything_that_nothing_answers_to_is_named_at_once(home, tmp_path):
    names = ["deb:bash", "deb:cowsey", "deb:hello=9", "deb:libc.", "pypi:six==0.0.99", "npm:is-number@77.0.0"]
    sources = 'a = "deb-src:helo=1"\nb = "deb-src:hello=9"\n'
    with pytest.raises(SchemaError) as caught:
        lock(recipe(tmp_path, names, sources=sources), home)
    found = problems(caught)
    assert [(line, key) for line, key, _ in found] == [
        *((8, f"environment.packages[{index}]") for index in range(1, 6)),
        (10, "sources.a"),
        (11, "sources.b"),
    ]
    messages = [message for _, _, message in found]
    assert messages[0] == "bookworm has no package 'cowsey'; did you mean 'cowsay'?"
    assert messages[1] == "bookworm has hello 2.10-3, not 9"
    assert messages[2].startswith("bookworm has no package 'libc.'")
    assert "No matching distribution found for six==0.0.99" in messages[3]
    assert messages[4] == "npm knows no is-number@77.0.0"
    assert messages[5] == "bookworm has no source package 'helo'"
    assert messages[6] == "bookworm has hello 2.10-3, not 9"


def test_a_suite_that_does_not_exist_is_named(home, tmp_path):
    with pytest.raises(SchemaError, match=r"environment\.suite: the archive has no suite 'bookwurm'"):
        lock(recipe(tmp_path, ["deb:hello"], suite="bookwurm"), home)


@pytest.mark.parametrize("package", ["deb:hello", "pypi:six==1.16.0", "npm:is-number@7.0.0"])
def test_without_network_locking_says_so(tmp_path, monkeypatch, package):
    without_network(monkeypatch, tmp_path)
    with pytest.raises(RemoteError, match="cannot be had") as caught:
        lock(recipe(tmp_path / "r", [package]), Home(data=tmp_path / "h", cache=tmp_path / "h/cache"))
    assert caught.value.exit_code == 7
    assert caught.value.hint.startswith("is there a network")


@pytest.mark.parametrize("kind", ["deb", "deb-src", "pypi", "npm"])
def test_without_network_fetching_says_so(whole, tmp_path, monkeypatch, kind):
    without_network(monkeypatch, tmp_path)
    files = tuple(file for file in whole.files if file.kind == kind)
    with pytest.raises(RemoteError):
        fetch(
            dataclasses.replace(whole, sources={}, environment=files),
            Home(data=tmp_path / "h", cache=tmp_path / "h/cache"),
        )


def test_a_machine_without_an_archive_or_a_client_is_told_so(tmp_path, monkeypatch):
    wanted = recipe(tmp_path / "r", ["deb:hello"])
    empty = Home(data=tmp_path / "h", cache=tmp_path / "h/cache")
    without_network(monkeypatch, tmp_path)
    (tmp_path / "sources/x.list").write_text("")
    with pytest.raises(HostError, match="no Debian archive is configured"):
        lock(wanted, empty)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="apt-get: not found"):
        lock(wanted, empty)
    with pytest.raises(HostError, match="npm: not found"):
        lock(recipe(tmp_path / "r", ["npm:is-number@7.0.0"]), empty)


def with_one(whole, kind, **changes):
    """The lock of one file of that kind, changed."""
    file = next(file for file in whole.environment if file.kind == kind)
    return dataclasses.replace(whole, sources={}, environment=(dataclasses.replace(file, **changes),))


@pytest.mark.parametrize("kind", ["deb", "pypi", "npm"])
def test_content_that_is_not_what_was_locked_is_exit_6_and_not_kept(whole, home, kind):
    wrong = with_one(whole, kind, sha256=Digest("0" * 64))
    with pytest.raises(IntegrityError) as caught:
        fetch(wrong, home)
    assert caught.value.exit_code == 6
    assert not downloads.path_of(wrong.files[0], home).exists()
    assert list((home.cache / "incoming").iterdir()) == []


def test_a_changed_download_is_removed_and_the_next_fetch_mends_it(whole, home):
    only = with_one(whole, "npm")
    path = fetch(only, home)[only.files[0].sha256]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError):
        fetch(only, home)
    assert not path.exists()
    assert fetch(only, home) == {only.files[0].sha256: path}


def test_a_version_that_left_the_archive_is_said_to_have_left(whole, home):
    with pytest.raises(RemoteError, match="no longer in the archive") as caught:
        fetch(with_one(whole, "deb", version="0.0-1", sha256=Digest("1" * 64)), home)
    assert "belljar lock" in caught.value.hint


def test_an_ordinary_user_locks_the_same(whole):
    """Where the tests run as root, a child gives that up first; else they show it by themselves."""
    for kind in ("deb", "deb-src", "npm"):
        kind_named(kind)  # the child may not be able to read our interpreter's modules
    directory = Path(tempfile.mkdtemp(prefix="belljar-user-"))
    directory.chmod(0o777)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.environ["HOME"] = "/nonexistent"
            _lock_and_compare(directory, whole)
            status = 0
        except BaseException:  # noqa: BLE001 - shown below; a child must never return into pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        assert os.waitpid(child, 0)[1] == 0
    finally:
        shutil.rmtree(directory)


def _lock_and_compare(directory: Path, whole: Lock) -> None:
    mine = Home(data=directory / "home", cache=directory / "home/cache")
    sources = 'hello = "deb-src:hello=2.10"\n'
    locked = lock(recipe(directory / "r", ["deb:hello", "npm:is-number@7.0.0"], sources=sources), mine)
    assert locked.environment == tuple(file for file in whole.environment if file.kind != "pypi")
    assert locked.sources == whole.sources
    assert set(fetch(locked, mine)) == {file.sha256 for file in locked.files}


@pytest.mark.parametrize(
    ("name", "number", "want"),
    [
        ("a.list", 2, (("Signed-By", "/k.gpg"),)),
        ("a.list", 1, ()),
        ("a.list", 9, ()),
        ("b.sources", 1, (("Signed-By", "/a.gpg"),)),
        ("b.sources", 2, (("Trusted", "yes"),)),
        ("b.sources", 3, (("Signed-By", "\n -----BEGIN\n x\n -----END"),)),
        ("none.sources", 1, ()),
    ],
)
def test_who_signs_a_repository_is_read_from_its_entry(tmp_path, name, number, want):
    (tmp_path / "a.list").write_text(
        "deb http://h x main\ndeb [arch=amd64 signed-by=/k.gpg] http://h x main\n"
    )
    (tmp_path / "b.sources").write_text(
        "# note\n\nTypes: deb\n# note\nSigned-By: /a.gpg\nSuites: x\n\n\nTypes: deb\ntrusted: yes\n\n"
        "Types: deb\nSigned-By:\n -----BEGIN\n x\n -----END\nSuites: y\n"
    )
    assert apt.options_of(f"{tmp_path / name}:{number}") == want


def test_the_archive_is_told_from_other_repositories():
    def repository(uri, suite):
        return apt.Repository(uri=uri, suite=suite, options=())

    main, other = repository("a", "bookworm"), repository("b", "nodistro")
    updates, old = repository("a", "bookworm-updates"), repository("c", "bullseye")
    assert apt.archive_for("bookworm", [other, updates, main, old]) == [main]
    assert apt.archive_for("bullseye", [other, updates, main, old]) == [old]
    stable = repository("d", "stable")
    assert apt.archive_for("trixie", [other, stable]) == [stable]
    with pytest.raises(HostError):
        apt.archive_for("trixie", [other, updates])
