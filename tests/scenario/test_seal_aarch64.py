"""A program for aarch64, sealed with Debian's arm64 libc on any machine, and run by qemu's user emulation."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_seal_fidelity import PROBE

from belljar.archive.unpack import unpack
from belljar.home import Home
from belljar.recipe import Lock
from belljar.recipe.fetch import fetch
from belljar.recipe.lock import machine_arch
from belljar.recipe.sources import kind_named
from belljar.recipe.sources.base import Context, Wanted
from belljar.recipe.specs import DebPackage
from belljar.seal import doing
from belljar.seal.plan import Options, plan
from belljar.seal.survey import PRIVATE
from belljar.types import Arch

SUITE = "bookworm"


def packages(arch: Arch, names: Sequence[str], into: Path) -> Path:
    """Unpack Debian packages of an architecture, once."""
    if not into.exists():
        home = Home(data=into.parent, cache=into.parent / "cache")
        context = Context(home=home, arch=arch, suite=SUITE, progress=lambda _: None)
        wanted = [Wanted(key=(name,), spec=DebPackage(name=name, version=None)) for name in names]
        files = tuple(kind_named("deb").resolve(wanted, context))
        lock = Lock(arch=arch, requests={"environment.suite": SUITE}, environment=files)
        stage = into.with_name(f"{into.name}.{os.getpid()}")
        for archive in fetch(lock, home).values():
            unpack(archive, stage, merged_usr=True, mtime=1)
        stage.rename(into)
    return into


@pytest.fixture(scope="module")
def kept() -> Path:
    return Path(tempfile.gettempdir()) / f"belljar-tests-aarch64-{os.getuid()}"


@pytest.fixture(scope="module")
def system(kept) -> Path:
    """A root of Debian's arm64 libc6."""
    return packages(Arch.AARCH64, ["libc6"], kept / "arm64")


@pytest.fixture(scope="module")
def qemu(kept) -> Path:
    return packages(machine_arch(), ["qemu-user-static"], kept / "qemu") / "usr/bin/qemu-aarch64-static"


@pytest.fixture(params=["pie", "fixed"])
def prefix(request, zig_cc, tmp_path) -> Path:
    flags = {"pie": ("-fPIE", "-pie"), "fixed": ("-fno-PIE", "-no-pie")}[request.param]
    (tmp_path / "prefix/bin").mkdir(parents=True)
    program = zig_cc(PROBE, "-g", "-O0", "-fno-sanitize=all", *flags, target="aarch64-linux-gnu.2.17")
    shutil.copy(program, tmp_path / "prefix/bin/probe")
    return tmp_path / "prefix"


def said(*words, **env):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_says_of_itself_what_it_says_unsealed_and_runs_on_its_own_libc(prefix, system, qemu, tmp_path):
    program = prefix / "bin/probe"
    alone = subprocess.run([qemu, program], capture_output=True, text=True, check=False)
    assert "Could not open '/lib/ld-linux-aarch64.so.1'" in alone.stderr
    unsealed = said(qemu, "-L", system, program, "a b", A="1", LD_LIBRARY_PATH="/x")
    doing.seal(plan(prefix, Options(root=system)))
    assert said(qemu, program, "a b", A="1", LD_LIBRARY_PATH="/x") == unsealed
    moved = prefix.rename(tmp_path / "moved here")
    libraries = {
        line.split(maxsplit=5)[5]
        for line in said(qemu, moved / "bin/probe", "maps").splitlines()
        if ".so" in line
    }
    assert libraries == {f"{moved}/{PRIVATE}/{name}" for name in ("ld-linux-aarch64.so.1", "libc.so.6")}
    assert doing.check(moved) == ()


def test_a_program_with_data_behind_it_keeps_its_size_and_reads_itself(kept, qemu, tmp_path):
    """The program is Debian's cat."""
    root = packages(Arch.AARCH64, ["coreutils"], kept / "arm64-coreutils")
    (tmp_path / "prefix/bin").mkdir(parents=True)
    program = Path(shutil.copy(root / "usr/bin/cat", tmp_path / "prefix/bin/cat"))
    with program.open("ab") as file:
        file.write(b"PAYLOAD")
    before = program.read_bytes()
    doing.seal(plan(tmp_path / "prefix", Options(root=root)))
    moved = (tmp_path / "prefix").rename(tmp_path / "moved here")
    image = (moved / "bin/cat").read_bytes()
    assert (len(image), image != before) == (len(before), True)
    done = subprocess.run([qemu, moved / "bin/cat", moved / "bin/cat"], capture_output=True, check=True)
    assert done.stdout == image
    doing.unseal(doing.unseal_plan(moved))
    assert (moved / "bin/cat").read_bytes() == before


def test_every_byte_comes_back(prefix, system):
    before = (prefix / "bin/probe").read_bytes()
    doing.seal(plan(prefix, Options(root=system)))
    assert (prefix / "bin/probe").read_bytes() != before
    doing.unseal(doing.unseal_plan(prefix))
    assert (prefix / "bin/probe").read_bytes() == before
    assert not (prefix / "lib").exists()
