"""Programs that a launcher starts: what is promised of every form of sealing, and what only of some."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from belljar import fsys
from belljar.errors import InputError
from belljar.seal import doing, record
from belljar.seal.launcher import Form
from belljar.seal.plan import Options, plan

LIBRARY = "int answer(void) { return 42; }"
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int answer(void);
extern char **environ;
int main(int argc, char **argv) {
    char line[8192];
    printf("argv0 %s\nanswer %d\npid %d\n", argv[0], answer(), (int)getpid());
    for (int i = 1; i < argc; i++) printf("arg %s\n", argv[i]);
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, ".so")) printf("map %s", strchr(line, '/'));
    for (char **variable = environ; *variable; variable++) printf("env %s\n", *variable);
    return 37;
}
"""
READER = r"""
#include <stdio.h>
int main(int argc, char **argv) {
    FILE *file = fopen(argv[1], "rb");
    for (int c; (c = getc(file)) != EOF;) putchar(c);
}
"""
WRAPPED = [Form.STATIC, Form.SH]


@pytest.fixture
def prefix(zig_cc, tmp_path):
    """A program with a library of the prefix, two names of one program, a shell in another directory."""
    tree = tmp_path / "prefix"
    for name in ("bin", "sbin", "lib"):
        (tree / name).mkdir(parents=True)
    library = zig_cc(LIBRARY, "-shared", "-Wl,-soname,libanswer.so.1")
    shutil.copy(library, tree / "lib/libanswer.so.1")
    shutil.copy(library, tmp_path / "libanswer.so")
    shutil.copy(zig_cc(PROGRAM, tmp_path / "libanswer.so", "-Wl,-rpath,$ORIGIN/../lib"), tree / "bin/ask")
    os.link(tree / "bin/ask", tree / "sbin/twin")
    shutil.copy("/bin/bash", tree / "sbin/bash")
    (tree / "sbin/bash").chmod(0o555)
    (tree / "bin/sh").symlink_to("../sbin/bash")
    return tree


def entries(tree: Path) -> dict[str, tuple[object, ...]]:
    """All that lstat and reading tell of a tree, but the times of directories and which inodes they are."""
    found: dict[str, tuple[object, ...]] = {}
    for entry in fsys.walk(tree):
        path, info = tree / entry.path, entry.info
        content = os.readlink(path) if entry.is_link else path.read_bytes() if entry.is_file else None
        told = (info.st_mtime_ns, info.st_ino, info.st_nlink) if not entry.is_dir else ()
        found[entry.path] = (content, info.st_mode, *told)
    return found


def facts(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert (done.returncode, done.stderr) == (37, "")
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return {key: [rest for other, rest in lines if other == key] for key, _ in lines}


def sealed(prefix: Path, form: Form) -> Path:
    doing.seal(plan(prefix, Options(form=form)))
    return prefix


@pytest.mark.parametrize("form", WRAPPED)
def test_a_launched_program_runs_on_its_own_libraries_wherever_it_is_moved(form, prefix, tmp_path):
    assert not any(str(prefix) in line for line in facts(prefix / "bin/ask")["map"] if "libc" in line)
    sealed(prefix, form)
    assert doing.check(prefix) == ()
    for name in ("prefix", "with a space", "$HOME: 'x' \"y\" *", "-dash"):
        place = prefix.rename(tmp_path / name) if name != "prefix" else prefix
        prefix = place
        told = facts(place / "bin/ask", "a b", "", "*", "$x")
        assert told["arg"] == ["a b", "", "*", "$x"]
        assert told["answer"] == ["42"]
        assert len(told["map"]) >= 3
        assert all(f"/{name}/" in os.path.normpath(line) for line in told["map"])


@pytest.mark.parametrize("form", WRAPPED)
def test_a_launcher_is_found_through_links_and_path_and_from_any_directory(form, prefix, tmp_path):
    sealed(prefix, form)
    (tmp_path / "one\n").symlink_to(prefix / "bin/ask")
    (tmp_path / "dir ectory").mkdir()
    (tmp_path / "dir ectory/two").symlink_to("../one\n")
    (tmp_path / "all").symlink_to("prefix")
    places = [tmp_path / "dir ectory/two", tmp_path / "all/bin/ask"]
    for place in places:
        assert facts(place)["answer"] == ["42"]
        assert facts(f"./{place.name}", cwd=place.parent)["answer"] == ["42"]
    assert facts("./ask", cwd=prefix / "bin")["argv0"] == ["./ask"]
    assert facts("bin/ask", cwd=prefix)["argv0"] == ["bin/ask"]
    path = f"{prefix}/bin:{os.environ['PATH']}"
    assert facts("ask", env={"PATH": path})["answer"] == ["42"]
    assert facts("ask", cwd=prefix / "bin", env={"PATH": f":{path}"})["answer"] == ["42"]


@pytest.mark.parametrize("form", WRAPPED)
def test_a_launcher_starts_no_other_process_and_passes_the_environment_on(form, prefix):
    sealed(prefix, form)
    mine = {"LD_LIBRARY_PATH": "/nowhere", "PATH": "/nonexistent", "A": "1\n2", "belljar": "x"}
    with subprocess.Popen([prefix / "bin/ask"], env=mine, stdout=subprocess.PIPE, text=True) as child:
        told = child.stdout.read()
    assert f"pid {child.pid}\n" in told
    for name, value in mine.items():
        assert f"env {name}={value}\n" in told
    assert "belljar_" not in told


@pytest.mark.parametrize("form", WRAPPED)
def test_what_is_to_be_preloaded_stays_outside_and_reaches_children_unchanged(form, prefix, zig_cc, tmp_path):
    place = tmp_path / "hosts.so"
    shutil.copy(zig_cc("int hosts;", "-shared"), place)
    mine = {
        "A": "1",
        "LD_PRELOAD": f"{place}",
        "LD_AUDIT": "",
        "LD_ORIGIN_PATH": "/x",
        "LD_LIBRARY_PATH": "/y",
    }
    assert any("hosts.so" in line for line in facts(prefix / "bin/ask", env=mine)["map"])
    sealed(prefix, form)
    told = facts(prefix / "bin/ask", env=mine)
    assert not any("hosts.so" in line for line in told["map"])
    assert {
        line for line in told["env"] if not line.startswith(("BJLPATH=", "BJCNV_PATH=", "PWD=", "_="))
    } == {f"{name}={value}" for name, value in mine.items()}
    # In the ordinary case there is nothing to hide, and nothing is loaded for it.
    assert not any("libbelljar" in line for line in facts(prefix / "bin/ask", env={})["map"])
    shell = [prefix / "bin/sh", "-c", f"{prefix}/bin/ask"]
    assert set(facts(*shell, env=mine)["env"]) >= set(told["env"]) - {"_=", "PWD="}


def test_the_static_launcher_gives_the_name_that_was_typed(prefix):
    sealed(prefix, Form.STATIC)
    assert facts("typed", executable=prefix / "bin/ask")["argv0"] == ["typed"]


@pytest.mark.parametrize("form", WRAPPED)
def test_the_program_itself_is_not_touched(form, prefix):
    before = entries(prefix)
    sealed(prefix, form)
    after = entries(prefix)
    for path, inner in (("bin/ask", "libexec/ask"), ("sbin/twin", "libexec/sbin/twin")):
        assert after[inner] == before[path]
        assert after[path][1] == before[path][1]
    told = record.read(prefix)
    assert told["form"] == form
    assert record.wrapped(told)["sbin/bash"] == "libexec/sbin/bash"


@pytest.mark.parametrize("form", [*Form])
def test_unsealing_gives_everything_back_whatever_the_form(form, prefix):
    before = entries(prefix)
    sealed(prefix, form)
    assert entries(prefix) != before
    doing.unseal(doing.unseal_plan(prefix))
    after = entries(prefix)
    edited = form in (Form.EMBEDDED, Form.AUTO)
    assert set(after) == set(before)
    for path, (content, mode, *rest) in after.items():
        assert (content, mode) == before[path][:2], path
        assert not rest or rest[0] == before[path][2]
        assert not rest or rest[2] == before[path][4]
        assert edited or "lib/" in path or not rest or rest[1] == before[path][3]


@pytest.mark.parametrize("form", WRAPPED)
def test_one_input_gives_one_output_and_sealing_again_does_nothing(form, prefix, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(prefix, other, symlinks=True)
    contents = {path: told[0] for path, told in entries(sealed(prefix, form)).items()}
    assert {path: told[0] for path, told in entries(sealed(other, form)).items()} == contents
    again = plan(prefix)
    assert (again.form, again.programs) == (form, ())
    doing.seal(again)
    assert {path: told[0] for path, told in entries(prefix).items()} == contents


@pytest.mark.parametrize("form", WRAPPED)
def test_a_program_that_takes_a_launchers_place_is_sealed_anew(form, prefix):
    sealed(prefix, form)
    (prefix / "bin/ask").unlink()
    shutil.copy("/bin/cat", prefix / "bin/ask")
    shutil.copy("/bin/cat", prefix / "bin/late")
    assert {fault.path for fault in doing.check(prefix)} == {"bin/ask", "bin/late"}
    sealed(prefix, form)
    assert doing.check(prefix) == ()
    script = prefix / "script"
    script.write_text("hello")
    for name in ("ask", "late"):
        done = subprocess.run([prefix / "bin" / name, script], capture_output=True, text=True, check=True)
        assert done.stdout == "hello"
    doing.unseal(doing.unseal_plan(prefix))
    assert (prefix / "bin/ask").read_bytes() == Path("/bin/cat").read_bytes()
    assert not (prefix / "libexec").exists()


def test_one_form_does_not_go_over_another(prefix):
    sealed(prefix, Form.SH)
    with pytest.raises(InputError, match="is sealed in the form sh, not static"):
        plan(prefix, Options(form=Form.STATIC))


def test_a_name_that_is_taken_is_a_refusal(prefix):
    (prefix / "libexec").mkdir()
    (prefix / "libexec/ask").write_text("mine")
    before = entries(prefix)
    with pytest.raises(InputError, match="would move to libexec/ask, which is there already"):
        sealed(prefix, Form.STATIC)
    assert entries(prefix) == before


def test_a_libexec_that_lies_elsewhere_is_a_refusal(prefix, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (prefix / "libexec").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="libexec is no directory of the prefix"):
        sealed(prefix, Form.SH)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_program_with_data_at_its_end_is_refused_or_started_by_a_launcher(prefix, zig_cc):
    """One of zig's linker, which leaves no padding; one that has some: test_seal_payload.py."""
    program = prefix / "bin/reader"
    shutil.copy(zig_cc(READER), program)
    with program.open("ab") as file:
        file.write(b"PAYLOAD")
    image = program.read_bytes()
    told = plan(prefix)
    assert [item.path for item in told.changes.refusals] == ["bin/reader"]
    assert "carries 7 bytes behind its sections" in told.changes.refusals[0].reason
    assert "--launcher auto" in told.changes.refusals[0].reason
    sealed(prefix, Form.AUTO)
    assert record.wrapped(record.read(prefix)) == {"bin/reader": "libexec/reader"}
    assert (prefix / "libexec/reader").read_bytes() == image
    done = subprocess.run([program, prefix / "libexec/reader"], capture_output=True, check=True)
    assert done.stdout == image
    assert facts(prefix / "bin/ask")["answer"] == ["42"]
    assert doing.check(prefix) == ()


def test_a_program_that_is_gone_from_behind_its_launcher_is_found(prefix):
    sealed(prefix, Form.STATIC)
    (prefix / "libexec/ask").unlink()
    (prefix / "lib/libanswer.so.1").unlink()
    told = {fault.path: fault.what for fault in doing.check(prefix)}
    assert told["bin/ask"] == "starts libexec/ask, which is gone"
    assert told["libexec/sbin/twin"] == "needs libanswer.so.1, which is in none of its directories"


@pytest.mark.parametrize("inner", ["../outside", "/etc/passwd", "a/../b", ""])
def test_a_record_that_leads_out_of_the_prefix_is_refused(inner, prefix):
    sealed(prefix, Form.STATIC)
    path = prefix / record.PRIVATE / record.NAME
    told = json.loads(path.read_text())
    told["wrapped"]["bin/ask"]["program"] = inner
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match="is not a path of the prefix"):
        doing.unseal_plan(prefix)


def test_without_a_loader_a_launcher_says_so_and_ends(prefix):
    sealed(prefix, Form.STATIC)
    loader = next((prefix / record.PRIVATE).glob("ld-linux*"))
    loader.unlink()
    done = subprocess.run([prefix / "bin/ask"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (127, f"belljar: {loader}: the loader cannot be executed\n")


def test_the_command_takes_a_form_and_says_what_it_does(prefix):
    def belljar(*words):
        command = [sys.executable, "-m", "belljar", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    before = entries(prefix)
    dry = belljar("seal", prefix, "--launcher", "static", "--dry-run")
    assert "bin/ask: program: moves to libexec/ask, started by a launcher" in dry.stdout
    assert entries(prefix) == before
    assert belljar("seal", prefix, "--launcher", "static").returncode == 0
    assert belljar("seal", prefix, "--check").returncode == 0
    other = belljar("seal", prefix, "--launcher", "embedded")
    assert (other.returncode, "belljar unseal" in other.stderr) == (3, True)
    dry = belljar("unseal", prefix, "--dry-run")
    assert "bin/ask: program: comes back from libexec/ask" in dry.stdout
    assert belljar("unseal", prefix).returncode == 0
    assert {path: told[:2] for path, told in entries(prefix).items()} == {
        path: told[:2] for path, told in before.items()
    }
