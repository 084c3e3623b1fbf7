"""Signals: what a terminal, `timeout` or a CI service sends reaches the command of `belljar run`."""

import os
import signal
import subprocess
import sys
import time

import pytest
from test_run_support import Place, system

SUPERVISION = [[], ["--clock", "--trace"]]
HALF = "all:\n\techo half > all; sleep 60; echo whole > all\n"
BEAT = "while :; do date > beat; sleep 0.05; done"
STUBBORN = "trap '' INT; echo x > beat; while :; do sleep 0.05; done"


@pytest.fixture
def place(tmp_path):
    made = Place(top=tmp_path / "top")
    made.home.mkdir(parents=True)
    made.project.mkdir(parents=True)
    return made


def started(place, *words, **more):
    start = [sys.executable, "-m", "belljar", "run", "-q", "--system", str(system()), "--profile", "none"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.PIPE
    return subprocess.Popen([*start, *words], cwd=place.project, env=env, stdout=out, stderr=out, **more)


def wait_for(path):
    until = time.monotonic() + 20
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert path.exists()


def beats(place, seconds=10.0):
    """Return whether the command does something within a time."""
    until = time.monotonic() + seconds
    before = (place.project / "beat").stat().st_mtime_ns
    while time.monotonic() < until:
        if (place.project / "beat").stat().st_mtime_ns != before:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("options", SUPERVISION)
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)],
)
def test_a_build_that_is_asked_to_end_tidies_up(place, number, status, options):
    place.write("Makefile", HALF)
    child = started(place, *options, "--", "make")
    wait_for(place.project / "all")
    child.send_signal(number)
    said = child.communicate(timeout=20)[1]
    assert child.returncode == status, said
    assert b"Deleting file 'all'" in said
    assert not (place.project / "all").exists()


def test_what_does_not_care_ends_at_the_second_interrupt(place):
    child = started(place, "--", "sh", "-c", STUBBORN)
    wait_for(place.project / "beat")
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=4)
    assert child.returncode == 130


@pytest.mark.parametrize("options", SUPERVISION)
def test_a_command_pauses_while_belljar_does_and_goes_on_with_it(place, options):
    child = started(place, *options, "--", "sh", "-c", BEAT, process_group=0)
    wait_for(place.project / "beat")
    assert beats(place)
    child.send_signal(signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
    time.sleep(0.1)
    assert not beats(place, seconds=0.5)
    child.send_signal(signal.SIGCONT)
    assert beats(place)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)


def test_a_command_does_not_pause_where_nobody_could_have_it_go_on(place):
    """In a session of its own, as in a container, the kernel stops nobody for SIGTSTP."""
    child = started(place, "--", "sh", "-c", BEAT, start_new_session=True)
    wait_for(place.project / "beat")
    child.send_signal(signal.SIGTSTP)
    time.sleep(0.1)
    assert beats(place)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)
