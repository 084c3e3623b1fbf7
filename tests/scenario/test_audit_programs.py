"""Programs compiled on the spot, audited."""

import contextlib
import json
import os
import shutil
import struct
import tempfile
import types
from pathlib import Path

import pytest

from belljar.audit import GlibcVersion, Kind, Policy, Severity, audit
from belljar.elf import read
from belljar.elf.const import Tag
from belljar.errors import InputError
from belljar.report.audit_text import render

SOURCE = """
#include <pthread.h>
#include <stdio.h>
static void *start(void *x) { return x; }
int main(void) {
    pthread_t thread;
    return pthread_create(&thread, 0, start, 0) + printf("hello\\n");
}
"""
PATHS = """
#include <stdio.h>
int main(void) { puts("/build/x/share"); puts("/home/me/build/y"); return 0; }
"""
OLD, NEW = "x86_64-linux-gnu.2.17", "x86_64-linux-gnu.2.34"
POLICY = Policy.of(glibc="2.17", isa="x86-64")


@pytest.fixture
def tree(tmp_path, zig_cc):
    """Return a function that puts a compiled program into a tree."""

    def put(name, *flags, target=OLD, source=SOURCE, files=types.MappingProxyType({})):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(zig_cc(source, *flags, target=target, files=files), path)
        return path

    put.root = tmp_path / "tree"
    put.root.mkdir()
    return put


@contextlib.contextmanager
def unprivileged(directory):
    """Be an ordinary user, who owns `directory`, for a while; root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(directory, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def errors(report):
    return [finding for finding in report.findings if finding.severity is Severity.ERROR]


def patch_tag(path: Path, old: int, new: int) -> None:
    """Change the tag of one dynamic entry: what linkers without --disable-new-dtags cannot be asked for."""
    data = bytearray(path.read_bytes())
    dynamic = read(bytes(data)).dynamic
    assert dynamic is not None
    entry = dynamic.first(old)
    assert entry is not None
    struct.pack_into("<q", data, entry.offset, new)
    path.write_bytes(data)


def test_a_program_built_for_an_old_glibc_passes_and_the_same_source_built_for_a_new_one_fails(tree):
    tree("bin/old", target=OLD)
    passing = audit([tree.root], policy=POLICY)
    assert passing.passed
    assert passing.floor is not None
    assert passing.floor.glibc <= GlibcVersion.parse("2.17")
    assert "Debian 8+" in passing.floor.distributions or passing.floor.glibc < GlibcVersion.parse("2.17")

    new = tree("bin/new", target=NEW)
    failing = audit([tree.root], policy=POLICY)
    assert not failing.passed
    assert [(finding.rule, finding.path, finding.version) for finding in errors(failing)] == [
        ("glibc-floor", str(new), "GLIBC_2.34")
    ]
    assert "pthread_create" in errors(failing)[0].symbols
    assert failing.floor is not None
    assert str(failing.floor.glibc) == "2.34"
    assert [(path, cause.library) for path, cause in failing.floor.causes] == [(str(new), "libc.so.6")]


def test_the_text_names_file_symbol_version_and_verdict(tree):
    tree("bin/new", target=NEW)
    text = "\n".join(render(audit([tree.root], policy=POLICY)))
    assert "bin/new: needs GLIBC_2.34 of libc.so.6 for __libc_start_main, pthread_create" in text
    assert "glibc 2.34 or newer (RHEL/CentOS 9+, Debian 12+" in text
    assert "cpu        x86-64" in text
    assert text.endswith("failed: 1 error, 0 notes")


def test_the_json_is_json_and_says_the_same(tree):
    tree("bin/new", target=NEW)
    report = audit([tree.root], policy=POLICY)
    value = json.loads(json.dumps(report.to_json()))
    assert value["version"] == 2
    assert value["verdict"] == "fail"
    assert value["policy"]["glibc"] == "2.17"
    assert value["floors"]["glibc"] == value["files"][0]["floors"]["glibc"] == "2.34"
    assert value["files"][0]["findings"] == value["findings"]
    assert value["findings"][0]["evidence"]["symbols"] == list(report.findings[0].symbols)


def test_a_program_for_aarch64_is_audited_alike(tree):
    path = tree("bin/x", target="aarch64-linux-gnu.2.17")
    report = audit([path], policy=Policy.of(glibc="2.17", isa="aarch64"))
    (file,) = report.files
    assert report.passed, errors(report)
    assert (file.arch, file.kind, str(file.floor)) == ("aarch64", Kind.EXECUTABLE, "2.17")
    assert [finding.rule for finding in errors(audit([path], policy=POLICY))] == ["arch"]


@pytest.mark.parametrize(
    ("target", "arch"),
    [("x86-linux-gnu.2.17", "i386"), ("s390x-linux-gnu", "s390x"), ("powerpc64-linux-gnu", "ppc64")],
)
def test_libraries_of_32_bits_and_of_big_endian_machines_are_audited_alike(tree, target, arch):
    bare = ("-shared", "-nostdlib", "-fno-sanitize=all")
    # A libc of two symbols: zig would build all its stubs for the target otherwise.
    libc = tree(
        "lib/libc.so.6",
        *bare,
        "-Wl,-soname,libc.so.6",
        "-Wl,--version-script=versions",
        source="int thread(void) { return 1; } int print(void) { return 2; }",
        files={"versions": "GLIBC_2.4 { thread; };\nGLIBC_2.30 { print; } GLIBC_2.4;\n"},
        target=target,
    )
    using = "int thread(void); int print(void); int x(void) { return thread() + print(); }"
    path = tree("lib/libx.so", *bare, libc, source=using, target=target)
    (file,) = audit([path]).files
    assert (file.arch, file.kind, file.needed, str(file.floor)) == (arch, Kind.SHARED, ("libc.so.6",), "2.30")
    assert [(use.version, use.symbols) for use in file.versions] == [
        ("GLIBC_2.4", ("thread",)),
        ("GLIBC_2.30", ("print",)),
    ]


def test_rpath_and_runpath_are_told_apart(tree):
    path = tree("bin/x", "-Wl,-rpath,/opt/lib:$ORIGIN/../lib")
    (file,) = audit([path]).files
    assert (file.rpath, file.runpath) == ((), ("/opt/lib", "$ORIGIN/../lib"))
    patch_tag(path, Tag.RUNPATH, Tag.RPATH)
    (file,) = audit([path]).files
    assert (file.rpath, file.runpath) == (("/opt/lib", "$ORIGIN/../lib"), ())


def test_a_program_says_the_same_without_section_headers(tree):
    path = tree("bin/x", target=NEW)
    before = audit([path], policy=POLICY, effort=None)
    data = bytearray(path.read_bytes())
    data[40:48] = bytes(8)
    data[58:64] = bytes(6)
    path.write_bytes(data)
    assert audit([path], policy=POLICY, effort=None) == before


def test_a_static_program_has_no_floor(tree):
    path = tree("bin/x", "-nostdlib", "-static", source="void _start(void) { for (;;) {} }")
    report = audit([path], policy=POLICY)
    assert report.passed
    assert report.floor is None
    assert report.files[0].kind is Kind.STATIC
    assert "none of which needs glibc" in render(report)[0]


def test_an_object_file_is_read_and_a_script_is_passed_over(tree):
    tree("lib/x.o", "-c")
    (tree.root / "script").write_text("#!/bin/sh\n")
    report = audit([tree.root], policy=POLICY)
    assert [file.kind for file in report.files] == [Kind.OBJECT]
    assert report.passed


def test_libraries_of_the_tree_are_told_from_those_outside(tree):
    tree("lib/libx.so.1", "-shared", "-nostdlib", "-Wl,-soname,libx.so.1", source="int x(void) { return 1; }")
    # A library is linked against where it was made; its soname is what the program then needs.
    tree("bin/y", tree.root / "lib/libx.so.1", source="int x(void); int main(void) { return x(); }")
    report = audit([tree.root])
    assert [(item.name, item.inside, item.libc) for item in report.libraries] == [
        ("libc.so.6", False, True),
        ("libx.so.1", True, False),
    ]


def test_build_paths_are_found_where_they_stand_and_told_apart(tree):
    path = tree(
        "bin/x",
        "-g0",
        "-Wl,-rpath,/build/x/lib",
        source=PATHS,
    )
    clean = audit([path])
    assert clean.passed
    assert clean.files[0].leaks == ()
    report = audit([path], policy=Policy(build_paths=("/build/",)))
    leaks = {(leak.where, leak.text) for leak in report.files[0].leaks}
    assert leaks == {("runpath", "/build/x/lib"), ("loaded data", "/build/x/share")}
    data = path.read_bytes()
    for leak in report.files[0].leaks:
        assert data[leak.offset :].startswith(leak.text.encode())
    assert [finding.rule for finding in errors(report)] == ["build-path"]


def test_a_weak_version_need_sets_the_floor_only_when_a_symbol_needs_it(tree):
    path = tree("bin/x", target=NEW)
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<I", 0x069691B4))  # the hash of GLIBC_2.34 in its version need
    struct.pack_into("<H", data, at + 4, 2)
    path.write_bytes(data)
    (file,) = audit([path]).files
    need = next(use for use in file.versions if use.version == "GLIBC_2.34")
    assert (need.weak, need.required) == (True, True)
    # The same with its symbols made weak: now the program can do without.
    symbols = read(bytes(data)).symbols
    table = next(entry.value for entry in read(bytes(data)).dynamic.entries if entry.tag == Tag.SYMTAB)
    start = read(bytes(data)).offset_of(table)
    for number, symbol in enumerate(symbols, 1):
        if symbol.version == "GLIBC_2.34":
            data[start + 24 * number + 4] = 2 << 4 | 2
    path.write_bytes(data)
    report = audit([path], policy=POLICY)
    assert report.passed
    assert [finding.severity for finding in report.findings] == [Severity.NOTE]


def test_a_damaged_file_is_a_finding_with_its_offset_and_the_others_are_audited(tree):
    good, bad = tree("bin/good"), tree("bin/bad")
    bad.write_bytes(bad.read_bytes()[:1500])
    report = audit([tree.root], policy=POLICY)
    assert [file.path for file in report.files] == [str(good)]
    (finding,) = report.findings
    assert (finding.rule, finding.path) == ("unreadable", str(bad))
    assert finding.offset is not None
    assert not report.passed


def test_links_are_followed_when_named_and_not_within_a_tree(tree, tmp_path):
    path = tree("bin/x")
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.move(path, outside / "x")
    path.symlink_to(outside / "x")
    (tree.root / "loop").symlink_to(tree.root)
    assert audit([tree.root]).files == ()
    assert [file.path for file in audit([path]).files] == [str(path)]


def test_only_regular_files_are_opened(tree):
    os.mkfifo(tree.root / "fifo")
    assert audit([tree.root]).files == ()
    with pytest.raises(InputError):
        audit([tree.root / "fifo"])


def test_what_is_missing_is_refused_and_what_is_no_elf_is_said(tree):
    with pytest.raises(InputError):
        audit([tree.root / "missing"])
    script = tree.root / "script"
    script.write_text("#!/bin/sh\n")
    assert [finding.rule for finding in audit([script]).findings] == ["not-elf"]


def test_what_may_not_be_read_is_a_finding():
    with tempfile.TemporaryDirectory() as name, unprivileged(Path(name)):
        root = Path(name)
        (root / "closed").mkdir(mode=0)
        (root / "hidden").write_bytes(b"\x7fELF")
        (root / "hidden").chmod(0)
        found = audit([root]).findings
        (root / "closed").chmod(0o700)
    assert {(item.rule, item.path) for item in found} == {
        ("unreadable", str(root / "closed")),
        ("unreadable", str(root / "hidden")),
    }


def test_progress_counts_every_file_to_the_end(tree):
    tree("bin/x")
    tree("bin/y")
    events = []
    audit([tree.root], progress=events.append)
    assert [(event.done, event.total) for event in events if event.total] == [(1, 2), (2, 2)]


def test_names_that_would_move_the_cursor_are_escaped(tree):
    tree("bin/\x1b[2Jx")
    assert "\x1b" not in "".join(render(audit([tree.root])))
