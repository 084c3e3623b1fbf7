"""Sealed programs look names up through DNS, whatever the host's nsswitch.conf says and has modules for.

A world of its own for each run: user, mount and network namespace, a DNS responder at 127.0.0.1:53, a web
server, and a root with other configuration files laid over it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import compilers
import pytest

from belljar.home import Home
from belljar.seal import doing
from belljar.seal.plan import Options, plan
from belljar.verify import roots

WORLD = r"""
import ctypes, fcntl, http.server, json, os, socket, struct, sys, threading
job = json.loads(sys.argv[1])
libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()

def call(name, *words):
    if getattr(libc, name)(*words): raise OSError(ctypes.get_errno(), name)

call("unshare", 0x10000000 | 0x00020000 | 0x40000000)  # CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET
for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{file}", "w") as out: out.write(text)
call("mount", None, b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
lowers = "lowerdir=" + ":".join(job[name].replace(":", r"\:") for name in ("over", "root"))
call("mount", b"overlay", job["at"].encode(), b"overlay", 1, lowers.encode())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:  # SIOCSIFFLAGS: IFF_UP, IFF_RUNNING
    fcntl.ioctl(it, 0x8914, struct.pack("16sH14x", b"lo", 0x41))

def question(data):
    at, name = 12, []
    while size := data[at]:
        name.append(data[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(name).lower(), struct.unpack_from(">H", data, at + 1)[0], data[12 : at + 5]

def answer(data):
    name, kind, asked = question(data)
    known = name == "www.belljar.test"
    found = known and kind == 1
    head = data[:2] + struct.pack(">5H", 0x8180 | (0 if known else 3), 1, int(found), 0, 0)
    return head + asked + (b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 60, 4, 127, 0, 0, 1) if found else b"")

def serve(it):
    while True:
        data, sender = it.recvfrom(999)
        it.sendto(answer(data), sender)

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the page\n")
    def log_message(self, *words): pass

names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
web = http.server.HTTPServer(("127.0.0.1", 80), Page)
threading.Thread(target=serve, args=(names,), daemon=True).start()
threading.Thread(target=web.serve_forever, daemon=True).start()
if not (child := os.fork()):
    os.chroot(job["at"])
    os.chdir("/")
    os.execve(job["words"][0], job["words"], {"PATH": "/none"})
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
"""
LOOKS = r"""
#include <arpa/inet.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        struct addrinfo *found, wanted = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
        int failed = getaddrinfo(argv[i], 0, &wanted, &found);
        char text[99];
        printf("%s %s\n", argv[i], failed ? gai_strerror(failed)
            : inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, 99));
    }
    struct passwd *user = getpwnam("somebody");
    printf("%d\n", user ? (int)user->pw_uid : -1);
}
"""
EVIL = r"""
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) { write(1, "EVIL\n", 5); }
"""
HOSTILE = """passwd: evil files systemd [UNAVAIL=continue]
group: compat
hosts: evil mymachines resolve [!UNAVAIL=continue] mdns4_minimal [NOTFOUND=continue] files dns myhostname
this is : no [line
networks
"""
LOOKED_UP = (
    "www.belljar.test 127.0.0.1\nfile.test 10.9.8.7\nno.belljar.test Name or service not known\n4321\n"
)
NAMES = ["www.belljar.test", "file.test", "no.belljar.test"]


@pytest.fixture(scope="module")
def home():
    kept = Path(tempfile.gettempdir()) / f"belljar-tests-roots-{os.getuid()}"
    return Home(data=kept, cache=kept / "cache")


@pytest.fixture(scope="module")
def over(zig_cc, tmp_path_factory):
    """What is laid over a root: its configuration, and a module that tells when it is loaded."""
    top = tmp_path_factory.mktemp("over")
    for name in ("etc", "usr/lib/x86_64-linux-gnu", "opt"):
        (top / name).mkdir(parents=True)
    (top / "etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    (top / "etc/hosts").write_text("127.0.0.1 localhost\n10.9.8.7 file.test\n")
    (top / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nsomebody:x:4321:1::/:/bin/sh\n")
    (top / "etc/nsswitch.conf").write_text(HOSTILE)
    module = zig_cc(EVIL, "-shared")
    shutil.copy(module, top / "usr/lib/x86_64-linux-gnu/libnss_evil.so.2")
    return top


def said(over, root, tmp_path, *words):
    (tmp_path / "at").mkdir(exist_ok=True)
    job = {"over": str(over), "root": str(root), "at": str(tmp_path / "at"), "words": words}
    command = [sys.executable, "-c", WORLD, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


def put(over, tree):
    shutil.rmtree(over / "opt/it", ignore_errors=True)
    shutil.copytree(tree, over / "opt/it", symlinks=True)


def test_names_are_looked_up_in_files_and_dns_and_no_foreign_module_is_loaded(zig_cc, home, over, tmp_path):
    """With the libc of Debian 12, and with that of 2.17, whose modules are files of their own."""
    program = zig_cc(LOOKS, target="x86_64-linux-gnu.2.17")
    system = compilers.environment("pilots").path
    old = roots.obtain("glibc-2.17", home)
    (tmp_path / "unsealed/bin").mkdir(parents=True)
    shutil.copy(program, tmp_path / "unsealed/bin/looks")
    put(over, tmp_path / "unsealed")
    status, told = said(over, system, tmp_path, "/opt/it/bin/looks", *NAMES)
    assert (status, told.count("EVIL")) == (0, 1), "unsealed the module is loaded"
    places = [roots.obtain(name, home).path for name in ("debian:bullseye", "musl", "empty")]
    for name, source in (("new", system), ("old", old.path)):
        tree = tmp_path / name
        (tree / "bin").mkdir(parents=True)
        shutil.copy(program, tree / "bin/looks")
        doing.seal(plan(tree, Options(root=source)))
        put(over, tree)
        for place in (system, *places):
            assert said(over, place, tmp_path, "/opt/it/bin/looks", *NAMES) == (0, LOOKED_UP), (name, place)


def test_getent_and_curl_find_a_host_by_dns_in_an_empty_root(home, over, tmp_path):
    system = compilers.environment("pilots").path
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    for name in ("curl", "getent"):
        shutil.copy(system / "usr/bin" / name, tree / "bin")
    doing.seal(plan(tree, Options(root=system)))
    put(over, tree)
    place = roots.obtain("empty", home).path
    told = said(over, place, tmp_path, "/opt/it/bin/curl", "-sS", "http://www.belljar.test/")
    assert told == (0, "the page\n")
    status, told = said(over, place, tmp_path, "/opt/it/bin/getent", "hosts", "www.belljar.test")
    assert (status, told.split()) == (0, ["127.0.0.1", "www.belljar.test"])
    assert said(over, place, tmp_path, "/opt/it/bin/getent", "hosts", "no.belljar.test") == (2, "")
    (over / "etc/resolv.conf").write_text("nameserver 127.0.0.2\noptions timeout:1 attempts:1\n")
    assert said(over, place, tmp_path, "/opt/it/bin/getent", "hosts", "www.belljar.test") == (2, "")
