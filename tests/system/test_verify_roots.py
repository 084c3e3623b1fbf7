"""Adding, finding and removing roots: directories, archives, errors, crashes, two at once."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from belljar.errors import InputError, RemoteError, UsageError
from belljar.home import Home
from belljar.types import Event
from belljar.verify import roots, verify
from belljar.verify.root import LOADERS
from belljar.verify.view import View

LOADER = next(path for path in LOADERS if Path(path).exists())


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(data=tmp_path / "home", cache=tmp_path / "home/cache")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A root of this machine's own loader and libc, and nothing else."""
    root = tmp_path_factory.mktemp("roots") / "small"
    inside = Path(View(root=Path("/")).follow(LOADER))
    for name in (inside.name, "libc.so.6"):
        place = root / str(inside.parent).lstrip("/") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(inside.with_name(name), place)
    (root / LOADER.lstrip("/")).parent.mkdir(parents=True)
    (root / LOADER.lstrip("/")).symlink_to(inside)
    (root / "usr/var").mkdir(parents=True)
    (root / "var").symlink_to("usr/var")
    return root


@pytest.fixture(scope="module")
def archive(small) -> Path:
    path = small.with_name("small.tar.gz")
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(small, ".")
    return path


@pytest.fixture
def tree(tmp_path, zig_cc) -> Path:
    (tmp_path / "tree").mkdir()
    shutil.copy(zig_cc('#include <stdio.h>\nint main(void) { puts("hi"); }\n', "-s"), tmp_path / "tree/hi")
    return tmp_path / "tree"


def kept(home: Home) -> list[str]:
    """What lies in belljar's directories, locks aside."""
    found = [path for above in (home.roots, home.staging) if above.exists() for path in above.iterdir()]
    return sorted(path.name for path in found if not path.name.endswith(".lock"))


def test_a_directory_is_referred_to_and_programs_run_on_it(small, home, tree):
    root = roots.add(f"mine={small}", home)
    assert (root.name, root.path, root.loader) == ("mine", small, LOADER)
    assert root.glibc == os.confstr("CS_GNU_LIBC_VERSION").removeprefix("glibc ")
    assert not (home.roots / "mine/tree").exists()
    assert verify(tree, ["hi"], [root]).passed
    roots.remove("mine", home)
    assert (small / LOADER.lstrip("/")).is_symlink(), "somebody else's directory stays"
    assert kept(home) == []


def test_an_archive_is_unpacked_and_needed_no_more(archive, small, home, tree, tmp_path):
    copy = Path(shutil.copy(archive, tmp_path))
    root = roots.add(f"mine={copy}", home)
    copy.unlink()
    assert root == roots.find("mine", home)
    assert root.path == home.roots / "mine/tree"
    assert root.origin.startswith("archive small.tar.gz sha256:")
    assert verify(tree, ["hi"], [root]).passed
    roots.remove("mine", home)
    assert kept(home) == []


def test_a_root_in_which_the_way_to_the_tree_is_a_link_shows_the_tree_there(small, home, zig_cc):
    """/var is usr/var in this root; the tree must be found at /var/tmp/..., its name on this machine."""
    import tempfile

    root = roots.add(f"mine={small}", home)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        shutil.copy(zig_cc('#include <stdio.h>\nint main(void) { puts("hi"); }\n', "-s"), f"{directory}/hi")
        assert verify(Path(directory), [f"{directory}/hi"], [root]).passed


def test_adding_again_does_nothing_and_other_content_is_refused(archive, small, home):
    first = roots.add(f"mine={archive}", home)
    before = first.path.stat()
    assert roots.add(f"mine={archive}", home) == first
    assert first.path.stat() == before
    with pytest.raises(InputError, match=r"mine: is archive .* already"):
        roots.add(f"mine={small}", home)
    assert roots.listing(home) == (first,)


def test_roots_are_listed_by_name(small, home):
    assert roots.listing(home) == ()
    for name in ("b", "a", "c.d"):
        roots.add(f"{name}={small}", home)
    assert [root.name for root in roots.listing(home)] == ["a", "b", "c.d"]


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("glibc-2.16", UsageError, r"glibc-2\.16: not a root that belljar knows"),
        ("debian:", UsageError, "debian:: not a root"),
        ("debian:../x", UsageError, "not a root"),
        ("", UsageError, "not a root"),
        ("glibc-2.17=.", UsageError, "cannot name a root of yours"),
        ("debian:sid=.", UsageError, "cannot name"),
        ("../x=.", UsageError, "cannot name"),
        ("=.", UsageError, "cannot name"),
        (".x=.", UsageError, "cannot name"),
        ("x=", InputError, "x: nothing: No such file"),
        ("x=/no/such", InputError, "x: /no/such: No such file"),
        ("x=pipe", InputError, "neither a directory nor an archive"),
        ("x=fake", InputError, r"no /lib64/libc\.so\.6"),
        ("x=empty", InputError, "x: .*/empty holds no loader"),
        ("x=text", InputError, "text"),
        ("x=cut", InputError, "cut"),
        ("x=hollow", InputError, "holds no loader"),
    ],
)
def test_what_is_no_root_is_refused_and_leaves_nothing(
    spec, error, words, archive, home, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    os.mkfifo("pipe")
    Path("fake", LOADER.lstrip("/")).parent.mkdir(parents=True)
    Path("fake", LOADER.lstrip("/")).touch()
    os.mkfifo(Path("fake", LOADER.lstrip("/")).with_name("libc.so.6"))
    Path("text").write_text("no archive")
    Path("cut").write_bytes(archive.read_bytes()[:100_000])
    tarfile.open("hollow", "w").close()
    with pytest.raises(error, match=words) as caught:
        roots.add(spec, home)
    if error is UsageError:
        assert "debian:SUITE" in caught.value.hint or "a name has" in caught.value.hint
    assert kept(home) == []


@pytest.mark.parametrize("name", ["none", "../../etc", "", "a/b", "debian:sid"])
def test_an_unknown_root_is_not_found_nor_removed(name, home, small):
    roots.add(f"mine={small}", home)
    for action in (roots.find, roots.remove):
        with pytest.raises(InputError, match="no such root"):
            action(name, home)
    assert kept(home) == ["mine"]


def test_a_directory_that_is_gone_is_said_to_be(small, home, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy", symlinks=True)
    roots.add(f"mine={copy}", home)
    shutil.rmtree(copy)
    assert [root.name for root in roots.listing(home)] == ["mine"]
    with pytest.raises(InputError, match="is gone"):
        roots.find("mine", home)
    roots.remove("mine", home)


def test_a_damaged_record_is_an_error_with_a_remedy_that_works(small, home):
    roots.add(f"mine={small}", home)
    (home.roots / "mine/root.json").write_text("{")
    with pytest.raises(InputError, match="damaged") as caught:
        roots.find("mine", home)
    assert "belljar root remove mine" in caught.value.hint
    roots.remove("mine", home)
    assert roots.add(f"mine={small}", home).name == "mine"


def test_a_suite_that_the_mirror_has_not_got_is_named(home):
    with pytest.raises(InputError, match=r"debian:nosuchsuite: .*no suite 'nosuchsuite'"):
        roots.add("debian:nosuchsuite", home)
    assert kept(home) == []


def test_without_a_network_it_is_a_remote_error_and_nothing_is_left(home, monkeypatch):
    monkeypatch.setenv("npm_config_offline", "true")
    with pytest.raises(RemoteError):
        roots.add("glibc-2.17", home)
    assert kept(home) == []


CRASHING = """
import os, signal, sys
from pathlib import Path
from belljar.home import Home
from belljar.verify import roots
spec, data, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
seen = 0
def before(event, arguments):
    global seen
    if event == "os.symlink" or (event == "os.rename" and data in str(arguments)):
        if seen == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1
sys.addaudithook(before)
roots.add(spec, Home(data=Path(data), cache=Path(data, "cache")))
print(seen)
"""


def crash(spec: str, home: Home, at: int) -> "subprocess.CompletedProcess[str]":
    """Add a root and be killed before link or renaming number `at`; when never, print how many there were."""
    command = [sys.executable, "-c", CRASHING, spec, str(home.data), str(at)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_killed_before_any_step_it_leaves_nothing_and_can_be_added_again(archive, tmp_path):
    homes = [Home(data=tmp_path / str(number), cache=tmp_path) for number in range(99)]
    steps = int(crash(f"mine={archive}", homes[-1], -1).stdout)
    assert steps > 3
    for at, home in enumerate(homes[:steps]):
        assert crash(f"mine={archive}", home, at).returncode == -signal.SIGKILL
        assert roots.listing(home) == ()
        roots.add(f"mine={archive}", home)
        assert kept(home) == ["mine"], "what the killed one left is swept away"


def test_a_failure_while_it_is_made_leaves_nothing(archive, home):
    def fail(_event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        roots.add(f"mine={archive}", home, fail)
    assert kept(home) == []


def test_two_who_add_one_root_at_once_both_have_it(archive, home):
    command = [sys.executable, "-c", CRASHING, f"mine={archive}", str(home.data), "-1"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0]
    assert kept(home) == ["mine"]
    assert roots.find("mine", home).glibc
