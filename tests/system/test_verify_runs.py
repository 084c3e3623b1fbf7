"""Programs on real systems: glibc 2.17 and Debian 11, fetched by the machine's own npm and apt."""

import ctypes
import json
import os
import shutil
import stat
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from belljar import fsys
from belljar.errors import BelljarError, InputError, UsageError
from belljar.home import Home
from belljar.references import Table
from belljar.store import Record, Store, StoreName, describe
from belljar.verify import Root, roots, verify

HELLO = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int count, char **words)
{
    if (count > 2 && !strcmp(words[1], "exit")) return atoi(words[2]);
    if (count > 2 && !strcmp(words[1], "kill")) raise(atoi(words[2]));
    printf("hello from %s\n", words[0]);
    return 0;
}
"""
OLD, DEBIAN = "glibc-2.17", "debian:bullseye"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that every user can read: one user's roots are another one's to run on."""
    path = Path(tempfile.mkdtemp(prefix="belljar-verify-"))
    path.chmod(0o755)
    yield path
    fsys.remove_tree(path)


@pytest.fixture(scope="module")
def home(place) -> Home:
    """Roots are made anew each time; downloads (70 MB, kept by content) stay for the next."""
    downloads = Path(tempfile.gettempdir()) / f"belljar-tests-cache-{os.getuid()}"
    return Home(data=place / "home", cache=downloads)


@pytest.fixture(scope="module")
def old(home) -> Root:
    return roots.obtain(OLD, home)


@pytest.fixture(scope="module")
def debian(home) -> Root:
    return roots.obtain(DEBIAN, home)


def fill(tree: Path, zig_cc) -> Path:
    (tree / "bin").mkdir(parents=True)
    for name, target in (("hello", "x86_64-linux-gnu.2.17"), ("new", "x86_64-linux-gnu.2.34")):
        shutil.copy(zig_cc(HELLO, "-s", target=target), tree / "bin" / name)
    shutil.copy(zig_cc(HELLO, "-s", "-static", target="x86_64-linux-musl"), tree / "bin/static")
    script(tree / "bin/script", "#!/usr/bin/env sh\necho from a script\n")
    tree.chmod(0o755)
    return tree


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(scope="module")
def tree(place, zig_cc) -> Path:
    return fill(place / "tree", zig_cc)


def shell(tree: Path, root: Root, line: str, **options) -> tuple[str, str]:
    """Run a line of shell in a root that has one; return what it wrote."""
    (result,) = verify(tree, ["sh", "-c", line], [root], **options).results
    assert not result.problem
    return result.stdout.text, result.stderr.text


# --- floors ---------------------------------------------------------------------------------------


def test_the_roots_are_what_their_names_say(old, debian):
    assert (old.glibc, old.arch, old.loader) == ("2.17", "x86_64", "/lib64/ld-linux-x86-64.so.2")
    assert (debian.glibc, debian.arch) == ("2.31", "x86_64")


def test_a_program_for_a_newer_glibc_fails_in_the_loaders_own_words(tree, old, debian):
    matrix = verify(tree, ["bin/new"], [old, debian])
    assert not matrix.passed
    for result in matrix.results:
        assert result.status == 1
        assert "version `GLIBC_2.34' not found (required by" in result.stderr.text
        assert result.stdout.text == ""


def test_a_program_for_an_old_glibc_passes_on_old_and_new(tree, old, debian):
    matrix = verify(tree, ["bin/hello"], [old, debian])
    assert matrix.passed
    assert [result.root.name for result in matrix.results] == [OLD, DEBIAN]
    assert {result.stdout.text for result in matrix.results} == {f"hello from {tree}/bin/hello\n"}


def test_a_static_program_needs_nothing_of_the_root(tree, old, debian):
    assert verify(tree, ["bin/static"], [old, debian]).passed


# --- how it ended ---------------------------------------------------------------------------------


def test_exit_statuses_and_signals_are_reported(tree, old):
    statuses = [
        verify(tree, ["bin/hello", *words], [old]).results[0].status
        for words in (("exit", "0"), ("exit", "3"), ("exit", "255"), ("kill", "11"), ("kill", "15"))
    ]
    assert statuses == [0, 3, 255, -11, -15]


def test_both_streams_are_captured_and_undecodable_bytes_do_no_harm(tree, debian):
    assert shell(tree, debian, "echo out; echo err >&2") == ("out\n", "err\n")
    assert shell(tree, debian, r"printf 'a\377b'")[0] == "a\N{REPLACEMENT CHARACTER}b"


def test_a_program_that_writes_without_end_is_cut_and_that_is_said(tree, debian):
    line = "yes & sleep 0.5; kill $!; echo short >&2"
    (result,) = verify(tree, ["sh", "-c", line], [debian]).results
    assert result.stdout.truncated
    assert result.stdout.text == "y\n" * 32768
    assert (result.stderr.text, result.stderr.truncated) == ("short\n", False)


def test_a_program_that_does_not_end_is_ended_with_all_that_it_started(tree, debian):
    (result,) = verify(tree, ["sh", "-c", "echo begun; sleep 60 & sleep 60"], [debian], timeout=0.3).results
    assert (result.timed_out, result.passed, result.status) == (True, False, None)
    assert result.problem == "did not end within 0.3 seconds"
    assert result.stdout.text == "begun\n"
    assert 0.3 <= result.seconds < 5


# --- what it sees ---------------------------------------------------------------------------------


def test_root_and_tree_are_read_only_and_tmp_is_not(tree, debian):
    before = snapshot(tree), snapshot(debian.path / "etc")
    out, err = shell(
        tree,
        debian,
        "for f in /x /usr/x /etc/x bin/x $PWD/y; do echo no > $f && echo WROTE $f; done;"
        "echo 1 > /tmp/x; cat /tmp/x",
    )
    assert out == "1\n"
    assert err.count("Read-only file system") == 5
    assert (snapshot(tree), snapshot(debian.path / "etc")) == before


def snapshot(directory: Path) -> list[str]:
    return sorted(map(str, directory.rglob("*")))


def test_there_is_no_network_and_nothing_else_of_this_machine(tree, debian, place):
    (place / "neighbour").write_text("secret")
    out, _ = shell(
        tree, debian, "tail -n +3 /proc/net/dev | cut -d: -f1; ls -d /proc/[0-9]* | wc -l; ls -A .."
    )
    assert len(out.split()) == 3, out
    interfaces, processes, beside = out.split()
    assert (interfaces, beside) == ("lo", "tree")
    assert int(processes) < 6
    assert "secret" not in shell(tree, debian, f"cat {place}/neighbour")[0]


def test_identity_environment_and_directory_are_fixed(tree, debian, monkeypatch):
    monkeypatch.setenv("LEAK", "yes")
    out, _ = shell(tree, debian, "id -un; id -u; pwd; env -u PWD | sort", env={"GIVEN": "1", "LC_ALL": "C"})
    assert out.splitlines() == [
        "user", "1000", str(tree), "GIVEN=1", "HOME=/tmp", "LC_ALL=C", "PATH=/usr/bin:/bin",
    ]  # fmt: skip


# --- where the tree is ----------------------------------------------------------------------------

PLACES = [
    path
    for path in ("/var/tmp", "/dev/shm", "/tmp", "/opt", "/usr/local/lib", "/home")
    if os.access(path, os.W_OK)
]


@pytest.mark.parametrize("above", PLACES)
def test_a_tree_works_at_its_own_path_also_where_the_root_has_directories(above, zig_cc, old, debian):
    directory = Path(tempfile.mkdtemp(prefix="belljar-verify-", dir=above))
    directory.chmod(0o755)
    try:
        tree = fill(directory / "deep/tree", zig_cc)
        matrix = verify(tree, ["bin/hello"], [old, debian])
        assert {result.stdout.text for result in matrix.results} == {f"hello from {tree}/bin/hello\n"}
        out, _ = shell(tree, debian, f"cd /; ls {tree}/bin; ls -d /var/lib /usr/bin /etc/debian_version")
        assert out.split() == [
            "hello",
            "new",
            "script",
            "static",
            "/etc/debian_version",
            "/usr/bin",
            "/var/lib",
        ]
    finally:
        shutil.rmtree(directory)


def test_a_tree_named_by_a_link_has_both_names(tree, place, debian):
    (place / "result").symlink_to("tree")
    assert verify(place / "result", ["bin/hello"], [debian]).passed
    out, _ = shell(place / "result", debian, f"{place}/result/bin/hello; {tree}/bin/hello")
    assert out == f"hello from {place}/result/bin/hello\nhello from {tree}/bin/hello\n"


def add_entry(store: Store, name: str, closure: tuple[str, ...] = ()) -> StoreName:
    """Put a directory with one file into a store."""
    entry = StoreName(package=name, version="1", hash=name[0] * 32)
    stage = Path(tempfile.mkdtemp(dir=store.directory))
    (stage / "tree").mkdir()
    (stage / "tree/data").write_text(f"data of {name}\n")
    table = Table(files={}, links={})
    manifest = describe(stage / "tree", table, store.location)
    record = Record(
        name=entry, content=manifest.digest, size=0, files=1, references=0, closure=closure,
        inputs={}, portability={}, relocatable=True,
    )  # fmt: skip
    with store.lock(entry):
        store.add(stage / "tree", stage, record=record, table=table, manifest=manifest, audit={})
    return entry


def test_an_entry_of_a_store_is_shown_with_its_closure_and_no_more(place, debian):
    (place / "real/store").mkdir(parents=True)
    (place / "alias").symlink_to("real")
    store = Store(directory=place / "alias/store")
    library, other = add_entry(store, "library"), add_entry(store, "other")
    program = add_entry(store, "program", closure=(str(library),))
    (place / "result-store").symlink_to(store.path(program))

    def seen(tree: Path, path: Path) -> str:
        return shell(tree, debian, f"cat {path}/data")[0]

    real = store.path(library).resolve()
    assert seen(place / "result-store", store.path(other).resolve()) == "", "negative control"
    assert seen(place / "result-store", real) == "data of library\n"
    assert seen(place / "result-store", store.path(program)) == "data of program\n"


def test_a_tree_with_links_into_its_own_store_just_works(place, tree, old):
    """What `belljar install --to DIR` makes: DIR/bin leads to DIR/<tail>/<entry>/bin."""
    directory = place / "installed"
    shutil.copytree(tree, directory / "qz/entry")
    (directory / "bin").symlink_to("qz/entry/bin")
    assert verify(directory, ["bin/hello"], [old]).passed
    assert verify(directory, ["hello", "exit", "0"], [old]).results[0].problem != "", (
        "no such file in DIR itself"
    )


def test_a_tree_that_would_hide_the_roots_libraries_is_refused(debian):
    with pytest.raises(InputError, match="would hide the loader"):
        verify(Path("/usr"), ["bin/true"], [debian])


# --- what cannot start ----------------------------------------------------------------------------


def problem(tree: Path, word: str, root: Root) -> str:
    (result,) = verify(tree, [word], [root]).results
    assert (result.status, result.passed) == (None, False)
    return result.problem


def test_a_missing_program_and_a_missing_interpreter_are_told_apart(tree, old, zig_cc):
    assert verify(tree, ["bin/hello"], [old]).passed, "negative control"
    assert problem(tree, "bin/none", old) == f"{tree}/bin/none: not found"
    assert problem(tree, "none", old) == "none: neither in the tree nor on PATH in the root"
    assert problem(tree, "/usr/bin/none", old) == "/usr/bin/none: not found"
    assert problem(tree, "bin", old) == "bin: neither in the tree nor on PATH in the root"
    assert problem(tree, "./bin", old) == f"{tree}/bin: not an executable file"
    musl = zig_cc(HELLO, "-s", "-dynamic", target="x86_64-linux-musl")
    shutil.copy(musl, tree / "bin/musl")
    assert problem(tree, "bin/musl", old) == (
        f"{tree}/bin/musl: is there, but its interpreter /lib/ld-musl-x86_64.so.1 is not in this root"
    )


def test_a_script_runs_where_its_interpreter_is(tree, old, debian):
    assert verify(tree, ["bin/script"], [debian]).results[0].stdout.text == "from a script\n"
    assert problem(tree, "bin/script", old) == (
        f"{tree}/bin/script: its interpreter /usr/bin/env (in its #! line): not found"
    )


def test_programs_for_another_machine_or_of_no_format_are_said_to_be(tree, old):
    data = bytearray((tree / "bin/static").read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    (tree / "bin/foreign").write_bytes(data)
    (tree / "bin/foreign").chmod(0o755)
    assert problem(tree, "bin/foreign", old) == f"{tree}/bin/foreign: is for aarch64, the root is x86_64"
    script(tree / "bin/garbage", "\x7fELF not really")
    assert "Exec format error" in problem(tree, "bin/garbage", old)
    (tree / "bin/empty").touch(mode=0o755)
    assert "Exec format error" in problem(tree, "bin/empty", old)


def test_a_root_for_another_machine_is_not_run(tree, old):
    from dataclasses import replace

    from belljar.types import Arch

    assert "the root is aarch64" in problem(tree, "bin/hello", replace(old, arch=Arch.AARCH64))


def test_no_root_and_no_command_are_no_pass(tree, old):
    for command, on in (([], [old]), (["bin/hello"], [])):
        with pytest.raises(UsageError):
            verify(tree, command, on)


# --- who and how many -----------------------------------------------------------------------------


def as_nobody(work) -> str:
    """Return what `work` returns as JSON when an ordinary user, if this is root, does it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, as after an exec
            os.write(writer, json.dumps(work()).encode())
        except BaseException:  # noqa: BLE001 - the parent is to see it
            os.write(writer, traceback.format_exc().encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return text


def test_an_ordinary_user_runs_on_roots_of_somebody_else(tree, home, old, debian):
    system = roots.add("this-machine=/", home)
    assert system.path.stat().st_uid == 0, "it must be somebody else's"
    text = as_nobody(lambda: verify(tree, ["bin/hello"], [old, debian, system]).to_json())
    assert json.loads(text)["passed"], text


def test_a_tree_that_may_not_be_read_is_an_error_in_words(place, tree, old):
    hidden = place / "hidden"
    shutil.copytree(tree, hidden / "tree")
    hidden.chmod(0)
    for path in (hidden, hidden / "tree"):
        assert "Permission denied" in as_nobody(lambda path=path: attempt(path, old))
    hidden.chmod(0o700)


def attempt(tree: Path, root: Root) -> str:
    try:
        return verify(tree, ["bin/hello"], [root]).results[0].problem
    except BelljarError as error:
        return error.message


def test_many_at_once_do_not_disturb_each_other(tree, debian):
    """Each in a process of its own, as commands are."""
    found: list[str] = []

    def one(number: int) -> None:
        found.append(as_nobody(lambda: shell(tree, debian, f"echo {number} > /tmp/x; sleep 0.1; cat /tmp/x")))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(text)[0] for text in found) == [f"{number}\n" for number in range(6)]


def test_the_roots_hold_nothing_that_a_user_could_be_given_rights_by(old, debian):
    for root in (old, debian):
        for path in root.path.rglob("*"):
            info = path.lstat()
            assert stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode)
            assert not info.st_mode & (stat.S_ISUID | stat.S_ISGID), path
