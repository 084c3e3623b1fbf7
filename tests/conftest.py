"""What tests of several kinds share."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ZigCc = Callable[..., Path]

# Who starts us in the background (`make test &`) ignores Ctrl-C, and what we start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def zig_cc() -> ZigCc:
    """Compile a C source: `zig_cc(source, *flags, target=..., files=...)` gives the path of the program.

    A flag that is a Path is an input by its content; `files` are written beside the source by name.
    Programs, and zig's own stubs of each libc (4 seconds a target), are kept in the system's directory
    for temporary files, so that the next run is fast.
    """
    cache = Path(tempfile.gettempdir()) / f"belljar-tests-zig-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    environment = os.environ | {
        "ZIG_GLOBAL_CACHE_DIR": str(cache / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(cache / "zig"),
    }
    zig = [sys.executable, "-m", "ziglang"]
    version = subprocess.run([*zig, "version"], check=True, capture_output=True, env=environment).stdout

    def compile_(
        source: str,
        *flags: str | Path,
        target: str = "x86_64-linux-gnu.2.17",
        files: Mapping[str, str] = types.MappingProxyType({}),
    ) -> Path:
        inputs = [flag.read_bytes() if isinstance(flag, Path) else flag for flag in flags]
        key = repr((source, inputs, target, sorted(files.items()), version))
        directory = cache / hashlib.sha256(key.encode()).hexdigest()[:32]
        directory.mkdir(exist_ok=True)
        program = directory / "program"
        if not program.exists():
            for name, text in {"source.c": source, **files}.items():
                (directory / name).write_text(text)
            made = directory / f"made.{os.getpid()}"
            command = [*zig, "cc", "-target", target, "-O2", *flags, "source.c", "-o", made.name]
            done = subprocess.run(
                command, cwd=directory, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            made.replace(program)
        return program

    return compile_
