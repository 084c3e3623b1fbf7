"""What is tried on another kernel besides the sandbox's tests: `belljar run`, settings, sealed programs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from belljar.sandbox import landlock

NOBODY = 65534
FORBIDDING = ("user.max_user_namespaces", "kernel.unprivileged_userns_clone")


@pytest.fixture(params=["root", "ordinary"])
def identity(request) -> str:
    return request.param


@pytest.fixture
def project(tmp_path_factory) -> Iterator[Path]:
    """A project beside a home with a secret, which everybody may enter."""
    top = tmp_path_factory.mktemp("trial")
    for name in ("home", "project"):
        (top / name).mkdir()
    (top / "home/.netrc").write_text("secret")
    for name in ("b", "c", "a"):
        (top / "project" / name).touch()
    for path in (*reversed(top.parents[:-2]), top, *top.rglob("*")):
        path.chmod(0o777)
    yield top / "project"


def belljar(identity: str, project: Path, *words: str) -> tuple[int, str, str]:
    """Run `belljar run`; return its exit status, what the command wrote and what belljar said."""
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": ()} if identity == "ordinary" else {}
    done = subprocess.run(
        [sys.executable, "-m", "belljar", "run", *words],
        cwd=project,
        env={**os.environ, "HOME": str(project.parent / "home")},
        capture_output=True,
        text=True,
        check=False,
        **who,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def names_of(tools: list[dict[str, str]]) -> set[str]:
    return {Path(tool["name"]).name for tool in tools}


def test_a_command_sees_its_project_and_nothing_else(identity, project):
    text = (
        "id -u; pwd; ls -U | xargs; ls -A ~ /sys | xargs; wc -l < /proc/net/dev; uname -r; touch out; exit 7"
    )
    status, output, _ = belljar(
        identity, project, "--", "sh", "-c", text.replace("| xargs", "| tr '\\n' ' '; echo")
    )
    assert status == 7
    assert [line.strip() for line in output.splitlines()] == [
        *("1000", "/build", "a b c", "/home/build:  /sys:", "3", "6.1.0")
    ]
    assert (project / "out").exists()


def test_what_was_reached_for_is_told(identity, project):
    words = ("--trace", "--report", "report.json", "--", "sh", "-c", "cat ~/.netrc ~/.none a; exit 0")
    status, _, _ = belljar(identity, project, *words)
    assert status == 0
    found = json.loads((project / "report.json").read_text())
    states = {item["path"]: item["state"] for item in found["trace"]["outside"]}
    assert states.items() >= {"~/.netrc": "hidden", "~/.none": "absent"}.items()
    assert {"sh", "cat"} <= names_of(found["tools"])


def test_the_clock_is_fixed_and_time_passes(identity, project):
    text = "date +%s; sleep 2; date +%s; nproc; od -An -tx8 -N8 /dev/urandom; uname -m"
    first, second = (belljar(identity, project, "--clock", "--", "sh", "-c", text)[1] for _ in range(2))
    assert first == second
    start, end, processors, _, machine = first.split()
    assert (int(end) - int(start), processors, machine) == (2, "2", os.uname().machine)


@pytest.mark.parametrize("name", FORBIDDING)
def test_a_machine_that_forbids_namespaces_is_told_of_by_the_setting(name, identity, project):
    """Both settings bind root's sandboxes, too, or only the others: kernel.unprivileged_userns_clone."""
    place = Path("/proc/sys") / name.replace(".", "/")
    before = place.read_text()
    place.write_text("0")
    try:
        plain = belljar(identity, project, "--", "cat", "/etc/passwd")
        weaker = belljar(identity, project, "--allow-weaker", "--", "cat", "a", "/etc/passwd")
    finally:
        place.write_text(before)
    if identity == "root" and "unprivileged" in name:
        assert (plain[0], weaker[0]) == (0, 0)
        return
    assert plain[0] == 4
    assert f"{name} is 0" in plain[2]
    if landlock.version() >= landlock.LEAST:
        assert weaker[0] == 1  # /etc/passwd may not be read
        assert "WEAKER" in weaker[2]
    else:
        assert weaker[0] == 4
        assert re.search(r"Landlock .*: version 3 is needed, of Linux 6.2", weaker[2])


@pytest.mark.parametrize("form", ["embedded", "static", "sh"])
def test_a_sealed_program_runs_on_its_own_libc(form):
    plain, sealed = (Path("/sealed") / name for name in ("plain", form))
    for prefix, place in ((plain, "/usr/lib/"), (sealed, f"{sealed}/lib/belljar/")):
        program = str(prefix / "bin/app")
        words, _, maps = subprocess.check_output([program, "a b"], text=True).partition("--\n")
        assert words.splitlines() == [program, "a b"]
        libraries = {line.split(maxsplit=5)[5] for line in maps.splitlines() if ".so" in line}
        assert len(libraries) == 2
        assert all(path.startswith(place) for path in libraries)


def test_gcc_makes_the_same_at_two_times(identity, project):
    (project / "Makefile").write_text("CC = gcc\napp: a.o b.o\n\tgcc -o $@ $^\n")
    (project / "a.c").write_text(
        "int puts(const char *); void b(void); int main(void) { b(); return puts(__TIME__) < 0; }"
    )
    (project / "b.c").write_text("void b(void) {}\n")
    made = []
    for _ in range(2):
        words = ("--clock", "--report", "report.json", "--", "make", "-B", "-j2")
        status, _, said = belljar(identity, project, *words)
        assert status == 0, said
        made.append((project / "app").read_bytes())
    assert made[0] == made[1]
    assert subprocess.check_output([project / "app"], text=True) == "00:00:00\n"
    tools = names_of(json.loads((project / "report.json").read_text())["tools"])
    assert tools >= {"make", "gcc", "cc1", "as", "ld"}
