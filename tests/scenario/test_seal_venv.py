"""A virtual environment becomes a prefix that runs where there is nothing else; scripts find their way."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv as stdlib_venv
import zipfile
from pathlib import Path

import pytest

from belljar import fsys
from belljar.errors import InputError
from belljar.sandbox import Bind, Devices, Proc, Sandbox, Tmpfs, run
from belljar.seal import doing, venv
from belljar.seal.plan import Options, plan

SAID = '''"""The words of a script's own help."""
import sys


def main():
    print(__file__, sys.prefix, sys.argv[1:])
'''
NUMPY = """
import json, sys, ssl, sqlite3, ctypes, zlib, decimal
import numpy
a = numpy.arange(6.0).reshape(2, 3)
maps = {line.split(None, 5)[-1].strip() for line in open("/proc/self/maps") if ".so" in line}
import json.decoder
print(json.dumps({
    "product": (a @ a.T).tolist(),
    "solved": numpy.linalg.solve(a @ a.T + numpy.eye(2), [1, 2]).tolist(),
    "maps": sorted(maps),
    "path": sys.path,
    "prefix": sys.prefix,
    "cached": json.decoder.__cached__,
}))
"""


def cached() -> Path:
    """An environment with numpy from PyPI, kept in the system's directory for temporary files."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}"
    made = Path(tempfile.gettempdir()) / f"belljar-tests-venv-{os.getuid()}" / f"numpy-{version}"
    if not (made / "whole").exists():
        made.parent.mkdir(mode=0o700, exist_ok=True)
        fsys.remove_tree(made)
        stdlib_venv.create(made, with_pip=True)
        pip = [made / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "numpy>=2,<3"], check=True)
        (made / "whole").touch()
    return made


@pytest.fixture(scope="module")
def numpy(tmp_path_factory):
    """The environment with numpy, sealed, and moved since."""
    scratch = tmp_path_factory.mktemp("numpy")
    venv.make(venv.read(cached()), scratch / "made")
    return (scratch / "made").rename(scratch / "moved: $HOME")


def wheel(directory: Path) -> Path:
    files = {
        "said.py": SAID,
        "said-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: said\nVersion: 1.0\n",
        "said-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "said-1.0.dist-info/entry_points.txt": "[console_scripts]\nsaid = said:main\n",
        "said-1.0.dist-info/RECORD": "",
    }
    path = directory / "said-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def output(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def alone(tree: Path, *command: str) -> str:
    """Run a command in a root that has nothing but `tree`, at /where ever."""
    box = Sandbox(
        operations=(Proc(), Devices(), Tmpfs(target="/tmp"), Bind(source=str(tree), target="/where ever")),
        env={"PATH": "/where ever/bin", "HOME": "/tmp"},
        cwd="/tmp",
    )
    with tempfile.TemporaryFile() as out:
        ended = run(box, command, stdout=out.fileno(), stderr=out.fileno(), timeout=60)
        out.seek(0)
        text = out.read().decode()
    assert ended.status == 0, text
    return text


def test_numpy_runs_in_a_root_with_nothing_but_the_prefix(numpy):
    told = json.loads(alone(numpy, "/where ever/bin/python", "-c", NUMPY))
    assert told["product"] == [[5.0, 14.0], [14.0, 50.0]]
    assert told["prefix"] == "/where ever"
    places = [*told["maps"], *filter(None, told["path"]), told["cached"]]
    assert all(path.startswith("/where ever/") for path in places), places
    assert told == json.loads(alone(numpy, "/where ever/bin/python3", "-c", NUMPY))


def test_nothing_of_the_machine_is_mapped_after_a_move(numpy):
    told = json.loads(output(numpy / "bin/python", "-c", NUMPY))
    assert len(told["maps"]) > 10
    places = [*told["maps"], *filter(None, told["path"])]
    assert all(path.startswith(f"{numpy}/") for path in places), places


def test_byte_code_stays_valid(numpy):
    told = subprocess.run(
        [numpy / "bin/python", "-v", "-c", "import json"], capture_output=True, text=True, check=True
    ).stderr
    assert f"matches {numpy}/lib" in told
    assert f"could not match {numpy}" not in told


@pytest.mark.parametrize(("name", "links"), [("plain", False), ("with a space", True), ("long" * 40, True)])
def test_console_scripts_run_wherever_the_environment_goes(name, links, tmp_path):
    made, out = tmp_path / name, tmp_path / "out"
    stdlib_venv.create(made, symlinks=links)
    pip = [sys.executable, "-m", "pip", "--python", made / "bin/python", "install", "-q", "--no-index"]
    subprocess.run([*pip, wheel(tmp_path)], check=True)
    before = {entry.path for entry in fsys.walk(made)}
    belljar = [sys.executable, "-m", "belljar", "seal", "--venv", made, "--output", out]
    assert f"made {out}" in output(*belljar)
    assert {entry.path for entry in fsys.walk(made)} == before
    fsys.remove_tree(made)
    moved = out.rename(tmp_path / "moved to")
    (tmp_path / "link").symlink_to(moved / "bin/said")
    for command in (moved / "bin/said", tmp_path / "link"):
        file, *rest = output(command, "a b").strip().rsplit(" ", 3)
        assert file.startswith(f"{moved}/lib/python")
        assert " ".join(rest).endswith("['a b']")
    record = next(moved.glob("lib/python*/site-packages/said-*/RECORD")).read_text()
    digest = hashlib.sha256((moved / "bin/said").read_bytes()).digest()
    assert f"bin/said,sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}" in record
    assert doing.check(moved) == ()


def test_pip_installs_into_an_environment_that_was_moved(numpy, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(numpy, copy, symlinks=True)
    output(copy / "bin/pip", "install", "-q", "--no-index", "--disable-pip-version-check", wheel(tmp_path))
    assert output(copy / "bin/said").startswith(f"{copy}/lib/python")


@pytest.mark.parametrize("what", ["no environment", "system packages", "taken", "broken"])
def test_what_cannot_be_sealed_is_refused_with_words(what, tmp_path):
    made, out = tmp_path / "made", tmp_path / "out"
    made.mkdir()
    wanted = {
        "no environment": "no pyvenv.cfg",
        "system packages": "uses packages of the system",
        "taken": "is there already",
        "broken": "interpreter does not run",
    }[what]
    if what != "no environment":
        stdlib_venv.create(made, system_site_packages=what == "system packages")
    if what == "taken":
        out.mkdir()
    if what == "broken":
        (made / "bin/python").unlink()
        (made / "bin/python").write_text("#!/bin/sh\necho no; exit 1\n")
        (made / "bin/python").chmod(0o755)
    with pytest.raises(InputError, match=wanted):
        venv.make(venv.read(made), out)
    assert {path.name for path in tmp_path.iterdir()} - {"out"} == {"made"}


def test_a_library_that_is_missing_leaves_nothing_behind(tmp_path, zig_cc):
    made = tmp_path / "made"
    stdlib_venv.create(made)
    gone = zig_cc("int gone(void) { return 1; }", "-shared", "-Wl,-soname,libgone.so.1")
    shutil.copy(gone, tmp_path / "libgone.so")
    user = zig_cc("int gone(void); int f(void) { return gone(); }", "-shared", tmp_path / "libgone.so")
    site = next(made.glob("lib/python*/site-packages"))
    shutil.copy(user, site / "user.so")
    (tmp_path / "libgone.so").unlink()
    with pytest.raises(InputError, match=r"user\.so: libgone\.so\.1 is not found"):
        venv.make(venv.read(made), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"made"}


@pytest.fixture
def scripted(tmp_path):
    """A prefix with a shell of its own and scripts that name it."""
    tree = tmp_path / "prefix"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/bash", tree / "bin/bash")
    (tree / "bin/tool").write_text(f'#!{tree}/bin/bash\necho "$BASH" "$1"\n')
    (tree / "bin/odd").write_text(f"#!{tree}/bin/unknown\n")
    (tree / "bin/plain").write_text("#!/bin/sh\necho plain\n")
    for name in ("tool", "odd", "plain"):
        (tree / "bin" / name).chmod(0o755)
    return tree


def test_scripts_that_name_the_prefix_are_listed_or_find_their_interpreter(scripted, tmp_path):
    text = (scripted / "bin/tool").read_text()
    told = plan(scripted)
    assert [note for note in told.notes if note.startswith("bin/tool: names")]
    assert not [note for note in told.notes if "bin/plain" in note]
    refused = plan(scripted, Options(scripts=True)).changes.refusals
    assert [item.path for item in refused] == ["bin/odd"]
    (scripted / "bin/odd").unlink()
    doing.seal(plan(scripted, Options(scripts=True)))
    moved = scripted.rename(tmp_path / "else where")
    (tmp_path / "link").symlink_to(moved / "bin/tool")
    assert os.path.normpath(output(tmp_path / "link", "a b")) == f"{moved}/bin/bash a b\n"
    doing.unseal(doing.unseal_plan(moved))
    assert (moved / "bin/tool").read_text() == text


def test_the_standard_library_is_that_of_the_interpreter():
    told = venv.read(cached())
    assert told.version == sysconfig.get_python_version()
    assert told.stdlib[0] == Path(sysconfig.get_path("stdlib")).resolve()
    assert told.executable == Path(os.path.realpath(sys._base_executable))
