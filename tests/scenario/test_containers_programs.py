"""What belljar opens and relocates, read by the programs that people use."""

import gzip
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from belljar.archive.unpack import unpack
from belljar.home import Home
from belljar.placeholder import PLACEHOLDER, location
from belljar.recipe.fetch import fetch
from belljar.recipe.recipe import FILE, load
from belljar.recipe.resolve import lock
from belljar.relocate import open_tree, rewrite_tree, scan

P = PLACEHOLDER.encode()
NEW = location(Path("/opt/tools"))
RECIPE = """
[package]
name = "tools"
version = "1"
[build]
script = "true"
[environment]
suite = "bookworm"
packages = ["deb:binutils", "deb:gzip", "deb:unzip", "deb:xz-utils", "deb:zip", "deb:zstd"]
"""
PAGE = b"".join(b".B line %d of a manual page, %d\n" % (n, n * n) for n in range(2000))
TEXT = PAGE + b"see " + P + b"/share/doc\n" + PAGE + P + b"/bin\n"
WANT = TEXT.replace(P, NEW)


@pytest.fixture(scope="session")
def tool(tmp_path_factory):
    """Run a program of Debian's packages, by its own loader and libraries; gives its output."""
    kept = Path(tempfile.gettempdir()) / f"belljar-tests-packers-{os.getuid()}"
    if not kept.exists():
        place = tmp_path_factory.mktemp("tools")
        (place / FILE).write_text(RECIPE)
        home = Home(data=place / "home", cache=place / "cache")
        for package in fetch(lock(load(place), home), home).values():
            unpack(package, place / "root", mtime=1)
        shutil.move(place / "root", kept)
    libraries = ":".join(str(kept / name / "x86_64-linux-gnu") for name in ("usr/lib", "lib"))
    loader = next(kept.glob("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"))

    def run(name, *words):
        program = next(
            path
            for place in ("usr/bin", "bin")
            for path in (kept / place).glob(f"*{name}")
            if path.name in (name, f"x86_64-linux-gnu-{name}")
        )
        done = subprocess.run(
            [loader, "--library-path", libraries, program.resolve(), *words], capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), (name, words, done.stderr)
        return done.stdout

    return run


def relocated(tree):
    """Open a tree and move it, which must go without a rest."""
    assert not scan(tree).is_relocatable
    assert open_tree(tree)
    found = scan(tree)
    assert found.is_relocatable, found.unsupported
    rewrite_tree(tree, found.table, old=P, new=NEW)


@pytest.mark.parametrize("program", ["gzip", "xz", "zstd"])
def test_packed_files_pass_the_tests_of_their_programs(tmp_path, tool, program):
    (tmp_path / "page").write_bytes(TEXT)
    tool(program, "-q", "-9", str(tmp_path / "page"))
    (tmp_path / "page").unlink(missing_ok=True)
    (packed,) = tmp_path.iterdir()
    relocated(tmp_path)
    tool(program, "-t", "-q", str(packed))
    assert tool(program, "-q", "-d", "-c", str(packed)) == WANT


def test_an_archive_of_zip_passes_the_test_of_unzip(tmp_path, tool):
    (tmp_path / "a").write_bytes(TEXT)
    (tmp_path / "b").write_bytes(PAGE)
    tree = tmp_path / "tree"
    tree.mkdir()
    tool("zip", "-q", "-j", str(tree / "x.zip"), str(tmp_path / "a"), str(tmp_path / "b"))
    relocated(tree)
    tool("unzip", "-q", "-t", str(tree / "x.zip"))
    assert tool("unzip", "-p", str(tree / "x.zip"), "a") == WANT


@pytest.mark.parametrize("how", ["zlib", "zstd"])
def test_compressed_debugging_information_is_read_and_stripped(tmp_path, tool, zig_cc, how):
    source = "int twice(int n) { return 2 * n; }\nint main(void) { return twice(4) - 8; }\n"
    program = zig_cc(
        source,
        "-g",
        f"-ffile-prefix-map={Path.cwd()}={PLACEHOLDER}",
        f"-fdebug-compilation-dir={PLACEHOLDER}/src",
    )
    path = tmp_path / "program"
    tool("objcopy", f"--compress-debug-sections={how}", str(program), str(path))
    relocated(tmp_path)
    path.chmod(0o755)
    assert subprocess.run([path], check=False).returncode == 0
    lines = tool("readelf", "--debug-dump=info", "--debug-dump=line", str(path))
    assert NEW + b"/src" in lines
    assert PLACEHOLDER.encode() not in lines
    tool("objcopy", "--decompress-debug-sections", str(path), str(tmp_path / "plain"))
    assert NEW + b"/src" in (tmp_path / "plain").read_bytes()
    tool("strip", "-g", str(path))
    assert subprocess.run([path], check=False).returncode == 0


def test_a_packed_archive_unpacks(tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        (tmp_path / "file").write_bytes(TEXT)
        archive.add(tmp_path / "file", "file")
    (tmp_path / "file").unlink()
    relocated(tmp_path)
    with tarfile.open(tmp_path / "x.tar.gz") as archive:
        assert archive.extractfile("file").read() == WANT


def test_a_zipped_program_runs_and_imports_from_itself(tmp_path):
    """A zipapp: a `#!` line before the archive, a module that knows its prefix."""
    module = f"PREFIX = '{PLACEHOLDER}'\n" + "# a comment\n" * 500
    path = tmp_path / "app.pyz"
    with path.open("wb") as file:
        file.write(b"#!" + P + b"/bin/python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("known.py", module)
            archive.writestr("__main__.py", "import known\nprint(known.PREFIX)\n")
    relocated(tmp_path)
    done = subprocess.run([sys.executable, path], capture_output=True, check=True)
    assert done.stdout.strip() == NEW
    assert path.read_bytes().startswith(b"#!" + NEW)


def test_other_compressors_and_levels_give_files_that_need_none(tmp_path):
    """What was opened with one compressor is moved and moved back by bytes alone."""
    for level in range(10):
        (tmp_path / f"{level}.gz").write_bytes(gzip.compress(TEXT, level, mtime=0))
        (tmp_path / f"{level}.xz").write_bytes(lzma.compress(TEXT, preset=level))
        (tmp_path / f"{level}.zst").write_bytes(zstandard.ZstdCompressor(level=level + 1).compress(TEXT))
    open_tree(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len({content for path, content in before.items() if path.suffix == ".xz"}) == 1
    table = scan(tmp_path).table
    rewrite_tree(tmp_path, table, old=P, new=NEW)
    assert all(gzip.decompress(path.read_bytes()) == WANT for path in tmp_path.glob("*.gz"))
    assert all(lzma.decompress(path.read_bytes()) == WANT for path in tmp_path.glob("*.xz"))
    rewrite_tree(tmp_path, table, old=NEW, new=P)
    assert all(path.read_bytes() == content for path, content in before.items())
