"""Every way to fail that a user can bring about: its exit status, its words, and what it leaves: nothing."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from test_build_support import (
    GCC,
    NOBODY,
    ROOT,
    alive,
    belljar,
    command,
    environment,
    home,
    leftovers,
    lock_text,
    recipe,
    shared_cache,
)

from belljar.home import Home
from belljar.store import Store


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory() as scratch:
        yield home(Path(scratch) / "home")


def _stored(home: Path) -> list[str]:
    return [str(name) for name in Store(directory=home / "store").names()]


def _fails(done, status: int, *words: str) -> None:
    """It ended with that status, said those words, and what went wrong on one line each."""
    assert done.returncode == status, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr


# The script


def test_a_failing_script_shows_its_last_lines_and_where_the_log_is(tmp_path, place):
    directory = recipe(tmp_path / "r", "for i in $(seq 100); do echo line $i; done; echo oops >&2; exit 7")
    before = _stored(place)
    done = belljar("build", "--no-link", directory, home=place)
    _fails(done, 5, "tiny: the build script failed: exit status 7", "| line 100", "| oops", "--keep-failed")
    assert "| line 50" not in done.stderr
    log = Path(re.search(r"whole log: (.+)", done.stderr)[1])
    assert log.read_text().splitlines() == [*(f"line {i}" for i in range(1, 101)), "oops"]
    assert _stored(place) == before
    assert leftovers(place) == []


def test_an_unset_variable_or_a_failing_command_ends_the_script(tmp_path, place):
    for script in ("echo $NOT_SET; mkdir $PREFIX/x", "false; mkdir $PREFIX/x"):
        _fails(belljar("build", "--no-link", recipe(tmp_path / "r", script), home=place), 5)


def test_a_script_killed_by_a_signal_says_which(tmp_path, place):
    done = belljar("build", "--no-link", recipe(tmp_path / "r", "kill -SEGV $$"), home=place)
    _fails(done, 5, "killed by signal 11")


def test_a_shell_that_is_not_there_is_named(tmp_path, place):
    directory = recipe(tmp_path / "r")
    for name in ("belljar.toml", "belljar.lock"):
        text = (directory / name).read_text()
        (directory / name).write_text(text.replace("deb:dash", "deb:base-files"))
    lock = json.loads((directory / "belljar.lock").read_text())
    lock["environment"] = [item for item in lock["environment"] if item["name"] != "dash"]
    lock["requests"]["environment.packages"].sort()
    (directory / "belljar.lock").write_text(json.dumps(lock))
    done = belljar("build", "--no-link", directory, home=place)
    _fails(done, 3, "/bin/sh: cannot be started in the sandbox", "environment.packages")


@pytest.mark.parametrize(
    ("script", "status"), [("echo kept > kept; exit 3", 5), ('echo kept > kept; mkfifo "$PREFIX/p"', 3)]
)
def test_what_was_kept_can_be_entered_with_the_printed_command(script, status, tmp_path, place):
    done = belljar("build", "--no-link", "--keep-failed", recipe(tmp_path / "r", script), home=place)
    _fails(done, status)
    printed = shlex.split(re.search(r"enter it with: (.+)", done.stderr)[1])
    inside = subprocess.run(
        printed,
        input='cat kept; echo "$PREFIX"; test -w "$PREFIX"; exit 9\n',
        capture_output=True,
        text=True,
        env=environment(place),
        check=False,
    )
    assert inside.returncode == 9, inside.stderr
    assert inside.stdout.startswith("kept\n/wngnlqzbxgclqzhhftkqz")
    (kept,) = leftovers(place)
    shutil.rmtree(kept)


def test_what_is_entered_has_the_clock_the_machine_and_the_random_numbers_of_the_build(tmp_path, place):
    script = "date +%s | tee date; uname -rn; nproc; od -An -N8 -tx1 /dev/urandom; exit 1"
    done = belljar("build", "--no-link", "--keep-failed", recipe(tmp_path / "r", script), home=place)
    log = Path(re.search(r"whole log: (.+)", done.stderr)[1]).read_text()
    assert log.startswith("2114380800\nlocalhost 6.1.0\n2\n"), log
    printed = shlex.split(re.search(r"enter it with: (.+)", done.stderr)[1])
    again = [*printed[:-1], "/bin/sh", "-eu", "/run/belljar/build.sh"]
    inside = subprocess.run(again, capture_output=True, text=True, env=environment(place), check=False)
    assert (inside.returncode, inside.stdout) == (1, log)
    (kept,) = leftovers(place)
    shutil.rmtree(kept)


def test_without_keep_failed_nothing_is_kept(tmp_path, place):
    belljar("build", "--no-link", recipe(tmp_path / "r", "exit 3"), home=place)
    assert leftovers(place) == []


# The lock


def test_a_stale_lock_is_refused_and_names_what_was_and_is(tmp_path, place):
    directory = recipe(tmp_path / "r")
    text = (directory / "belljar.toml").read_text()
    (directory / "belljar.toml").write_text(text.replace("deb:dash", "deb:bash"))
    done = belljar("build", "--no-link", directory, home=place)
    _fails(done, 3, "belljar.lock: stale", "environment.packages: was deb:dash, is deb:bash", "belljar lock")


def test_a_missing_lock_is_made_but_not_offline(tmp_path, place):
    directory = recipe(tmp_path / "r", lock=False)
    done = belljar("build", "--no-link", "--offline", directory, home=place)
    _fails(done, 3, "belljar.lock: missing", "`belljar lock`")
    assert not (directory / "belljar.lock").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 9}', "\0\xff", '{"version": 1}', "[" * 100_000])
def test_a_damaged_lock_is_refused(text, tmp_path, place):
    directory = recipe(tmp_path / "r")
    (directory / "belljar.lock").write_text(text)
    _fails(belljar("build", "--no-link", directory, home=place), 3, "belljar.lock: ", "`belljar lock`")


def test_every_mistake_of_a_recipe_is_reported_at_once_with_its_line(tmp_path, place):
    directory = recipe(tmp_path / "r")
    text = (directory / "belljar.toml").read_text()
    text = (
        text.replace("suite", "siute").replace('version = "1.0"', "version = 1").replace("tiny = {", "5 = {")
    )
    (directory / "belljar.toml").write_text(text)
    done = belljar("build", "--no-link", directory, home=place)
    assert done.returncode == 3
    assert "siute" in done.stderr
    assert "package.version" in done.stderr
    assert "line 3" in done.stderr or ":3:" in done.stderr, done.stderr


# Downloads


@pytest.fixture
def own(tmp_path):
    """A home with copies of the downloads."""
    place = home(tmp_path / "home", own_cache=True)
    wanted = {item["sha256"] for item in json.loads(lock_text())["environment"]}
    (place / "cache/downloads").mkdir(parents=True)
    (place / "cache/apt").symlink_to(shared_cache() / "apt")
    for item in (shared_cache() / "downloads").iterdir():
        if item.name[:64] in wanted:
            shutil.copyfile(item, place / "cache/downloads" / item.name)
    return place


def test_a_corrupted_download_is_removed_and_fetched_anew(tmp_path, own):
    directory = recipe(tmp_path / "r")
    victim = next(item for item in (own / "cache/downloads").iterdir() if "dash" in item.name)
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    done = belljar("build", "--no-link", directory, home=own)
    _fails(done, 6, "dash", "not the file that was locked", "removed")
    assert not victim.exists()
    assert _stored(own) == []
    assert leftovers(own) == []
    done = belljar("build", "--no-link", "--offline", directory, home=own)
    _fails(done, 7, "offline, and 1 of", "dash")
    healed = belljar("build", "--no-link", directory, home=own)
    assert healed.returncode == 0, healed.stderr
    assert belljar("build", "--no-link", "--offline", directory, home=own).returncode == 0


# What this machine cannot do


@pytest.mark.parametrize(
    ("directory", "status", "words"),
    [
        ("x" * 80, 3, ("too long by", "BELLJAR_HOME")),
        ("with a space", 3, ("' '", "BELLJAR_HOME")),
    ],
)
def test_a_home_that_cannot_be_a_location_is_refused_before_any_work(directory, status, words, tmp_path):
    bad = tmp_path / directory
    done = belljar("build", "--no-link", recipe(tmp_path / "r", lock=False), home=bad)
    _fails(done, status, *words)
    assert not bad.exists()


def test_a_relative_home_is_taken_from_the_working_directory(tmp_path, place):
    directory = recipe(tmp_path / "r")
    with tempfile.TemporaryDirectory() as short:
        home(Path(short) / "rel")
        done = belljar("build", "--no-link", directory, home="rel", cwd=Path(short))
        assert done.returncode == 0, done.stderr
        assert len(_stored(Path(short) / "rel")) == 1


def test_no_home_at_all_is_a_clear_message(tmp_path):
    directory = recipe(tmp_path / "r")
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": environment(None)["PYTHONPATH"]}
    done = subprocess.run(command("build", directory), env=bare, capture_output=True, text=True, check=False)
    _fails(done, 2, "no directory for belljar's state", "set BELLJAR_HOME")


UNWRITABLE = """
mount --bind -o ro "$1" "$1" 2>/dev/null || { mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; }
shift; exec "$@"
"""


def _in_namespaces(script: str, *words: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root of namespaces of its own, with `words` as its arguments."""
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", script, "sh", *map(str, words)],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_read_only_home_is_refused_but_what_it_has_is_served(tmp_path):
    place = home(tmp_path / "h")
    directory = recipe(tmp_path / "r")
    first = belljar("build", "--no-link", directory, home=place)
    assert first.returncode == 0, first.stderr
    words = (place, *command("build", "--no-link", directory))
    again = _in_namespaces(UNWRITABLE, *words, home=place)
    assert again.returncode == 0, again.stderr
    (directory / "src/word").write_text("another")
    done = _in_namespaces(UNWRITABLE, *words, home=place)
    _fails(done, 4, "Read-only file system", "BELLJAR_HOME")


def test_a_home_of_somebody_else_is_refused(tmp_path):
    place = home(tmp_path / "h")
    place.chmod(0o555)
    directory = recipe(tmp_path / "r")
    words = command("build", "--no-link", directory)
    if ROOT:
        # Root without the right to pass over permissions.
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", *words]
        os.chown(place, NOBODY, NOBODY)
    done = subprocess.run(words, env=environment(place), capture_output=True, text=True, check=False)
    _fails(done, 4, "Permission denied", "BELLJAR_HOME")


NO_USER_NAMESPACES = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'


def test_a_host_without_user_namespaces_is_told_which_setting_it_is(tmp_path, place):
    directory = recipe(tmp_path / "r", "mkdir $PREFIX/namespaces")
    done = _in_namespaces(NO_USER_NAMESPACES, *command("build", "--no-link", directory), home=place)
    _fails(done, 4, "user.max_user_namespaces")
    assert leftovers(place) == []


FULL = """
mount -t tmpfs -o size="$1" tmpfs "$2"; mkdir "$2/cache"
for part in $3; do ln -s "$4/$part" "$2/cache/$part"; done
shift 4
set +e; "$@"; status=$?
ls "$BELLJAR_HOME"/store/*/ 2>/dev/null | grep -v records >&2
cd "$BELLJAR_HOME"
ls staging cache/incoming cache/environments/staging 2>/dev/null | grep -v : >&2
exit $status
"""
# Size of the disk, what of the cache lies elsewhere, the exit status.
DISKS = {
    "no space for a download": ("1M", "apt", 4),
    "no space to unpack": ("8M", "apt downloads", 4),
    "no space for a source": ("512k", "apt downloads environments", 4),
    "no space for the output": ("3M", "apt downloads environments", 5),
    "no space for the record": ("5500k", "apt downloads environments", 4),
}
BIG = """
mkdir $PREFIX/x
yes "$PREFIX" | head -c 4000000 > $PREFIX/x/big
"""


@pytest.mark.parametrize("case", DISKS)
def test_a_full_disk_is_a_clear_message_and_nothing_is_left(case, tmp_path):
    size, elsewhere, status = DISKS[case]
    disk = tmp_path / "disk"
    disk.mkdir()
    directory = recipe(tmp_path / "r", BIG)
    (directory / "src/data").write_bytes(bytes(1_500_000))
    words = (size, disk, elsewhere, shared_cache(), *command("build", "--no-link", directory))
    done = _in_namespaces(FULL, *words, home=disk)
    _fails(
        done,
        status,
        "is full" if status == 5 else "No space left on device",
        "BELLJAR_HOME" if status == 4 else "",
    )
    assert "Traceback" not in done.stderr
    after = done.stderr.rpartition("hint: ")[2].splitlines()[1:]
    assert "".join(after) == ""


# Guarantees

THREADS = """
#include <pthread.h>
#include <stdio.h>
static void *work(void *word) { puts(word); return 0; }
int main(void) { pthread_t t; pthread_create(&t, 0, work, "hello"); return pthread_join(t, 0); }
"""


def _program(directory: Path, script: str) -> Path:
    recipe(directory, script, packages=GCC, portability='glibc = "2.17"\nrelocatable = true')
    (directory / "src/main.c").write_text(THREADS)
    return directory


def test_a_program_newer_than_its_guarantee_is_refused_by_symbol_and_file(tmp_path, place):
    directory = _program(tmp_path / "r", "mkdir $PREFIX/bin; gcc -o $PREFIX/bin/newer main.c")
    before = _stored(place)
    done = belljar("build", "--no-link", directory, home=place)
    _fails(done, 1, "does not meet what the recipe guarantees", "nothing was stored")
    for word in ("bin/newer", "__libc_start_main", "GLIBC_2.34", "pthread_create", "2.17"):
        assert word in done.stdout
    assert "staging" not in done.stdout
    said = belljar("build", "--no-link", "--format", "json", directory, home=place)
    assert said.returncode == 1
    value = json.loads(said.stdout)
    assert value["version"] == 1
    assert value["artifact"] is None
    (finding, *_) = value["audit"]["findings"]
    assert finding["path"].endswith("-tiny-1.0/bin/newer")
    assert "__libc_start_main" in finding["evidence"]["symbols"]
    assert _stored(place) == before
    assert leftovers(place) == []


def test_the_same_program_built_for_its_guarantee_is_stored(tmp_path, place):
    script = """
        export ZIG_GLOBAL_CACHE_DIR="$TMPDIR/zig" ZIG_LOCAL_CACHE_DIR="$TMPDIR/zig"
        mkdir $PREFIX/bin; /opt/ziglang/ziglang/zig cc -O2 -target $BELLJAR_TARGET -o $PREFIX/bin/older main.c
        """
    done = belljar("build", "--no-link", "--format", "json", _program(tmp_path / "r", script), home=place)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    ran = subprocess.run([Path(value["path"]) / "bin/older"], capture_output=True, text=True, check=True)
    assert ran.stdout == "hello\n"


def test_no_process_is_left(place):
    assert alive(str(place)) == []
    assert Home.from_environment({"BELLJAR_HOME": str(place)}).store == place / "store"
