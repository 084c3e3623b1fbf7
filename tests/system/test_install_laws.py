"""Installing: the same bytes wherever it goes, nothing half done, nothing of anybody else's touched."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from test_build_support import (
    INTERRUPTED,
    NOBODY,
    ROOT,
    belljar,
    command,
    environment,
    home,
    home_of,
    recipe,
    start,
    tree_of,
)

from belljar import fsys
from belljar.build import build
from belljar.errors import InputError, IntegrityError
from belljar.placeholder import DIRECTORY_LIMIT, TAIL
from belljar.relocate.install import install, plan, uninstall
from belljar.store import Store


@pytest.fixture(scope="module")
def kitchen():
    with tempfile.TemporaryDirectory() as scratch:
        place = home(Path(scratch) / "home")
        yield place, build(recipe(Path(scratch) / "r"), home=home_of(place))


@pytest.fixture
def store(kitchen):
    return Store(directory=kitchen[0] / "store")


@pytest.fixture
def name(kitchen):
    return kitchen[1].name


@pytest.fixture
def short():
    """A directory with a short path."""
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def _says(directory: Path) -> str:
    """What the installed program says: its own prefix, through its own interpreter line's neighbour."""
    return subprocess.run(
        ["sh", directory / "bin/say"], capture_output=True, text=True, check=True
    ).stdout.strip()


def _of_length(directory: Path, length: int) -> Path:
    return directory / ("x" * (length - len(str(directory)) - 1))


def test_two_installations_each_run_from_their_own_place(store, name, short):
    longest = _of_length(short, DIRECTORY_LIMIT)
    assert len(str(longest)) == 80
    for place in (short / "a", longest):
        install(plan(store, name, place))
        said = _says(place)
        assert said.startswith(str(place))
        assert os.path.samefile(said, (place / "bin").resolve().parent)
        assert (place / "lib/word").read_text() == "hello\n"
        assert Store(directory=place).verify(name) == ()
    fsys.remove_tree(short / "a")
    assert os.path.samefile(_says(longest), (longest / "bin").resolve().parent)


def test_81_bytes_are_refused_and_nothing_is_written(kitchen, name, short):
    place = _of_length(short, DIRECTORY_LIMIT + 1)
    done = belljar("install", str(name), "--to", place, home=kitchen[0])
    assert done.returncode == 3
    assert "too long by 1 bytes" in done.stderr
    assert list(short.iterdir()) == []


def test_a_directory_that_is_too_long_can_have_a_short_name(store, name, short):
    long = short / "long" / ("x" * 100)
    with pytest.raises(InputError, match="too long by") as refusal:
        plan(store, name, long)
    assert "--alias" in str(refusal.value.hint)
    alias = short / "s"
    doing = plan(store, name, long, alias=alias)
    assert f"link {alias} -> {long}" in doing.describe()
    assert not alias.is_symlink()
    install(doing)
    assert os.readlink(alias) == str(long)
    assert (long / "bin/say").exists()
    assert _says(alias).startswith(str(alias))
    assert Store(directory=alias).verify(name) == ()
    install(plan(store, name, long, alias=alias))
    uninstall(alias, name)
    assert not any(long.iterdir())


def test_an_alias_takes_nobodys_place(store, name, short):
    long = short / ("x" * 100)
    taken = short / "taken"
    taken.write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        plan(store, name, long, alias=taken)
    (long / "bin").mkdir(parents=True)
    with pytest.raises(InputError, match="has bin already"):
        plan(store, name, long, alias=short / "s")


def test_installed_bytes_are_those_of_the_store_with_its_location_replaced(store, name, short):
    install(plan(store, name, short / "there"))
    target = Store(directory=short / "there")
    there = tree_of(target.path(name))
    here = tree_of(store.path(name))
    assert {
        path: (mode, content.replace(store.location, target.location))
        for path, (mode, content) in here.items()
    } == there
    assert any(store.location in content for _, content in here.values())


def test_from_a_to_b_and_back_gives_every_byte_again(store, name, short):
    one, other = Store(directory=short / "one"), Store(directory=short / "another/one")
    install(plan(store, name, one.directory))
    install(plan(one, name, other.directory))
    before = tree_of(one.path(name))
    uninstall(one.directory, name)
    install(plan(other, name, one.directory))
    assert tree_of(one.path(name)) == before
    assert [one.verify(name), other.verify(name), store.verify(name)] == [(), (), ()]


WAYS = {
    "relative": "there",
    "with a slash at the end": "there/",
    "with dots": "x/../there",
    "with a dot": "./there/.",
    "through a link": "link/there",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_directory_may_be_written_in_any_way(way, kitchen, name, short):
    (short / "x").mkdir()
    (short / "link").symlink_to("x")
    done = belljar("install", str(name), "--to", WAYS[way], home=kitchen[0], cwd=short)
    assert done.returncode == 0, done.stderr
    assert os.path.samefile(_says(short / WAYS[way]), (short / WAYS[way] / "bin").resolve().parent)
    checked = belljar("store", "verify", "--at", WAYS[way], home=kitchen[0], cwd=short)
    assert checked.returncode == 0, checked.stderr
    removed = belljar("uninstall", WAYS[way], home=kitchen[0], cwd=short)
    assert removed.returncode == 0, removed.stderr
    assert list((short / WAYS[way]).iterdir()) == []


def test_dots_after_a_link_mean_what_the_kernel_means(kitchen, name, short):
    (short / "a/b").mkdir(parents=True)
    (short / "link").symlink_to("a/b")
    done = belljar("install", str(name), "--to", "link/../there", home=kitchen[0], cwd=short)
    assert done.returncode == 0, done.stderr
    assert (short / "a/there/bin/say").exists()
    assert not (short / "there").exists()


def test_a_file_where_the_directory_should_be_is_refused(kitchen, name, short):
    (short / "file").write_text("mine")
    for place, status in (("file", 2), ("file/below", 4)):
        done = belljar("install", str(name), "--to", short / place, home=kitchen[0])
        assert done.returncode == status, done.stderr
    assert (short / "file").read_text() == "mine"


def test_other_files_stay_through_install_and_uninstall(store, name, short):
    (short / "mine").mkdir()
    (short / "mine/file").write_text("mine")
    (short / "link").symlink_to("/nowhere")
    before = tree_of(short)
    install(plan(store, name, short))
    assert {path: tree_of(short)[path] for path in before} == before
    uninstall(short, name)
    assert tree_of(short) == before


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_what_is_in_the_way_is_refused_before_anything_is_written(kind, store, name, short):
    if kind == "file":
        (short / "word").write_text("mine")
    elif kind == "directory":
        (short / "word").mkdir()
    else:
        (short / "word").symlink_to("/nowhere")
    before = tree_of(short)
    with pytest.raises(InputError, match="has word already, which tiny would put there"):
        plan(store, name, short)
    assert tree_of(short) == before


def test_installing_twice_changes_nothing(store, name, short):
    install(plan(store, name, short))
    before = tree_of(short)
    again = plan(store, name, short)
    assert again.describe() == []
    install(again)
    assert tree_of(short) == before


def test_two_artifacts_live_side_by_side_until_they_claim_one_name(kitchen, store, name, short, tmp_path):
    other = build(
        recipe(tmp_path / "o", 'mkdir "$PREFIX/other"; echo $PREFIX > "$PREFIX/other/x"', name="other"),
        home=home_of(kitchen[0]),
    ).name
    rival = build(
        recipe(tmp_path / "v", 'echo x > "$PREFIX/word"', name="rival"), home=home_of(kitchen[0])
    ).name
    for each in (name, other):
        install(plan(store, each, short))
    with pytest.raises(InputError, match="has word already"):
        plan(store, rival, short)
    done = belljar("uninstall", short, home=kitchen[0])
    assert done.returncode == 3
    assert f"  {name}\n" in done.stderr
    assert f"  {other}\n" in done.stderr
    assert belljar("uninstall", short, "tiny", home=kitchen[0]).returncode == 0
    assert sorted(path.name for path in short.iterdir()) == ["other", TAIL[1:]]
    assert Store(directory=short).verify(other) == ()
    assert belljar("uninstall", short, home=kitchen[0]).returncode == 0
    assert list(short.iterdir()) == []
    assert belljar("uninstall", short, home=kitchen[0]).returncode == 3


def test_a_dry_run_says_what_and_writes_nothing(kitchen, name, short):
    done = belljar("install", str(name), "--to", short / "a", "--dry-run", home=kitchen[0])
    assert done.returncode == 0
    assert f"link {short / 'a'}/bin -> {TAIL[1:]}/{name}/bin" in done.stdout
    assert list(short.iterdir()) == []
    install(plan(Store(directory=kitchen[0] / "store"), name, short))
    before = tree_of(short)
    done = belljar("uninstall", short, "--dry-run", home=kitchen[0])
    assert f"would remove {name}" in done.stdout
    assert tree_of(short) == before


@pytest.mark.parametrize("where", [".", "below", TAIL[1:]])
def test_the_store_itself_is_no_place_to_install(where, kitchen, store, name):
    before = tree_of(store.directory)
    done = belljar("install", str(name), "--to", store.directory / where, home=kitchen[0])
    assert done.returncode == 3
    assert "lies in the store" in done.stderr
    assert tree_of(store.directory) == before


def test_a_directory_without_permission_is_refused_with_a_hint(kitchen, name, short):
    short.chmod(0o555)
    words = command("install", str(name), "--to", short)
    if ROOT:
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", *words]
        os.chown(short, NOBODY, NOBODY)
    done = subprocess.run(words, env=environment(kitchen[0]), capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "Permission denied" in done.stderr
    assert "--to" in done.stderr
    assert list(short.iterdir()) == []


READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'


def test_a_read_only_store_is_as_good_as_any(kitchen, name, short):
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-euc",
        READ_ONLY,
        "sh",
        str(kitchen[0]),
    ]
    done = subprocess.run(
        [*words, *command("install", str(name), "--to", short / "x")],
        env=environment(kitchen[0]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Store(directory=short / "x").verify(name) == ()


# Damage


@pytest.fixture
def damaged(store, name, short):
    """A copy of the store, at a place of its own, whose file can be damaged: `damaged(path, change)`."""
    install(plan(store, name, short / "source"))
    source = Store(directory=short / "source")

    def damage(path: str, change):
        victim = source.path(name) / path
        victim.parent.chmod(0o755)
        victim.chmod(0o644)
        change(victim)
        return source

    return damage


def _shift(victim: Path) -> None:
    victim.write_bytes(b" " + victim.read_bytes())


@pytest.mark.parametrize("change", [_shift, Path.unlink, lambda victim: os.truncate(victim, 20)])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_damaged_entry_is_not_installed_and_nothing_is_left(change, is_new, damaged, name, short):
    source = damaged("bin/say", change)
    target = short / "there"
    if not is_new:
        target.mkdir()
        (target / "mine").write_text("mine")
    with pytest.raises(IntegrityError, match="bin/say"):
        install(plan(source, name, target))
    assert target.exists() != is_new
    if not is_new:
        assert os.listdir(target) == ["mine"]


def test_the_program_refuses_a_damaged_entry_with_its_own_status(kitchen, name, short, tmp_path):
    place = home(short / "h")
    built = build(recipe(tmp_path / "r"), home=home_of(place))
    victim = built.path / "bin/say"
    victim.chmod(0o644)
    _shift(victim)
    done = belljar("install", "tiny", "--to", short / "there", home=place)
    assert done.returncode == 6
    assert "bin/say: offset" in done.stderr
    assert not (short / "there").exists()


# Interruptions

MANY = 'mkdir $PREFIX/d; cd $PREFIX/d; for i in $(seq 3000); do echo "$PREFIX" > $i; done'


@pytest.fixture(scope="module")
def large(kitchen):
    with tempfile.TemporaryDirectory() as scratch:
        return build(recipe(Path(scratch) / "r", MANY, name="large"), home=home_of(kitchen[0])).name


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_installation_is_whole_after_the_next(kind, number, kitchen, large, short):
    process = start("install", str(large), "--to", short / "x", home=kitchen[0])
    assert process.stderr is not None
    assert process.stderr.readline() == "loading\n"
    time.sleep(0.03 + number * 0.11)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(kind)
    _, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    place = Store(directory=short / "x")
    for name in place.names():
        assert place.verify(name) == ()
    if process.returncode == INTERRUPTED and not list(place.names()):
        assert not place.directory.exists()
    done = belljar("install", str(large), "--to", short / "x", "--format", "json", home=kitchen[0])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == str(large)
    assert place.verify(large) == ()
    staging = place.root / ".staging"
    assert not staging.exists() or list(staging.iterdir()) == [] or process.returncode == 0
    assert belljar("uninstall", short / "x", home=kitchen[0]).returncode == 0
    assert list((short / "x").iterdir()) == []
