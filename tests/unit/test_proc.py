"""Running programs of the machine: what is captured, what is explained, what dies with us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from belljar import proc
from belljar.errors import HostError


def test_output_status_and_signal_are_captured():
    done = proc.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.status, done.stdout, done.stderr, done.last_words) == (3, "out\n", "err\n", "err")
    assert proc.run(["sh", "-c", "kill -TERM $$"]).status == -signal.SIGTERM


def test_the_environment_and_directory_are_the_given_ones_and_stdin_is_empty(tmp_path):
    script = "pwd -P; echo ${X-unset} ${SECRET-unset}; cat"
    done = proc.run(["/bin/sh", "-c", script], env={"X": "1", "PATH": os.environ["PATH"]}, cwd=tmp_path)
    assert done.stdout == f"{tmp_path.resolve()}\n1 unset\n"


def test_bytes_that_are_no_text_do_no_harm():
    assert proc.run(["printf", r"a\377b"]).stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(HostError, match="no-such-program: not found"):
        proc.run(["no-such-program"])
    assert proc.find("no-such-program") is None
    assert proc.find("sh") is not None


def test_what_is_no_program_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(HostError, match="file: "):
        proc.run([tmp_path / "file"])


def test_time_that_runs_out_ends_the_whole_group():
    started = time.monotonic()
    with pytest.raises(HostError, match=r"did not end within 0\.2 seconds"):
        proc.run(["sh", "-c", "sleep 54321 & sleep 54321"], timeout=0.2)
    assert time.monotonic() - started < 5
    _until(lambda: not _running("54321"))


def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path):
    source = str(Path(proc.__file__).parents[1])
    parent = subprocess.Popen(
        [sys.executable, "-c", "from belljar import proc; proc.run(['sleep', '65432'])"],
        env=os.environ | {"PYTHONPATH": source},
    )
    _until(lambda: _running("65432"))
    parent.kill()
    parent.wait()
    _until(lambda: not _running("65432"))


def _until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _running(word: str) -> bool:
    """Whether a `sleep` with that argument runs."""
    for item in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if item.read_bytes() == b"sleep\0" + word.encode() + b"\0":
                return True
        except OSError:
            continue
    return False
