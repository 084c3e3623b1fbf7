"""What a system's own loader, dlopen, kernel and programs say of files: run inside it, standard library only.

`python3 edit_judge.py LIST` writes a JSON list, for each file of the list the numbers that its judges give:
more is worse. Each file is opened and run in a process of its own, with a time limit.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys

LOADER = "/lib64/ld-linux-x86-64.so.2"
LIMIT = 20


def verdict(path):
    """Numbers: not verified, libraries not found, dlopen, exec with all symbols bound, `--version`."""
    return [*verified(path), opened(path), *executed(path)]


def verified(path):
    if said(LOADER, "--verify", path)[0] not in (0, 2):
        return [1, 0]
    status, out, _ = said(LOADER, "--list", path)
    return [0, out.count(b"not found") + 100 * (status != 0)]


def opened(path):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    signal.alarm(LIMIT)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        ctypes.CDLL(path, mode=os.RTLD_NOW)
    except OSError:
        os._exit(1)
    os._exit(0)


def executed(path):
    if not is_program(path):
        return [0, 0]
    trace = os.environ | {"LD_TRACE_LOADED_OBJECTS": "1", "LD_BIND_NOW": "1", "LD_WARN": "1"}
    status, _, errors = said(path, env=trace)
    status += min(errors.count(b"undefined symbol"), 50)
    ended = said(path, "--version")[0]
    return [status, ended if ended in (127, 200) or ended >= 1000 else 0]


def is_program(path):
    with open(path, "rb") as file:
        head = file.read(4096)
    table = int.from_bytes(head[32:40], "little")
    rows = (head[table + 56 * number :][:4] for number in range(int.from_bytes(head[56:58], "little")))
    return b"\x03\0\0\0" in rows


def said(*words, env=None):
    """How a program ended (1000 and more: by a signal), and what it said."""
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(words, env=env, capture_output=True, stdin=quiet, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return 0, b"", b""
    except OSError:
        return 200, b"", b""
    return done.returncode if done.returncode >= 0 else 1000 - done.returncode, done.stdout, done.stderr


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as names:
        json.dump([verdict(name) for name in names.read().splitlines()], sys.stdout)
