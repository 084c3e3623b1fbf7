"""Somebody else may write where a run does, another build of the same user: nothing leads belljar outside.

What is looked at is not what is used a moment later, unless the kernel is asked in one call. Each test does
what such a neighbour would do in between; the first ones show that it would have mattered.
"""

import os
import shutil
import stat
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_run_support import NOBODY, belljar, report_of, scratch, system
from test_sandbox_support import AS_ROOT, IDENTITIES, box_for, in_child, output_of

from belljar.hermetic import project
from belljar.hermetic.plan import plan
from belljar.hermetic.relay import relayed
from belljar.hermetic.request import Request
from belljar.sandbox import Bind, SandboxError

READ = ["/bin/sh", "-c", "cat /w/secret"]


@pytest.fixture
def place(tmp_path):
    """A project with an output, and a place outside that nobody declared."""
    for name in ("project/target", "project/.git", "outside/private"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outside/secret").write_text("secret")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    return tmp_path


def link(path: Path, target: Path) -> None:
    """Put a link in the place of a directory."""
    path.rename(path.with_suffix(".old"))
    path.symlink_to(target)


def shown(source: Path, *, links: bool, identity: str) -> str:
    def action() -> str:
        bind = Bind(source=str(source), target="/w", writable=True, links=links)
        box = box_for(identity)
        return output_of(replace(box, operations=(*box.operations, bind)), READ)

    return in_child(action, ordinary=identity == "ordinary")


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("where", ["target", "."])
def test_a_link_that_comes_into_the_way_of_an_output_shows_nothing(tmp_path_factory, where, identity):
    top = Path(tmp_path_factory.mktemp("x"))
    for path in (top, *list(top.parents)[:2]):
        path.chmod(0o755)
    (top / "outside/target").mkdir(parents=True)
    for name in ("outside/secret", "outside/target/secret"):
        (top / name).write_text("secret")
    (top / "project").symlink_to("outside")
    source = top / "project" / where
    assert shown(source, links=True, identity=identity) == "secret"
    with pytest.raises(SandboxError, match=r"^bind-rw .*symbolic links"):
        shown(source, links=False, identity=identity)


def test_no_bind_of_a_project_follows_links(place):
    (place / "rw").mkdir()
    request = Request(
        command=("true",), project=place / "project", env={}, profile="none", write=("../rw", "out")
    )
    operations = plan(request).build.sandbox.operations
    ours = [item for item in operations if isinstance(item, Bind) and item.source.startswith(str(place))]
    assert len(ours) > 2
    assert not any(item.links for item in ours)


def test_what_a_run_leaves_is_not_looked_for_behind_a_link(place):
    armed = place / "outside/armed"
    armed.touch()
    armed.chmod(0o4755)
    (place / "outside/private").chmod(0)
    link(place / "project/target", place / "outside")
    assert project.disarm([place / "project/target"]) == ()
    assert stat.S_IMODE(armed.stat().st_mode) == 0o4755
    assert stat.S_IMODE((place / "outside/private").stat().st_mode) == 0
    assert project.disarm([place / "outside"]) == (str(armed),)


def test_a_directory_that_is_moved_up_while_it_is_looked_through_leads_nowhere(place):
    deep = place / "project/target/a/b/c"
    deep.mkdir(parents=True)
    (place / "project/target/outside").mkdir()  # where ".." would lead to, by its name
    seen = []
    for descriptor, _ in project._each_directory(place / "project/target"):
        seen.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if seen[-1].endswith("/c"):
            deep.rename(place / "project/c")
    assert seen
    assert not [path for path in seen if not path.startswith(str(place / "project/target"))]


def test_what_disappears_meanwhile_is_passed_over(place):
    for n in range(200):
        (place / f"project/target/{n}").mkdir()
        (place / f"project/target/{n}/file").touch()
    for descriptor, parts in project._each_directory(place / "project/target"):
        if len(parts) == 1:
            for n in range(200):
                (place / f"project/target/{n}/file").unlink()
                (place / f"project/target/{n}").rmdir()
        assert not project._disarm_file("none", descriptor)


def test_a_link_that_takes_the_place_of_an_armed_file_is_not_followed(place):
    """A race: two names are swapped as fast as can be while the bits are taken off."""
    outside, target = place / "outside/secret", place / "project/target"
    outside.chmod(0o600)
    (target / "link").symlink_to(outside)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for one, other in (("armed", "aside"), ("link", "armed"), ("armed", "link"), ("aside", "armed")):
                os.rename(target / one, target / other)

    (target / "armed").touch()
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        until = time.monotonic() + 1.5
        while time.monotonic() < until and stat.S_IMODE(outside.stat().st_mode) == 0o600:
            for name in ("armed", "aside"):
                try:
                    file = os.open(target / name, os.O_RDONLY | os.O_NOFOLLOW)
                except OSError:
                    continue
                os.fchmod(file, 0o4777)
                os.close(file)
            project.disarm([target])
    finally:
        over.set()
        thread.join()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600


ODD = r"""
for name in large shut many; do cp /bin/true $name; chmod 755 $name; ./$name; done
truncate -s 8T large; chmod 111 shut; ln -s many many2; ./many2
exit 5
"""


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_program_that_cannot_be_identified_is_told_as_a_gap_and_takes_no_time(identity):
    user = NOBODY if identity == "ordinary" and AS_ROOT else None
    top = scratch(user)
    words = (
        "run",
        "--system",
        str(system()),
        "--profile",
        "make",
        "--report",
        "report.json",
        "--",
        "sh",
        "-c",
        ODD,
    )
    started = time.monotonic()
    done = belljar(
        *words, cwd=top, env={"HOME": "/none", "PATH": "/usr/bin", "XDG_CONFIG_HOME": "/none"}, user=user
    )
    assert (done.returncode, time.monotonic() - started < 60) == (5, True), done.stderr
    report = report_of(top / "report.json")
    unknown = {line for line in report["not_enforced"] if "a program that may not be read" in line}
    known = {tool["path"] for tool in report["tools"]}
    wanted = {"/build/large", *(() if user is None and AS_ROOT else ("/build/shut",))}
    assert {line.rpartition("(")[2][:-1] for line in unknown} == wanted
    assert "/build/many" in known
    shutil.rmtree(top)


def test_who_lives_on_with_an_end_of_the_streams_holds_up_nobody(tmp_path):
    """As another build may, to which the command has sent its standard output through a socket."""
    with (tmp_path / "said").open("wb") as said:
        started = time.monotonic()
        with relayed(said.fileno(), said.fileno()) as streams:
            heir = subprocess.Popen(["sleep", "60"], pass_fds=(streams.stdout,))
            for _ in range(100):
                os.write(streams.stdout, b"x" * 9999)
        heir.kill()
        heir.wait()
    assert (tmp_path / "said").stat().st_size == 999900
    assert time.monotonic() - started < 30
