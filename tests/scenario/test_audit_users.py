"""Which function of a compiled program uses a symbol that sets a floor."""

import contextlib
import json
import random
import shutil
import subprocess
import sys

import pytest
from elftools.elf.elffile import ELFFile

from belljar.audit import audit, users_of, with_users
from belljar.elf import ElfError
from belljar.report.audit_text import render
from belljar.report.html import to_html

SOURCE = """
#include <pthread.h>
#include <stdlib.h>
static void *start(void *x) { return x; }
__attribute__((noinline)) int spawn(void) {
    pthread_t thread;
    return pthread_create(&thread, 0, start, 0);
}
__attribute__((noinline)) char *idle(void) { return getenv("HOME"); }
int main(void) { return spawn() + (idle() != 0); }
"""
POINTER = """
#include <pthread.h>
void *const table[] = {(void *)pthread_create};
"""
MANY = "int dlclose(void *);" + "".join(
    f"int f{n:02}(void *x) {{ return dlclose(x) + {n}; }}" for n in range(11)
)
TARGETS = ("x86_64-linux-gnu.2.34", "aarch64-linux-gnu.2.34")
TARGET = TARGETS[0]


def users(path, *symbols):
    return {item.symbol: item for item in users_of(path.read_bytes(), frozenset(symbols))}


def cause_of(path, symbol):
    report = with_users(audit([path], ties=False))
    found = [item for cause in report.causes for item in cause.users if item.symbol == symbol]
    return report, found


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("flag", ["-fplt", "-fno-plt"])
def test_the_function_that_calls_is_named_and_no_other(zig_cc, target, flag):
    found = users(zig_cc(SOURCE, flag, target=target), "pthread_create", "getenv", "dlopen")
    assert {name: item.names for name, item in found.items()} == {
        "pthread_create": ("spawn",),
        "getenv": ("idle",),
    }


@pytest.mark.parametrize("target", TARGETS)
def test_in_a_stripped_program_the_function_is_its_address(zig_cc, target):
    with zig_cc(SOURCE, target=target).open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        names = {f"{item['st_value']:#x}": item.name for item in table.iter_symbols()}
    found = users(zig_cc(SOURCE, "-Wl,-s", target=target), "pthread_create")
    assert [names[address] for address in found["pthread_create"].names] == ["spawn"]


def test_a_pointer_in_data_is_a_place_in_data(zig_cc):
    library = zig_cc(POINTER, "-shared", target=TARGET)
    with library.open("rb") as file:
        (table,) = ELFFile(file).get_section_by_name(".dynsym").get_symbol_by_name("table")
    assert users(library, "pthread_create")["pthread_create"].names == (f"data at {table['st_value']:#x}",)


def test_many_users_are_counted(zig_cc):
    (item,) = users(zig_cc(MANY, "-shared", target=TARGET), "dlclose").values()
    assert (item.total, item.names[:2], len(item.names)) == (11, ("f00", "f01"), 8)
    assert str(item).endswith("f07 and 3 more")


def test_a_member_of_a_static_library_says_it_by_relocations(zig_cc, tmp_path):
    for name, source in (("calls.o", SOURCE), ("points.o", POINTER)):
        shutil.copyfile(zig_cc(source, "-c", target=TARGET), tmp_path / name)
    archive = tmp_path / "lib.a"
    ar = [sys.executable, "-m", "ziglang", "ar", "rc", archive, "calls.o", "points.o"]
    subprocess.run(ar, check=True, cwd=tmp_path)
    report, _ = cause_of(archive, "")
    found = {(cause.path, item.symbol): item.names for cause in report.causes for item in cause.users}
    assert found == {
        (f"{archive}!calls.o", "getenv"): ("idle",),
        (f"{archive}!calls.o", "pthread_create"): ("spawn",),
        (f"{archive}!points.o", "pthread_create"): ("table",),
    }


def test_users_are_told_in_every_form_and_looked_for_only_when_asked(zig_cc):
    program = zig_cc(SOURCE, target=TARGET)
    assert all(cause.users == () for cause in audit([program]).causes)
    report, (item,) = cause_of(program, "pthread_create")
    line = "pthread_create: used by spawn"
    assert str(item) == "spawn"
    assert any(line in text for text in render(report, why=True))
    assert not any("used by" in text for text in render(report))
    assert line in to_html(report)
    told = [user for cause in report.to_json()["causes"] for user in cause["users"]]
    assert {"symbol": "pthread_create", "names": ["spawn"], "total": 1} in json.loads(json.dumps(told))


@pytest.mark.parametrize("flags", [(), ("-c",)])
def test_damaged_files_have_users_or_are_refused_as_damaged(zig_cc, flags):
    good = zig_cc(SOURCE, *flags, "-s", target=TARGET).read_bytes()
    assert users_of(good, frozenset({"pthread_create"}))
    dice = random.Random(3)
    for _ in range(60):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 30)):
            data[dice.randrange(16, len(data))] = dice.randrange(256)
        with contextlib.suppress(ElfError):
            users_of(bytes(data), frozenset({"pthread_create"}))
        with contextlib.suppress(ElfError):
            users_of(good[: dice.randrange(len(good))], frozenset({"pthread_create"}))


def test_a_file_that_is_gone_has_no_users(zig_cc, tmp_path):
    program = shutil.copy(zig_cc(SOURCE, target=TARGET), tmp_path / "program")
    report = audit([program], ties=False)
    program.unlink()
    assert with_users(report).causes == report.causes
