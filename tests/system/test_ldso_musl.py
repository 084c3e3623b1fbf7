"""musl's own loader, of Debian's package, as judge: it is put where a program's interpreter says."""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from belljar.archive.unpack import unpack
from belljar.elf import read
from belljar.home import Home
from belljar.ldso import How, Libc, Surroundings, resolve
from belljar.recipe.fetch import fetch
from belljar.recipe.lock import Lock, machine_arch
from belljar.recipe.sources import kind_named
from belljar.recipe.sources.base import Context, Wanted
from belljar.recipe.specs import DebPackage
from belljar.types import quiet

TARGET = f"{platform.machine()}-linux-musl"
ROOM = "/room" * 60
LEAF = "int leaf(void) { return 1; }"
MID = "#include <math.h>\nint leaf(void); int mid(double x) { return leaf() + (int)sin(x); }"
MAIN = "int mid(double); int main(int n, char **v) { return mid(n); }"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """Return a directory with Debian's musl, its loader below lib."""
    root = tmp_path_factory.mktemp("musl")
    cache = Path(tempfile.gettempdir()) / f"belljar-tests-cache-{os.getuid()}"
    home, arch = Home(data=root / "home", cache=cache), machine_arch()
    wanted = Wanted(key=("musl",), spec=DebPackage(name="musl", version=None))
    files = kind_named("deb").resolve(
        [wanted], Context(home=home, arch=arch, suite="bookworm", progress=quiet)
    )
    lock = Lock(arch=arch, requests={"environment.suite": "bookworm"}, environment=files)
    for archive in fetch(lock, home).values():
        unpack(archive, root, mtime=0)
    (root / f"etc/ld-musl-{platform.machine()}.path").unlink()
    return root


@pytest.fixture
def put(zig_cc, prefix, tmp_path):
    """Return a function that puts one of the three files somewhere below a directory, with its paths."""

    def made(name, source, *flags):
        place = tmp_path / "inputs" / name
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(zig_cc(source, *flags, "-dynamic", f"-Wl,-rpath,{ROOM}", target=TARGET), place)
        return place

    leaf = made("leaf.so", LEAF, "-shared", "-Wl,-soname,libleaf.so.1")
    mid = made("mid.so", MID, "-shared", "-Wl,-soname,libmid.so.1", leaf)
    # To be written over; zig takes the length of this one modulo 256.
    interpreter = f"-Wl,-dynamic-linker,/interp{ROOM[:200]}"
    main = made("main", MAIN, interpreter, "-Wl,--allow-shlib-undefined", mid)
    loader = str(prefix / f"lib/ld-musl-{platform.machine()}.so.1")

    def write(kind, name, *, runpath=""):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"leaf": leaf, "mid": mid, "main": main}[kind].read_bytes()
        old = read(data).interpreter
        if old:
            data = data.replace(os.fsencode(old) + b"\0", os.fsencode(loader).ljust(len(old) + 1, b"\0"), 1)
        list_ = read(data).dynamic.runpath
        data = data.replace(os.fsencode(list_) + b"\0", os.fsencode(runpath).ljust(len(list_) + 1, b"\0"))
        path.write_bytes(data)
        path.chmod(0o755)
        return path

    write.loader = loader
    return write


def agree(loader, program, **env):
    """Return our closure, having compared it with what musl's loader lists."""
    done = subprocess.run(
        [loader, "--list", program], env=env, cwd="/", capture_output=True, text=True, check=False
    )
    listed = re.findall(r"^\t(?:.* => )?(.*) \(0x", done.stdout, re.MULTILINE)[1:]
    missing = set(re.findall(r"Error loading shared library (\S+):", done.stderr))
    undefined = set(re.findall(r"Error relocating (\S+): (\S+): symbol not found", done.stderr))
    closure = resolve(program, surroundings=Surroundings(library_path=env.get("LD_LIBRARY_PATH", "")))
    assert closure.libc is Libc.MUSL
    assert [item.path for item in closure.objects[1:]] == listed, done
    assert {item.name for item in closure.missing} == missing, done
    assert {(item.path, item.symbol) for item in closure.unresolved} == undefined, done
    return closure


def test_our_closures_are_those_of_musls_loader(put, tmp_path, prefix):
    put("mid", "lib/libmid.so.1")
    put("leaf", "lib/libleaf.so.1")
    lib = str(tmp_path / "lib")
    assert agree(put.loader, put("main", "none")).missing
    inherited = agree(put.loader, put("main", "main", runpath="$ORIGIN/lib"))
    assert not inherited.missing
    assert {item.how for item in inherited.edges if item.name == "libleaf.so.1"} == {How.RUNPATH}
    outside = agree(put.loader, put("main", "other", runpath="/nowhere"), LD_LIBRARY_PATH=lib)
    assert {item.how for item in outside.edges if item.name == "libmid.so.1"} == {How.LIBRARY_PATH}
    agree(put.loader, put("main", "odd", runpath=f"$LIB/x:{lib}"))
    file = prefix / f"etc/ld-musl-{platform.machine()}.path"
    file.write_text(f"/nowhere\n{lib}\n")
    try:
        by_file = agree(put.loader, put("main", "third"))
    finally:
        file.unlink()
    assert {item.how for item in by_file.edges if item.name == "libmid.so.1"} == {How.DEFAULT}


def test_a_file_that_is_no_library_ends_musls_search(put, tmp_path):
    put("leaf", "lib/libleaf.so.1")
    put("mid", "lib/libmid.so.1")
    bad = tmp_path / "bad/libmid.so.1"
    bad.parent.mkdir()
    bad.write_text("no library\n" * 100)
    program = put("main", "main", runpath=f"{tmp_path}/bad:{tmp_path}/lib")
    closure = agree(put.loader, Path(program))
    assert closure.missing[0].how is How.DAMAGED
