"""Real build systems, unmodified, in a staged shell: what they make keeps the floor and runs on glibc 2.17.

All of them run in belljar's sandbox, on tools from Debian's packages: gcc, make, CMake, Meson, go, cargo.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import compilers
import pytest

import belljar as belljar_package
from belljar.archive.unpack import unpack
from belljar.build.output import EPOCH
from belljar.build.sandboxed import root_of
from belljar.home import Home
from belljar.recipe import Lock
from belljar.recipe.fetch import fetch
from belljar.recipe.lock import machine_arch
from belljar.recipe.sources import kind_named
from belljar.recipe.sources.base import Context, Wanted
from belljar.recipe.specs import DebSource
from belljar.sandbox import Bind, Devices, Proc, Sandbox, Tmpfs, run

SOURCE = Path(__file__).parents[2] / "src"
PACKAGES = [path for path in sys.path if path.endswith("-packages")]
MODULES = (Path(belljar_package.__file__).parent, Path(click.__file__).parent)
HOME = Path(tempfile.gettempdir()) / f"belljar-tests-stage-{os.getuid()}"
ROOT = "glibc-2.17"

GREET_C = 'const char *greet(void) { return "hello from a library"; }\n'
SAY_C = """
#include <pthread.h>
#include <stdio.h>
const char *greet(void);
static void *run(void *text) { puts(text); return 0; }
int main(void) {
    pthread_t thread;
    return pthread_create(&thread, 0, run, (void *)greet()) || pthread_join(thread, 0);
}
"""
SAY_CC = """
#include <iostream>
#include <stdexcept>
#include <thread>
extern "C" const char *greet();
int main() {
    auto run = [] {
        try { throw std::runtime_error(greet()); } catch (std::exception &e) { std::cout << e.what(); }
    };
    std::thread(run).join();
}
"""
CMAKE = """
cmake_minimum_required(VERSION 3.13)
project(say C)
find_library(GREET greet REQUIRED)
add_executable(say say.c)
target_link_libraries(say ${GREET} pthread)
install(TARGETS say)
"""
MESON = """
project('greet', 'c', 'cpp')
greet = library('greet', 'greet.c', install: true)
executable('saycc', 'say.cc', link_with: greet, dependencies: dependency('threads'), install: true)
import('pkgconfig').generate(greet)
"""
MAKEFILE = """
say: say.c
\tgcc $(shell pkg-config --cflags greet) -o say say.c $(shell pkg-config --libs greet) -lpthread
install: say
\tmkdir -p "$(DESTDIR)"
\tcp say "$(DESTDIR)/saymake"
"""


def belljar(*words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "BELLJAR_HOME": str(HOME),
        "PYTHONPATH": os.pathsep.join([str(SOURCE), *PACKAGES]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "belljar", *map(str, words)],
        env=environment | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module", autouse=True)
def fetched() -> None:
    """Fetch what builds need while there is a network: zig, and the root that is also a sysroot."""
    for words in (["stage", "/opt/x"], ["root", "add", ROOT]):
        done = belljar(*words)
        assert done.returncode == 0, done.stderr


def in_sandbox(name: str, script: str, work: Path, prefix: Path) -> None:
    """Run a script in a set's root, `work` and $PREFIX writable at their own paths; it must succeed."""
    prefix.mkdir(exist_ok=True)
    box = Sandbox(
        operations=(
            *root_of(compilers.environment(name)),
            Proc(),
            Devices(),
            Tmpfs(target="/tmp"),
            *(Bind(source=str(path), target=str(path), writable=True) for path in (work, prefix, HOME)),
            *(Bind(source=str(path), target=f"/packages/{path.name}") for path in MODULES),
        ),
        env={
            "BELLJAR_HOME": str(HOME),
            "GOROOT": "/usr/lib/go-1.19",
            "GOCACHE": str(HOME / "go-build"),
            "HOME": "/tmp",
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/bin:/usr/lib/go-1.19/bin",
            "PREFIX": str(prefix),
            "PYTHONPATH": "/packages",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd=str(work),
    )
    with (work / "log").open("wb") as log:
        ended = run(
            box, ["/usr/bin/sh", "-euc", script], stdout=log.fileno(), stderr=log.fileno(), timeout=500
        )
    assert ended.status == 0, (work / "log").read_text()[-6000:]


def keeps(prefix: Path, *programs: str, said: str) -> None:
    """The prefix passes the audit for 2.17, and its programs run on a real system of it."""
    audited = belljar("audit", "--target-glibc", "2.17", prefix)
    assert audited.returncode == 0, audited.stdout
    checked = belljar("stage", prefix, "--check")
    assert checked.returncode == 0, checked.stdout
    for program in programs:
        ran = belljar("verify", prefix, "--on", ROOT, "--", program)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert said in ran.stdout, ran.stdout


def source(package: str, version: str, into: Path) -> None:
    home = Home(data=HOME, cache=HOME / "cache")
    spec = DebSource(name=package, version=version)
    context = Context(home=home, arch=machine_arch(), suite=compilers.SUITE, progress=lambda _: None)
    kept = HOME / f"{package}.tar"
    if not kept.exists():
        files = kind_named("deb-src").resolve([Wanted(key=(package,), spec=spec)], context)
        requests = {"environment.suite": compilers.SUITE}
        lock = Lock(arch=machine_arch(), requests=requests, sources={package: tuple(files)})
        shutil.copyfile(fetch(lock, home)[files[0].sha256], kept)
    unpack(kept, into, strip_top=True, mtime=EPOCH)


STAGE = 'eval "$(python3 -m belljar stage "$PREFIX" %s)"\n'


def small_projects(work: Path) -> None:
    for name, files in {
        "greet": {"greet.c": GREET_C, "say.cc": SAY_CC, "meson.build": MESON},
        "say": {"say.c": SAY_C, "CMakeLists.txt": CMAKE},
        "plain": {"say.c": SAY_C, "Makefile": MAKEFILE},
        "alone": {"say.c": SAY_C + GREET_C},
    }.items():
        (work / name).mkdir()
        for file, text in files.items():
            (work / name / file).write_text(text)


def test_without_a_stage_the_same_compiler_asks_for_the_glibc_of_its_system(tmp_path: Path) -> None:
    small_projects(tmp_path)
    prefix = tmp_path / "plain-prefix"
    in_sandbox("stage", 'gcc alone/say.c -o "$PREFIX/say" -lpthread', tmp_path, prefix)
    checked = belljar("stage", prefix, "--check")
    assert checked.returncode == 1
    assert "GLIBC_2.34" in checked.stdout
    assert belljar("verify", prefix, "--on", ROOT, "--", "say").returncode == 1


@pytest.mark.extended
def test_meson_cmake_and_a_makefile_that_says_gcc_keep_the_floor_in_a_prefix_with_spaces(
    tmp_path: Path,
) -> None:
    small_projects(tmp_path)
    prefix = tmp_path / "a prefix with spaces"
    script = (
        STAGE % ""
        + """
        meson setup "meson build" greet --prefix "$PREFIX"
        meson install -C "meson build"
        cmake -S say -B "cmake build" -G Ninja -DCMAKE_INSTALL_PREFIX="$PREFIX"
        cmake --build "cmake build"
        cmake --install "cmake build"
        make -C plain
        cp plain/say "$PREFIX/bin/saymake"
        """
    )
    in_sandbox("stage", script, tmp_path, prefix)
    keeps(prefix, "bin/say", "bin/saycc", "bin/saymake", said="hello from a library")


def test_configure_and_make_keep_the_floor_with_zig(tmp_path: Path) -> None:
    source("hello", "2.10", tmp_path / "src")
    prefix = tmp_path / "prefix"
    script = 'cd src; ./configure --prefix="$PREFIX" --disable-nls; make -j2; make install'
    in_sandbox("stage", STAGE % "" + script, tmp_path, prefix)
    keeps(prefix, "bin/hello", said="Hello, world!")


def test_configure_and_make_keep_the_floor_with_the_hosts_gcc_and_a_real_sysroot(tmp_path: Path) -> None:
    source("zlib", "1.2.13.dfsg", tmp_path / "src")
    prefix = tmp_path / "prefix"
    script = """
        cd src; ./configure --prefix="$PREFIX"; make -j2; make install
        printf '#include <stdio.h>\\n#include <zlib.h>\\nint main(void) { puts(zlibVersion()); }' > v.c
        $CC v.c -lz -o "$PREFIX/version"
        mkdir "$PREFIX/bin"; mv "$PREFIX/version" "$PREFIX/bin"
        $CXX v.c && exit 1; $CC -E v.c | grep -F "$SYSROOT/usr/include/stdio.h"
    """
    in_sandbox("stage", STAGE % "--toolchain cc --glibc root:glibc-2.17" + script, tmp_path, prefix)
    assert "has no libstdc++ for glibc 2.17" in (tmp_path / "log").read_text()
    keeps(prefix, "bin/version", said="1.2.13")


def staged_text(prefix: Path) -> str:
    done = belljar("stage", prefix)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.extended
def test_go_with_cgo_keeps_the_floor_and_needs_no_other_compiler(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module say\ngo 1.19\n")
    (tmp_path / "say.go").write_text(
        'package main\n\n// #include <stdlib.h>\nimport "C"\nimport ("fmt"; "net"; "os/user")\n\n'
        'func main() { u, _ := user.LookupId("65534"); a, _ := net.LookupHost("localhost")\n'
        'fmt.Println("go", C.abs(-42), u != nil, len(a) > 0) }\n'
    )
    prefix = tmp_path / "prefix"
    script = staged_text(prefix) + '\nmkdir "$PREFIX/bin"; go build -buildvcs=false -o "$PREFIX/bin/say" .'
    in_sandbox("go", script, tmp_path, prefix)
    keeps(prefix, "bin/say", said="go 42")


@pytest.mark.extended
def test_cargo_keeps_the_floor_through_the_staged_linker(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "say"\nversion = "0.1.0"\nedition = "2021"\n')
    (tmp_path / "src/main.rs").write_text(
        'fn main() { let n = std::thread::spawn(|| 42).join().unwrap(); println!("rust {n}"); }\n'
    )
    prefix = tmp_path / "prefix"
    script = staged_text(prefix) + '\ncargo install --offline --path . --root "$PREFIX"'
    in_sandbox("cargo", script, tmp_path, prefix)
    keeps(prefix, "bin/say", said="rust 42")
