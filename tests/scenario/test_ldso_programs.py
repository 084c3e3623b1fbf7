"""Programs compiled on the spot: what we say beside what the loader does, case by case.

One program needs libmid.so.1, which needs libleaf.so.1. Each is compiled once, with room for paths;
the cases differ in the paths that are written into that room, and in where the files are put.
"""

import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from loader_oracle import listed

from belljar.elf import read
from belljar.elf.const import Flag1, Tag
from belljar.ldso import Cpu, How, Surroundings, resolve

TARGET = f"{platform.machine()}-linux-gnu.2.17"
ROOM = "/room" * 60
LEAF = "int leaf(void) { return 1; }"
MID = "int leaf(void); int mid(void) { return leaf(); }"
MAIN = "int mid(void); int main(void) { return mid(); }"
DLOPEN = """
#include <dlfcn.h>
__asm__(".pushsection .note.dlopen, \\"a\\", %note\\n.balign 4\\n.long 4, 2f - 1f, 0x407c0c0a\\n"
        ".asciz \\"FDO\\"\\n1: .asciz \\"[{\\\\\\"feature\\\\\\":\\\\\\"leaves\\\\\\","
        "\\\\\\"priority\\\\\\":\\\\\\"suggested\\\\\\","
        "\\\\\\"soname\\\\\\":[\\\\\\"libabsent.so.9\\\\\\","
        "\\\\\\"libleaf.so.1\\\\\\"]}]\\"\\n2: .balign 4\\n"
        ".popsection");
int main(void) { return dlopen("libguess.so.4", RTLD_NOW) == 0; }
"""


def string_offset(data, address):
    """Return where in the file a string of the dynamic segment is."""
    elf = read(data)
    table = elf.offset_of(elf.dynamic.first(Tag.STRTAB).value)
    return table + address


def patch(path, *, runpath=None, tag=Tag.RUNPATH, needed=None, soname=None, flags_1=0):
    """Write names and flags into the dynamic segment of a file, in the room that it has."""
    data = bytearray(path.read_bytes())
    dynamic = read(bytes(data)).dynamic
    for wanted, text in ((Tag.RUNPATH, runpath or ""), (Tag.NEEDED, needed), (Tag.SONAME, soname)):
        entry = dynamic.first(wanted)
        if entry is None or text is None:
            continue
        at = string_offset(bytes(data), entry.value)
        size = data.index(b"\0", at) - at
        assert len(text) <= size, text
        data[at : at + size] = os.fsencode(text).ljust(size, b"\0")
        if wanted == Tag.RUNPATH:
            # No list at all: the tag becomes one that no loader looks at.
            struct.pack_into("<q", data, entry.offset, tag if runpath else 0x6FFFF999)
    if flags_1:
        entry = dynamic.first(Tag.FLAGS_1)
        struct.pack_into("<qQ", data, entry.offset, Tag.FLAGS_1, entry.value | flags_1)
    path.write_bytes(data)


class Bench:
    """A directory with a program and libraries, and both answers for it."""

    def __init__(self, zig_cc, top):
        self.top = top
        paths = f"-Wl,-rpath,{ROOM}"
        self._leaf = zig_cc(LEAF, "-shared", "-Wl,-soname,libleaf.so.1", paths, target=TARGET)
        leaf = self._input("leaf.so", self._leaf)
        self._mid = zig_cc(MID, "-shared", "-Wl,-soname,libmid.so.1", paths, leaf, target=TARGET)
        mid = self._input("mid.so", self._mid)
        self._main = zig_cc(MAIN, "-pie", paths, "-Wl,--allow-shlib-undefined", mid, target=TARGET)

    def _input(self, name, path):
        """Return the file under a name that tells the linker what it is."""
        place = self.top / "inputs" / name
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
        return place

    def put(self, kind, name, **patches):
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile({"leaf": self._leaf, "mid": self._mid, "main": self._main}[kind], path)
        patch(path, **patches)
        path.chmod(0o755)
        return path

    def agree(self, program, *, cwd=None, preload=(), library_path=""):
        """Return our closure, having compared it with the loader's list."""
        directory = str(cwd or self.top)
        env = {"LD_PRELOAD": ":".join(map(str, preload)), "LD_LIBRARY_PATH": library_path}
        judge = listed(program, cwd=directory, **{name: value for name, value in env.items() if value})
        surroundings = Surroundings(
            directory=directory, preload=tuple(map(str, preload)), library_path=library_path
        )
        closure = resolve(Path(program), surroundings=surroundings)
        assert [item.path for item in closure.objects[1:]] == judge.paths, judge
        assert {edge.name for edge in closure.missing} == judge.missing, judge
        return closure


@pytest.fixture
def bench(zig_cc, tmp_path):
    return Bench(zig_cc, tmp_path)


def edge(closure, name):
    return next(item for item in closure.edges if item.name == name)


def names(closure):
    return {item.name for item in closure.missing}


def test_without_a_path_the_libraries_are_missing_and_with_one_they_are_found(bench):
    bench.put("mid", "lib/libmid.so.1")
    bench.put("leaf", "lib/libleaf.so.1")
    assert names(bench.agree(bench.put("main", "none"))) == {"libmid.so.1"}
    program = bench.put("main", "some", runpath=f"{bench.top}/lib")
    closure = bench.agree(program)
    found = edge(closure, "libmid.so.1")
    assert (found.how, found.entry, found.owner) == (How.RUNPATH, f"{bench.top}/lib", str(program))


def test_rpath_is_inherited_and_runpath_is_not(bench):
    bench.put("mid", "lib/libmid.so.1")
    bench.put("leaf", "lib/libleaf.so.1")
    lib = f"{bench.top}/lib"
    assert names(bench.agree(bench.put("main", "runpath", runpath=lib))) == {"libleaf.so.1"}
    program = bench.put("main", "rpath", runpath=lib, tag=Tag.RPATH)
    found = edge(bench.agree(program), "libleaf.so.1")
    assert (found.how, found.owner) == (How.RPATH, str(program))


def test_a_library_with_a_runpath_does_not_inherit_the_rpath_of_the_program(bench):
    bench.put("leaf", "lib/libleaf.so.1")
    program = bench.put("main", "main", runpath=f"{bench.top}/lib", tag=Tag.RPATH)
    bench.put("mid", "lib/libmid.so.1")
    assert names(bench.agree(program)) == set()
    bench.put("mid", "lib/libmid.so.1", runpath=f"{bench.top}/nowhere")
    assert names(bench.agree(program)) == {"libleaf.so.1"}


def test_origin_is_where_a_program_really_is_and_where_a_library_was_found(bench):
    bench.put("mid", "real/lib/libmid-1.so", runpath="${ORIGIN}/../leaves")
    bench.put("leaf", "found/leaves/libleaf.so.1")
    bench.put("leaf", "real/leaves/libleaf.so.1")
    (bench.top / "found/lib").mkdir()
    (bench.top / "found/lib/libmid.so.1").symlink_to("../../real/lib/libmid-1.so")
    bench.put("main", "real/bin/main", runpath="$ORIGIN/../../found/lib")
    (bench.top / "main").symlink_to("real/bin/main")
    closure = bench.agree(bench.top / "main")
    assert closure.objects[1].path == f"{bench.top}/real/bin/../../found/lib/libmid.so.1"
    assert any(item.path.endswith("found/lib/../leaves/libleaf.so.1") for item in closure.objects)


def test_library_path_goes_before_runpath_and_behind_rpath(bench):
    for name in ("a", "b"):
        bench.put("mid", f"{name}/libmid.so.1")
        bench.put("leaf", f"{name}/libleaf.so.1")
    outside = f"{bench.top}/b;{bench.top}/none"
    by_runpath = bench.agree(bench.put("main", "runpath", runpath=f"{bench.top}/a"), library_path=outside)
    assert edge(by_runpath, "libmid.so.1").how is How.LIBRARY_PATH
    by_rpath = bench.agree(
        bench.put("main", "rpath", runpath=f"{bench.top}/a", tag=Tag.RPATH), library_path=outside
    )
    assert edge(by_rpath, "libmid.so.1").how is How.RPATH


def test_subdirectories_for_the_processor_come_first_if_it_has_what_they_are_for(bench):
    for below in ("", "glibc-hwcaps/x86-64-v2/", "glibc-hwcaps/x86-64-v4/", "tls/", "x86_64/", "tls/x86_64/"):
        bench.put("mid", f"lib/{below}libmid.so.1")
    bench.put("leaf", "lib/libleaf.so.1")
    program = bench.put("main", "main", runpath=f"{bench.top}/lib")
    bench.agree(program)
    shutil.rmtree(bench.top / "lib/glibc-hwcaps")
    bench.agree(program)
    level = bench.put("mid", "lib/glibc-hwcaps/x86-64-v3/libmid.so.1")
    weak = resolve(program, surroundings=Surroundings(cpu=Cpu(platform="x86_64")))
    strong = resolve(program, surroundings=Surroundings(cpu=Cpu(platform="x86_64", levels=("x86-64-v3",))))
    assert weak.objects[1].path != str(level)
    assert strong.objects[1].path == str(level)


def test_tokens_and_empty_entries_mean_what_they_mean_to_the_loader(bench):
    bench.put("mid", "here/libmid.so.1")
    bench.put("leaf", "here/libleaf.so.1")
    bench.put("mid", "opt/lib64/libmid.so.1")
    bench.put("mid", f"opt/lib/{platform.machine()}-linux-gnu/libmid.so.1")
    for entry in (
        f"{bench.top}/opt/$LIB",
        f"{bench.top}/opt/${{LIB}}/",
        f"{bench.top}/$PLATFORM:{bench.top}/here//",
        "$ORIGINAL:$ORIGIN:${ORIGIN:$LIBS/:$",
        "::here",
        "",
    ):
        program = bench.put("main", "main", runpath=entry)
        bench.agree(program)
        bench.agree(program, cwd=bench.top / "here")
    found = bench.agree(bench.put("main", "main", runpath=":/nowhere"), cwd=bench.top / "here")
    assert found.objects[1].path == "libmid.so.1"


def test_a_name_that_is_loaded_already_is_not_searched(bench):
    bench.put("mid", "lib/libmid.so.1", runpath=f"{bench.top}/lib")
    bench.put("leaf", "lib/libleaf.so.1")
    other = bench.put("leaf", "other/anything.so")
    program = bench.put("main", "main", runpath=f"{bench.top}/lib")
    assert edge(bench.agree(program), "libleaf.so.1").how is not How.LOADED
    closure = bench.agree(program, preload=[other])
    assert edge(closure, "libleaf.so.1").how is How.LOADED
    assert str(other) in [item.path for item in closure.objects]


def test_one_file_under_two_names_is_loaded_once(bench):
    bench.put("mid", "lib/libmid.so.1", runpath=f"{bench.top}/lib")
    leaf = bench.put("leaf", "lib/libleaf.so.1", soname="libLEAF.so.1")
    (bench.top / "lib/second.so").hardlink_to(leaf)
    program = bench.put("main", "main", runpath=f"{bench.top}/lib")
    closure = bench.agree(program, preload=[bench.top / "lib/second.so"])
    assert edge(closure, "libleaf.so.1").entry == "file"


def test_a_needed_name_with_a_slash_is_a_path_from_the_working_directory(bench):
    bench.put("mid", "d/libm.so")
    bench.put("leaf", "lib/libleaf.so.1")
    program = bench.put("main", "main", runpath=f"{bench.top}/lib", needed="d/libm.so")
    assert edge(bench.agree(program), "d/libm.so").how is How.PATH
    assert "d/libm.so" in names(bench.agree(program, cwd="/"))


def test_files_for_other_machines_are_passed_over_and_said(bench):
    foreign = bench.put("mid", "other/libmid.so.1")
    data = bytearray(foreign.read_bytes())
    struct.pack_into("<H", data, 18, 20)
    foreign.write_bytes(data)
    narrow = bench.put("mid", "narrow/libmid.so.1")
    data = bytearray(narrow.read_bytes())
    data[4] = 1
    narrow.write_bytes(data)
    bench.put("mid", "lib/libmid.so.1")
    bench.put("leaf", "lib/libleaf.so.1")
    program = bench.put(
        "main", "main", runpath=":".join(f"{bench.top}/{n}" for n in ("other", "narrow", "lib"))
    )
    assert len(edge(bench.agree(program), "libmid.so.1").passed) == 2


@pytest.mark.parametrize("kind", ["text", "directory", "short", "program"])
def test_what_is_no_library_ends_loading(bench, kind):
    place = bench.top / "bad/libmid.so.1"
    place.parent.mkdir()
    match kind:
        case "text":
            place.write_text("GROUP ( libmid.so.2 )\n" * 100)
        case "directory":
            place.mkdir()
        case "short":
            place.write_bytes(b"\x7fELF")
        case "program":
            shutil.copyfile(bench.put("main", "other"), place)
    bench.put("mid", "lib/libmid.so.1")
    program = bench.put("main", "main", runpath=f"{bench.top}/bad:{bench.top}/lib")
    judge = listed(program)
    assert judge.status != 0, judge
    assert edge(resolve(program), "libmid.so.1").how is How.DAMAGED


def test_a_loop_of_links_ends_the_search_in_its_list(bench):
    bench.put("mid", "lib/libmid.so.1")
    bench.put("leaf", "lib/libleaf.so.1")
    (bench.top / "loop").mkdir()
    (bench.top / "loop/libmid.so.1").symlink_to("libmid.so.1")
    program = bench.put("main", "main", runpath=f"{bench.top}/loop:{bench.top}/lib")
    assert "libmid.so.1" in names(bench.agree(program))


def test_a_program_that_avoids_default_directories_does_not_find_its_libc_there(bench):
    bench.put("mid", "lib/libmid.so.1")
    bench.put("leaf", "lib/libleaf.so.1")
    plain = bench.agree(bench.put("main", "plain", runpath=f"{bench.top}/lib"))
    avoiding = bench.agree(bench.put("main", "main", runpath=f"{bench.top}/lib", flags_1=Flag1.NODEFLIB))
    assert edge(plain, "libc.so.6").path is not None
    assert edge(avoiding, "libc.so.6").path is None or edge(avoiding, "libc.so.6").how is How.LOADED


def test_a_symbol_that_no_file_defines_is_named(bench):
    bench.put("mid", "lib/libmid.so.1", runpath=f"{bench.top}/lib")
    leaf = bench.put("leaf", "lib/libleaf.so.1")
    program = bench.put("main", "main", runpath=f"{bench.top}/lib")
    assert bench.agree(program).unresolved == ()
    assert subprocess.run([program], env={}, check=False).returncode == 1
    leaf.write_bytes(leaf.read_bytes().replace(b"\0leaf\0", b"\0lead\0"))
    closure = resolve(program)
    symbols = {(item.path, item.symbol) for item in closure.unresolved}
    assert symbols == listed(program, symbols=True).undefined == {(f"{bench.top}/lib/libmid.so.1", "leaf")}
    assert not closure.is_complete


def test_libraries_that_a_program_may_open_are_told_by_note_and_guessed_from_strings(bench, zig_cc):
    program = bench.top / "opener"
    paths = f"-Wl,-rpath,{ROOM}"
    shutil.copyfile(zig_cc(DLOPEN, paths, target=TARGET), program)
    patch(program, runpath="$ORIGIN/lib")
    leaf = bench.put("leaf", "lib/libleaf.so.1")
    own = {item.name: item for item in resolve(program).dlopened if item.asker == str(program)}
    noted, guessed = own["libleaf.so.1"], own["libguess.so.4"]
    assert (noted.source, noted.priority, noted.feature) == ("note", "suggested", "leaves")
    assert Path(noted.path).resolve() == leaf
    assert (guessed.source, guessed.how, guessed.path) == ("string", How.MISSING, None)
