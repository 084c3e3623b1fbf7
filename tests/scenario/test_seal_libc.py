"""A private libc finds nothing of the host's, neither libraries nor locales, and finds its own."""

import shutil
import subprocess
from pathlib import Path

import pytest
from test_seal_embed import LOADER, libc_of

from belljar.elf.names import EditRefused
from belljar.elf.sealed import Seal
from belljar.seal import embed
from belljar.seal.libc import VARIABLES, is_private, private_libc, private_loader
from belljar.splice import in_place, spliced

SOURCE = r"""
#include <dlfcn.h>
#include <iconv.h>
#include <locale.h>
#include <stdio.h>
int main(int argc, char **argv) {
    printf("dlopen %s\n", dlopen(argv[1], RTLD_NOW) ? "found" : dlerror());
    for (int i = 2; i < argc; i++)
        printf("locale %s %s\n", argv[i], setlocale(LC_CTYPE, argv[i]) ? "found" : "unknown");
    printf("iconv %s\n", iconv_open("UTF-8", "ISO-8859-15") == (iconv_t)-1 ? "unknown" : "found");
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(zig_cc):
    return zig_cc(SOURCE, "-ldl")


@pytest.fixture
def tree(program, tmp_path):
    """The program sealed, with a private loader and libc, and one locale that no host has."""
    own = tmp_path / "lib/own"
    own.mkdir(parents=True)
    for source, name, edits in (
        (LOADER, "ld.so", private_loader),
        (libc_of(LOADER), "libc.so.6", private_libc),
    ):
        image = source.read_bytes()
        (own / name).write_bytes(spliced(image, edits(image), subject=name))
    needed = subprocess.run([LOADER, "--list", program], capture_output=True, text=True, check=True).stdout
    for line in needed.splitlines():
        if " => /" in line and "libc.so" not in line:
            shutil.copy(line.split()[2], own)
    shutil.copytree("/usr/lib/locale/C.utf8", own / "locale/xx_XX.UTF-8")
    paths = {"LOCPATH": "../lib/own/locale", "GCONV_PATH": "../lib/own/gconv"}
    variables = {own: paths[name] for name, own in VARIABLES.items()}
    seal = Seal(loader="../lib/own/ld.so", directories=("../lib/own",), variables=variables)
    app = tmp_path / "bin/app"
    app.parent.mkdir()
    app.write_bytes(spliced(program.read_bytes(), embed(program.read_bytes(), seal), subject="app"))
    app.chmod(0o755)
    return tmp_path


def run(*command, **variables):
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    return done.stdout.splitlines(), done.stderr


def test_every_edit_keeps_its_length():
    for source, edits in ((LOADER, private_loader), (libc_of(LOADER), private_libc)):
        image = source.read_bytes()
        assert in_place(edits(image))
        assert not is_private(image)
        assert is_private(spliced(image, edits(image), subject=source.name))


def test_libraries_and_locales_of_the_host_are_not_there(program, tree):
    library = next(path.name for path in libc_of(LOADER).parent.glob("libz.so.*"))
    told, _ = run(program, library, "C.utf8", "xx_XX.UTF-8")
    assert told[0] == "dlopen found"
    told, log = run(tree / "bin/app", library, "xx_XX.UTF-8", LD_DEBUG="libs")
    assert "cannot open shared object file" in told[0]
    tried = {line.split("=", 1)[1].split()[0] for line in log.splitlines() if "trying file=" in line}
    assert tried
    assert all(path.startswith((str(tree / "lib/own"), "/dev/null/", "/\\1", "/\x01")) for path in tried)


def test_its_own_locale_is_found_and_the_hosts_variables_are_not_obeyed(tree):
    told, _ = run(tree / "bin/app", "none", "xx_XX.UTF-8")
    assert told[1] == "locale xx_XX.UTF-8 found"
    shutil.move(tree / "lib/own/locale", tree / "elsewhere")
    told, _ = run(tree / "bin/app", "none", "xx_XX.UTF-8", LOCPATH=str(tree / "elsewhere"))
    assert told[1] == "locale xx_XX.UTF-8 unknown"


def test_its_own_character_sets_are_found(tree):
    modules = next(Path("/usr/lib").glob("*-linux-gnu/gconv"))
    told, _ = run(tree / "bin/app", "none")
    assert told[-1] == "iconv unknown"
    shutil.copytree(modules, tree / "lib/own/gconv")
    told, _ = run(tree / "bin/app", "none")
    assert told[-1] == "iconv found"


def test_what_is_no_glibc_is_refused(program):
    for edits in (private_loader, private_libc):
        with pytest.raises(EditRefused):
            edits(program.read_bytes())
        with pytest.raises(EditRefused):
            edits(b"")
