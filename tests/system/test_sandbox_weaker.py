"""Where user namespaces are forbidden: what Landlock, the filter and the supervisor keep, and what is said.

Forbidden truly: by the setting of an outer namespace, and by a filter like Docker's.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_sandbox_hosts import SOURCES, refuse
from test_sandbox_support import (
    AS_ROOT,
    BOX,
    IDENTITIES,
    INSIDE,
    NOBODY,
    OWN,
    PREFIX,
    PYTHON,
    be_root_of_own_namespaces,
    box_for,
    in_child,
    output_of,
)

from belljar.sandbox import Bind, Blocked, How, Lookup, Policy, Sandbox, SandboxError, Trace, run
from belljar.sandbox.filter import rules
from belljar.sandbox.weaker import DENIED, view_of

UNSHARE = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
EPOCH = 1_500_000_000

TRY = r"""
import ctypes, json, os, resource, socket, struct, sys
plant = json.load(open("plant.json"))  # as an argument its paths would be taken for the sandbox's
outside, caller = plant["outside"], plant["caller"]
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try:
        write(outside + "/secret")
    except OSError:
        pass
    try:
        action()
        return "done"
    except OSError as error:
        return error.errno
def connect(address):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(address)
def write(path):
    with open(path, "w") as file:
        file.write("secret")
def leave(path):
    write(path)
    os.unlink(path)
def opened(path, flags):
    os.close(os.open(path, flags))
def held(path, action):
    fd = os.open(path, os.O_RDONLY)
    try:
        action(fd)
    finally:
        os.close(fd)
def stamp(path):
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    info = os.stat(path)
    assert (info.st_atime_ns, info.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    os.utime(path)
    assert os.stat(path).st_mtime_ns > 10**18
    times = struct.pack("=4q", 0, (1 << 30) - 2, 7, 5)  # UTIME_OMIT
    before = os.stat(path).st_atime_ns
    assert libc.utimensat(-100, path.encode(), times, 0) == 0
    assert (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns) == (before, 7 * 10**9 + 5)
    assert libc.utimensat(-100, path.encode(), struct.pack("=4q", 0, 10**9, 0, 0), 0) < 0
    assert ctypes.get_errno() == 22
def change(path):
    os.chmod(path, 0o640)
    held(path, lambda fd: os.fchmod(fd, 0o750))
    assert os.stat(path).st_mode & 0o7777 == 0o750
    os.chown(path, os.getuid(), os.getgid())
    os.lchown(path, -1, -1)
    os.symlink("nowhere", path + ".link")
    os.utime(path + ".link", ns=(1, 3_000_000_000), follow_symlinks=False)
    assert os.lstat(path + ".link").st_mtime == 3
def removed(path):
    with open(path, "w") as file:
        os.unlink(path)
        os.fchmod(file.fileno(), 0o600)
    reader, writer = os.pipe()
    os.fchmod(writer, 0o600)
def seize():
    if libc.ptrace(0x4206, caller, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
def user_namespace():
    child = libc.syscall(435, struct.pack("=8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)
    if child == 0:
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone3")
def watch():
    if libc.inotify_add_watch(libc.inotify_init1(0), outside.encode(), 0xFFF) < 0:
        raise OSError(ctypes.get_errno(), "inotify_add_watch")
secret = outside + "/secret"
tries = {
    "read a secret": lambda: opened(secret, os.O_RDONLY),
    "read it by a link": lambda: (os.symlink(outside, "out/link"), opened("out/link/secret", os.O_RDONLY)),
    "read it by ..": lambda: opened(os.getcwd() + "/../outside/secret", os.O_RDONLY),
    "read it by /proc": lambda: opened("/proc/self/root" + secret, os.O_RDONLY),
    "read /etc": lambda: opened("/etc/passwd", os.O_RDONLY),
    "list outside": lambda: os.listdir(outside),
    "write outside": lambda: write(outside + "/new"),
    "append outside": lambda: opened(secret, os.O_WRONLY | os.O_APPEND),
    "truncate outside": lambda: os.truncate(secret, 0),
    "truncate by opening": lambda: opened(secret, os.O_RDONLY | os.O_TRUNC),
    "remove outside": lambda: os.unlink(secret),
    "rename outside": lambda: os.rename(secret, outside + "/other"),
    "link it in": lambda: os.link(secret, "out/hard"),
    "move out": lambda: (write("out/a"), os.rename("out/a", outside + "/a")),
    "make a directory outside": lambda: os.mkdir(outside + "/directory"),
    "change a mode outside": lambda: os.chmod(secret, 0o777),
    "change a mode by a link": lambda: (os.symlink(secret, "out/to"), os.chmod("out/to", 0o777)),
    "change a mode of the project's": lambda: os.chmod("in", 0o777),
    "change it by a descriptor": lambda: held("in", lambda fd: os.fchmod(fd, 0o777)),
    "change it by /proc": lambda: held("in", lambda fd: os.chmod(f"/proc/self/fd/{fd}", 0o777)),
    "change a mode from a directory": lambda: held(".", lambda fd: os.chmod("in", 0o777, dir_fd=fd)),
    "change a time outside": lambda: os.utime(secret, ns=(1, 1)),
    "change a time of the project's": lambda: os.utime("in"),
    "change a time by a descriptor": lambda: held("in", lambda fd: os.utime(fd, ns=(1, 1))),
    "change a group outside": lambda: os.chown(secret, -1, os.getgid()),
    "change a group by a descriptor": lambda: held("in", lambda fd: os.fchown(fd, -1, os.getgid())),
    "change an owner from a directory": lambda: held(
        ".", lambda fd: os.chown("in", os.getuid(), -1, dir_fd=fd)
    ),
    "execute outside": lambda: os.waitpid(os.posix_spawn(outside + "/program", ["p"], {}), 0),
    "write the project": lambda: leave("new"),
    "write the machine's temporary files": lambda: leave("/tm" + "p/new-of-the-sandbox"),
    "write shared memory": lambda: leave("/dev/shm/new-of-the-sandbox"),
    "read the caller's environment": lambda: opened(f"/proc/{caller}/environ", os.O_RDONLY),
    "look into the caller's memory": lambda: opened(f"/proc/{caller}/mem", os.O_RDONLY),
    "look where the caller is": lambda: os.listdir(f"/proc/{caller}/cwd"),
    "seize the caller": seize,
    "signal the caller": lambda: os.kill(caller, 0),
    "a socket for datagrams": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "an abstract socket": lambda: connect("\0" + plant["abstract"]),
    "a socket that is a file": lambda: connect(plant["socket"]),
    "limit the caller": lambda: resource.prlimit(caller, resource.RLIMIT_CORE, (1, -1)),
    "be nice for the caller": lambda: os.setpriority(os.PRIO_PROCESS, caller, 1),
    "make a user namespace": user_namespace,
    "watch what others do": watch,
}
allowed = {
    "read the project": lambda: opened("in", os.O_RDONLY),
    "write outputs": lambda: write("out/file"),
    "change modes and owners of outputs": lambda: change("out/file"),
    "change times of outputs": lambda: stamp("out/file"),
    "change what is removed": lambda: removed("out/gone"),
    "write a temporary file": lambda: write(os.environ["TMPDIR"] + "/t"),
    "read tools": lambda: os.listdir("/usr/bin"),
    "a pair": lambda: socket.socketpair(),
    "the null device": lambda: write("/dev/null"),
}
print(json.dumps([{name: attempt(action) for name, action in group.items()} for group in (tries, allowed)]))
"""


def forbid_by_setting():
    be_root_of_own_namespaces(0)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def forbid_by_filter():
    refuse(UNSHARE, errno.EPERM)


FORBID = {"setting": forbid_by_setting, "filter": forbid_by_filter}


@pytest.fixture
def place():
    with place_for_all() as made:
        yield made


@contextlib.contextmanager
def place_for_all():
    """Give a project with an output directory, something outside, and everybody may go there."""
    with tempfile.TemporaryDirectory() as top:
        made = Path(top)
        for name in ("project/out", "outside"):
            (made / name).mkdir(parents=True)
        (made / "project/in").write_text("in")
        (made / "outside/secret").write_text("secret")
        shutil.copy("/bin/true", made / "outside/program")
        for path in (made, *made.rglob("*")):
            path.chmod(0o777)
        yield made


def box_of(identity: str, place: Path) -> Sandbox:
    project = (
        Bind(source=f"{place}/project", target="/build"),
        Bind(source=f"{place}/project/out", target="/build/out", writable=True),
    )
    box = box_for(identity)
    env = {**box.env, "TMPDIR": "/tmp"}
    return replace(box, operations=(*box.operations, *project), env=env, cwd="/build")


def weakly(place: Path, command: list[str], identity: str = "root", how: str = "filter", **options):
    """Return what a command writes and what is told, run where namespaces are forbidden."""

    def action():
        FORBID[how]()
        events = []
        text = output_of(
            box_of(identity, place), command, on_event=events.append, allow_weaker=True, **options
        )
        return text, events

    return in_child(action, ordinary=identity == "ordinary")


def python(text: str, *words: str) -> list[str]:
    return [PYTHON, "-I", "-S", "-c", text, *words]


def attempts(place: Path, identity: str, start):
    """Return what `TRY` could do; `start` is called by the caller that it tries to reach."""

    if identity == "ordinary" and AS_ROOT:
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY)

    def action():
        name = f"belljar-{place.name}"
        with socket.socket(socket.AF_UNIX) as file, socket.socket(socket.AF_UNIX) as abstract:
            for unix, address in ((file, f"{place}/outside/socket"), (abstract, f"\0{name}")):
                unix.bind(address)
                unix.listen()
            (place / "outside/socket").chmod(0o777)
            plant = {"outside": f"{place}/outside", "caller": os.getpid(), "abstract": name}
            plant["socket"] = f"{place}/outside/socket"
            (place / "project/plant.json").write_text(json.dumps(plant))
            return json.loads(start())

    return in_child(action, ordinary=identity == "ordinary")


GIVE = """
import os, sys
open("out/mine", "w").close()
for owner, group in ((os.getuid() + 1, -1), (-1, os.getgid() + 1)):
    try:
        os.chown("out/mine", owner, group)
    except PermissionError:
        print("kept")
"""


@pytest.mark.parametrize("identity", IDENTITIES)
def test_the_supervisor_gives_no_file_away(place, identity):
    """As root it could, and the command could not."""
    text, _ = weakly(place, python(GIVE), identity)
    assert text == "kept\nkept\n"


@pytest.mark.parametrize("identity", IDENTITIES)
def test_without_it_everything_outside_is_reached(place, identity):
    def start():
        host = "/mnt/python" if identity == "ordinary" and AS_ROOT and OWN else PREFIX
        env = {"TMPDIR": f"{place}/project/out", "LD_LIBRARY_PATH": f"{host}/lib"}
        command = [host + PYTHON.removeprefix(INSIDE), *python(TRY)[1:]]
        return subprocess.check_output(command, text=True, cwd=place / "project", env=env)

    outside, allowed = attempts(place, identity, start)
    assert set(outside.values()) | set(allowed.values()) == {"done"}


@pytest.mark.parametrize("how", FORBID)
@pytest.mark.parametrize("identity", IDENTITIES)
def test_nothing_outside_is_reached(place, identity, how):
    def start():
        FORBID[how]()
        return output_of(box_of(identity, place), python(TRY), allow_weaker=True)

    outside, allowed = attempts(place, identity, start)
    assert not {"done", errno.ENOENT} & set(outside.values()), outside
    assert set(allowed.values()) == {"done"}
    assert (place / "outside/secret").read_text() == "secret"
    assert sorted(item.name for item in (place / "outside").iterdir()) == ["program", "secret", "socket"]


@pytest.mark.parametrize("how", FORBID)
def test_it_is_never_weaker_unasked(place, how):
    def action():
        FORBID[how]()
        return run(box_of("root", place), ["/bin/true"])

    with pytest.raises(SandboxError, match="namespaces: unshare") as caught:
        in_child(action)
    assert caught.value.hint


def test_where_namespaces_are_allowed_it_is_not_weaker(place):
    assert not run(box_of("root", place), ["/bin/true"], allow_weaker=True).weaker
    outcome = in_child(lambda: (forbid_by_filter(), run(BOX, ["/bin/true"], allow_weaker=True))[1])
    assert (outcome.status, outcome.weaker) == (0, True)


def test_what_is_denied_and_reached_for_is_told_here_too(place):
    text = "import os, socket\ntry: socket.socket()\nexcept OSError: open('in'); os.path.exists('/none')"
    _, events = weakly(place, python(text), policy=Policy(trace=Trace.ASKED))
    assert [(event.call, event.count) for event in events if isinstance(event, Blocked)] == [("socket", 1)]
    lookups = {(event.path, event.how, event.found) for event in events if isinstance(event, Lookup)}
    assert {(f"{place}/project/in", How.READ, True), ("/none", How.ASK, False)} <= lookups


def test_the_clock_is_that_of_the_policy_here_too(place):
    policy = Policy(epoch=EPOCH, seed="x", processors=3)
    text = "date +%s; nproc; sleep 2; date +%s; head -c 8 /dev/urandom | od -An -tx8"
    first, second = (weakly(place, ["/bin/sh", "-c", text], policy=policy)[0].split() for _ in range(2))
    assert first == second
    assert first[:3] == [str(EPOCH), "3", str(EPOCH + 2)]


def test_what_the_command_leaves_is_killed_and_removed(place):
    text = "(setsid sleep 4321 &) ; (sleep 4321 & sleep 4321) & echo $TMPDIR; echo x > $TMPDIR/x; sleep 0.2"
    private = weakly(place, ["/bin/sh", "-c", text])[0].strip()
    assert "/belljar-" in private
    assert not Path(private).exists()
    assert not [item for item in Path("/proc").glob("[0-9]*/cmdline") if b"4321" in item.read_bytes()]


@pytest.mark.parametrize(("text", "status"), [("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM)])
def test_it_ends_as_the_command_does(place, text, status):
    def action():
        forbid_by_filter()
        return run(box_of("root", place), ["/bin/sh", "-c", text], allow_weaker=True).status

    assert in_child(action) == status


def test_a_program_that_is_missing_and_time_that_runs_out(place):
    def missing():
        forbid_by_filter()
        return run(box_of("root", place), ["/none"], allow_weaker=True)

    def late():
        forbid_by_filter()
        started = time.monotonic()
        box = box_of("root", place)
        outcome = run(box, ["/bin/sh", "-c", "sleep 60 & sleep 60"], timeout=0.5, allow_weaker=True)
        return outcome.timed_out, time.monotonic() - started

    with pytest.raises(SandboxError, match="start /none: No such file"):
        in_child(missing)
    timed_out, seconds = in_child(late)
    assert timed_out
    assert seconds < 10


def test_paths_of_the_sandbox_become_the_hosts():
    binds = (Bind(source="/home/me/p", target="/build"), Bind(source="/usr", target="/usr"))
    view = view_of(Sandbox(operations=binds), "/private")
    translated = {
        "/build": "/home/me/p",
        "-fmap=/build=. /build/x": "-fmap=/home/me/p=. /home/me/p/x",
        "/usr/bin:/build/bin": "/usr/bin:/home/me/p/bin",
        "/builder /rebuild x/build": "/builder /rebuild x/build",
    }
    assert {text: view.translate(text) for text in translated} == translated
    assert view.read == ("/home/me/p", "/usr")


def test_everything_denied_is_a_call():
    known = {rule.call for rule in rules("x86_64")}
    assert known >= {*DENIED, "socket"}


def belljar_run(place: Path, *words: str):
    """Run the program where namespaces are forbidden; return its exit status and what it said."""

    def action():
        forbid_by_setting()
        sources = f"{SOURCES}:{os.environ.get('PYTHONPATH', SOURCES)}"
        env = {**os.environ, "PYTHONPATH": sources, "HOME": str(place)}
        command = [sys.executable, "-m", "belljar", "run", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        return done.returncode, done.stdout, done.stderr

    return in_child(action)


def test_belljar_run_names_the_setting_or_says_what_is_weaker(place):
    command = ("--project", f"{place}/project", "--", "sh", "-c", "cat in /etc/passwd")
    status, _, said = belljar_run(place, *command)
    assert status == 4
    assert "user.max_user_namespaces is 0" in said
    assert "--allow-weaker" in said
    report = place / "report.json"
    status, output, said = belljar_run(place, "--allow-weaker", "--report", str(report), *command)
    assert (status, output) == (1, "in")
    assert "WEAKER" in said
    record = json.loads(report.read_text())
    assert any("(Landlock)" in line for line in record["enforced"])
    assert not any("namespaces" in line for line in record["enforced"])
    assert any("namespaces" in line for line in record["not_enforced"])


DEEP = r"""
import os
top = os.environ["TMPDIR"]
here = os.open(top, os.O_RDONLY)
for _ in range(1500):
    os.mkdir("d", dir_fd=here)
    here, old = os.open("d", os.O_RDONLY, dir_fd=here), here
    os.close(old)
os.makedirs(top + "/shut/inner")
os.chmod(top + "/shut", 0)
os.symlink("/", top + "/link")
raise SystemExit(7)
"""


@pytest.mark.parametrize("identity", IDENTITIES)
def test_the_private_directory_is_removed_whatever_is_in_it(place, identity, monkeypatch):
    own = place / "own"
    own.mkdir(mode=0o777)
    own.chmod(0o777)
    monkeypatch.setenv("TMPDIR", str(own))

    def action():
        forbid_by_filter()
        return run(box_of(identity, place), python(DEEP), allow_weaker=True).status

    assert in_child(action, ordinary=identity == "ordinary") == 7
    assert list(own.iterdir()) == []
