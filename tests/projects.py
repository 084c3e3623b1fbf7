"""Real projects for `belljar run`: where their sources come from, and how each is built.

Sources come through apt, pip and npm as this machine configures them, once, into the directory for
temporary files: upstream tarballs of Debian's sources, sdists of the Python package index, npm packages.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import compilers

from belljar.archive.unpack import unpack
from belljar.home import Home
from belljar.recipe.lock import machine_arch
from belljar.recipe.sources import kind_named
from belljar.recipe.sources.base import Context, Wanted
from belljar.recipe.specs import SOURCE_KINDS, parse

OLD = 1_000_000_000
"""The time stamp that unpacked sources get, unless another is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project, the tools it needs, the script that builds it, and which files that makes.

    `source` is the short form of a recipe, `sdist:NAME==VERSION`, or empty for `files` alone. `made` are
    glob patterns. `fetch`: the first step needs the network.
    """

    source: str
    tools: str
    profile: str
    script: str
    made: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    fetch: bool = False


def _zig() -> str:
    """Return the directory of zig, which is a package of the Python package index."""
    spec = find_spec("ziglang")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent)


_BUILD_ZIG = """const std = @import("std");
pub fn build(b: *std.Build) void {
    const exe = b.addExecutable(.{ .name = "z", .root_module = b.createModule(.{
        .root_source_file = b.path("src/main.zig"),
        .target = b.standardTargetOptions(.{ .default_target = .{ .cpu_model = .baseline } }),
        .optimize = b.standardOptimizeOption(.{}),
    }) });
    b.installArtifact(exe);
}
"""
_MAIN_ZIG = """const std = @import("std");
pub fn main() void {
    std.debug.print("{s} {s}\\n", .{ @src().file, @import("builtin").zig_version_string });
}
"""
PROJECTS: Mapping[str, Project] = {
    "hello": Project(
        source="deb-src:hello=2.10",
        tools="run-c",
        profile="make",
        script="./configure --disable-nls && make",
        made=("hello", "config.h", "Makefile", "src/*.o", "lib/*.a"),
    ),
    "lua": Project(
        source="deb-src:lua5.4=5.4.4",
        tools="run-c",
        profile="make",
        script="make linux",
        made=("src/lua", "src/luac", "src/*.a", "src/*.o"),
    ),
    "zlib": Project(
        source="deb-src:zlib=1.2.13.dfsg",
        tools="run-c",
        profile="make",
        script='./configure && make && make install DESTDIR="$PWD/dest" && tar czf zlib.tar.gz dest',
        made=("libz.a", "libz.so.*", "*.o", "example", "minigzip", "zlib.tar.gz"),
    ),
    "cjson": Project(
        source="deb-src:cjson=1.7.15",
        tools="run-c",
        profile="cmake",
        script="cmake -S . -B build -G 'Unix Makefiles' && cmake --build build -j2 --target cJSON_test",
        made=("build/*.so.*", "build/*.pc", "build/cJSON_test"),
    ),
    "jsoncpp": Project(
        source="deb-src:libjsoncpp=1.9.5",
        tools="run-c",
        profile="cmake",
        script="cmake -S . -B build -G Ninja && cmake --build build -j2",
        made=("build/**/*.so.*", "build/**/*.a", "build/bin/*"),
    ),
    "pkgconf": Project(
        source="deb-src:pkgconf=1.8.1",
        tools="run-c",
        profile="meson",
        script="meson setup -Dtests=false build && meson compile -C build"
        " && DESTDIR=$PWD/build/dest meson install -C build",
        made=("build/*.so.*", "build/pkgconf", "build/dest/**/*.h", "build/dest/**/*.pc"),
    ),
    "fzf": Project(
        source="deb-src:fzf=0.38.0",
        tools="run-go",
        profile="go",
        # Its dependencies are Debian's packages: in the tree of GOPATH, and so with no modules.
        script="export GO111MODULE=off GOFLAGS= GOPATH=/build/path:/usr/share/gocode GOCACHE=/tmp/go"
        "; mkdir -p path/src/github.com/junegunn; cp -r src main.go /build/path/src/github.com/junegunn/"
        "; cd path/src/github.com/junegunn; mkdir fzf; mv src main.go fzf; cd fzf; go build -o /build/fzf .",
        made=("fzf",),
        options=("--unlocked",),
    ),
    "toml": Project(
        source="deb-src:golang-toml=1.2.0",
        tools="run-go",
        profile="go",
        script="go build ./cmd/tomlv",
        made=("tomlv",),
    ),
    "orjson": Project(
        source="sdist:orjson==3.10.15",
        tools="run-rust",
        profile="cargo",
        script="cargo build --release --offline",
        made=("target/release/*.so",),
    ),
    "markupsafe": Project(
        source="sdist:markupsafe==2.1.5",
        tools="run-c",
        profile="pip",
        script="python3 -m pip wheel --no-deps --no-build-isolation -w made .",
        made=("made/*.whl",),
    ),
    "six": Project(
        source="",
        tools="run-c",
        profile="pip",
        fetch=True,
        script="python3 -m pip install --no-index --find-links wheels --require-hashes -r requirements.txt"
        " --no-compile --target made",
        made=("made/**/*", "wheels/*"),
        files={
            "pyproject.toml": '[project]\nname = "p"\nversion = "1"\ndependencies = ["six"]\n',
            "requirements.txt": "six==1.16.0 --hash=sha256:"
            "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n",
        },
    ),
    "commons-csv": Project(
        source="deb-src:commons-csv=1.9.0",
        tools="run-java",
        profile="maven",
        script="mvn -o -q -Dmaven.repo.local=/usr/share/maven-repo -Dmaven.test.skip=true package",
        made=("target/*.jar", "target/classes/**/*.class"),
        # Upstream's pom.xml names versions that Debian does not have.
        files={
            "pom.xml": """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.apache.commons</groupId>
  <artifactId>commons-csv</artifactId>
  <version>1.9.0</version>
  <properties>
    <maven.compiler.source>8</maven.compiler.source>
    <maven.compiler.target>8</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
</project>
"""
        },
    ),
    "zig": Project(
        source="",
        tools="run-go",
        profile="zig",
        script="zig build -Doptimize=ReleaseSmall",
        made=("zig-out/**/*",),
        options=("--tools", _zig()),
        files={"build.zig": _BUILD_ZIG, "src/main.zig": _MAIN_ZIG},
    ),
    "immer": Project(
        source="npm:immer@10.1.1",
        tools="run",
        profile="npm",
        fetch=True,
        script="node_modules/.bin/tsc --declaration --target es2020 --moduleResolution node --outDir made"
        " src/immer.ts; npm pack",
        made=("made/**/*", "*.tgz"),
        files={
            "package.json": '{"name": "immer", "version": "10.1.1", "files": ["made"],'
            ' "devDependencies": {"@types/node": "20.12.12", "typescript": "5.4.5"}}\n'
        },
    ),
}


def place() -> Path:
    """Return the directory that sources are kept in."""
    return Path(tempfile.gettempdir()) / f"belljar-tests-projects-{os.getuid()}"


@functools.cache
def tarball(source: str) -> Path:
    """Return the archive of a source, downloaded now unless it is there."""
    into = place() / source.replace("/", "+")
    if not into.is_dir():
        made = Path(tempfile.mkdtemp(dir=_directory(place())))
        (_sdist if source.startswith("sdist:") else _packaged)(source, made)
        made.rename(into)
    (found,) = into.iterdir()
    return found


def _directory(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _packaged(source: str, into: Path) -> None:
    home = Home(data=place(), cache=place() / "cache")
    context = Context(home=home, arch=machine_arch(), suite=compilers.SUITE, progress=lambda _: None)
    kind = kind_named(source.partition(":")[0])
    files = kind.resolve([Wanted(key=(source,), spec=parse(source, SOURCE_KINDS))], context)
    scratch = _directory(place() / "scratch")
    for _, path in kind.fetch(files, scratch, context):
        shutil.copy(path, into)


def _sdist(source: str, into: Path) -> None:
    """Download an sdist with pip, which asks the project's build backend for its name: a stub answers."""
    with tempfile.TemporaryDirectory() as stubs:
        for name in ("maturin.py", "setuptools/__init__.py", "setuptools/build_meta.py"):
            path = Path(stubs, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(_BACKEND)
        words = ["download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
        subprocess.run(
            [sys.executable, "-m", "pip", *words, "--dest", into, source.removeprefix("sdist:")],
            env=os.environ | {"PYTHONPATH": stubs},
            check=True,
            capture_output=True,
        )


_BACKEND = """
import os, sys
__legacy__ = sys.modules[__name__]
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(place, config_settings=None):
    lines = [line.rstrip() for line in open("PKG-INFO", encoding="utf-8")]
    name, version = (next(x[len(w):] for x in lines if x.startswith(w)) for w in ("Name: ", "Version: "))
    made = os.path.join(place, f"{name}-{version}.dist-info")
    os.mkdir(made)
    with open(os.path.join(made, "METADATA"), "w") as file:
        file.write(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return os.path.basename(made)
"""


def stage(project: Project, into: Path, *, mtime: int = OLD) -> None:
    """Unpack a project, with all its files of one time."""
    if project.source:
        unpack(tarball(project.source), into, strip_top=True, mtime=mtime)
    for name, text in project.files.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_text(text)
    if "package.json" in project.files:
        shutil.copy(_npm_lock(project.files["package.json"]), into / "package-lock.json")


@functools.cache
def _npm_lock(package: str) -> Path:
    """Return the lock file that npm makes for a package.json, made once."""
    into = place() / f"npm-{hashlib.sha256(package.encode()).hexdigest()[:16]}"
    if not into.is_dir():
        made = Path(tempfile.mkdtemp(dir=_directory(place())))
        (made / "package.json").write_text(package)
        words = ["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit"]
        subprocess.run(words, cwd=made, check=True, capture_output=True)
        made.rename(into)
    return into / "package-lock.json"


def settings(home: Path) -> dict[str, str]:
    """Give a home directory the settings that this machine's npm and pip have; return pip's variables."""
    _npm_settings(home)
    own = Path.home() / ".config/pip/pip.conf"
    if own.is_file():
        shutil.copy(own, _directory(home / ".config/pip") / "pip.conf")
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def _npm_settings(home: Path) -> None:
    words = ["npm", "config", "get", "userconfig"]
    own = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    text = Path(own).read_text() if Path(own).is_file() else ""
    words = ["npm", "config", "get", "registry"]
    registry = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    (home / ".npmrc").write_text(f"{text}\nregistry = {registry}\n")


def made_by(project: Project, where: Path) -> dict[str, bytes]:
    """Return what a build has made, by name."""
    found = {path for pattern in project.made for path in where.glob(pattern) if path.is_file()}
    return {str(path.relative_to(where)): path.read_bytes() for path in sorted(found)}
