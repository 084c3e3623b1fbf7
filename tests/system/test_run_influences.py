"""The survey's influences one by one: what a caller and his machine are like does not reach a hermetic run.

A *probe* looks at all of it and says what it sees. It runs plainly from two callers who differ in everything
(the negative control: whatever is called an influence shows there), and hermetically from the same two, as
root and as an ordinary user. Numbers are the rows of docs/hermetic.md.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_run_support import NOBODY, ROOT, Place, belljar, scratch, system
from test_sandbox_support import in_child

from belljar.build.environment import Environment
from belljar.build.sandboxed import BUILD, sandbox_of
from belljar.build.virtual import policy_of
from belljar.sandbox import run
from belljar.store import StoreName
from belljar.types import Digest

PROBE = r"""
import json, os, signal, socket, subprocess, sys, tempfile, time
def shell(text):
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True).stdout
def text(path):
    with open(path, errors="replace") as file:
        return file.read(4000)
def status(*names):
    return [line for line in text("/proc/self/status").splitlines() if line.split(":")[0] in names]
def connected(family, address):
    with socket.socket(family) as sock:
        sock.settimeout(3)
        sock.connect(address)
        return True
def limits():
    machine = ("Max processes", "Max pending signals")
    return [line for line in text("/proc/self/limits").splitlines() if not line.startswith(machine)]
def made():
    os.close(os.open("made", os.O_CREAT, 0o666))
    mode = oct(os.stat("made").st_mode)
    os.unlink("made")
    return mode
plant = json.loads(text("plant.json"))
caller = {
    "1 variables": lambda: dict(os.environ),
    "2 configuration in parents": lambda: text("../planted.conf"),
    "3 configuration at home": lambda: text(os.path.expanduser("~/.planted")),
    "8 caches": lambda: os.listdir(os.path.expanduser("~/.cache")),
    "9 locale": lambda: shell("echo $LANG $LC_ALL $LANGUAGE"),
    "10 time zone": lambda: time.strftime("%Z%z", time.localtime(0)),
    "15 order of entries": lambda: os.listdir("order"),
    "17 umask": made,
    "20 path": lambda: [os.getcwd(), os.path.expanduser("~"), tempfile.gettempdir()],
    "31 loopback": lambda: connected(socket.AF_INET, ("127.0.0.1", plant["port"])),
    "31 abstract socket": lambda: connected(socket.AF_UNIX, "\0" + plant["abstract"]),
    "33 descriptors": lambda: sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
    "33 job server": lambda: os.environ.get("MAKEFLAGS", ""),
    "34 input": lambda: sys.stdin.read(),
    "34 window": lambda: os.environ.get("COLUMNS", ""),
    "35 limits": limits,
    "36 signals": lambda: [status("SigBlk"), shell("grep -E 'Sig(Ign|Blk)' /proc/self/status")],
    "37 personality": lambda: text("/proc/self/personality"),
    "39 shared memory": lambda: os.listdir("/dev/shm"),
    "39 a socket of an agent": lambda: connected(socket.AF_UNIX, plant["agent"]),
    "46 marks": lambda: os.environ.get("CI", ""),
    "47 temporary files": lambda: os.path.exists(plant["temporary"]),
}
machine = {
    "4 /etc": lambda: [sorted(os.listdir("/etc")), text("/etc/hosts"), text("/etc/passwd")],
    "6 /usr/local": lambda: sorted(os.listdir("/usr/local")),
    "18 user": lambda: [os.getresuid(), os.getresgid(), shell("id"), status("Uid", "Gid", "Groups")],
    "19 host": lambda: [socket.gethostname(), text("/proc/sys/kernel/hostname")],
    "19 boot": lambda: text("/proc/sys/kernel/random/boot_id"),
    "23 /proc/cpuinfo": lambda: text("/proc/cpuinfo"),
    "24 memory": lambda: [os.sysconf("SC_PHYS_PAGES"), text("/proc/meminfo")],
    "25 kernel": lambda: list(os.uname()),
    "25 command line": lambda: text("/proc/cmdline"),
    "25 version": lambda: text("/proc/version"),
    "25 release": lambda: [text("/proc/sys/kernel/osrelease"), text("/proc/sys/kernel/version")],
    "26 /proc/stat": lambda: text("/proc/stat"),
    "26 load": lambda: [text("/proc/loadavg"), text("/proc/uptime")],
    "26 /proc/filesystems": lambda: text("/proc/filesystems"),
    "26 open files": lambda: [text("/proc/sys/fs/file-nr"), text("/proc/sys/fs/inode-nr")],
    "26 limits of the kernel": lambda: [text("/proc/sys/kernel/threads-max"), text("/proc/sys/fs/file-max")],
    "26 /sys": lambda: os.listdir("/sys"),
    "28 addresses": lambda: [line.split()[0] for line in text("/proc/self/maps").splitlines()][:30],
    "30 processes": lambda: [os.getpid(), os.getppid(), shell("echo $$")],
    "37 rights": lambda: status("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"),
    "38 devices": lambda: sorted(os.listdir("/dev")),
    "39 /run": lambda: os.listdir("/run"),
}
clock = {
    "11 time of day": lambda: [time.time(), shell("date +%N")],
    "22 processors": lambda: [len(os.sched_getaffinity(0)), shell("nproc")],
    "29 random numbers": lambda: [os.urandom(8).hex(), shell("od -An -N8 -tx1 /dev/urandom")],
    "29 seeds": lambda: [shell("shuf -i 1-40")],
    "21 names of Python's temporary files": lambda: tempfile.mktemp(),
}
real = {
    "12 monotonic clock": time.monotonic_ns,
    "13 time stamps": lambda: os.stat("probe.py").st_mtime_ns,
    "16 inode numbers": lambda: os.stat("probe.py").st_ino,
    "35 priority": lambda: os.nice(0),
}
def seen(action):
    try:
        return action()
    except OSError as error:
        return f"error {error.errno}"
groups = {"caller": caller, "machine": machine, "clock": clock, "real": real}
print(json.dumps({name: {row: seen(look) for row, look in rows.items()} for name, rows in groups.items()}))
"""
NAMES = [f"n{number * 37 % 101:03}" for number in range(60)]
PLANTED = {
    "TZ": "XYZ-5",
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "C",
    "LANGUAGE": "de",
    "COLUMNS": "33",
    "CI": "true",
    "MAKEFLAGS": "-j7 --jobserver-auth=3,4",
    "CFLAGS": "-O7",
    "SOURCE_DATE_EPOCH": "7",
    "TMPDIR": "@TOP@",
}


def prepare(top: Path, name: str, *, planted: bool) -> Place:
    """Return a caller's place: his project, his home, his shell."""
    place = Place(top=top, name=name)
    place.write("~/.keep", "")
    place.write("probe.py", PROBE)
    for item in reversed(NAMES) if planted else NAMES:
        place.write(f"order/{item}", "")
    if planted:
        place.write("../planted.conf", "planted")
        place.write("~/.planted", "planted")
        place.write("~/.cache/planted", "")
        place.env |= PLANTED
        place.umask = 0o077
        os.utime(place.project / "probe.py", (10**9, 10**9))
    return place


def be_planted() -> None:
    """Be a process that hands on what its children may inherit."""
    os.nice(3)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    lower = {"NOFILE": 600, "STACK": 6 << 20, "MEMLOCK": 32768, "MSGQUEUE": 5000, "FSIZE": 1 << 40}
    for name, value in lower.items():
        which = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(which, (value, resource.getrlimit(which)[1]))
    import ctypes

    ctypes.CDLL(None).personality(0x0020000)  # UNAME26


@contextlib.contextmanager
def things(top: Path):
    """Yield what the probe looks for of other programs: servers, files of other programs."""
    with contextlib.ExitStack() as stack:
        abstract = f"belljar-{os.urandom(6).hex()}"
        sockets = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_UNIX: f"\0{abstract}"}
        made = {family: stack.enter_context(socket.socket(family)) for family in sockets}
        agent = stack.enter_context(socket.socket(socket.AF_UNIX))
        agent.bind(str(top / "agent"))
        (top / "agent").chmod(0o777)
        for family, address in sockets.items():
            made[family].bind(address)
        for item in (*made.values(), agent):
            item.listen(50)
        shared = Path("/dev/shm") / abstract
        shared.touch()
        stack.callback(shared.unlink)
        yield {
            "port": made[socket.AF_INET].getsockname()[1],
            "abstract": abstract,
            "agent": str(top / "agent"),
            "temporary": str(top / "agent"),
        }


def plainly(place: Place, *, planted: bool):
    """Return what the probe sees where nothing is kept from it."""

    def action():
        descriptors = ()
        if planted:
            be_planted()
            descriptors = (os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY))
        done = subprocess.run(
            [sys.executable, "probe.py"],
            cwd=place.project,
            env={"PATH": os.environ["PATH"], **place.environment()},
            umask=place.umask,
            pass_fds=descriptors,
            input="planted" if planted else "",
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    return in_child(action)


def hermetically(place: Place, *options: str, planted: bool, user: int | None):
    """Return what the probe sees in `belljar run`."""

    def action():
        descriptors = ()
        if planted:
            be_planted()
            descriptors = (os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY))
        words = ("run", "-q", "--system", str(system()), "--profile", "none", "--rw", ".", *options)
        done = belljar(
            *words,
            "--",
            "python3",
            "probe.py",
            cwd=place.project,
            env=place.environment() | {"XDG_CONFIG_HOME": str(place.top / "config")},
            umask=place.umask,
            fds=descriptors,
            user=user,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return in_child(action)


def in_a_build(place: Place, *, planted: bool):
    """Return what the probe sees in the sandbox and under the supervisor of `belljar build`."""
    output, log = place.top / "output", place.top / "log"
    output.mkdir()
    box = sandbox_of(
        Environment(path=system(), digest=Digest("")),
        build=place.project,
        output=output,
        name=StoreName(package="p", version="1", hash="a" * 32),
        env={"PATH": "/usr/bin", "HOME": "/home/build", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
        script="",
        cwd=BUILD,
    )

    def action():
        if planted:
            be_planted()
        with log.open("wb") as file:
            fd, policy = file.fileno(), policy_of(real_clock=False)
            status = run(box, ["/usr/bin/python3", "probe.py"], stdout=fd, stderr=fd, policy=policy).status
        assert status == 0, log.read_text()
        return json.loads(log.read_text())

    return in_child(action)


@pytest.fixture(scope="module")
def seen():
    """What the probe sees, by how it was run and by whom."""
    users = (None, NOBODY) if ROOT else (None,)
    found = {}
    for user in users:
        top = scratch(user)
        try:
            places = [prepare(top / name, name, planted=name == "planted") for name in ("usual", "planted")]
            for item in (top, *top.rglob("*")):
                if user is not None:
                    os.chown(item, user, user, follow_symlinks=False)
            with things(top) as plant:
                for place in places:
                    place.write("plant.json", json.dumps(plant))
                    planted = place.name == "planted"
                    who = user, place.name
                    if user is None:
                        found["plain", *who] = plainly(place, planted=planted)
                        found["build", *who] = in_a_build(place, planted=planted)
                    found["run", *who] = hermetically(place, planted=planted, user=user)
                    found["clock", *who] = hermetically(place, "--clock", planted=planted, user=user)
        finally:
            shutil.rmtree(top)
    return found


def how(seen, *ways):
    return [what for key, what in seen.items() if key[0] in ways]


def differing(group, *found):
    first = found[0][group]
    return {row for row in first if any(other[group][row] != first[row] for other in found[1:])}


def test_plainly_each_of_them_shows(seen):
    usual, planted = how(seen, "plain")
    hermetic = how(seen, "run")[0]
    for group, other in (("caller", hermetic), ("machine", hermetic), ("clock", usual), ("real", usual)):
        assert set(planted[group]) - differing(group, planted, other) == set(), group
    assert sum(len(usual[group]) for group in ("caller", "machine", "clock")) >= 49


def test_none_reaches_a_hermetic_run_whoever_starts_it(seen):
    assert differing("caller", *how(seen, "run", "clock")) == set()
    assert differing("machine", *how(seen, "run", "clock")) == set()


def test_with_a_clock_time_chance_and_processors_are_fixed_too(seen):
    assert differing("clock", *how(seen, "clock")) == set()
    assert differing("clock", *how(seen, "run")) == set(how(seen, "run")[0]["clock"])


def test_none_reaches_a_build(seen):
    for group in ("caller", "machine", "clock"):
        assert differing(group, *how(seen, "build")) == set(), group


def test_what_is_said_to_be_real_is(seen):
    assert differing("real", *how(seen, "build")) == set(how(seen, "build")[0]["real"])
    assert differing("real", *how(seen, "clock")) == set(how(seen, "clock")[0]["real"])
