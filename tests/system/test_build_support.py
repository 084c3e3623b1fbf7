"""What the tests of building share: a tiny recipe, homes that share their downloads, belljar as a program.

The packages are resolved once a run; downloads and unpacked environments are kept in the system's
directory for temporary files, so that the network is hit once.
"""

import ctypes
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from belljar.home import Home

ROOT = os.geteuid() == 0
NOBODY = 65534
PR_SET_DUMPABLE = 4
SOURCE = str(Path(__file__).parents[2] / "src") + os.pathsep + os.environ.get("PYTHONPATH", "/nowhere")

TINY = ("deb:dash", "deb:coreutils")
GCC = (*TINY, "deb:gcc", "deb:libc6-dev", "pypi:ziglang==0.17.0")

SCRIPT = """
mkdir -p "$PREFIX/bin" "$PREFIX/lib/pkgconfig"
cp word "$PREFIX/word"
printf '#!%s/bin/sh\\necho %s\\n' "$PREFIX" "$PREFIX" > "$PREFIX/bin/say"
chmod +x "$PREFIX/bin/say"
printf 'prefix=%s\\nlibdir=%s/lib\\n' "$PREFIX" "$PREFIX" > "$PREFIX/lib/pkgconfig/tiny.pc"
ln -s "$PREFIX/word" "$PREFIX/lib/word"
"""


def recipe(
    directory: Path,
    script: str = SCRIPT,
    *,
    packages: tuple[str, ...] = TINY,
    portability: str = "relocatable = true",
    more: str = "",
    name: str = "tiny",
    lock: bool = True,
) -> Path:
    """Write a recipe with one source, its file `src/word`, and its lock; return the directory."""
    (directory / "src").mkdir(parents=True, exist_ok=True)
    (directory / "src/word").write_text("hello\n")
    (directory / "belljar.toml").write_text(
        f"""\
[package]
name = "{name}"
version = "1.0"
[sources]
tiny = {{ path = "src" }}
[environment]
suite = "bookworm"
packages = {json.dumps(packages)}
[build]
script = '''
{textwrap.dedent(script).strip()}
'''
[portability]
{portability}
{more}
"""
    )
    if lock:
        (directory / "belljar.lock").write_text(lock_text(packages))
    return directory


@functools.cache
def lock_text(packages: tuple[str, ...] = TINY) -> str:
    """Resolve packages, download them and unpack them, once a run."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = recipe(Path(scratch) / "recipe", "mkdir -p $PREFIX/x", packages=packages, lock=False)
        done = belljar("build", "--no-link", directory, home=home(Path(scratch) / "home"))
        assert done.returncode == 0, done.stderr
        return (directory / "belljar.lock").read_text()


@functools.cache
def shared_cache() -> Path:
    cache = Path(tempfile.gettempdir()) / f"belljar-tests-cache-{os.getuid()}"
    cache.mkdir(mode=0o755, exist_ok=True)
    assert cache.stat().st_uid == os.getuid()
    return cache


def home(directory: Path, *, own_cache: bool = False, own_environments: bool = False) -> Path:
    """Make a BELLJAR_HOME whose downloads (and environments) are the shared ones, unless told not to."""
    directory.mkdir(parents=True, exist_ok=True)
    if not own_cache and not own_environments:
        (directory / "cache").symlink_to(shared_cache())
    if own_environments:
        (directory / "cache").mkdir()
        for name in ("downloads", "apt"):
            (directory / "cache" / name).symlink_to(shared_cache() / name)
    return directory


def home_of(directory: Path) -> Home:
    return Home(data=directory, cache=directory / "cache")


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "belljar", *map(str, words)]


def environment(home: Path | None, **more: str) -> dict[str, str]:
    """The environment that belljar is called with; `home` None: no BELLJAR_HOME."""
    kept = {name: value for name, value in os.environ.items() if name not in {"BELLJAR_HOME", "NO_COLOR"}}
    where = {} if home is None else {"BELLJAR_HOME": str(home)}
    return kept | where | {"PYTHONPATH": SOURCE} | more


def belljar(
    *words: str | Path, home: Path | None, cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end; nothing that it says may be a traceback."""
    done = subprocess.run(
        command(*words),
        cwd=cwd,
        env=environment(home, **more),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def in_child(work: Callable[[], Any], *, uid: int = 0, gid: int = 0) -> Any:
    """Return what `work` returns (JSON values), called in a child process, there as another user."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            if uid:
                os.setgroups([])
                os.setgid(gid or uid)
                os.setuid(uid)
                # As after exec: else /proc/self belongs to root.
                ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
            answer = json.dumps({"value": work()})
        except BaseException:  # noqa: BLE001 - the parent shows it
            answer = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(write_end, "w") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    assert "error" not in answer, answer["error"]
    return answer["value"]


def load_everything() -> None:
    """Import all of belljar, for a child that may not read where the interpreter lies."""
    import codecs
    import importlib
    import pkgutil

    import belljar as package

    for encoding in ("ascii", "idna", "latin-1"):
        codecs.lookup(encoding)
    for module in pkgutil.walk_packages(package.__path__, "belljar."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def tree_of(path: Path) -> dict[str, tuple[str, bytes]]:
    """Everything below a directory by name: kind and mode, content."""
    found = {}
    for top, directories, files in os.walk(path):
        for name in [*directories, *files]:
            item = Path(top, name)
            info = item.lstat()
            content = b""
            if item.is_symlink():
                content = os.fsencode(os.readlink(item))
            elif item.is_file():
                content = item.read_bytes()
            found[str(item.relative_to(path))] = (oct(info.st_mode), content)
    return found


def leftovers(home: Path) -> list[str]:
    """What a finished build must not leave: directories of work in progress."""
    places = [home / "staging", home / "cache/environments/staging", home / "cache/incoming"]
    return [str(item) for place in places if place.is_dir() for item in place.iterdir()]


def alive(marker: str) -> list[int]:
    """The processes whose command line or environment holds a text; they are given a moment to end."""
    deadline = time.monotonic() + 3
    while True:
        found = []
        for item in Path("/proc").iterdir():
            if item.name.isdigit() and int(item.name) != os.getpid():
                try:
                    text = (item / "cmdline").read_bytes() + (item / "environ").read_bytes()
                    dead = "\nState:\tZ" in (item / "status").read_text()
                except OSError:
                    continue
                if marker.encode() in text and not dead:
                    found.append(int(item.name))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


_ANNOUNCED = "import sys, belljar.__main__ as it; print('loading', file=sys.stderr, flush=True); it.main()"


def start(*words: str | Path, home: Path, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
    """Start the program in a process group of its own, as a shell does; it says `loading` first."""
    return subprocess.Popen(
        [sys.executable, "-c", _ANNOUNCED, *map(str, words)],
        cwd=cwd,
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def wait_for(condition: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


INTERRUPTED = 128 + signal.SIGINT
