"""What the sandbox's tests share: a root of the host's /usr, a program that looks about, a hostile caller.

Its own tests are the negative control: outside, the program sees all that the laws say it must not see.
"""

import contextlib
import ctypes
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from belljar.sandbox import Bind, Devices, File, Operation, Proc, Sandbox, Symlink, Tmpfs, kernel, run

PREFIX = os.path.realpath(sys.base_prefix)
OWN = not PREFIX.startswith("/usr")
INSIDE = "/python" if OWN else PREFIX
PYTHON = INSIDE + os.path.realpath(sys.executable).removeprefix(PREFIX)
NOBODY = 65534
AS_ROOT = os.geteuid() == 0
IDENTITIES = ("root", "ordinary") if AS_ROOT else ("ordinary",)
SECRET = "PLANTED-SECRET"
KEYCTL, ADD_KEY = {"x86_64": (250, 248), "aarch64": (219, 217)}[os.uname().machine]
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000

LOOK = r"""
import ctypes, json, os, resource, signal, socket, sys
plant = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return error.strerror
def call(result):
    return "done" if result >= 0 else os.strerror(ctypes.get_errno())
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        sock.connect(address)
def loopback():
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect(socket.AF_INET, server.getsockname())
def text(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError as error:
        return error.strerror
def link(path):
    try:
        return os.readlink(path)
    except OSError as error:
        return error.strerror
status = dict(line.split(":\t", 1) for line in text("/proc/self/status").splitlines() if ":\t" in line)
umask = os.umask(0)
os.umask(umask)
processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
facts = {
    "exists": {path: os.path.exists(path) for path in plant["paths"]},
    "root": sorted(os.listdir("/")),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "loopback": attempt(loopback),
    "host port": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", plant["port"]))),
    "abstract": attempt(lambda: connect(socket.AF_UNIX, "\0" + plant["abstract"])),
    "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()],
    "groups": os.getgroups(),
    "names": [os.uname().nodename, text("/proc/sys/kernel/domainname").strip()],
    "umask": umask,
    "env": dict(os.environ),
    "cwd": os.getcwd(),
    "stdin": [os.major(os.fstat(0).st_rdev), os.minor(os.fstat(0).st_rdev)],
    "fds": sorted(fd for fd in range(0, 2000) if attempt(lambda: os.fstat(fd)) == "done"),
    "tty": attempt(lambda: os.open("/dev/tty", os.O_RDWR)),
    "session": os.getsid(0) != 0 and os.getpgrp() != 0,
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "stack": resource.getrlimit(resource.RLIMIT_STACK)[0],
    "signals": [status["SigBlk"], status["SigIgn"], status["SigPnd"], status["ShdPnd"]],
    "caps": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no new privileges": status["NoNewPrivs"],
    "processes": processes,
    "init": [text("/proc/1/cmdline"), text("/proc/1/environ")],
    "processes' words": [text(f"/proc/{n}/cmdline") for n in processes],
    "directories": [link(f"/proc/{n}/cwd") for n in processes],
    "shared memory": len(text("/proc/sysvipc/shm").splitlines()) - 1,
    "key": call(libc.syscall(plant["keyctl"], 10, -3, b"user", b"PLANTED-KEY", 0)),
    "mounts": text("/proc/self/mountinfo"),
    "addresses": [line.split()[0] for line in text("/proc/self/maps").splitlines()],
    "cgroup": text("/proc/self/cgroup"),
}
print(json.dumps(facts))
"""

# Only ever run inside: each line would harm a host that let it happen.
TRY = r"""
import ctypes, json, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    return "done" if result >= 0 else os.strerror(ctypes.get_errno())
def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return error.strerror
def touch(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
def same(path):
    with open(path) as file:
        value = file.read()
    with open(path, "w") as file:
        file.write(value)
def null(mode):
    with open("/dev/null", mode) as file:
        file.write("x")
def suid():
    done = subprocess.run(["/suid/id", "-u"], capture_output=True, text=True)
    if done.stdout.strip() != str(os.getuid()):
        raise OSError(0, f"uid {done.stdout}")
CLONE_NEWUSER, CLONE_NEWNS, MS_REMOUNT, MS_BIND = 0x10000000, 0x00020000, 32, 4096
print(json.dumps({
    "write": {path: attempt(lambda: touch(f"{path}/belljar-test")) for path in json.loads(sys.argv[1])},
    "sysctl": attempt(lambda: same("/proc/sys/kernel/core_pattern")),
    "mode of a device": attempt(lambda: os.chmod("/dev/null", 0o666)),
    "use of a device": [attempt(lambda: null("w")), attempt(lambda: null("a"))],
    "mknod": attempt(lambda: os.mknod("/tmp/sda", 0o60600, os.makedev(8, 0))),
    "planted device": attempt(lambda: os.open("/planted/zero", os.O_RDONLY)),
    "setuid": attempt(suid),
    "mount": call(libc.mount(b"x", b"/tmp", b"tmpfs", 0, None)),
    "remount": call(libc.mount(None, b"/usr", None, MS_REMOUNT | MS_BIND, None)),
    "unmount": call(libc.umount2(b"/usr", 2)),
    "nested": call(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS)),
    "remount nested": call(libc.mount(None, b"/usr", None, MS_REMOUNT | MS_BIND, None)),
    "setgroups": attempt(lambda: os.setgroups([0])),
    "setuid call": attempt(lambda: os.setuid(0)),
    "hostname": call(libc.sethostname(b"x", 1)),
    "kill init": attempt(lambda: [os.kill(1, number) for number in (2, 9, 15, 17, 19, 11)]),
    "ptrace init": call(libc.ptrace(16, 1, 0, 0)),
}))
"""


def root_operations(source: str = PREFIX) -> tuple[Operation, ...]:
    """Return a root with the host's /usr and this Python, which is found at `source`."""
    found: list[Operation] = [Bind(source="/usr", target="/usr"), Proc(), Devices(), Tmpfs(target="/tmp")]
    for name in ("bin", "sbin", "lib", "lib64"):
        if os.path.islink(f"/{name}"):
            found.append(Symlink(target=f"/{name}", link=os.readlink(f"/{name}")))
        elif os.path.isdir(f"/{name}"):
            found.append(Bind(source=f"/{name}", target=f"/{name}"))
    if OWN:
        found.append(Bind(source=source, target=INSIDE))
    return (*found, File(target="/etc/passwd", text="build:x:1000:100::/:/bin/sh\n"))


BOX = Sandbox(operations=root_operations(), env={"PATH": "/bin", "LD_LIBRARY_PATH": f"{INSIDE}/lib"})


def python(*words: str) -> list[str]:
    """Return the command that runs a Python text inside."""
    return [PYTHON, "-I", "-S", "-c", *words]


def output_of(box: Sandbox, command: list[str], **options: Any) -> str:
    """Return what a command writes; it must succeed."""
    with tempfile.TemporaryFile() as file:
        outcome = run(box, command, stdout=file.fileno(), stderr=file.fileno(), **options)
        file.seek(0)
        text = file.read().decode()
    assert outcome.status == 0, text
    return text


def in_child(action: Callable[[], Any], *, ordinary: bool = False) -> Any:
    """Return what `action` returns or raises in a child process, which is what may be spoiled."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if ordinary and os.geteuid() == 0:
                become_nobody()
            value = (True, action())
        except BaseException as error:  # noqa: BLE001 - it is raised in the parent
            value = (False, error)
        with contextlib.suppress(BaseException), open(write_end, "wb") as file:
            pickle.dump(value, file)
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    good, value = pickle.loads(data)
    if not good:
        raise value
    return value


def become_nobody(groups: tuple[int, ...] = ()) -> None:
    """Be an ordinary user for good, who may read this Python even where it lies in root's home."""
    if OWN:
        kernel.unshare(CLONE_NEWNS)
        kernel.make_private("/")
        kernel.place(kernel.filesystem("tmpfs", 0, mode="0755"), "/mnt")
        os.mkdir("/mnt/python", 0o755)
        kernel.place(kernel.take(PREFIX, 0), "/mnt/python")
    os.setgroups(groups)
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as after an exec: PR_SET_DUMPABLE


def be_root_of_own_namespaces(flags: int) -> None:
    """Be root in a user namespace, as far as it reaches: user_namespaces(7)."""
    ids = os.getuid(), os.getgid()
    kernel.unshare(CLONE_NEWUSER | flags)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {ids[0]} 1")
    Path("/proc/self/gid_map").write_text(f"0 {ids[1]} 1")


def box_for(identity: str) -> Sandbox:
    """Return the common sandbox for whoever runs it."""
    moved = identity == "ordinary" and AS_ROOT
    return replace(BOX, operations=root_operations("/mnt/python" if moved else PREFIX))


@dataclass(frozen=True)
class Plant:
    """Things of the host that a sandbox must not show."""

    directory: Path
    port: int
    abstract: str

    def to_json(self) -> str:
        """Return what the program that looks about is to look for."""
        paths = [str(self.directory / "secret"), "/home", "/root", "/etc/hostname", "/sys", "/var", "/run"]
        plant = {"paths": paths, "port": self.port, "abstract": self.abstract, "keyctl": KEYCTL}
        return json.dumps(plant)


@contextlib.contextmanager
def planted() -> Iterator[Plant]:
    """Plant a file, two listening sockets, shared memory and a key."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    (directory / "secret").write_text(SECRET)
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(0, 4096, 0o1666)
    assert segment >= 0
    name = f"belljar-{directory.name}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0" + name)
        unix.listen()
        try:
            yield Plant(directory, server.getsockname()[1], name)
        finally:
            libc.shmctl(segment, 0, None)
            shutil.rmtree(directory)


def be_hostile() -> None:
    """Be as unusual a caller as a program can be: what a sandbox must not hand on."""
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    os.umask(0o077)
    os.environ[SECRET] = SECRET
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for fd in (3, 77, 299):
        os.dup2(2, fd, inheritable=True)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(KEYCTL, 1, None)
    assert libc.syscall(ADD_KEY, b"user", b"PLANTED-KEY", b"secret", 6, -3) > 0


def look(identity: str, plant: Plant) -> dict[str, Any]:
    """Return what the program sees in a sandbox that a hostile caller runs."""

    def action() -> str:
        be_hostile()
        return output_of(box_for(identity), python(LOOK, plant.to_json()))

    return json.loads(in_child(action, ordinary=identity == "ordinary"))


@pytest.fixture(scope="module")
def outside():
    """What the program sees when it is simply started by the same caller."""
    with planted() as plant:

        def action() -> str:
            be_hostile()
            command = [sys.executable, "-I", "-S", "-c", LOOK, plant.to_json()]
            return subprocess.check_output(
                command, text=True, stdin=0, close_fds=False, restore_signals=False
            )

        def spawned() -> str:
            # subprocess closes or resets what a plain exec hands on; SIGCHLD must work for it to wait.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return action()

        yield json.loads(in_child(spawned))


def test_outside_the_planted_things_are_seen(outside):
    assert outside["exists"].pop(next(iter(outside["exists"]))) is True
    assert outside["exists"]["/var"] is True
    assert outside["host port"] == "done"
    assert outside["abstract"] == "done"
    assert outside["shared memory"] >= 1
    assert outside["key"] == "done"


def test_outside_the_callers_ways_are_handed_on(outside):
    assert outside["env"][SECRET] == SECRET
    assert outside["umask"] == 0o077
    assert {77, 299} <= set(outside["fds"])
    assert int(outside["signals"][0], 16) & 1 << (signal.SIGUSR1 - 1)
    assert int(outside["signals"][1], 16) & 1 << (signal.SIGPIPE - 1)
    assert outside["no new privileges"] == "0"
    assert 1 in outside["processes"]
    assert outside["nofile"][0] == 300
