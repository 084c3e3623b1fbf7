"""A malicious build tries to reach outside, in every way that we could think of; nothing gets out.

The same script is the negative control: started plainly, in a place that is all its own, it reaches what
the test planted there.
"""

import contextlib
import json
import os
import re
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
def inside(name):  # what must not be tried outside
    if "inside" in plant:
        return case(name)
    return lambda action: tried.update({name: False})
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
    stop = time.monotonic() + (0.5 if "inside" in plant else 10)
    over = lambda: time.monotonic() > stop or os.path.exists(plant["parent"] + "/raced")
    def swap():
        while not over():
            try:
                os.rename("target/race", "target/aside"); os.symlink(plant["parent"], "target/race")
                os.unlink("target/race"); os.rename("target/aside", "target/race")
            except OSError: pass
    thread = threading.Thread(target=swap); thread.start()
    while not over():
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
@inside("write to /etc")
def _(): return write("/etc/planted")
@inside("write to /usr")
def _(): return write("/usr/bin/planted")
@inside("a device node of a disk")
def _(): return call(os.mknod("target/node", 0o60660, os.makedev(7, 0)) or 0)
@case("devices")
def _(): return any(name in os.listdir("/dev") for name in ("kmsg", "mem", "fuse", "kvm", "loop0"))
@inside("write to core_pattern")
def _(): return write("/proc/sys/kernel/core_pattern")
@inside("setuid")
def _(): return (os.setuid(0) or os.getuid() == 0)
@inside("mount")
def _(): return call(libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
@inside("remount writable")
def _(): return call(libc.mount(None, b"/usr", None, 0x20 | 0x1000, None))
@inside("unmount what hides something")
def _(): return call(libc.umount2(b"/usr/local", 2))
@inside("a user namespace")
def _(): return call(libc.unshare(0x10000000))
@inside("join another namespace")
def _(): return call(libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))
@inside("chroot")
def _(): return os.chroot("/tmp") is None
@case("the sources by a link race of renameat2")
def _():
    os.mkdir("target/swap"); os.symlink(os.getcwd(), "target/way")
    for _ in range(200):
        libc.renameat2(-100, b"target/swap", -100, b"target/way", 2)
        try: write("target/swap/source"); write("target/way/source")
        except OSError: pass
    return open("source").read() != "secret"
@case("a socket that lies in the project")
def _(): return connect(socket.AF_UNIX, socket.SOCK_STREAM, "lying/socket")
@case("a pipe that lies in the project")
def _(): return stat.S_ISFIFO(os.stat("lying/pipe").st_mode)
@case("a descriptor more than the three")
def _(): return len(os.listdir("/proc/self/fd")) > 4
@case("the memory of another process, by process_vm_readv")
def _():
    parts = [line for line in open(f"/proc/{plant['pid']}/maps") if " r" in line]
    return len(parts) > 0
@case("a descriptor of another process")
def _(): return call(libc.syscall(438, call(1) and os.pidfd_open(plant["pid"]), 0, 0))
@case("a file by its handle")
def _():
    handle = ctypes.create_string_buffer(b"\x80\0\0\0", 140); mount = ctypes.c_int()
    call(libc.syscall(303, -100, plant["home"].encode(), handle, ctypes.byref(mount), 0))
    return True
@case("all processes of the machine")
def _(): return len([name for name in os.listdir("/proc") if name.isdigit()]) > 9
def denied(name, number, *words):
    inside(name)(lambda: call(libc.syscall(number, *words)))
denied("io_uring", 425, 8, ctypes.create_string_buffer(120))
denied("a key of the keyring", 250, 0, -3, 1)
denied("add a key", 248, b"user", b"planted", b"x", 1, -3)
denied("ask for a key", 249, b"user", b"planted", None, -3)
denied("bpf", 321, 0, ctypes.create_string_buffer(128), 128)
denied("userfaultfd", 323, 1)
denied("perf", 298, ctypes.create_string_buffer(b"\1\0\0\0\x70", 112), 0, -1, -1, 0)
denied("a detached mount", 428, -100, b"/usr", 1)
denied("move a mount", 429, -100, b"/tmp", -100, b"/usr", 0)
denied("a new filesystem", 430, b"tmpfs", 0)
denied("attributes of a mount", 442, -100, b"/usr", 0x8000, ctypes.create_string_buffer(32), 32)
denied("another root", 155, b"/tmp", b"/tmp")
flags = ctypes.create_string_buffer((0x10000000).to_bytes(8, "little"), 88)
denied("a user namespace by clone3", 435, flags, 88)
denied("a kernel module", 313, 0, b"", 0)
denied("kexec", 246, 0, 0, None, 0)
denied("reboot", 169, 0xFEE1DEAD, 0x28121969, 0, None)
denied("adjust the clock", 159, ctypes.create_string_buffer(b"\1", 208))
denied("swap", 167, b"target", 0)
denied("quota", 179, 0x800001, None, 0, None)
denied("accounting", 163, b"target/acct")
denied("watch the filesystem", 300, 0, 0)
denied("the call of another convention", 0x40000000 + 39)
def in_child(action):
    child = os.fork()
    if child == 0:
        try: os._exit(7 if action() else 1)
        except BaseException: os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
@inside("a call of 32 bits")
def _():
    import mmap
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\0\0\0\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
    start = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return in_child(lambda: ctypes.CFUNCTYPE(ctypes.c_int)(start)() > 0)
@inside("a set-user-ID program in memory")
def _():
    fd = os.memfd_create("x"); os.write(fd, open("/usr/bin/id", "rb").read())
    os.fchmod(fd, 0o4755)
    said = subprocess.run([f"/proc/self/fd/{fd}", "-u"], pass_fds=[fd], capture_output=True, text=True)
    return said.stdout.strip() not in ("1000", "")
@inside("write into the program that runs")
def _(): return os.open("/proc/self/exe", os.O_WRONLY) >= 0
@inside("write into the program of process 1")
def _(): return os.open("/proc/1/exe", os.O_RDONLY) >= 0
@inside("descriptors of process 1")
def _(): return os.listdir("/proc/1/fd") != []
@inside("the mode of a device")
def _(): return os.chmod("/dev/null", 0o600) is None
@inside("the mode of standard input")  # which is the host's /dev/null: as it is, or all would suffer
def _(): os.fchmod(0, 0o666); return True
@inside("the times of standard input")
def _(): return os.utime(0) is None
@inside("the owner of standard input")
def _(): return os.fchown(0, -1, -1) is None and libc.fsetxattr(0, b"user.x", b"", 0, 0) == 0
@inside("replace a device")
def _(): return os.rename("/dev/null", "/dev/old") is None
@inside("the disk's device by number")
def _():
    major, minor = plant["disk"]
    os.mknod("/tmp/disk", 0o60666, os.makedev(major, minor))
    return True
@inside("memory's device by number")
def _(): return os.mknod("/dev/shm/mem", 0o20666, os.makedev(1, 1)) is None
@inside("another machine's socket")
def _(): return connect(socket.AF_VSOCK, socket.SOCK_STREAM, (2, 22))
@inside("packets")
def _(): return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)
@inside("sysrq")
def _(): return write("/proc/sysrq-trigger")
@inside("the kernel's memory")
def _(): return os.open("/proc/kcore", os.O_RDONLY) >= 0
@inside("the control groups' release agent")
def _(): return os.listdir("/sys") != []
@inside("file capabilities")
def _():
    open("target/capable", "w").close()
    os.setxattr("target/capable", "security.capability", bytes.fromhex("0000000201").ljust(20, b"\0"))
    return True
@inside("an output that cannot be removed")
def _():
    import fcntl
    fcntl.ioctl(os.open("target/fixed", os.O_CREAT), 0x40086602, (0x10).to_bytes(8, "little"))
    return True
@inside("give an output to root")
def _(): os.chown("target", 0, 0); return True
@inside("more descriptors than the limit")
def _():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)); return True
@inside("a core of mine")
def _():
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))
    return resource.getrlimit(resource.RLIMIT_CORE)[1] > 1
@inside("a limit for process 1, which would end it and all")
def _():
    import resource
    resource.prlimit(1, resource.RLIMIT_CPU, (1, 1))
    return resource.prlimit(1, resource.RLIMIT_CPU) == (1, 1)
@inside("a forged signal for process 1")  # as if it were the keeper's, to be passed on to all
def _():
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    call(libc.syscall(129, 1, 1, (ctypes.c_int * 32)(1, 0, -1, 0)))
    time.sleep(0.3)
    return heard
@inside("a core for the host's program")  # which is started unless the limit is 1: core(5)
def _():
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return resource.getrlimit(resource.RLIMIT_CORE) != (1, 1)
@inside("what devices, filesystems and other programs are doing")
def _():
    tops = [top for name in ("bus", "driver", "fs", "irq", "pressure") for top in os.walk("/proc/" + name)]
    return [name for top, _, names in tops for name in names if open(f"{top}/{name}", "rb").read(1)]
@inside("sockets that no network namespace holds")
def _():
    made = []
    for family in set(range(64)) - {1, 2, 10, 16}:
        for kind in (1, 2, 3, 5):
            for make in (socket.socket, socket.socketpair):
                try: made.append(make(family, kind))
                except OSError: pass
    return made
@inside("a lease on a source")  # whoever opens it, outside too, would wait for 45 seconds
def _():
    import fcntl
    fcntl.fcntl(os.open("source", os.O_RDONLY), 1024, fcntl.F_RDLCK); return True
@inside("new rights")
def _(): return libc.prctl(39, 0, 0, 0, 0) == 0
@inside("the host's name")
def _(): return socket.sethostname("planted") is None
@inside("the clock")
def _(): return time.clock_settime(time.CLOCK_REALTIME, time.time()) is None
@inside("type into the terminal")
def _():
    import fcntl
    return fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), 0x5412, b"x") == 0
@inside("a hook of git")
def _(): return write(".git/hooks/post-checkout")

# Three that are judged from outside.
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
    (project / "lying").mkdir()
    os.mkfifo(project / "lying/pipe")
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
        [sys.executable, str(servers), unique, str(home / "socket"), str(project / "lying/socket")],
        stdout=subprocess.PIPE,
        text=True,
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
        "disk": [os.major(top.stat().st_dev), os.minor(top.stat().st_dev)],
        "passwd": Path("/etc/passwd").read_text(),
    }
    (project / "plant.json").write_text(json.dumps(plant))
    (home / "socket").chmod(0o777)
    (project / "lying/socket").chmod(0o777)
    mine = top / "config/belljar/profiles/mine.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text('outputs = ["target"]\n')
    top.chmod(0o755)
    if user is not None:
        subprocess.run(["chown", "-R", f"{user}:{user}", str(top)], check=True)
        for name, mode in (("shut", 0), ("half", 0o744)):  # somebody else's, to be passed over
            (project / "target" / name).mkdir()
            (project / "target" / name).chmod(mode)
    try:
        yield top, plant
    finally:
        sleeper.kill(), server.kill(), sleeper.wait(), server.wait()
        server.stdout.close()
        shm.unlink()
        shutil.rmtree(top)


_SERVE = r"""
import ctypes, json, os, socket, sys, threading
unique, *paths = sys.argv[1:]
key = os.getpid()
ctypes.CDLL(None).msgget(key, 0o1666)
def serve(server):
    while True:
        connection, _ = server.accept()
        connection.recv(9); connection.send(b"hello"); connection.close()
tcp = socket.create_server(("127.0.0.1", 0))
abstract = socket.socket(socket.AF_UNIX); abstract.bind("\0" + unique); abstract.listen()
named = [socket.socket(socket.AF_UNIX) for path in paths]
for one, path in zip(named, paths):
    one.bind(path); one.listen()
for server in (tcp, abstract, *named):
    threading.Thread(target=serve, args=(server,), daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", 0))
print(json.dumps({"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], "key": key}), flush=True)
while True:
    _, address = udp.recvfrom(99)
    udp.sendto(b"hello", address)
"""
# What a plain process does not reach, or not everywhere.
NOT_PLAINLY = {
    *("/proc/1/root", "/proc/1/environ", "ptrace another process", "a raw socket", "a network device"),
    *("devices", "a file by its handle", "a descriptor of another process"),
}
ONLY_INSIDE = set(re.findall(r'^(?:@inside|denied)\("(.+?)"', HOSTILE, re.MULTILINE)) | NOT_PLAINLY


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
        assert len(found) >= 105
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
