"""A malicious build tries to reach outside, in every way that we could think of; nothing gets out.

The same script is the negative control: started plainly, in a place that is all its own, it reaches what
the test planted there.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from test_run_support import NOBODY, ROOT, belljar, system

IDENTITIES = ("root", "ordinary") if ROOT else ("ordinary",)
HOSTILE = r"""
import ctypes, json, os, signal, socket, stat, subprocess, sys, threading, time
plant = json.load(open("plant.json"))
libc = ctypes.CDLL(None, use_errno=True)
tried = {}
def case(name):
    def attempt(action):
        try:
            tried[name] = bool(action())
        except BaseException:
            tried[name] = False
    return attempt
def write(path, mode="w"):
    with open(path, mode) as file:
        file.write("planted")
    return True
def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno())
    return True
def connect(family, kind, address):
    with socket.socket(family, kind) as sock:
        sock.settimeout(20)
        sock.connect(address)
        sock.send(b"out")
        return kind == socket.SOCK_DGRAM or sock.recv(9) == b"hello"
def mode(fd):
    try: return os.fstat(fd).st_mode
    except OSError: return 0
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.connect(("127.0.0.1", plant["udp"]))
        sock.send(b"out")
        return sock.recv(9) == b"hello"

@case("write to home")
def _(): return write(plant["home"] + "/.profile")
@case("read home")
def _(): return open(plant["home"] + "/secret").read() == "secret"
@case("write to the parent")
def _(): return write(plant["parent"] + "/planted")
@case("write to the parent by ..")
def _(): return write("../planted-by-dots")
@case("read the parent by ..")
def _(): return open("../secret").read() == "secret"
@case("write to the cache")
def _(): return write(plant["cache"] + "/planted")
@case("write to the sources")
def _(): return write("source")
@case("rename the sources")
def _(): os.rename("source", "target/source"); return True
@case("remove the sources")
def _(): os.unlink("other"); return True
@case("replace the output by a link")
def _(): os.rename("target", "target.old"); os.symlink(plant["home"], "target"); return True
@case("write through a link out of the output")
def _(): os.symlink(plant["home"], "target/link"); return write("target/link/by-link")
@case("hard link of a secret")
def _(): os.link(plant["home"] + "/secret", "target/hard"); return True
@case("a race of links")
def _():
    os.mkdir("target/race")
    stop = time.monotonic() + 0.3
    def swap():
        while time.monotonic() < stop:
            try:
                os.rename("target/race", "target/aside"); os.symlink(plant["parent"], "target/race")
                os.unlink("target/race"); os.rename("target/aside", "target/race")
            except OSError: pass
    thread = threading.Thread(target=swap); thread.start()
    while time.monotonic() < stop:
        try: write("target/race/../raced"); write("target/race/raced")
        except OSError: pass
    thread.join()
    return os.path.exists(plant["parent"] + "/raced")
@case("an inherited descriptor")
def _(): return any(b"secret" in os.pread(fd, 99, 0) for fd in range(3, 200) if stat.S_ISREG(mode(fd)))
@case("a directory by descriptor")
def _():
    for fd in range(3, 200):
        if stat.S_ISDIR(mode(fd)):
            os.open("by-fd", os.O_CREAT | os.O_WRONLY, dir_fd=fd); return True
@case("reopen standard output as a file")
def _(): return stat.S_ISREG(os.stat("/proc/self/fd/1").st_mode)
@case("the environment")
def _(): return os.environ["PLANTED_SECRET"]
@case("the environment of another process")
def _(): return b"PLANTED_SECRET" in open(f"/proc/{plant['pid']}/environ", "rb").read()
@case("kill another process")
def _(): os.kill(plant["pid"], 0); return b"sleep" in open(f"/proc/{plant['pid']}/cmdline", "rb").read()
@case("ptrace another process")
def _():
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    return call(libc.ptrace(16, plant["pid"], 0, 0)) and call(libc.ptrace(17, plant["pid"], 0, 0))
@case("the memory of another process")
def _(): return len(os.listdir(f"/proc/{plant['pid']}/fd")) > 0
@case("the parent process")
def _(): return os.getppid() > 1 and open(f"/proc/{os.getppid()}/cmdline").read() != ""
@case("/proc/1/root")
def _(): return os.listdir("/proc/1/root") != []
@case("/proc/1/environ")
def _(): return open("/proc/1/environ", "rb").read() != b""
@case("TCP")
def _(): return connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", plant["tcp"]))
@case("UDP")
def _(): return udp()
@case("an abstract socket")
def _(): return connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + plant["abstract"])
@case("a file socket")
def _(): return connect(socket.AF_UNIX, socket.SOCK_STREAM, plant["home"] + "/socket")
@case("a network device")
def _(): return len(os.listdir("/sys/class/net")) > 1 or len(socket.if_nameindex()) > 1
@case("a raw socket")
def _(): return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) and len(socket.if_nameindex()) > 1
@case("a message queue of System V")
def _(): return call(libc.msgget(plant["key"], 0))
@case("shared memory")
def _(): return open("/dev/shm/" + plant["shm"]).read() == "secret"
@case("the shared /tmp")
def _(): return os.path.exists(plant["tmp"])
@case("/etc/passwd of the host")
def _(): return open("/etc/passwd").read() == plant["passwd"]
@case("write to /etc")
def _(): return "inside" in plant and write("/etc/planted")
@case("write to /usr")
def _(): return "inside" in plant and write("/usr/bin/planted")
@case("a device node of a disk")
def _(): return "inside" in plant and call(os.mknod("target/node", 0o60660, os.makedev(7, 0)) or 0)
@case("devices")
def _(): return any(name in os.listdir("/dev") for name in ("kmsg", "mem", "fuse", "kvm", "loop0"))
@case("write to core_pattern")
def _(): return "inside" in plant and write("/proc/sys/kernel/core_pattern")
@case("setuid")
def _(): return "inside" in plant and (os.setuid(0) or os.getuid() == 0)
@case("mount")
def _(): return "inside" in plant and call(libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
@case("remount writable")
def _(): return "inside" in plant and call(libc.mount(None, b"/usr", None, 0x20 | 0x1000, None))
@case("unmount what hides something")
def _(): return "inside" in plant and call(libc.umount2(b"/usr/local", 2))
@case("a user namespace")
def _(): return "inside" in plant and call(libc.unshare(0x10000000))
@case("join another namespace")
def _(): return "inside" in plant and call(libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))
@case("chroot")
def _(): return "inside" in plant and os.chroot("/tmp") is None
@case("the host's name")
def _(): return "inside" in plant and socket.sethostname("planted") is None
@case("the clock")
def _(): return "inside" in plant and time.clock_settime(time.CLOCK_REALTIME, time.time()) is None
@case("type into the terminal")
def _():
    import fcntl
    return "inside" in plant and fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), 0x5412, b"x") == 0
@case("a hook of git")
def _(): return "inside" in plant and write(".git/hooks/post-checkout")

# Two that are judged from outside.
os.makedirs("target", exist_ok=True)
shell = "target/setuid"
open(shell, "w").write("#!/bin/sh\n")
try: os.chmod(shell, 0o6755)
except OSError: pass
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        for _ in range(60):
            time.sleep(0.1)
            try: open("target/heartbeat", "w").write(str(time.time()))
            except OSError: pass
    os._exit(0)
time.sleep(0.3)
open("target/tried.json", "w").write(json.dumps(tried))
"""


@contextlib.contextmanager
def victim(user):
    """Plant what the hostile script is after, in a directory of its own; give it and what was planted."""
    top = Path(tempfile.mkdtemp(prefix="belljar-escape-"))
    project, home, cache = top / "parent/project", top / "home", top / "cache"
    for place in (project / "target", project / ".git/hooks", home, cache):
        place.mkdir(parents=True)
    for path in (home / "secret", project.parent / "secret", project / "source", project / "other"):
        path.write_text("secret")
    (project / "hostile.py").write_text(HOSTILE)
    unique = f"belljar-{os.getpid()}-{time.monotonic_ns()}"
    shm = Path("/dev/shm") / unique
    shm.write_text("secret")
    sleeper = subprocess.Popen(
        ["sleep", "600"], env={"PLANTED_SECRET": "x", "PATH": os.environ["PATH"]}, user=user
    )
    servers = Path(top / "serve.py")
    servers.write_text(_SERVE)
    server = subprocess.Popen(
        [sys.executable, str(servers), unique, str(home / "socket")], stdout=subprocess.PIPE, text=True
    )
    ports = json.loads(server.stdout.readline())
    plant = ports | {
        "home": str(home),
        "parent": str(project.parent),
        "cache": str(cache),
        "pid": sleeper.pid,
        "abstract": unique,
        "shm": unique,
        "tmp": str(top),
        "passwd": Path("/etc/passwd").read_text(),
    }
    (project / "plant.json").write_text(json.dumps(plant))
    (home / "socket").chmod(0o777)
    mine = top / "config/belljar/profiles/mine.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text('outputs = ["target"]\n')
    top.chmod(0o755)
    if user is not None:
        subprocess.run(["chown", "-R", f"{user}:{user}", str(top)], check=True)
    try:
        yield top, plant
    finally:
        sleeper.kill(), server.kill(), sleeper.wait(), server.wait()
        server.stdout.close()
        shm.unlink()
        shutil.rmtree(top)


_SERVE = r"""
import ctypes, json, os, socket, sys, threading
unique, path = sys.argv[1:]
key = os.getpid()
ctypes.CDLL(None).msgget(key, 0o1666)
def serve(server):
    while True:
        connection, _ = server.accept()
        connection.send(b"hello"); connection.close()
tcp = socket.create_server(("127.0.0.1", 0))
abstract = socket.socket(socket.AF_UNIX); abstract.bind("\0" + unique); abstract.listen()
named = socket.socket(socket.AF_UNIX); named.bind(path); named.listen()
for server in (tcp, abstract, named):
    threading.Thread(target=serve, args=(server,), daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", 0))
print(json.dumps({"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], "key": key}), flush=True)
while True:
    _, address = udp.recvfrom(99)
    udp.sendto(b"hello", address)
"""
# What a plain process does not reach either, or must not be asked to try.
ONLY_INSIDE = {
    *(
        "write to /etc",
        "write to /usr",
        "a device node of a disk",
        "write to core_pattern",
        "setuid",
        "mount",
    ),
    *("remount writable", "unmount what hides something", "a user namespace", "join another namespace"),
    *("chroot", "the host's name", "the clock", "type into the terminal", "a hook of git"),
    *(
        "/proc/1/root",
        "/proc/1/environ",
        "ptrace another process",
        "a raw socket",
        "a network device",
        "devices",
    ),
}


def tried(project: Path) -> dict[str, bool]:
    return json.loads((project / "target/tried.json").read_text())


def test_the_same_script_reaches_what_is_planted_when_it_runs_plainly():
    with victim(None) as (top, _), (top / "home/secret").open() as secret:
        project = top / "parent/project"
        directory = os.open(top, os.O_RDONLY)
        (project / "target.log").touch()
        with (project / "target.log").open("w") as log:
            started = subprocess.Popen(
                [sys.executable, "hostile.py"],
                cwd=project,
                stdout=log,
                pass_fds=(secret.fileno(), directory),
                env=os.environ | {"PLANTED_SECRET": "x"},
                start_new_session=False,
            )
            assert started.wait(timeout=60) == 0
        os.close(directory)
        home = top / "home"
        found = json.loads(
            next(p for p in (home / "tried.json", project / "target/tried.json") if p.exists()).read_text()
        )
        beats = next(p for p in (home / "heartbeat", project / "target/heartbeat") if p.exists())
        before = beats.read_text()
        time.sleep(0.5)
        assert beats.read_text() != before, "the daemon outlives a plain run"
    assert sorted(name for name, reached in found.items() if not reached and name not in ONLY_INSIDE) == []


@pytest.mark.parametrize("identity", IDENTITIES)
def test_nothing_gets_out_of_a_hermetic_run(identity):
    user = NOBODY if ROOT and identity == "ordinary" else None
    with victim(user) as (top, plant), (top / "home/secret").open() as secret:
        project = top / "parent/project"
        (project / "plant.json").write_text(json.dumps(plant | {"inside": True}))
        before = listing(top)
        directory = os.open(top, os.O_RDONLY)
        words = ["run", "--profile", "mine", "--system", str(system()), "--report", str(top / "report.json")]
        done = belljar(
            *words,
            "--",
            "python3",
            "hostile.py",
            cwd=project,
            fds=(secret.fileno(), directory),
            user=user,
            env={
                "HOME": str(top / "home"),
                "PATH": os.environ["PATH"],
                "PLANTED_SECRET": "x",
                "XDG_CONFIG_HOME": str(top / "config"),
            },
        )
        os.close(directory)
        assert done.returncode == 0, done.stderr
        found = tried(project)
        assert len(found) >= 45
        assert [name for name, reached in found.items() if reached] == []
        report = json.loads((top / "report.json").read_text())
        (top / "report.json").unlink()
        assert listing(top) == before
        assert (project / "target/setuid").stat().st_mode & 0o6000 == 0
        assert report["disarmed"] == [] or report["disarmed"] == ["target/setuid"]
        beat = (project / "target/heartbeat").read_text()
        time.sleep(0.4)
        assert (project / "target/heartbeat").read_text() == beat, "the daemon is dead"


def listing(top: Path) -> dict[str, bytes]:
    """Everything below but the output, with its content."""
    return {
        str(item.relative_to(top)): item.read_bytes() if item.is_file() else b""
        for item in top.rglob("*")
        if "target" not in item.parts
    }
