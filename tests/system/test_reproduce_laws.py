"""What `belljar reproduce` promises: exit statuses, an untouched project, reports, hostile trees, users."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import test_build_support as built
from test_reproduce_causes import causes, place_with, reproduced
from test_run_support import NOBODY, ROOT, Place, belljar, scratch, system

from belljar import api
from belljar.hermetic.request import Request
from belljar.home import Home
from belljar.reproduce.diffoscope import account
from belljar.sandbox import Bind, Devices, Proc, Symlink, Tmpfs

HOSTILE = """
cat 'na'* > /dev/null
mkdir locked; echo 1 > locked/x; chmod 000 locked/x locked
mkfifo pipe
ln -s /nonexistent dangling
printf 'q' > "$(printf 'b\\377d')"
touch armed; chmod 6755 armed
printf '\\033[2J%s\\n' "$(uname -r)" > out
uname -r > "$(printf 'a\\n<b>\\342\\200\\256\\377')"
"""


def words_of(place: Place) -> list[str]:
    return ["--profile", "none", "--system", str(system())]


def said(place: Place, *words: str):
    return belljar(*words, cwd=place.project, env=place.environment())


def tree_of(top: Path) -> dict[str, int]:
    return {str(path.relative_to(top)): path.lstat().st_mtime_ns for path in top.rglob("*")}


def test_a_recipe_is_built_from_its_lock_and_what_it_installs_is_compared(tmp_path):
    script = 'mkdir -p "$PREFIX"; cp word "$PREFIX/word"; uname -n > left; uname -r > "$PREFIX/kernel"'
    tied = built.recipe(tmp_path / "tied", script)
    done = built.belljar("reproduce", tied, "--json", home=built.home(tmp_path / "home"))
    report = json.loads(done.stdout)
    assert (done.returncode, causes(report)) == (1, {"kernel"})
    assert {item["path"] for item in report["differences"]} == {"kernel"}
    assert built.leftovers(tmp_path / "home") == []


def test_the_directory_is_an_input_of_a_recipe_and_a_fault_of_a_project(tmp_path):
    script = 'mkdir -p "$PREFIX"; pwd > "$PREFIX/where"'
    tied = built.recipe(tmp_path / "tied", script)
    done = built.belljar("reproduce", tied, "--json", "--vary", "path", home=built.home(tmp_path / "home"))
    report = json.loads(done.stdout)
    assert (done.returncode, report["reproducible"], causes(report)) == (0, True, {"path"})
    assert report["causes"][0]["declared"]
    _, report = reproduced(place_with(tmp_path / "project", "pwd > where"), "--vary", "path")
    assert (report["reproducible"], report["causes"][0]["declared"]) == (False, False)


def test_run_reproduces_any_command_and_leaves_the_project_as_it_was(tmp_path):
    place = place_with(tmp_path, "uname -n > out")
    before = tree_of(place.project)
    words = ("--reproduce", "--report", "../report.json", *words_of(place))
    done = said(place, "run", *words, "--", "bash", "build.sh")
    assert done.returncode == 1
    assert "cause: host: the host name" in done.stdout
    assert causes(json.loads((place.project / "../report.json").read_text())) == {"host"}
    assert tree_of(place.project) == before


def test_trees_that_are_hostile_are_copied_compared_and_shown_safely(tmp_path):
    place = place_with(tmp_path, HOSTILE)
    os.mkfifo(place.project / "fifo")
    (place.project / "na\udcffme").write_text("x")
    (place.project / "loop").symlink_to("loop")
    kept, page = place.project / "../kept", place.project / "../page.html"
    options = ("--vary", "kernel", "--vary", "umask", "--keep", str(kept), "--html", str(page))
    words = ("reproduce", *options, *words_of(place), "--", "bash", "-eu", "build.sh")
    done = said(place, *words)
    assert done.returncode == 1, done.stderr
    assert "cause: kernel" in done.stdout
    assert "\033" not in done.stdout + page.read_text()
    assert "9.8.7-varied" in page.read_text()
    assert r"a\n&lt;b&gt;" + "\ufffd" + r"\xff" in page.read_text()
    assert not re.search(r"<script|https?://", page.read_text())
    assert (kept / "usual/project/out").read_bytes() == b"\033[2J6.1.0\n"
    assert (kept / "varied/project/out").read_bytes() == b"\033[2J9.8.7-varied\n"


def test_what_git_does_not_know_is_left_of_an_earlier_build_and_not_taken_along(tmp_path):
    place = place_with(tmp_path, "[ -e made ] || echo fresh > made; test -d .git")
    place.write("made", "stale\n")
    place.write(".git/HEAD", "ref: refs/heads/main\n")
    # A machine for tests may have no git; all that counts is what it answers to `ls-files -z`.
    place.write("../../bin/git", "#!/bin/sh\nprintf 'build.sh\\0'\n", mode=0o755)
    place.path = f"{tmp_path}/bin:{place.path}"
    status, report = reproduced(place, "--vary", "host", "--keep", str(tmp_path / "kept"))
    assert (status, report["reproducible"]) == (0, True)
    assert (tmp_path / "kept/usual/project/made").read_text() == "fresh\n"


def test_diffoscope_is_asked_where_it_is_installed(tmp_path):
    place = place_with(tmp_path, "uname -r > out")
    # It is large, and what it says is its own; that it is asked, and where the trees are, is belljar's.
    text = '#!/bin/sh\nwhile [ "$1" != - ]; do shift; done\ncat "$2/out" "$3/out"; printf "\\033[2J\\n"\n'
    place.write("../../bin/diffoscope", text, mode=0o755)
    place.path = f"{tmp_path}/bin:{place.path}"
    words = ("reproduce", "--vary", "kernel", *words_of(place), "--", "bash", "build.sh")
    done = said(place, *words)
    assert done.returncode == 1
    assert "diffoscope:\n6.1.0\n9.8.7-varied\n\\x1b[2J" in done.stdout


def test_a_diffoscope_that_fails_or_hangs_is_a_note_and_changes_no_verdict(tmp_path, monkeypatch):
    program = tmp_path / "bin/diffoscope"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    for script, note in (
        ("echo some; echo 'no such codec' >&2; exit 2", "diffoscope failed, status 2: no such codec"),
        ("kill -9 $$", "diffoscope failed, status -9: no word of why"),
        ("yes | head -1000; exit 1", "diffoscope: 600 lines more"),
        ("sleep 100", "diffoscope: did not end within 0.5 seconds"),
        ("exit 1", ""),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert account(tmp_path, ("one", "two"), (".git",), timeout=0.5)[1] == note


def test_what_lies_behind_a_link_or_is_belljars_own_is_no_source(tmp_path):
    place = place_with(tmp_path, "ls > out; test -L parts; test ! -e state")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/one").write_text("precious\n")
    (place.project / "parts").rename(place.project / "parts-before")
    (place.project / "parts").symlink_to(tmp_path / "elsewhere")
    place.write(".git/HEAD", "ref: refs/heads/main\n")
    names = "parts build.sh parts/one words"
    place.write("../../bin/git", f"#!/bin/sh\nprintf '%s\\0' {names}\n", mode=0o755)
    place.path = f"{tmp_path}/bin:{place.path}"
    place.env["BELLJAR_HOME"] = str(place.project / "state")
    status, report = reproduced(place, "--vary", "host")
    assert (status, report["reproducible"]) == (0, True), report
    assert (tmp_path / "elsewhere/one").read_text() == "precious\n"


def test_a_build_that_fails_as_usual_is_no_verdict(tmp_path):
    place = place_with(tmp_path, "echo the last words; exit 3")
    done = said(place, "reproduce", *words_of(place), "--", "bash", "build.sh")
    assert done.returncode == 5
    assert "the last words" in done.stderr


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_leaves_nothing_and_what_a_kill_leaves_is_gone_with_the_next_run(kind, tmp_path):
    place = place_with(tmp_path, "uname -n > out; [ -e quick ] || sleep 60")
    before, state = tree_of(place.project), tmp_path / "state"
    env = place.environment() | {"BELLJAR_HOME": str(state), "PYTHONPATH": built.SOURCE}
    program = [sys.executable, "-m", "belljar", "reproduce", "--vary", "host", *words_of(place)]
    command, quiet = ["--", "bash", "build.sh"], subprocess.DEVNULL
    child = subprocess.Popen([*program, *command], cwd=place.project, env=env, stdout=quiet, stderr=quiet)
    deadline = time.monotonic() + 60
    while not list(state.glob("staging/*/usual/project/out")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(kind)
    assert child.wait(30) == (built.INTERRUPTED if kind == signal.SIGINT else -signal.SIGKILL)
    assert tree_of(place.project) == before
    if kind == signal.SIGKILL:
        assert list(state.glob("staging/*"))
        (place.project / "quick").touch()
        subprocess.run(
            [*program, *command], cwd=place.project, env=env, stdout=quiet, stderr=quiet, check=False
        )
    assert list(state.glob("staging/*")) == []


def test_a_command_that_writes_nothing_is_no_verdict(tmp_path):
    place = place_with(tmp_path, "true")
    done = said(place, "reproduce", *words_of(place), "--", "bash", "build.sh")
    assert done.returncode == 3
    assert "nothing to compare" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("--vary", "clokc"), 2, "clokc: there is no such influence"),
        (("--vary", "clock", "--dont-vary", "clock"), 2, "no influence is left"),
        (("--env", "1A=2"), 2, "not the name of a variable"),
        (("--env", "UNSET_HERE"), 2, "not set here"),
        (("--keep", "."), 2, "exists already"),
        (("--html", "nowhere/x.html"), 2, "its directory does not exist"),
        (("--profile", "none"), 3, "say how it is built"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_built(words, status, text, tmp_path):
    place = place_with(tmp_path, "true")
    command = () if "--profile" in words else ("--", "bash", "build.sh")
    done = said(place, "reproduce", *words, *command)
    assert (done.returncode, text in done.stderr) == (status, True), done.stderr
    assert "build 1" not in done.stderr


def test_a_directory_outside_that_each_build_would_write_to_is_refused(tmp_path):
    place = place_with(tmp_path, "true")
    (tmp_path / "shared").mkdir()
    words = ("--rw", str(tmp_path / "shared"), *words_of(place))
    done = said(place, "run", "--reproduce", *words, "--", "bash", "build.sh")
    assert done.returncode == 2
    assert "each of the builds would write to it" in done.stderr


def test_the_list_and_a_dry_run_build_nothing(tmp_path):
    place = place_with(tmp_path, "true")
    listed = said(place, "reproduce", "--list")
    assert (listed.returncode, "directory-order" in listed.stdout) == (0, True)
    dry = said(place, "reproduce", "--dry-run", "--json", "--vary", "host", "--", "bash", "build.sh")
    assert (dry.returncode, json.loads(dry.stdout)["influences"]) == (0, ["host"])


def test_an_ordinary_user_gets_the_same_answer():
    top = scratch(NOBODY if ROOT else None)
    place = place_with(top, "id -un > out; nproc >> out")
    request = Request(command=("bash", "build.sh"), project=place.project, profile="none", system=system())
    home = Home(data=top / "home", cache=top / "home/cache")
    for path in (top, *top.rglob("*")):
        os.chown(path, NOBODY, NOBODY) if ROOT else None
    built.load_everything()

    def work():
        result = api.reproduce(request, home=home)
        return sorted(name for cause in result.causes for name in cause.names)

    assert built.in_child(work, uid=NOBODY if ROOT else 0) == ["cpus", "user"]


class OwnBuilds(api.Subject):
    """What a builder that knows nothing of recipes and profiles has: a sandbox of its own, and a command."""

    @property
    def title(self) -> str:
        return "own"

    def prepare(self, place: Path) -> api.Ready:
        (place / "work").mkdir()
        (place / "out").mkdir()
        operations = (
            *(Bind(source=str(system() / name), target=f"/{name}") for name in ("usr", "etc")),
            *(Symlink(target=f"/{name}", link=f"usr/{name}") for name in ("bin", "lib", "lib64")),
            *(Proc(), Devices(), Tmpfs(target="/tmp")),
            Bind(source=str(place / "work"), target="/build", writable=True),
            Bind(source=str(place / "out"), target="/out", writable=True),
        )
        box = api.Sandbox(operations=operations, env={"PATH": "/usr/bin"}, cwd="/build")
        command = ("/usr/bin/bash", "-euc", "uname -n > /out/host; pwd > /out/where; echo same > /out/same")
        return api.Ready(sandbox=box, command=command, sources=place / "work", output=place / "out")


def test_a_builder_drives_it_as_a_library_with_sandboxes_of_its_own(tmp_path):
    home = Home(data=tmp_path / "home", cache=tmp_path / "home/cache")
    options = api.ReproduceOptions(vary=("host", "path", "umask"), metadata=frozenset({api.Metadata.MODE}))
    result = api.reproduce(OwnBuilds(), options, home=home)
    assert {cause.names: [path for path, _ in cause.spots] for cause in result.causes} == {
        ("host",): ["host"],
        ("path",): ["where"],
        ("umask",): ["host", "same", "where"],
    }
    assert not result.is_reproducible
    assert json.loads(json.dumps(result.to_json()))["version"] == 1
    with pytest.raises(api.UsageError, match="clokc"):
        api.reproduce(OwnBuilds(), api.ReproduceOptions(vary=("clokc",)), home=home)
