"""Hosts that cannot run a sandbox say why; and a printed sandbox runs as a program."""

import ctypes
import errno
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_sandbox_support import (
    BOX,
    CLONE_NEWNS,
    IDENTITIES,
    INSIDE,
    OWN,
    PYTHON,
    be_root_of_own_namespaces,
    box_for,
    in_child,
    kernel,
    output_of,
)

from belljar.sandbox import SORTED, Bind, Policy, SandboxError, Trace, run
from belljar.sandbox.spec import Spec

PIDFD_GETFD = 438
SOURCES = str(Path(__file__).parent.parent.parent / "src")


def run_true():
    return run(BOX, ["/bin/true"]).status


def refuse(number, error):
    """Have the kernel answer one system call with an error, as a container's seccomp profile does."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    load, equal, give = 0x20, 0x15, 0x06
    allow, refusal = 0x7FFF0000, 0x00050000 | error
    steps = [(load, 0, 0, 0), (equal, 0, 1, number), (give, 0, 0, refusal), (give, 0, 0, allow)]
    program = Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, ctypes.c_ulong(1), 0, 0, 0) == 0
    assert libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(program), 0, 0) == 0


def test_a_supervisor_that_may_not_look_into_processes_says_what_forbids_it():
    def action():
        refuse(PIDFD_GETFD, errno.EPERM)
        assert run_true() == 0
        return run(BOX, ["/bin/true"], policy=Policy())

    with pytest.raises(SandboxError, match="supervisor: pidfd_getfd: Operation not permitted") as caught:
        in_child(action)
    assert "forbids to look into processes" in caught.value.hint


@pytest.mark.parametrize("identity", IDENTITIES)
def test_forbidden_user_namespaces_are_named_with_the_setting(identity):
    def action():
        assert run(box_for(identity), ["/bin/true"]).status == 0
        be_root_of_own_namespaces(0)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        return run_true()

    with pytest.raises(SandboxError, match="namespaces: unshare: No space left on device") as caught:
        in_child(action, ordinary=identity == "ordinary")
    assert "user.max_user_namespaces is 0" in caught.value.hint
    assert "sysctl user.max_user_namespaces=" in caught.value.hint


@pytest.mark.parametrize(
    ("call", "error", "message", "hint"),
    [
        ("unshare", 1, "namespaces: unshare: Operation not permitted", "seccomp=unconfined"),
        ("open_tree", 38, "bind .*: open_tree: Function not implemented", "Linux 5.12 or newer"),
        ("mount_setattr", 38, "root: mount_setattr: Function not implemented", "Linux 5.12 or newer"),
    ],
)
def test_a_refused_call_is_named_with_the_remedy(call, error, message, hint):
    unshare = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
    number = {"unshare": unshare, "open_tree": 428, "mount_setattr": 442}[call]

    def action():
        refuse(number, error)
        return run_true()

    with pytest.raises(SandboxError, match=message) as caught:
        in_child(action)
    assert hint in caught.value.hint


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize(
    ("hidden", "message"),
    [("/proc/irq", "proc /proc: fsmount proc: Operation not permitted"), ("/proc/sys", "nesting: ")],
)
def test_a_container_that_hides_parts_of_proc_is_named(identity, hidden, message):
    def action():
        be_root_of_own_namespaces(CLONE_NEWNS)
        kernel.make_private("/")
        kernel.place(kernel.filesystem("tmpfs", kernel.MOUNT_ATTR_RDONLY), hidden)
        return run_true()

    with pytest.raises(SandboxError, match=message) as caught:
        in_child(action, ordinary=identity == "ordinary")
    assert "systempaths=unconfined" in caught.value.hint


def test_a_filter_that_forbids_keyrings_is_no_obstacle():
    def action():
        refuse({"x86_64": 250, "aarch64": 219}[os.uname().machine], 1)
        return run_true()

    assert in_child(action) == 0


def test_a_sandbox_in_a_sandbox_is_refused_unless_allowed(tmp_path):
    """The inner one is this very code, run by this very Python."""
    binds = (Bind(source=SOURCES, target="/src"), Bind(source=str(tmp_path), target="/in"))
    outer = replace(BOX, operations=(*BOX.operations, *binds), env={**BOX.env, "PYTHONPATH": "/src"})
    inner_box = replace(BOX, operations=tuple(inner(item) for item in BOX.operations))
    (tmp_path / "spec.json").write_text(Spec(sandbox=inner_box).to_json())
    command = [PYTHON, "-m", "belljar.sandbox", "/in/spec.json", "--", "/bin/sh", "-c", "echo in $(id -u)"]
    text = output_of(outer, ["/bin/sh", "-c", '"$@" 2>&1; echo status $?', "sh", *command])
    assert "user.max_user_namespaces is 0" in text
    assert text.endswith("status 125\n")


def inner(operation):
    """Return an operation as the outer sandbox's inhabitants would write it."""
    if OWN and isinstance(operation, Bind) and operation.target == INSIDE:
        return Bind(source=INSIDE, target=INSIDE)
    return operation


def test_an_ordinary_user_may_nest_where_allowed(tmp_path):
    tmp_path.chmod(0o755)
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    inner_box = replace(BOX, operations=tuple(inner(item) for item in BOX.operations))
    (tmp_path / "spec.json").write_text(Spec(sandbox=inner_box).to_json())
    command = [PYTHON, "-m", "belljar.sandbox", "/in/spec.json", "--", "/bin/sh", "-c", "echo in $(id -u)"]

    def action():
        box = box_for("ordinary")
        source = Bind(source=SOURCES, target="/src")
        outer = replace(
            box,
            operations=(*box.operations, source, Bind(source=str(tmp_path), target="/in")),
            env={**box.env, "PYTHONPATH": "/src"},
            nested=True,
        )
        return output_of(outer, command)

    assert in_child(action, ordinary=True) == "in 1000\n"


# --- python -m belljar.sandbox ----------------------------------------------------------------


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(Spec(sandbox=BOX).to_json())
    return str(path)


def program(*arguments, **options):
    command = [sys.executable, "-m", "belljar.sandbox", *arguments]
    env = {**os.environ, "PYTHONPATH": SOURCES}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, **options)


@pytest.mark.parametrize(("text", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143)])
def test_a_printed_sandbox_ends_with_the_commands_status(spec, text, status):
    assert program(spec, "--", "/bin/sh", "-c", text).returncode == status


def test_a_printed_sandbox_reads_the_callers_input(spec):
    done = program(spec, "--", "/bin/sh", "-c", "tr a-z A-Z; id -un", input="given\n")
    assert (done.stdout, done.stderr) == ("GIVEN\nbuild\n", "")


def test_a_printed_sandbox_describes_itself(spec):
    assert program("--describe", spec).stdout == BOX.describe() + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not an object"),
        ('{"operations": [{"do": "bind"}]}', "operations[0]: no 'source'"),
        ('{"operations": [{"do": "explode"}]}', "`do` is none of bind"),
        ('{"operations": [], "uid": "0"}', "sandbox.uid: not of type int"),
        ('{"operations": [], "uid": -1}', "uid -1: out of range"),
        ('{"operations": [], "typo": 1}', "unknown key 'typo'"),
        ('{"operations": [], "hostname": "\\ud800"}', "half of a character"),
        ('{"operations": [], "policy": null}', "policy: not an object"),
        ('{"operations": [], "policy": {"epoch": "x"}}', "policy.epoch: not of type int | None"),
        ('{"operations": [], "policy": {"trace": "x"}}', "policy.trace: none of nothing, opened"),
        ('{"operations": [], "policy": {"processors": 65}}', "processors 65: not 1 to 64"),
    ],
)
def test_a_spec_that_makes_no_sense_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "spec.json"
    path.write_text(content)
    done = program(str(path), "--", "/bin/true")
    assert done.returncode == 125
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("x",), ("x", "y", "--", "z"), ("--describe",)])
def test_a_wrong_command_line_shows_the_right_one(arguments):
    done = program(*arguments)
    assert (done.returncode, done.stderr.split()[0]) == (125, "usage:")


def test_a_missing_spec_or_program_is_named(spec):
    assert program("/no/spec", "--", "x").stderr == "error: /no/spec: No such file or directory\n"
    done = program(spec, "--", "/no/program")
    assert (done.returncode, done.stderr) == (
        125,
        "error: start /no/program: No such file or directory: /no/program\n",
    )


CLOCK = 2_000_000_000
SUPERVISED = Policy(trace=Trace.NOTHING, epoch=CLOCK, seed="s", release="1.2.3", processors=3, listing=SORTED)
DRAW = "date +%s; uname -r; nproc; od -An -N8 -tx1 /dev/urandom"


def test_a_printed_policy_holds(tmp_path, spec):
    plain = program(spec, "--", "/bin/sh", "-c", DRAW).stdout.splitlines()
    assert abs(int(plain[0]) - time.time()) < 60
    (tmp_path / "supervised.json").write_text(Spec(sandbox=BOX, policy=SUPERVISED).to_json())
    shown, again = (program(str(tmp_path / "supervised.json"), "--", "/bin/sh", "-c", DRAW) for _ in "ab")
    assert shown.stderr == ""
    assert shown.stdout.splitlines()[:3] == [str(CLOCK), "1.2.3", "3"]
    assert shown.stdout == again.stdout
    described = program("--describe", str(tmp_path / "supervised.json")).stdout
    assert described.startswith(BOX.describe())
    assert "clock from second 2000000000" in described.splitlines()[-1]


@pytest.fixture(params=[None, SUPERVISED], ids=["plain", "supervised"])
def terminal_spec(request, tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(Spec(sandbox=BOX, policy=request.param).to_json())
    return str(path)


def on_terminal(spec, command, *answers):
    """Run a command in a printed sandbox on a terminal; answers: what is awaited, what is typed."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["PYTHONPATH"] = SOURCES
        os.execv(sys.executable, [sys.executable, "-m", "belljar.sandbox", spec, "--", *command])
    shown, seen, deadline, pending = b"", 0, time.monotonic() + 20, list(answers)
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 1000)
            except OSError:
                break
        if pending and pending[0][0] in shown[seen:]:
            seen = len(shown)
            os.write(terminal, pending.pop(0)[1])
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_command_has_the_terminal(terminal_spec):
    text = "test -t 0 && echo ready > /dev/tty; read line; echo got $line"
    shown, status = on_terminal(terminal_spec, ["/bin/sh", "-c", text], (b"ready", b"word\n"))
    assert "got word" in shown
    assert status == 0


def test_ctrl_c_is_for_the_command(terminal_spec):
    text = "trap 'echo caught; exit 9' INT; echo ready; read line"
    shown, status = on_terminal(terminal_spec, ["/bin/sh", "-c", text], (b"ready", b"\x03"))
    assert "caught" in shown
    assert status == 9
    shown, status = on_terminal(terminal_spec, ["/bin/sh", "-c", "echo ready; sleep 5"], (b"ready", b"\x03"))
    assert status == 128 + signal.SIGINT


def test_a_shell_on_the_terminal_has_job_control(terminal_spec):
    shown, _ = on_terminal(
        terminal_spec,
        ["/bin/sh", "-i"],
        (b"$ ", b"sh -c 'echo rea\"\"dy; read line; echo got $line'\n"),
        (b"ready", b"\x1a"),
        (b"Stopped", b"fg\nword\n"),
        (b"got word", b"sh -c 'echo aga\"\"in; exec sleep 60'\n"),  # a vfork would swallow the signal
        (b"again", b"\x03echo status $?; exit\n"),
    )
    assert "status 130" in shown
