"""What names an artifact and what does not: the laws of the cache, and the same bytes everywhere."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from test_build_support import (
    NOBODY,
    ROOT,
    SCRIPT,
    belljar,
    home,
    home_of,
    in_child,
    load_everything,
    recipe,
    tree_of,
)

from belljar.build import Artifact, Options, build


@pytest.fixture(scope="module")
def kitchen():
    with tempfile.TemporaryDirectory() as scratch:
        yield home_of(home(Path(scratch) / "home"))


@pytest.fixture
def tiny(tmp_path):
    return recipe(tmp_path / "recipe")


def _name(directory: Path, kitchen) -> str:
    return str(build(directory, home=kitchen).name)


def _identity(artifact: Artifact) -> list[str]:
    return [str(artifact.name), artifact.record.content]


def test_the_same_recipe_is_built_once(tiny, kitchen):
    first = build(tiny, home=kitchen)
    log = kitchen.logs / f"{first.name}.log"
    before = log.stat()
    again = build(tiny, home=kitchen)
    assert again.cached
    assert _identity(again) == _identity(first)
    after = log.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


CHANGES = {
    "a byte of a source": lambda at: (at / "src/word").write_text("hallo\n"),
    "a new file in a source": lambda at: (at / "src/more").write_text(""),
    "an empty directory in a source": lambda at: (at / "src/empty").mkdir(),
    "a file's name": lambda at: (
        (at / "src/word").rename(at / "src/wort"),
        (at / "src/word").symlink_to("wort"),
    ),
    "an executable bit": lambda at: (at / "src/word").chmod(0o755),
    "a byte of the script": lambda at: _edit(at, 'cp word "$PREFIX/word"', 'cp  word "$PREFIX/word"'),
    "the package's version": lambda at: _edit(at, 'version = "1.0"', 'version = "1.1"'),
    "a variable": lambda at: _edit(at, "[portability]", "[build.env]\nX = '1'\n[portability]"),
    "a link": lambda at: _edit(at, "[build]", "[environment.links]\n'/usr/bin/awk' = 'cat'\n[build]"),
    "a guarantee": lambda at: _edit(at, "relocatable = true", "relocatable = true\nglibc = '2.17'"),
    "a tool": lambda at: _change_a_tool(at),
}


def _edit(directory: Path, old: str, new: str) -> None:
    path = directory / "belljar.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _change_a_tool(directory: Path) -> None:
    """Leave out a package of the lock that nothing in the script needs."""
    path = directory / "belljar.lock"
    lock = json.loads(path.read_text())
    kept = [item for item in lock["environment"] if item["name"] != "gcc-12-base"]
    assert len(kept) == len(lock["environment"]) - 1
    path.write_text(json.dumps(lock | {"environment": kept}))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_gives_another_artifact_and_reverting_it_gives_the_old(change, tiny, kitchen, tmp_path):
    name = _name(tiny, kitchen)
    shutil.copytree(tiny, tmp_path / "before", symlinks=True)
    CHANGES[change](tiny)
    changed = build(tiny, home=kitchen)
    assert not changed.cached
    assert str(changed.name) != name
    reverted = build(tmp_path / "before", home=kitchen)
    assert reverted.cached
    assert str(reverted.name) == name


def _touch_everything(directory: Path) -> None:
    for item in [directory / "belljar.toml", directory / "belljar.lock", *(directory / "src").rglob("*")]:
        os.utime(item, (1, 1))


NO_CHANGES = {
    "[verify]": lambda at: _edit(at, "[portability]", "[verify]\non = ['x']\nrun = ['y']\n[portability]"),
    "a comment": lambda at: _edit(at, "[portability]", "# nothing\n[portability]"),
    "file times": _touch_everything,
    "a file's other modes": lambda at: (at / "src/word").chmod(0o600),
    "version control": lambda at: (
        (at / "src/.git").mkdir(),
        (at / "src/.git/HEAD").write_text("ref: refs/heads/x"),
    ),
}


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_cannot_affect_the_build_does_not_name_it(change, tiny, kitchen):
    name = _name(tiny, kitchen)
    NO_CHANGES[change](tiny)
    again = build(tiny, home=kitchen)
    assert again.cached
    assert str(again.name) == name


def test_the_result_link_inside_a_source_does_not_name_it(tmp_path, kitchen):
    directory = recipe(tmp_path / "recipe")
    _edit(directory, 'path = "src"', 'path = "."')
    _edit(directory, "cp word", "cp src/word")
    first = belljar("build", "--format", "json", ".", home=kitchen.data, cwd=directory)
    assert first.returncode == 0, first.stderr
    assert (directory / "result").is_symlink()
    again = json.loads(belljar("build", "--format", "json", ".", home=kitchen.data, cwd=directory).stdout)
    assert not json.loads(first.stdout)["cached"]
    assert again["cached"]
    assert again["path"] == json.loads(first.stdout)["path"]


# Everything that a machine might let into a build: the script writes it all into its output.
CURIOUS = (
    SCRIPT
    + """
env | sort > "$PREFIX/env"
id > "$PREFIX/id"
uname -a > "$PREFIX/uname"
umask > "$PREFIX/umask"
pwd > "$PREFIX/pwd"
ls -laR --time-style=+%s /build/tiny > "$PREFIX/build"
ls -lR --time-style=+%s /etc /usr > "$PREFIX/tools"
stat -c '%a %U %G' / /tmp "$HOME" "$PREFIX" /run/belljar/build.sh > "$PREFIX/modes"
ls /dev /etc /usr/bin > "$PREFIX/ls"
date +%Z > "$PREFIX/zone"
"""
)


def test_two_homes_two_users_and_two_moods_give_the_same_artifact():
    """Other length of path, user, umask, time zone, language, variables, directory order, jobs' host."""
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        top.chmod(0o755)
        one, other = recipe(top / "one", CURIOUS), recipe(top / "a/much/deeper/one", CURIOUS)
        for directory, names in ((one, "abcdefgh"), (other, "hgfedcba")):
            for name in names:
                (directory / "src" / name).mkdir()
        load_everything()
        first = _identity(build(one, home=home_of(home(top / "h")), options=Options(jobs=3)))
        long = home(top / "a-home-whose-path-is-longer", own_environments=True)
        for place in (long, long / "cache"):
            os.chown(place, NOBODY if ROOT else -1, NOBODY if ROOT else -1)

        def as_somebody_else():
            os.umask(0o077)
            os.chdir("/")
            os.environ.update(TZ="Asia/Tokyo", LANG="de_DE.UTF-8", LC_ALL="C", SECRET="x", PATH="/usr/bin")
            return _identity(build(other, home=home_of(long), options=Options(jobs=3)))

        second = in_child(as_somebody_else, uid=NOBODY if ROOT else 0)
        assert first[0] == second[0]
        store = "store/qzgydlfqzvtvrjf"
        trees = [tree_of(where / store / first[0]) for where in (top / "h", long)]
        assert trees[0].keys() == trees[1].keys()
        differing = {path for path in trees[0] if trees[0][path] != trees[1][path]}
        assert differing == {"bin/say", "env", "lib/pkgconfig/tiny.pc", "lib/word"}
        assert first == second


def test_what_a_build_sees_is_exactly_what_is_documented(tmp_path, kitchen):
    directory = recipe(tmp_path / "recipe", CURIOUS, portability="glibc = '2.17'")
    (tmp_path / "secret").write_text("of the host")
    done = belljar(
        "build", "--no-link", "--format", "json", "-j3", directory, home=kitchen.data, SECRET_TOKEN="hunter2"
    )
    assert done.returncode == 0, done.stderr
    tree = Path(json.loads(done.stdout)["path"])
    seen = dict(line.split("=", 1) for line in (tree / "env").read_text().splitlines())
    name = tree.name
    assert seen.pop("PREFIX").endswith(f"/{name}")
    assert seen == {
        "BELLJAR_GLIBC": "2.17",
        "BELLJAR_TARGET": "x86_64-linux-gnu.2.17",
        "HOME": "/home/build",
        "JOBS": "3",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/bin:/usr/sbin",
        "PERL_HASH_SEED": "0",
        "PWD": "/build/tiny",
        "PYTHONHASHSEED": "0",
        "SHELL": "/bin/sh",
        "SOURCE_DATE_EPOCH": "315619200",
        "TERM": "dumb",
        "TMPDIR": "/tmp",
        "TZ": "UTC",
        "USER": "build",
    }
    assert (tree / "id").read_text() == "uid=1000(build) gid=100(build) groups=100(build)\n" or (
        "groups=100(build),65534(nogroup)" in (tree / "id").read_text()
    )
    assert "hunter2" not in "".join(str(item) for item in tree_of(tree).values())


WALLS = """
mkdir "$PREFIX"/out
try() { if sh -c "$2" >/dev/null 2>&1; then echo "$1" >> "$PREFIX/out/could"; fi; }
touch "$PREFIX/out/could"
try control 'true'
try see-the-host 'cat {secret}'
try write-usr 'touch /usr/x'
try write-etc 'touch /etc/x'
try write-root 'touch /x'
try write-run 'touch /run/x'
try write-store 'touch $(dirname "$PREFIX")/x'
try write-source 'touch /build/tiny/x'
try write-tmp 'touch /tmp/x'
try write-home 'touch $HOME/x'
cat /proc/net/dev > "$PREFIX/out/net"
"""


def test_a_build_has_no_network_and_writes_nowhere_else(tmp_path, kitchen):
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    directory = recipe(tmp_path / "recipe", WALLS.replace("{secret}", str(secret)))
    tree = build(directory, home=kitchen).path
    could = (tree / "out/could").read_text().split()
    assert could == ["control", "write-source", "write-tmp", "write-home"]
    interfaces = [line.split(":")[0].strip() for line in (tree / "out/net").read_text().splitlines()[2:]]
    assert interfaces == ["lo"]
