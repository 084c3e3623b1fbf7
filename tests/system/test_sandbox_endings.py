"""How a sandbox ends: every way leaves no process, mount or open pipe, and says what has been."""

import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_sandbox_support import AS_ROOT, BOX, IDENTITIES, become_nobody, box_for, in_child, output_of, python

from belljar.sandbox import Bind, File, Policy, Sandbox, SandboxError, run

# A name in the arguments by which a process of one test is found on the host.
SLEEPERS = "sleep {mark} & (setsid sleep {mark} &) ; "


def shell(text, **options):
    return run(BOX, ["/bin/sh", "-c", text], **options)


def alive(mark):
    """Return the processes of the host that have `mark` as an argument: zombies have no arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in words:
                found.append(int(entry.name))
    return found


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.01)


def children():
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


@pytest.fixture
def mark():
    """A length of sleep that no one else on this machine has."""
    return f"{3000 + os.getpid()}.{time.monotonic_ns() % 10**9:09d}"


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Whatever a test does: the same mounts, children and descriptors before and after."""
    before = Path("/proc/self/mountinfo").read_text(), children(), sorted(os.listdir("/proc/self/fd"))
    yield
    assert (
        Path("/proc/self/mountinfo").read_text(),
        children(),
        sorted(os.listdir("/proc/self/fd")),
    ) == before


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$", -15),
        ("kill -KILL $$", -9),
        ("kill -SEGV $$", -11),
    ],
)
def test_exit_statuses_and_deaths_are_reported(text, status):
    assert shell(text).status == status


@pytest.mark.parametrize("identity", IDENTITIES)
def test_what_runs_in_the_background_ends_with_the_command(identity, mark):
    text = SLEEPERS.format(mark=mark) + "echo started"
    box = box_for(identity)
    assert in_child(
        lambda: output_of(box, ["/bin/sh", "-c", text]) + str(alive(mark)), ordinary=identity == "ordinary"
    ) == ("started\n[]")


def test_a_grandchild_that_keeps_stdout_open_holds_nobody_up(mark):
    read_end, write_end = os.pipe()
    outcome = shell(SLEEPERS.format(mark=mark) + "echo out", stdout=write_end)
    os.close(write_end)
    with open(read_end, "rb") as file:
        assert file.read() == b"out\n"
    assert outcome.status == 0
    assert outcome.seconds < 5


def test_orphans_are_reaped():
    text = (
        "for i in 1 2 3 4; do (sleep 0.01 &) ; done; sleep 0.2; cat /proc/[0-9]*/stat | grep -c ' Z ' || true"
    )
    assert output_of(BOX, ["/bin/sh", "-c", text]) == "0\n"


@pytest.mark.parametrize("identity", IDENTITIES)
def test_timeout_kills_all_before_it_is_reported(identity, mark):
    box = box_for(identity)

    def action():
        text = "trap '' TERM INT HUP; " + SLEEPERS.format(mark=mark) + f"sleep {mark}"
        outcome = run(box, ["/bin/sh", "-c", text], timeout=0.2)
        return outcome, alive(mark)

    outcome, left = in_child(action, ordinary=identity == "ordinary")
    assert (outcome.timed_out, outcome.status, left) == (True, -9, [])
    assert 0.2 <= outcome.seconds < 2


def test_a_command_in_time_is_not_timed_out():
    outcome = shell("exit 3", timeout=30)
    assert (outcome.timed_out, outcome.status) == (False, 3)


@pytest.mark.parametrize("identity", IDENTITIES)
def test_killing_the_caller_kills_everything(identity, mark):
    text = SLEEPERS.format(mark=mark) + f"sleep {mark}"
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            if identity == "ordinary" and AS_ROOT:
                become_nobody()
            run(box_for(identity), ["/bin/sh", "-c", text])
        os._exit(0)
    wait_until(lambda: len(alive(mark)) >= 3)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not alive(mark), seconds=1)
    os.waitpid(child, 0)


def test_killing_the_keeper_kills_everything_and_is_an_error(mark):
    killer = threading.Thread(
        target=lambda: (wait_until(lambda: alive(mark)), os.kill(keeper(), signal.SIGKILL))
    )
    own = threading.get_native_id()

    def keeper():
        return int(Path(f"/proc/self/task/{own}/children").read_text())

    killer.start()
    with pytest.raises(SandboxError, match="init: died"):
        shell(SLEEPERS.format(mark=mark) + f"sleep {mark}")
    killer.join()
    wait_until(lambda: not alive(mark), seconds=1)


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.003, 0.006, 0.2])
def test_an_interrupt_kills_everything_and_goes_on(mark, moment):
    """Ctrl-C at any moment, also while the sandbox is being set up.

    From another process: a thread of this one would take the signal while run() has it blocked, and
    Python drops an exception that comes in one of its own fork hooks (unraisable).
    """
    caller = os.getpid()
    with pytest.raises(KeyboardInterrupt):
        if os.fork() == 0:
            time.sleep(moment)
            os.kill(caller, signal.SIGINT)
            os._exit(0)
        shell(SLEEPERS.format(mark=mark) + f"sleep {mark}", timeout=10)
    os.waitpid(-1, 0)
    assert alive(mark) == []


def test_an_exception_of_the_watcher_kills_everything(mark):
    def watch():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shell(f"sleep {mark}", watch=watch, timeout=10)
    assert alive(mark) == []


def test_a_watcher_does_not_hold_up_the_timeout():
    calls = []
    assert shell("sleep 9", watch=lambda: calls.append(1), timeout=0.5).timed_out
    assert 1 <= len(calls) <= 3


def test_signals_of_the_caller_do_not_run_in_the_sandboxs_processes(tmp_path):
    """A handler of the caller would clean up, exit, or write, once for each copy of it."""

    def action():
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, lambda *_: (tmp_path / str(os.getpid())).touch())
        threading.Timer(0.1, lambda: os.killpg(0, signal.SIGTERM)).start()
        return run(BOX, ["/bin/sh", "-c", "trap '' TERM; sleep 0.3"], timeout=5, interactive=False).status

    in_child(action)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_callers_finalizers_do_not_run_in_the_sandboxs_processes(tmp_path):
    class Owner:
        def __init__(self):
            self.me = self

        def __del__(self):
            (tmp_path / str(os.getpid())).touch()

    def action():
        gc.disable()
        gc.set_threshold(30)
        os.register_at_fork(after_in_child=lambda: os.getpid() == 1 or gc.enable())
        Owner()
        operations = tuple(File(target=f"/f{number}", text="x" * number) for number in range(300))
        return run(replace(BOX, operations=BOX.operations + operations), ["/bin/true"]).status

    assert in_child(action) == 0
    assert list(tmp_path.iterdir()) == []


def held_up(box, seconds, words="echo ran > /out/ran"):
    """Run a sandbox in a child whose keeper, a fork of it, comes late."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.register_at_fork(after_in_child=lambda: time.sleep(seconds))
            run(box, ["/bin/sh", "-c", words])
        os._exit(0)
    return child


def child_of(pid):
    """Wait for a process's first child, looking as often as can be."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            if found := file.read().split():
                return int(found[0])
    raise AssertionError("no child")


def test_a_caller_that_dies_before_its_keeper_has_noticed_takes_it_along(tmp_path):
    """The kernel tells a child of its parent's death only once the child has asked for it."""
    box = replace(BOX, operations=(*BOX.operations, Bind(source=str(tmp_path), target="/out", writable=True)))
    child = held_up(box, 0.3)
    keeper = child_of(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_until(lambda: not Path(f"/proc/{keeper}").exists())
    time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_keeper_that_dies_before_init_has_noticed_takes_it_along(tmp_path):
    box = replace(BOX, operations=(*BOX.operations, Bind(source=str(tmp_path), target="/out", writable=True)))
    for _ in range(10):
        # It sleeps first: on a busy machine the kill may come when init is far.
        child = held_up(box, 0, "sleep 0.7; echo ran > /out/ran")
        keeper = child_of(child)
        child_of(keeper)
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(child, 0)
    time.sleep(1)
    assert list(tmp_path.iterdir()) == []


def test_process_1_has_no_rights_seen_from_outside():
    found = []

    def watch():
        keeper = children()[-1]
        init = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0]
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{init}/status").read_text().splitlines())
        found.append({name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs")})

    shell("sleep 1", watch=watch)
    assert found[-1] == {"CapEff": 0, "CapPrm": 0, "CapBnd": 0, "NoNewPrivs": 1}


def test_a_caller_that_ignores_its_children_gets_the_status():
    def action():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        return shell("exit 5").status, shell("sleep 9", timeout=0.1).timed_out

    assert in_child(action) == (5, True)


def test_the_callers_signal_mask_is_restored():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        shell("exit 0")
        with pytest.raises(SandboxError):
            run(BOX, ["/nope"])
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGUSR2}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_sandboxes_in_threads_do_not_wait_for_one_another():
    """A copy of another sandbox's pipe in the keeper of a long one would hold up a short one."""
    ended = []

    def one(seconds, status):
        ended.append(shell(f"sleep {seconds}; exit {status}").status)

    threads = [threading.Thread(target=one, args=(0.1, n)) for n in range(8)]
    threads.insert(4, threading.Thread(target=one, args=(2, 99)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == [*range(8), 99]
    assert ended[-1] == 99


def test_a_caller_with_busy_threads_can_run_a_sandbox():
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            bytes(100_000)
            sys.stdout.flush()

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert [shell("exit 4", timeout=20).status for _ in range(10)] == [4] * 10
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("limit", [8, 64])
def test_few_descriptors_are_enough(limit):
    def action():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        return shell("exit 6").status

    assert in_child(close_all_and(action)) == 6


def close_all_and(action):
    """Return an action that first closes all but the streams and the pipe to the parent."""

    def closed():
        keep = max(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))
        for fd in range(3, keep):
            if not is_pipe(fd):
                try:
                    os.close(fd)
                except OSError:
                    continue
        return action()

    return closed


def is_pipe(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
    except OSError:
        return False


def test_no_descriptor_left_is_an_error_with_a_hint():
    def action():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        try:
            shell("exit 0")
        except SandboxError as error:
            return error.hint
        finally:
            for fd in taken:
                os.close(fd)

    assert "ulimit -n" in in_child(action)


def test_hundreds_of_descriptors_do_no_harm():
    def action():
        for _ in range(900):
            os.dup(0)
        return output_of(BOX, python("import os; print(sorted(os.listdir('/proc/self/fd')))"))

    assert in_child(action) == "['0', '1', '2', '3']\n"


def test_more_mounts_than_the_callers_open_files(tmp_path):
    binds = tuple(Bind(source=str(tmp_path), target=f"/in/{number}") for number in range(120))

    def action():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        return output_of(replace(BOX, operations=BOX.operations + binds), ["/bin/sh", "-c", "ls /in | wc -l"])

    assert in_child(close_all_and(action)).strip() == "120"


def test_large_output_arrives_whole():
    read_end, write_end = os.pipe()
    sizes = []

    def drain():
        with open(read_end, "rb") as file:
            sizes.append(sum(len(chunk) for chunk in iter(lambda: file.read(1 << 20), b"")))

    reader = threading.Thread(target=drain)
    reader.start()
    outcome = shell("head -c 50000000 /dev/zero", stdout=write_end)
    os.close(write_end)
    reader.join()
    assert (outcome.status, sizes) == (0, [50_000_000])


def test_a_closed_pipe_kills_the_writer_with_sigpipe():
    read_end, write_end = os.pipe()
    os.close(read_end)
    outcome = run(BOX, ["/usr/bin/head", "-c", "1000000", "/dev/zero"], stdout=write_end)
    os.close(write_end)
    assert outcome.status == -signal.SIGPIPE


def test_the_same_descriptor_can_be_every_stream(tmp_path):
    with (tmp_path / "log").open("w+b") as file:
        assert shell("echo out; echo err >&2", stdout=file.fileno(), stderr=file.fileno()).status == 0
        file.seek(0)
        assert file.read() == b"out\nerr\n"


def test_streams_may_be_any_descriptors():
    """Crossed over: stdin from 2, stdout to 0, with the pipe where a stream is to go."""

    def action():
        read_end, write_end = os.pipe()
        os.write(write_end, b"given")
        os.close(write_end)
        read_out, write_out = os.pipe()
        saved = os.dup(2)
        os.dup2(read_end, 2)
        os.dup2(write_out, 0)
        os.close(1)
        outcome = shell("cat; exit 9", stdin=2, stdout=0, stderr=saved)
        os.close(0)
        os.close(write_out)
        return outcome.status, os.read(read_out, 100)

    assert in_child(action) == (9, b"given")


def test_a_closed_stream_is_an_error_that_names_it():
    def action():
        os.close(1)
        shell("echo ended 0; exit 3")

    with pytest.raises(SandboxError, match="stdout, descriptor 1: Bad file descriptor"):
        in_child(action)


@pytest.mark.parametrize(
    ("box", "argv", "message"),
    [
        (BOX, ["/nope"], "start /nope: No such file or directory"),
        (BOX, ["/etc/passwd"], "start /etc/passwd: Permission denied"),
        (BOX, ["/usr"], "start /usr: Permission denied"),
        (BOX, [], "command: empty"),
        (BOX, ["/bin/true", "a\0b"], "start /bin/true: embedded null"),
        (replace(BOX, cwd="/nope"), ["/bin/true"], "working directory /nope: No such file"),
        (
            replace(BOX, operations=(*BOX.operations, Bind(source="/nope/x", target="/in"))),
            ["/bin/true"],
            "bind /nope/x -> /in: .*No such file or directory.*: /nope/x",
        ),
        (replace(BOX, env={"A=B": "x"}), ["/bin/true"], "sandbox: env 'A=B'"),
        (replace(BOX, hostname="x" * 65), ["/bin/true"], "sandbox: hostname"),
        (
            replace(BOX, operations=(File(target="/../x", text=""),)),
            ["/bin/true"],
            "not an absolute, normal path",
        ),
        (Sandbox(operations=BOX.operations[1:]), ["/bin/true"], "start /bin/true: No such file"),
    ],
)
def test_what_cannot_be_started_is_an_error_that_names_it(box, argv, message):
    with pytest.raises(SandboxError, match=message):
        run(box, argv)


def test_a_missing_interpreter_is_told_from_a_missing_program(tmp_path):
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    box = replace(BOX, operations=(*BOX.operations, Bind(source=str(tmp_path), target="/in")))
    with pytest.raises(SandboxError, match="its interpreter"):
        run(box, ["/in/script"])


def test_an_error_is_quick_and_leaves_the_caller_going():
    for _ in range(3):
        with pytest.raises(SandboxError):
            run(BOX, ["/nope"])
    assert shell("exit 0").status == 0


def test_what_was_printed_before_comes_first():
    program = (
        "import sys; sys.path[:0] = sys.argv[1:];"
        "from test_sandbox_support import BOX, run;"
        "print('before'); run(BOX, ['/bin/sh', '-c', 'echo inside']); print('after')"
    )
    places = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", program, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "before\ninside\nafter\n"


def test_groups_are_left_or_have_no_names():
    def action():
        if AS_ROOT:
            os.setgroups([0, 7, 42])
        return output_of(BOX, python("import os; print(set(os.getgroups()) - {65534})"))

    assert in_child(action) == "set()\n"


TRACED = r"""
import ctypes, os, signal
assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0  # PTRACE_TRACEME
if SIGNAL:
    os.kill(os.getpid(), SIGNAL)
os.execv("/bin/sh", ["sh", "-c", "kill -0 $$; echo after; exit 7"])
"""


@pytest.mark.parametrize("policy", [None, Policy(), Policy(epoch=5)], ids=["plain", "reported", "clock"])
@pytest.mark.parametrize("number", [0, signal.SIGWINCH, signal.SIGTERM])
def test_a_command_that_has_itself_traced_goes_on_and_ends_as_usual(policy, number):
    text = TRACED.replace("SIGNAL", str(int(number)))
    outcome = run(BOX, python(text), policy=policy, timeout=10)
    assert outcome.status == (-signal.SIGTERM if number == signal.SIGTERM else 7)
