"""What is done while a sandbox is set up: the command starts after it, or never."""

import os
import signal
import time
from dataclasses import replace

import pytest
from test_sandbox_support import BOX, in_child, output_of
from test_sandbox_weaker import forbid_by_filter

from belljar.sandbox import Bind, Policy, SandboxError, run

POLICIES = [None, Policy()]
TOUCH = ["/bin/sh", "-c", "echo ran > /out/ran"]


@pytest.fixture
def box(tmp_path):
    return replace(
        BOX, operations=(*BOX.operations, Bind(source=str(tmp_path), target="/out", writable=True))
    )


@pytest.mark.parametrize("policy", POLICIES, ids=["plain", "supervised"])
def test_the_command_starts_when_it_is_done(policy):
    done = []

    def meanwhile():
        time.sleep(0.4)
        done.append(time.time())

    began = float(output_of(BOX, ["/bin/date", "+%s.%N"], policy=policy, meanwhile=meanwhile))
    (ended,) = done
    assert began >= ended


def test_it_does_not_count_as_the_commands_time():
    outcome = run(BOX, ["/bin/true"], meanwhile=lambda: time.sleep(0.7), timeout=0.6)
    assert (outcome.status, outcome.timed_out) == (0, False)
    assert outcome.seconds < 0.6


@pytest.mark.parametrize("policy", POLICIES, ids=["plain", "supervised"])
def test_where_it_fails_nothing_is_started(box, tmp_path, policy):
    def fail():
        time.sleep(0.1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(box, TOUCH, policy=policy, meanwhile=fail)
    assert list(tmp_path.iterdir()) == []
    assert run(box, TOUCH, policy=policy, meanwhile=lambda: None).status == 0
    assert (tmp_path / "ran").exists()


def test_where_the_caller_dies_in_it_nothing_is_started(box, tmp_path):
    caller = os.fork()
    if caller == 0:
        run(box, TOUCH, meanwhile=lambda: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(0)
    os.waitpid(caller, 0)
    time.sleep(0.5)
    assert list(tmp_path.iterdir()) == []


def test_a_sandbox_that_fails_in_it_says_why(tmp_path):
    broken = replace(BOX, operations=(*BOX.operations, Bind(source=str(tmp_path / "none"), target="/none")))
    with pytest.raises(SandboxError, match="No such file"):
        run(broken, ["/bin/true"], meanwhile=lambda: time.sleep(0.3))


def test_it_is_done_once_where_namespaces_are_forbidden():
    def action():
        forbid_by_filter()
        done = []
        outcome = run(BOX, ["/bin/true"], allow_weaker=True, meanwhile=lambda: done.append(1))
        return outcome.status, outcome.weaker, done

    assert in_child(action) == (0, True, [1])


def test_a_sandbox_can_be_run_in_it():
    inner = []
    text = output_of(
        BOX, ["/bin/echo", "outer"], meanwhile=lambda: inner.append(output_of(BOX, ["/bin/echo", "in"]))
    )
    assert (text, inner) == ("outer\n", ["in\n"])
