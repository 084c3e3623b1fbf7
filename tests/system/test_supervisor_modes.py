"""No file is armed: set-user-ID and set-group-ID bits are left out, whoever asks for them and however."""

import contextlib
import errno
import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from test_sandbox_support import AS_ROOT, BOX, IDENTITIES, box_for, in_child, output_of, python
from test_sandbox_weaker import box_of, forbid_by_filter, place_for_all

from belljar.sandbox import Bind, Blocked, Disarmed, Policy, Trace, run

QUIET = Policy(trace=Trace.NOTHING)
POLICIES = {"quiet": QUIET, "random": Policy(trace=Trace.NOTHING, seed="x"), "all": Policy(trace=Trace.ALL)}
X86 = os.uname().machine == "x86_64"
NUMBERS = {  # (x86-64, aarch64) of the kernel's tables; None: there is none
    "open": (2, None),
    "creat": (85, None),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "mknod": (133, None),
    "openat": (257, 56),
    "mknodat": (259, 33),
    "fchmodat": (268, 53),
    "openat2": (437, 437),
    "fchmodat2": (452, 452),
}
TRY = r"""
import ctypes, errno, json, os, struct, sys
numbers = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *words):
    ctypes.set_errno(0)
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    done = libc.syscall(ctypes.c_long(numbers[name]), *words)
    return 0 if done >= 0 else ctypes.get_errno()
HERE, MAKE = -100, os.O_CREAT | os.O_WRONLY
how = struct.pack("QQQ", MAKE, 0o6755, 0)
def link(name):
    os.symlink(name, name + "-link")
    return os.fsencode(name + "-link")
def descriptor(name, flags=os.O_RDONLY):
    return os.open(name, flags)
changes = {
    "chmod": lambda name: call("chmod", name.encode(), 0o4755),
    "chmod, absolute": lambda name: call("chmod", os.path.abspath(name).encode(), 0o4755),
    "chmod, by a link": lambda name: call("chmod", link(name), 0o4755),
    "chmod, by proc": lambda name: call("chmod", b"/proc/self/fd/%d" % descriptor(name), 0o4755),
    "fchmod": lambda name: call("fchmod", descriptor(name), 0o6755),
    "fchmodat": lambda name: call("fchmodat", HERE, name.encode(), 0o2755),
    "fchmodat, a directory": lambda name: call("fchmodat", descriptor("."), name.encode(), 0o4755),
    "fchmodat2": lambda name: call("fchmodat2", HERE, name.encode(), 0o4755, 0x100),
    "fchmodat2, empty": lambda name: call("fchmodat2", descriptor(name, os.O_PATH), b"", 0o4755, 0x1000),
}
makes = {
    "open": lambda name: call("open", name.encode(), MAKE, 0o4755),
    "openat": lambda name: call("openat", HERE, name.encode(), MAKE, 0o2755),
    "openat2": lambda name: call("openat2", HERE, name.encode(), how, len(how)),
    "creat": lambda name: call("creat", name.encode(), 0o4755),
    "mknod": lambda name: call("mknod", name.encode(), 0o104755, 0),
    "mknodat": lambda name: call("mknodat", HERE, name.encode(), 0o104755, 0),
}
fails = {
    "nothing": lambda: call("fchmodat", HERE, b"nothing", 0o4755),
    "no path": lambda: call("fchmodat", HERE, 0, 0o4755),
    "empty": lambda: call("fchmodat", HERE, b"", 0o4755),
    "below a file": lambda: call("fchmodat", HERE, b"plain/x", 0o4755),
    "too long": lambda: call("fchmodat", HERE, b"x" * 5000, 0o4755),
    "not open": lambda: call("fchmod", 999, 0o4755),
    "minus one": lambda: call("fchmod", -1, 0o4755),
    "a loop": lambda: call("fchmodat", HERE, link("plain-link") and b"loop", 0o4755),
}
os.umask(0)
open("plain", "w").close()
os.symlink("loop", "loop")
result = {"changes": {}, "makes": {}, "fails": {}}
for name, action in changes.items():
    if name.split(",")[0] in numbers:
        open(name, "w").close()
        result["changes"][name] = action(name)
for name, action in makes.items():
    if name in numbers:
        result["makes"][name] = action(name)
if len(sys.argv) > 2:
    result["fails"] = {name: action() for name, action in fails.items()}
    deep = os.open("/tmp", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=deep)
        deep = os.open("d" * 200, os.O_RDONLY, dir_fd=deep)
    os.close(os.open("deep", MAKE, 0o644, dir_fd=deep))
    os.fchdir(deep)
    result["deep"] = call("fchmodat", HERE, b"deep", 0o4755), os.stat("deep").st_mode & 0o7777
print(json.dumps(result))
"""


def numbers():
    return {
        name: pair[0 if X86 else 1] for name, pair in NUMBERS.items() if pair[0 if X86 else 1] is not None
    }


def armed(work):
    found = set()
    for item in work.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a command is at work there
            mode = item.lstat().st_mode
            found |= {item.name} if stat.S_ISREG(mode) and mode & 0o6000 else set()
    return found


def writable(box, work):
    return replace(
        box, operations=(*box.operations, Bind(source=str(work), target="/w", writable=True)), cwd="/w"
    )


@pytest.fixture
def place():
    with place_for_all() as made:
        yield made


@pytest.fixture
def work(tmp_path):
    made = tmp_path / "work"
    made.mkdir()
    for path in (made, *tmp_path.parents[:2], tmp_path):
        path.chmod(0o777)
    return made


@pytest.mark.parametrize("identity", IDENTITIES)
def test_without_a_supervisor_files_are_armed(work, identity):
    box = writable(box_for(identity), work)
    text = in_child(
        lambda: output_of(box, python(TRY, json.dumps(numbers()))), ordinary=identity == "ordinary"
    )
    done = json.loads(text)
    assert set(done["changes"].values()) | set(done["makes"].values()) <= {0, errno.ENOSYS}
    assert armed(work) >= {"fchmod", "fchmodat", "openat", "openat2", "mknodat"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("identity", IDENTITIES)
def test_no_call_arms_a_file_and_changes_of_mode_succeed(work, identity, policy):
    box, events = writable(box_for(identity), work), []

    def action():
        text = output_of(
            box, python(TRY, json.dumps(numbers()), "fails"), policy=POLICIES[policy], on_event=events.append
        )
        return json.loads(text), events

    done, told = in_child(action, ordinary=identity == "ordinary")
    assert set(done["changes"].values()) == {0}
    assert set(done["makes"].values()) == {errno.EPERM, errno.ENOSYS}
    assert done["makes"]["openat2"] == errno.ENOSYS
    assert armed(work) == set()
    modes = {name: stat.S_IMODE((work / name).stat().st_mode) for name in done["changes"]}
    assert set(modes.values()) == {0o755}
    assert {event.path for event in told if isinstance(event, Disarmed)} == {
        *(f"/w/{name}" for name in modes),
        "...",
    }
    assert {event.call for event in told if isinstance(event, Blocked)} == set(done["makes"])
    assert done["deep"] == [0, 0o755]
    assert done["fails"] == {
        "nothing": errno.ENOENT,
        "no path": errno.EFAULT,
        "empty": errno.ENOENT,
        "below a file": errno.ENOTDIR,
        "too long": errno.ENAMETOOLONG,
        "not open": errno.EBADF,
        "minus one": errno.EBADF,
        "a loop": errno.ELOOP,
    }


INSTALL = """
umask 022
printf '#!/bin/sh\n' > tool
install -m 4755 tool installed
mkdir -m 2775 shared && chmod g+s shared
tar -cf a.tar --mode=6755 tool && mkdir out && tar -xpf a.tar -C out
cp -a installed copied
chmod u+s,g+s tool
chmod 1644 tool
"""


def test_what_installs_goes_on_and_nobody_ever_sees_an_armed_file(work):
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.update(armed(work))

    watcher = threading.Thread(target=watch)
    watcher.start()
    box = writable(BOX, work)
    try:
        assert run(box, ["/bin/sh", "-euc", INSTALL], policy=QUIET).status == 0
    finally:
        stop.set()
        watcher.join()
    assert seen == set()
    modes = {name: oct((work / name).stat().st_mode & 0o7777) for name in ("installed", "shared", "out/tool")}
    assert modes == {"installed": "0o755", "shared": "0o2775", "out/tool": "0o755"}
    assert (work / "tool").stat().st_mode & 0o7777 == 0o1644


RACE = r"""
import os, threading, time
os.umask(0)
for name in "ab":
    open(name, "w").close()
os.mkdir("directory")
end = time.monotonic() + 1
def swap():
    while time.monotonic() < end:
        for target in ("a", "directory", "b", "/usr/bin/env"):
            os.symlink(target, "new"); os.rename("new", "name")
os.symlink("a", "name")
thread = threading.Thread(target=swap)
thread.start()
while time.monotonic() < end:
    try:
        os.chmod("name", 0o6755)
    except OSError:
        pass
thread.join()
"""


def test_no_race_over_a_name_arms_a_file(work):
    output_of(writable(BOX, work), python(RACE), policy=QUIET)
    assert armed(work) == set()
    assert (work / "directory").stat().st_mode & 0o7777 == 0o6755


def test_what_is_shown_read_only_keeps_its_mode(work):
    (work / "file").touch(mode=0o600)
    box = replace(BOX, operations=(*BOX.operations, Bind(source=str(work), target="/w")), cwd="/w")
    text = "import os\ntry: os.chmod('file', 0o4755)\nexcept OSError as error: print(error.errno)"
    assert output_of(box, python(text), policy=QUIET) == f"{errno.EROFS}\n"
    assert (work / "file").stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("identity", IDENTITIES)
def test_where_namespaces_are_forbidden_neither(place, identity):
    mine = Path(place) / "project/out/mine"

    def action():
        mine.write_text("")
        forbid_by_filter()
        text = "import os\nos.chmod('out/mine', 0o4755)"
        output_of(box_of(identity, place), python(text), allow_weaker=True)
        return oct(mine.stat().st_mode & 0o7777)

    assert in_child(action, ordinary=identity == "ordinary") == "0o755"


def test_the_supervisors_rights_are_not_lent_to_a_program(place):
    other = Path(place) / "project/out/other" if AS_ROOT else Path("/usr/bin/env")
    if AS_ROOT:
        other.write_text("")
        os.chown(other, 1, 1)
    before = other.stat().st_mode

    def action():
        forbid_by_filter()
        text = (
            "import os, sys\ntry: os.chmod(sys.argv[1], 0o4755)\nexcept OSError as error: print(error.errno)"
        )
        name = "out/other" if AS_ROOT else str(other)
        return output_of(box_of("root", place), python(text, name), allow_weaker=True)

    assert in_child(action) == f"{errno.EPERM if AS_ROOT else errno.EROFS}\n"
    assert other.stat().st_mode == before
