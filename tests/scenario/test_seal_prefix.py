"""A prefix sealed as a whole: it moves, it reads nothing of the host, it comes back byte for byte."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from belljar import fsys
from belljar.errors import InputError
from belljar.seal import doing
from belljar.seal.plan import Options, plan
from belljar.seal.survey import PRIVATE

LIBRARY = "int answer(void) { return 42; }"
PROGRAM = r"""
#include <stdio.h>
int answer(void);
int main(void) { printf("%d\n", answer()); return 0; }
"""


def digests(tree: Path) -> dict[str, tuple[str, int, int]]:
    """What every entry of a tree is: content or target, mode, time."""
    return {
        entry.path: (
            os.readlink(tree / entry.path)
            if entry.is_link
            else hashlib.sha256((tree / entry.path).read_bytes()).hexdigest()
            if entry.is_file
            else "",
            entry.info.st_mode,
            0 if entry.is_dir else entry.info.st_mtime_ns,
        )
        for entry in fsys.walk(tree)
    }


@pytest.fixture
def prefix(zig_cc, tmp_path):
    """A program with a library of its own, by RUNPATH, a shell, a link, a script, a static program."""
    tree = tmp_path / "prefix"
    (tree / "bin").mkdir(parents=True)
    (tree / "lib").mkdir()
    library = zig_cc(LIBRARY, "-shared", "-Wl,-soname,libanswer.so.1")
    shutil.copy(library, tree / "lib/libanswer.so.1")
    shutil.copy(library, tmp_path / "libanswer.so")
    program = zig_cc(PROGRAM, tmp_path / "libanswer.so", "-Wl,-rpath,$ORIGIN/../lib")
    shutil.copy(program, tree / "bin/ask")
    os.link(tree / "bin/ask", tree / "bin/twin")
    shutil.copy("/bin/bash", tree / "bin/bash")
    (tree / "bin/sh").symlink_to("bash")
    (tree / "bin/script").write_text("#!/bin/sh\necho script\n")
    shutil.copy(
        zig_cc("int main(void) { return 3; }", "-static", target="x86_64-linux-musl"), tree / "bin/static"
    )
    return tree


def output(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def mapped(program, *arguments):
    """The shared libraries that a process of the program has mapped."""
    script = 'while read -r line; do echo "$line"; done < /proc/$$/maps'
    told = output(program, *(arguments or ("-c", script)))
    return {line.split()[-1] for line in told.splitlines() if ".so" in line}


def test_it_runs_on_its_own_libraries_wherever_it_is_moved(prefix, tmp_path):
    assert all(not name.startswith(str(prefix)) for name in mapped(prefix / "bin/bash"))
    doing.seal(plan(prefix))
    assert doing.check(prefix) == ()
    for place in (prefix, tmp_path / "else where"):
        if place != prefix:
            prefix.rename(place)
        assert output(place / "bin/ask") == output(place / "bin/twin") == "42\n"
        libraries = mapped(place / "bin/sh")
        assert libraries
        assert all(name.startswith(str(place / PRIVATE)) or "where/lib/belljar" in name for name in libraries)


def test_hard_links_stay_links_and_the_rest_is_left_alone(prefix):
    before = digests(prefix)
    doing.seal(plan(prefix))
    assert (prefix / "bin/ask").samefile(prefix / "bin/twin")
    after = digests(prefix)
    changed = {path for path in before if after[path][0] != before[path][0]}
    assert (
        {"bin/ask", "bin/twin", "bin/bash"}
        <= changed
        <= {"bin/ask", "bin/twin", "bin/bash", "lib/libanswer.so.1"}
    )
    assert after["bin/static"] == before["bin/static"]
    assert after["bin/script"] == before["bin/script"]


def test_unsealing_gives_every_byte_mode_and_time_back(prefix):
    before = digests(prefix)
    doing.seal(plan(prefix))
    assert digests(prefix) != before
    doing.unseal(doing.unseal_plan(prefix))
    assert digests(prefix) == before
    with pytest.raises(InputError, match="is not sealed"):
        doing.unseal_plan(prefix)


def test_sealing_twice_changes_nothing_and_one_input_gives_one_output(prefix, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(prefix, other, symlinks=True)
    doing.seal(plan(prefix))
    once = digests(prefix)
    again = plan(prefix)
    assert again.programs == ()
    doing.seal(again)
    assert digests(prefix) == once
    doing.seal(plan(other))
    assert {path: told[0] for path, told in digests(other).items()} == {
        path: told[0] for path, told in once.items()
    }


def test_a_program_that_came_later_is_sealed_with_the_rest(prefix):
    doing.seal(plan(prefix))
    shutil.copy("/bin/cat", prefix / "bin/cat")
    assert [fault.path for fault in doing.check(prefix)] == ["bin/cat"]
    doing.seal(plan(prefix))
    assert doing.check(prefix) == ()
    assert output(prefix / "bin/ask") == "42\n"
    assert output(prefix / "bin/cat", prefix / "bin/script").endswith("echo script\n")


def test_a_library_that_is_missing_is_a_refusal_that_names_it(prefix):
    (prefix / "lib/libanswer.so.1").unlink()
    before = digests(prefix)
    sealing = plan(prefix)
    assert any("libanswer.so.1 is not found" in item.reason for item in sealing.changes.refusals)
    with pytest.raises(InputError, match=r"bin/ask: libanswer\.so\.1 is not found"):
        doing.seal(sealing)
    assert digests(prefix) == before


def test_what_is_declared_to_come_from_the_host_is_linked_not_bundled(prefix):
    doing.seal(plan(prefix, Options(from_host=("libtinfo.so.6",))))
    private = prefix / PRIVATE
    assert not (private / "libtinfo.so.6").exists()
    links = [path for path in private.glob("host-*/libtinfo.so.6") if path.exists()]
    assert links
    outside = {name for name in mapped(prefix / "bin/bash") if not name.startswith(str(prefix))}
    assert {Path(name).name.partition(".")[0] for name in outside} == {"libtinfo"}


def test_damage_to_a_seal_is_found(prefix):
    doing.seal(plan(prefix))
    private = prefix / PRIVATE
    (private / "libc.so.6").write_bytes(b"other")
    loader = next(private.glob("ld-linux*"))
    loader.unlink()
    told = {fault.path: fault.what for fault in doing.check(prefix)}
    assert told[f"{PRIVATE}/libc.so.6"] == "is not what was bundled"
    assert told[f"{PRIVATE}/{loader.name}"] == "is gone"
    (private / "seal.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        doing.check(prefix)


def test_the_command_plans_seals_checks_and_unseals(prefix):
    def belljar(*words):
        command = [sys.executable, "-m", "belljar", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    before = digests(prefix)
    dry = belljar("seal", prefix, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "bin/ask: program: starts on lib/belljar/" in dry.stdout
    assert "bin/static: left alone: static" in dry.stdout
    assert digests(prefix) == before
    done = belljar("seal", prefix, "--format", "json")
    assert json.loads(done.stdout)["programs"] == ["bin/ask", "bin/bash"]
    assert belljar("seal", prefix, "--check").returncode == 0
    (prefix / PRIVATE / "libc.so.6").unlink()
    assert belljar("seal", prefix, "--check").returncode == 1
    assert belljar("unseal", prefix).returncode == 0
    assert digests(prefix) == before
    assert belljar("unseal", prefix).returncode == 3
