"""`belljar relocate` on real trees: what it prints, writes, refuses and takes back."""

import base64
import hashlib
import json
import os
import resource
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

OLD = "/opt/vendor/old-1.0"
SOURCE = str(Path(__file__).parents[2] / "src")


def belljar(*argv, status=0):
    environment = os.environ | {"PYTHONPATH": SOURCE + os.pathsep + os.environ.get("PYTHONPATH", "/nowhere")}
    done = subprocess.run(
        [sys.executable, "-m", "belljar", *argv], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree"
    (path / "lib/pkgconfig").mkdir(parents=True)
    (path / "lib/pkgconfig/x.pc").write_text(f"prefix={OLD}\nlibdir={OLD}/lib\n")
    (path / "lib/link").symlink_to(f"{OLD}/lib/pkgconfig")
    return path


def sums(tree):
    """Return what every file and link of a tree is."""
    return {
        str(path.relative_to(tree)): os.readlink(path)
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tree.rglob("*")
        if ".belljar-relocation" not in path.parts and (path.is_symlink() or path.is_file())
    }


def test_a_tree_is_moved_checked_and_taken_back(tree):
    before = sums(tree)
    assert f"the old prefix seems to be {OLD}" in belljar("relocate", tree, "--dry-run")
    assert sums(tree) == before
    assert "2 files and links changed" in belljar("relocate", tree)
    assert (tree / "lib/pkgconfig/x.pc").read_text() == f"prefix={tree}\nlibdir={tree}/lib\n"
    assert (tree / "lib/link/x.pc").exists()
    assert "consistent" in belljar("relocate", tree, "--check")
    assert " 0 files" in belljar("relocate", tree, "--from", OLD)
    belljar("relocate", tree, "--undo")
    assert sums(tree) == before


def test_a_refusal_writes_nothing_and_says_where(tree):
    (tree / "data").write_bytes(b"\0" * 7 + OLD.encode() + b"/x\0")
    before = sums(tree)
    argv = ("relocate", tree, "--from", OLD, "--to", "/a/much/longer/path/than/that")
    said = belljar(*argv, status=1)
    assert "refused: data: offset 7:" in said
    assert "--alias" in said
    assert sums(tree) == before
    printed = belljar(*argv, "--format", "json", status=1)
    (refusal,) = json.loads(printed)["refusals"]
    assert (refusal["path"], refusal["offset"]) == ("data", 7)
    belljar(*argv, "--leave", "data")


def test_an_alias_is_made_and_never_overwritten(tree, tmp_path):
    alias = tmp_path / "a"
    (tree / "lib/data").write_bytes(b"\0x")
    belljar("relocate", tree, "--from", OLD, "--alias", alias)
    assert os.readlink(alias) == str(tree)
    assert (tree / "lib/pkgconfig/x.pc").read_text().startswith(f"prefix={alias}\n")
    assert f"{alias}: the link stays" in belljar("relocate", tree, "--undo")
    assert alias.is_symlink()
    alias.unlink()
    alias.write_text("mine")
    belljar("relocate", tree, "--from", OLD, "--alias", alias, status=3)
    assert alias.read_text() == "mine"


def test_a_copy_leaves_the_tree_alone(tree, tmp_path):
    before = sums(tree)
    belljar("relocate", tree, "--output", tmp_path / "copy")
    assert sums(tree) == before
    assert (tmp_path / "copy/lib/pkgconfig/x.pc").read_text().startswith(f"prefix={tmp_path}/copy\n")


def test_a_dependency_alone_can_move(tree):
    belljar("relocate", tree, "--map", f"{OLD}/lib=/other/lib")
    assert (tree / "lib/pkgconfig/x.pc").read_text() == f"prefix={OLD}\nlibdir=/other/lib\n"


def test_nonsense_is_refused_as_usage_or_input(tree, tmp_path):
    belljar("relocate", tree, "--check", "--undo", status=2)
    belljar("relocate", tree, "--map", "x", status=2)
    belljar("relocate", tree, "--from", "relative", status=3)
    (tmp_path / "empty").mkdir()
    belljar("relocate", tmp_path / "empty", status=3)
    (tree / "lib/pkgconfig/y.pc").write_text("prefix=/opt/other/place\n")
    belljar("relocate", tree, status=3)


def wheel(directory):
    """Write a wheel with a console script."""
    files = {
        "said.py": "import os\nhere = os.path.dirname(__file__)\ndef main(): print(here)\n",
        "said-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: said\nVersion: 1.0\n",
        "said-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "said-1.0.dist-info/entry_points.txt": "[console_scripts]\nsaid = said:main\n",
    }
    files["said-1.0.dist-info/RECORD"] = "".join(
        f"{name},,\n" for name in [*files, "said-1.0.dist-info/RECORD"]
    )
    path = directory / "said-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_a_virtual_environment_with_console_scripts_moves_and_runs(tmp_path):
    made, moved = tmp_path / "made", tmp_path / "moved-to-a-longer-place"
    venv.create(made, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", made / "bin/python", "install", "-q", "--no-index"]
    subprocess.run([*pip, wheel(tmp_path)], check=True)
    made.rename(moved)
    with pytest.raises(FileNotFoundError):
        subprocess.run([moved / "bin/said"], check=True)
    assert f"the old prefix seems to be {made}" in belljar("relocate", moved)
    site = next(moved.glob("lib/python*/site-packages"))
    assert subprocess.check_output([moved / "bin/said"], text=True) == f"{site}\n"
    (record,) = [
        line for line in (site / "said-1.0.dist-info/RECORD").read_text().splitlines() if "bin/said" in line
    ]
    digest = hashlib.sha256((moved / "bin/said").read_bytes()).digest()
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") in record
    activated = f". {moved}/bin/activate && python -c 'import sys; print(sys.prefix)'"
    assert subprocess.check_output(["/bin/sh", "-c", activated], text=True) == f"{moved}\n"


def command_of(*argv, **more):
    environment = os.environ | {"PYTHONPATH": SOURCE + os.pathsep + os.environ.get("PYTHONPATH", "/nowhere")}
    words = [sys.executable, "-m", "belljar", *argv]
    return subprocess.Popen(words, env=environment, stdout=-1, stderr=-1, text=True, **more)


@pytest.mark.parametrize("way", ["--resume", "again", "--undo"])
def test_a_command_that_was_killed_is_completed_or_taken_back(tree, way):
    for number in range(400):
        (tree / f"lib/{number}.txt").write_text(f"{OLD}/share\n" * 20)
    before = sums(tree)
    running = command_of("relocate", tree, "--from", OLD)
    while not (tree / ".belljar-relocation/1.applying").exists():
        assert running.poll() is None, running.communicate()
    running.kill()
    running.communicate()
    assert "1. applying: 402 files" in belljar("relocate", tree, "--status")
    assert "not finished" in belljar("relocate", tree, "--check", status=1)
    again = ["--from", OLD] if way == "again" else [way]
    belljar("relocate", tree, *again)
    if way == "--undo":
        assert sums(tree) == before
        assert "records no relocation" in belljar("relocate", tree, "--status")
        return
    assert OLD not in "".join((tree / f"lib/{number}.txt").read_text() for number in range(400))
    assert "consistent" in belljar("relocate", tree, "--check")
    (status,) = json.loads(belljar("relocate", tree, "--status", "--format", "json"))["relocations"]
    assert (status["phase"], status["moves"]) == ("applied", [[OLD, str(tree)]])


def test_an_alias_is_removed_again_when_the_tree_cannot_be_written(tree, tmp_path):
    (tree / "lib/long.txt").write_text(f"{OLD}\n" * 20000)
    before, alias = sums(tree), tmp_path / "a"
    running = command_of(
        *("relocate", tree, "--from", OLD, "--alias", alias),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    _out, errors = running.communicate()
    assert running.returncode == 4, errors
    assert "Traceback" not in errors
    assert sums(tree) == before
    assert not os.path.lexists(alias)


@pytest.mark.parametrize("more", [["--undo"], ["--from", OLD], ["--output", "x"], ["--dry-run"]])
def test_looking_at_the_record_goes_with_nothing_else(tree, more):
    belljar("relocate", tree, "--status", *more, status=2)


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_a_variable_that_is_not_set_moves_nothing(tree, option):
    before = sums(tree)
    belljar("relocate", tree, *(("--from", OLD) if option == "--to" else ()), option, "", status=2)
    assert sums(tree) == before
