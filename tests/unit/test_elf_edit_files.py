"""`belljar edit`: what is written, what is kept, what is said."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import belljar
from belljar.elf import read
from belljar.elf.edit import EditRefused, SetRunpath
from belljar.errors import InputError
from belljar.relocate.edit import edit_file

SOURCE = str(Path(belljar.__file__).parents[1]) + os.pathsep + os.environ.get("PYTHONPATH", "/nowhere")
WISH = [SetRunpath(entries=("$ORIGIN/../lib", "/a/b/c"))]


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program"
    shutil.copyfile("/usr/bin/env", path)
    path.chmod(0o755)
    return path


def call(*words, **more):
    return subprocess.run(
        [sys.executable, "-m", "belljar", "edit", *map(str, words)],
        env=os.environ | {"PYTHONPATH": SOURCE} | more,
        capture_output=True,
        text=True,
        check=False,
    )


def runpath(path):
    return read(path.read_bytes()).dynamic.runpath


def test_a_written_file_is_a_new_inode_dressed_as_the_old_one(program):
    program.chmod(0o4751)
    os.utime(program, ns=(1, 2_000_000_001))
    with contextlib.suppress(OSError):  # not every filesystem has them
        os.setxattr(program, "user.note", b"kept")
    noted = os.listxattr(program)
    twin = program.with_name("twin")
    os.link(program, twin)
    before = program.stat()
    assert edit_file(program, WISH)
    after = program.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_mtime_ns == 2_000_000_001
    assert os.listxattr(program) == noted
    assert after.st_ino != twin.stat().st_ino == before.st_ino
    assert runpath(twin) is None
    assert os.listdir(program.parent) in (["program", "twin"], ["twin", "program"])


def test_a_file_that_needs_no_change_is_not_written(program):
    edit_file(program, WISH)
    before = program.stat()
    program.parent.chmod(0o555)
    assert edit_file(program, WISH) == ()
    program.parent.chmod(0o755)
    assert program.stat() == before


def test_a_program_that_runs_is_edited_and_runs_on(program):
    shutil.copyfile("/usr/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as child:
        try:
            assert edit_file(program, WISH)
            assert child.poll() is None
        finally:
            child.kill()
    assert runpath(program) == "$ORIGIN/../lib:/a/b/c"


def test_a_link_stays_and_its_file_is_edited(program):
    link = program.with_name("link")
    link.symlink_to("program")
    assert edit_file(link, WISH)
    assert link.is_symlink()
    assert runpath(program) == "$ORIGIN/../lib:/a/b/c"


def test_an_output_is_a_copy_even_where_nothing_changes(program):
    output = program.with_name("output")
    before = program.read_bytes()
    assert edit_file(program, WISH, output=output)
    assert program.read_bytes() == before
    assert edit_file(output, WISH, output=program.with_name("again")) == ()
    assert program.with_name("again").read_bytes() == output.read_bytes()


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n", bytes(4096)])
def test_what_is_no_program_is_refused_by_name_and_left_alone(tmp_path, content):
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path}: "):
        edit_file(path, WISH)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["text"]


def test_a_refusal_names_the_file(tmp_path, program):
    with pytest.raises(EditRefused, match=f"^{program}: .*colon"):
        edit_file(program, [SetRunpath(entries=("a:b",))])
    with pytest.raises(InputError, match="not a regular file"):
        edit_file(Path("/dev/null"), WISH)


def test_the_command_edits_prints_and_edits_nothing_twice(program):
    assert call(program).stdout.splitlines()[0] == f"{program}:"
    done = call("--dry-run", "--set-runpath", "/x:/y", program)
    assert (done.returncode, done.stderr, runpath(program)) == (0, "", None)
    assert "would change" in done.stdout
    assert call("--set-runpath", "/x:/y", "--rpath-tag", "rpath", program).returncode == 0
    assert read(program.read_bytes()).dynamic.rpath == "/x:/y"
    assert "as it should be" in call("--set-runpath", "/x:/y", program).stdout
    assert call("--rpath-tag", "runpath", program).returncode == 0
    told = json.loads(call("--format", "json", program).stdout)
    assert told["files"][str(program)]["runpath"] == "/x:/y"
    assert told["files"][str(program)]["rpath"] is None
    assert call("--remove-runpath", "all", program).returncode == 0
    assert runpath(program) is None


def test_the_command_edits_what_it_can_and_says_what_it_cannot(program):
    text = program.with_name("text")
    text.write_text("hello")
    done = call("--add-runpath", "/x", text, program)
    assert done.returncode == 3
    assert f"error: {text}: offset 0x0: not an ELF file" in done.stderr
    assert f"{program}: changed" in done.stdout
    assert runpath(program) == "/x"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--replace"], "--replace: goes with --set-runpath only"),
        (["--replace-needed", "x"], "want OLD=NEW"),
        (["--rpath-tag", "x"], "'x' is not one of"),
    ],
)
def test_usage_that_makes_no_sense_is_told(program, words, said):
    done = call(*words, program)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert call("--output", "x", "--add-runpath", "/x", program, program).returncode == 2
