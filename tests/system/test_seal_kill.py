"""Sealing and unsealing, killed before each of their steps: nothing is lost, both can be done again.

A child process does the work and ends itself, as by SIGKILL, before the n-th operation that changes the
prefix (Python's audit events tell of each); then the next n, until it comes to its end.
"""

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from belljar import fsys
from belljar.errors import HostError, InputError
from belljar.relocate import moving
from belljar.seal import doing, record
from belljar.seal.launcher import Form
from belljar.seal.plan import Options, plan

LIBRARY = "int answer(void) { return 42; }"
PROGRAM = """
#include <stdio.h>
int answer(void);
int main(void) { printf("%d\\n", answer()); return 0; }
"""
CHANGES = {"os.rename", "os.link", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.utime", "os.symlink"}
INSIDE = ("lib/.belljar.new/", "lib/.belljar.old/", "/.belljar-gone/")
"""Directories in the making or on their way out: one moment in them is as good as another."""


@pytest.fixture
def prefix(zig_cc):
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "prefix"
        for name in ("bin", "sbin", "lib"):
            (tree / name).mkdir(parents=True)
        library = zig_cc(LIBRARY, "-shared", "-Wl,-soname,libanswer.so.1", "-Wl,-rpath,/usr/lib")
        shutil.copy(library, tree / "lib/libanswer.so.1")
        shutil.copy(library, Path(scratch) / "libanswer.so")
        program = zig_cc(PROGRAM, Path(scratch) / "libanswer.so", "-Wl,-rpath,$ORIGIN/../lib")
        shutil.copy(program, tree / "bin/ask")
        os.link(tree / "bin/ask", tree / "sbin/twin")
        yield tree
        fsys.remove_tree(tree)


@pytest.fixture
def root(tmp_path):
    """A system with a loader and a libc only: fast to bundle."""
    for path in ("/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"):
        place = tmp_path / "root" / path[1:]
        place.parent.mkdir(parents=True)
        shutil.copy(path, place)
    return tmp_path / "root"


def entries(tree):
    found = {}
    for entry in fsys.walk(tree):
        content = (tree / entry.path).read_bytes() if entry.is_file else None
        times = entry.info.st_mtime_ns if entry.is_file else None
        found[entry.path] = (content, entry.info.st_mode, times, entry.info.st_nlink if content else 0)
    return found


def dies_before(number, work, *arguments):
    """Do work in a child that kills itself before its n-th change; tell whether it did."""
    child = os.fork()
    if child == 0:
        counter = itertools.count()

        def watch(event, words):
            is_writing = event == "open" and isinstance(words[2], int) and words[2] & os.O_CREAT
            if event not in CHANGES and not is_writing:
                return
            if any(place in str(word) for word in words for place in INSIDE):
                return
            if next(counter) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            work(*arguments)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


def unseal(prefix):
    doing.recover(prefix)
    doing.unseal(doing.unseal_plan(prefix))


def seal(prefix, form, root=Path("/")):
    doing.recover(prefix)
    doing.seal(plan(prefix, Options(form=form, root=root)))


def runs(prefix):
    """Whether each program gives its answer, on whichever loader."""
    for name in ("bin/ask", "sbin/twin"):
        done = subprocess.run([prefix / name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


@pytest.mark.parametrize("form", [Form.EMBEDDED, Form.STATIC])
def test_killed_at_any_step_sealing_again_completes_and_unsealing_restores(form, prefix, root, monkeypatch):
    monkeypatch.setattr(moving, "_flush", lambda _root: None)  # a kill takes nothing from the kernel's cache
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    before, first = entries(prefix), plan(prefix, Options(form=form, root=root))
    number = 0
    while dies_before(number, doing.seal, first):
        runs(prefix)
        if number % 2:
            seal(prefix, form, root)
            assert doing.check(prefix) == ()
            unseal(prefix)
        else:
            try:
                unseal(prefix)
            except InputError as error:
                assert "is not sealed" in error.message
        assert entries(prefix) == before, number
        number += 1
    assert number > 15
    whole = entries(prefix)
    steps = 0
    back = doing.unseal_plan(prefix)
    while dies_before(steps, doing.unseal, back):
        runs(prefix)
        if steps % 2:
            try:
                unseal(prefix)
            except InputError as error:
                assert "is not sealed" in error.message
            assert entries(prefix) == before, steps
        seal(prefix, form, root)
        assert doing.check(prefix) == ()
        assert entries(prefix) == whole, steps
        steps += 1
    assert steps > 10
    assert entries(prefix) == before


def test_killed_while_sealing_again_it_completes_and_unseals_all_the_same(prefix, root, monkeypatch):
    """With a new program, which has data behind its sections. In one moment there is no loader."""
    form = Form.EMBEDDED
    monkeypatch.setattr(moving, "_flush", lambda _root: None)
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    late = Path("/bin/true").read_bytes() + b"PAYLOAD"

    def add(tree):
        (tree / "bin/late").write_bytes(late)
        (tree / "bin/late").chmod(0o755)
        os.utime(tree / "bin/late", (1, 1))

    seal(prefix, form, root)
    add(prefix)
    kept = prefix.with_name("kept")
    subprocess.run(["cp", "-a", prefix, kept], check=True)
    seal(prefix, form, root)
    whole, number = entries(prefix), 0
    unseal(prefix)
    before = entries(prefix)
    while True:
        fsys.remove_tree(prefix)
        subprocess.run(["cp", "-a", kept, prefix], check=True)
        if not dies_before(number, seal, prefix, form, root):
            break
        if number % 2:
            seal(prefix, form, root)
            assert doing.check(prefix) == ()
            assert entries(prefix) == whole, number
        else:
            unseal(prefix)
            assert entries(prefix) == before, number
        runs(prefix)
        number += 1
    assert number > 10


def test_two_at_once_are_refused(prefix):
    with doing._alone(prefix), pytest.raises(HostError, match="another process seals or unseals"):
        doing.seal(plan(prefix))


def test_a_program_that_runs_is_sealed_under_its_feet(prefix):
    shutil.copy("/bin/cat", prefix / "bin/cat")
    with subprocess.Popen([prefix / "bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        for form in (Form.EMBEDDED, Form.STATIC):
            seal(prefix, form)
            assert subprocess.run([prefix / "bin/cat", "/dev/null"], check=False).returncode == 0
            unseal(prefix)
        assert running.communicate(b"still here")[0] == b"still here"


@pytest.mark.parametrize("form", [Form.EMBEDDED, Form.STATIC])
def test_an_error_on_the_way_leaves_all_as_it_was(form, prefix, monkeypatch):
    before = entries(prefix)

    def full(*_words, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    sealing = plan(prefix, Options(form=form))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", full)
        with pytest.raises(HostError, match="No space left"):
            doing.seal(sealing)
    assert entries(prefix) == before
    assert record.read(prefix) is None
