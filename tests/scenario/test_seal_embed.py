"""A program with the embedded loader is, for itself and all who look at it, the program that it was."""

import contextlib
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.elf import ElfError
from belljar.elf.const import Tag
from belljar.elf.layout import Layout
from belljar.elf.names import EditRefused
from belljar.elf.sealed import Seal, seal_of
from belljar.seal import embed, unembed
from belljar.splice import spliced

LOADER = Path("/lib64/ld-linux-x86-64.so.2")
NEEDLESS = (0x6FFFFFF9, 0x6FFFFFFB, 0x6FFFFFFF, 21)
SEAL = Seal(loader="../lib/own/ld.so", directories=("../lib/own", "../lib"))
FACTS = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>
static int bss[100000];
__thread int local = 7;
extern char **environ;
int main(int argc, char **argv) {
    char path[4096] = "", line[8192];
    for (int i = 0; i < 100000; i++)
        if (bss[i]) return 9;
    if (argc > 1 && !strcmp(argv[1], "again")) {
        argv[1] = "once";
        execv("/proc/self/exe", argv);
    }
    if (readlink("/proc/self/exe", path, 4095) > 0) printf("exe %s\n", path);
    printf("argv0 %s\nname %s\n", argv[0], program_invocation_short_name);
    printf("execfn %s\n", (char *)getauxval(AT_EXECFN));
    FILE *comm = fopen("/proc/self/comm", "r");
    if (comm && fgets(line, sizeof line, comm)) printf("comm %s", line);
    printf("base %d local %d\n", getauxval(AT_BASE) != 0, local);
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, ".so")) printf("map %s", strchr(line, '/'));
    for (char **variable = environ; *variable; variable++) printf("env %s\n", *variable);
    return argc > 2 ? atoi(argv[2]) : 0;
}
"""


def libc_of(loader: Path) -> Path:
    """The libc beside the loader that the machine has."""
    told = subprocess.run([loader, "--list", "/bin/true"], capture_output=True, text=True, check=True).stdout
    return Path(re.search(r"libc\.so\.6 => (\S+)", told)[1])


def sealed(program: Path, tree: Path, name: str = "app", seal: Seal = SEAL) -> Path:
    """Put a program, sealed, and the machine's loader and libc into a tree."""
    own = tree / "lib/own"
    own.mkdir(parents=True, exist_ok=True)
    shutil.copy(LOADER, own / "ld.so")
    shutil.copy(libc_of(LOADER), own / "libc.so.6")
    place = tree / "bin" / name
    place.parent.mkdir(exist_ok=True)
    image = program.read_bytes()
    place.write_bytes(spliced(image, embed(image, seal), subject=name))
    place.chmod(0o755)
    return place


def facts(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == options.get("want", 0), done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return {key: [rest for other, rest in lines if other == key] for key, _ in lines}


@pytest.fixture(scope="module")
def pie(zig_cc):
    return zig_cc(FACTS, "-fPIE", "-pie")


@pytest.fixture(scope="module")
def fixed(zig_cc):
    return zig_cc(FACTS, "-fno-PIE", "-no-pie")


@pytest.fixture(params=["pie", "fixed"])
def program(request):
    return request.getfixturevalue(request.param)


def test_it_runs_on_the_libraries_beside_it(program, tmp_path):
    plain = facts(program)
    assert not any(str(tmp_path) in line for line in plain["map"])
    app = sealed(program, tmp_path)
    told = facts(app)
    assert {line.strip() for line in told["map"]} == {
        f"{tmp_path}/lib/own/{it}" for it in ("ld.so", "libc.so.6")
    }


def test_it_is_itself_to_the_kernel_and_to_its_own_eyes(program, tmp_path):
    app = sealed(program, tmp_path)
    told = facts("typed", executable=app)
    assert told["exe"] == [str(app)]
    assert told["argv0"] == ["typed"]
    assert told["comm"] == ["app"]
    assert told["execfn"] == [str(app)]
    assert told["base"] == ["1 local 7"]
    assert facts(app, "again")["argv0"] == [str(app)]
    assert subprocess.run([app, "x", "37"], check=False, capture_output=True).returncode == 37


def test_it_runs_after_any_move_and_through_any_link(program, tmp_path):
    sealed(program, tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "moved: $HOME")
    app = tmp_path / "moved: $HOME/bin/app"
    link = tmp_path / "link"
    link.symlink_to(app)
    for name in (app, link):
        assert facts(name)["exe"] == [str(app)]
        assert any("moved" in line for line in facts(name)["map"])
    relative = facts("./app", cwd=app.parent)
    assert relative["exe"] == [str(app)]


def test_variables_of_the_host_reach_children_but_not_the_loader(program, tmp_path):
    app = sealed(program, tmp_path)
    mine = {"LD_PRELOAD": "/nowhere/x.so", "LD_LIBRARY_PATH": str(libc_of(LOADER).parent), "A": "1", "Z": ""}
    told = facts(app, env=mine)
    assert sorted(told["env"]) == sorted(f"{name}={value}" for name, value in mine.items())
    assert all("/lib/own/" in line for line in told["map"])
    done = subprocess.run([app], env=mine, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    noisy = subprocess.run([program], env=mine, capture_output=True, text=True, check=True)
    assert "/nowhere/x.so" in noisy.stderr


def test_of_two_search_paths_in_a_program_neither_is_searched(zig_cc, tmp_path):
    program = zig_cc(FACTS, "-fPIE", "-pie", "-Wl,-rpath,/nowhere/at/all")
    image = bytearray(program.read_bytes())
    layout = Layout(bytes(image))
    number = next(at for at, entry in enumerate(layout.entries) if entry[0] == Tag.RUNPATH)
    later = next(at for at, entry in enumerate(layout.entries) if at > number and entry[0] in NEEDLESS)
    place = layout.dynamic.offset + 16 * later
    image[place : place + 16] = struct.pack("<QQ", Tag.RPATH, layout.entries[number][1])
    (tmp_path / "both").write_bytes(image)
    told = facts(sealed(tmp_path / "both", tmp_path))
    assert {line.strip() for line in told["map"]} == {
        f"{tmp_path}/lib/own/{it}" for it in ("ld.so", "libc.so.6")
    }


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_it_gets_the_variables_of_its_seal_once(program, tmp_path, count):
    variables = {f"OWN_{number}": f"../lib/{number}" for number in range(count)}
    seal = Seal(loader="../lib/own/ld.so", directories=("../lib/own",), variables=variables)
    app = sealed(program, tmp_path, seal=seal)
    wanted = [f"OWN_{number}={tmp_path}/lib/{number}" for number in range(count)]
    assert sorted(facts(app, env={"OWN_0": "old", "B": "1"})["env"]) == ["B=1", *wanted]
    assert facts(app, env={})["env"] == wanted
    assert facts(app, "again", env={})["env"] == wanted


def test_every_byte_comes_back(program):
    image = program.read_bytes()
    there = spliced(image, embed(image, SEAL), subject="there")
    assert there != image
    assert seal_of(image) is None
    assert seal_of(there) == SEAL
    assert spliced(there, unembed(there), subject="back") == image


def test_one_input_gives_one_output(program):
    image = program.read_bytes()
    assert embed(image, SEAL) == embed(image, SEAL)


def test_programs_of_this_machine_are_sealed_and_come_back(tmp_path):
    found = [path for path in sorted(Path("/usr/bin").iterdir()) if path.is_file() and not path.is_symlink()]
    count = 0
    for path in found[:120]:
        image = path.read_bytes()
        try:
            there = spliced(image, embed(image, SEAL), subject=path.name)
        except (ElfError, EditRefused):
            continue
        count += 1
        assert spliced(there, unembed(there), subject=path.name) == image
    assert count > 30


def test_without_a_loader_it_says_so_and_ends(program, tmp_path):
    app = sealed(program, tmp_path)
    loader = tmp_path / "lib/own/ld.so"
    for damage, words in (
        (loader.unlink, "the loader cannot be opened"),
        (lambda: loader.write_bytes(b"\x7fELF"), "not a loader for this machine"),
        (lambda: loader.write_bytes(b"\x7fELF" + bytes(2000)), "not a loader for this machine"),
    ):
        damage()
        done = subprocess.run([app], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (127, "")
        assert done.stderr == f"belljar: {loader}: {words}\n"


@pytest.mark.parametrize("what", ["static", "library", "payload", "twice"])
def test_what_cannot_be_sealed_is_refused_with_the_reason(what, zig_cc, pie):
    image = {
        "static": lambda: zig_cc("int main(void) { return 0; }", "-static", target="x86_64-linux-musl"),
        "library": lambda: zig_cc("int f(void) { return 0; }", "-shared"),
    }.get(what, lambda: pie)().read_bytes()
    if what == "payload":
        image += b"a zip, an image, a script"
    if what == "twice":
        image = spliced(image, embed(image, SEAL), subject="once")
    wanted = {"payload": "behind its sections", "twice": "sealed already"}.get(what, "no interpreter")
    with pytest.raises(EditRefused, match=wanted):
        embed(image, SEAL)


def test_what_is_not_sealed_is_not_unsealed(pie):
    with pytest.raises(EditRefused, match="not sealed"):
        unembed(pie.read_bytes())


def test_a_program_that_was_changed_since_keeps_its_seal(pie):
    image = pie.read_bytes()
    there = bytearray(spliced(image, embed(image, SEAL), subject="there"))
    there[64 + 56 + 8] ^= 1  # a program header's offset
    with pytest.raises((EditRefused, ElfError)):
        unembed(bytes(there))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_read_never_worse(pie, data):
    image = pie.read_bytes()
    there = bytearray(spliced(image, embed(image, SEAL), subject="there"))
    places = st.one_of(st.integers(0, 63 + 56 * 13), st.integers(len(image), len(there) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        there[data.draw(places)] = data.draw(st.integers(0, 255))
    for work in (seal_of, unembed, lambda it: embed(it, SEAL)):
        with contextlib.suppress(ElfError, EditRefused):
            work(bytes(there))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a set-user-ID program of another user")
def test_a_set_user_id_program_refuses_to_run(program, tmp_path):
    app = sealed(program, tmp_path)
    app.chmod(0o4755)
    for path in (tmp_path, *tmp_path.parents[:-1]):
        path.chmod(path.stat().st_mode | 0o055)
    done = subprocess.run([app], user=65534, group=65534, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "cannot be set-user-ID" in done.stderr
