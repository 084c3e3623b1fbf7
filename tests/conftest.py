"""What tests of several kinds share."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

ZigCc = Callable[..., Path]


@pytest.fixture(scope="session")
def zig_cc() -> ZigCc:
    """Compile a C source: `zig_cc(source, *flags, target=...)` gives the path of the program.

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

    def compile_(source: str, *flags: str, target: str = "x86_64-linux-gnu.2.17") -> Path:
        digest = hashlib.sha256(repr((source, flags, target, version)).encode()).hexdigest()
        directory = cache / digest[:32]
        directory.mkdir(exist_ok=True)
        program = directory / "program"
        if not program.exists():
            (directory / "source.c").write_text(source)
            made = directory / f"made.{os.getpid()}"
            command = [*zig, "cc", "-target", target, "-O2", *flags, "source.c", "-o", made.name]
            done = subprocess.run(
                command, cwd=directory, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            made.replace(program)
        return program

    return compile_
