"""Trees as a whole: several processes, archives, static libraries, links, closures, how much is read."""

import os
import re
import shutil
import signal
import zipfile
from pathlib import Path

import pytest

from belljar.audit import Kind, Policy, Severity, audit, parallel
from belljar.audit.content import AT_ONCE, content
from belljar.audit.facts import facts_of
from belljar.audit.isa import Effort
from belljar.audit.isa.source import source_of
from belljar.audit.leaks import find_leaks
from belljar.audit.ties import Scanner
from belljar.elf import read
from belljar.elf.const import MAGIC
from belljar.errors import HostError, InputError
from belljar.report.audit_text import render

NEW = "x86_64-linux-gnu.2.38"
USES_NEW = """
long __isoc23_strtol(const char *, char **, int);
unsigned long strlen(const char *);
long number(const char *text) { return __isoc23_strtol(text, 0, 10) + (long)strlen(text); }
"""


def real_files(limit):
    """Programs and libraries of this machine, of many sizes."""
    found = []
    for directory in (Path("/usr/bin"), *Path("/usr/lib").glob("*-linux-gnu")):
        for path in directory.iterdir():
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                with path.open("rb") as file:
                    found += [path] if file.read(4) == MAGIC else []
    found = [path for path in found if path.stat().st_size < 20 << 20]
    return sorted(found, key=lambda path: path.stat().st_size)[:: max(len(found) // limit, 1)]


def test_the_outcome_does_not_depend_on_the_number_of_processes():
    paths = real_files(60)
    one, three = (audit(paths, effort=None, jobs=jobs) for jobs in (1, 3))
    assert one == three
    assert len(one.files) >= 50


def test_what_the_loader_looks_at_is_all_that_a_verdict_needs():
    """Of each file only the loader's tables are read, and it says the same as the whole."""
    read_less = 0
    for path in real_files(80):
        with content(path, whole=False) as part, content(path, whole=True) as whole:
            read_less += part[:] != source_of(whole)[:]
            assert facts_of("x", part, read(memoryview(part))) == facts_of(
                "x", whole, read(memoryview(whole))
            )
    assert read_less > 10


def test_a_big_file_that_shrinks_while_it_is_read_is_read_on_as_zeros(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"/home/mara/src/x\0" + bytes(AT_ONCE) + b"/home/mara/src/y\0")
    with content(path, whole=True) as data:
        assert [tie.count for tie in Scanner().ties_of("big", data)] == [2]
        os.truncate(path, 100)
        assert [tie.count for tie in Scanner().ties_of("big", data)] == [1]
        os.truncate(path, 0)
        assert Scanner().ties_of("big", data) == ()
        assert find_leaks(data, read(Path("/bin/true").read_bytes()), ("/home",)) == ()


def test_results_come_in_the_order_of_the_items_whatever_they_weigh():
    items = list(range(200))
    found = parallel.each(lambda n: n * n, items, weight=lambda n: n % 7, jobs=3, done=lambda _: None)
    assert found == [n * n for n in items]


def test_what_goes_wrong_in_a_process_is_raised_here():
    def fail(number):
        if number == 13:
            raise InputError("thirteen")
        return number

    with pytest.raises(InputError, match="thirteen"):
        parallel.each(fail, range(50), weight=lambda _: 1, jobs=2, done=lambda _: None)


def test_a_process_that_is_killed_leaves_no_verdict():
    def die(number):
        if number == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(HostError, match="killed"):
        parallel.each(die, range(50), weight=lambda _: 1, jobs=2, done=lambda _: None)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_file_with_two_names_is_looked_at_once(tmp_path):
    shutil.copy("/bin/sh", tmp_path / "a")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to("a")
    assert [Path(file.path).name for file in audit([tmp_path]).files] == ["a"]


def test_a_wheel_is_audited_as_the_tree_that_it_holds(tmp_path):
    wheel = tmp_path / "x-1-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write("/bin/sh", "x/sh")
    tree = tmp_path / "x"
    tree.mkdir()
    shutil.copy("/bin/sh", tree / "sh")
    (packed,), (plain,) = audit([wheel]).files, audit([tree]).files
    assert packed.path == f"{wheel}!x/sh"
    assert (packed.floors, packed.needed, packed.versions) == (plain.floors, plain.needed, plain.versions)


def test_an_object_needs_the_release_that_first_had_what_it_refers_to(zig_cc):
    path = zig_cc(USES_NEW, "-c", target=NEW)
    (file,) = audit([path]).files
    assert (file.kind, str(file.floor)) == (Kind.OBJECT, "2.38")
    report = audit([path], policy=Policy.of(glibc="2.17"))
    assert [(item.severity, item.symbols) for item in report.findings] == [
        (Severity.ERROR, ("__isoc23_strtol",))
    ]
    old = zig_cc(USES_NEW.replace("__isoc23_strtol", "strtol"), "-c")
    assert audit([old], policy=Policy.of(glibc="2.17")).passed


@pytest.mark.parametrize("effort", [None, Effort.LOAD])
def test_an_object_of_any_size_needs_what_it_refers_to(zig_cc, effort):
    path = zig_cc(USES_NEW + "char room[9 << 20] = {1};", "-c", target=NEW)
    assert path.stat().st_size > 9 << 20
    assert audit([path], effort=effort).floors.glibc == "2.38"


def ar(path, *members):
    """Write a static library by hand: no binutils needed."""
    data = b"!<arch>\n"
    for member in members:
        content_ = member.read_bytes()
        head = f"{member.name + '/':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content_):<10}`\n"
        data += head.encode() + content_ + b"\n" * (len(content_) % 2)
    path.write_bytes(data)
    return path


def test_what_a_static_library_brings_itself_it_does_not_need(zig_cc, tmp_path):
    user = zig_cc(USES_NEW, "-c", target=NEW)
    own = "long __isoc23_strtol(const char *a, char **b, int c) { return 0; }"
    bringer = zig_cc(own, "-c", target=NEW)
    for name, source in (("user.o", user), ("bringer.o", bringer)):
        shutil.copy(source, tmp_path / name)
    alone = ar(tmp_path / "alone.a", tmp_path / "user.o")
    whole = ar(tmp_path / "whole.a", tmp_path / "user.o", tmp_path / "bringer.o")
    assert audit([alone]).floors.glibc == "2.38"
    assert audit([whole]).floors.glibc == "2.2.5"


def test_a_program_that_does_not_get_a_library_is_an_error(zig_cc, tmp_path):
    source = "int x(void) { return 1; }"
    library = tmp_path / "libxyzzy.so"
    shutil.copy(zig_cc(source, "-shared", "-Wl,-soname,libxyzzy.so.1"), library)
    program = tmp_path / "prog"
    shutil.copy(zig_cc("int x(void); int main(void) { return x(); }", library), program)
    library.unlink()
    report = audit([tmp_path], root=Path("/"))
    missing = [item for item in report.findings if item.rule == "missing-library"]
    assert [(item.severity, item.library) for item in missing] == [(Severity.ERROR, "libxyzzy.so.1")]
    assert report.missing == {"libxyzzy.so.1"}
    assert "  closures complete: 0 of 1 (--why shows each)" in render(report)
    told = "\n".join(render(report, why=True))
    assert "libxyzzy.so.1 => not found: in none of the directories; needed by" in told
    assert re.search(r"libc\.so\.6 => /\S+: (ld\.so\.cache|default directory)", told)
    assert audit([tmp_path]).passed
