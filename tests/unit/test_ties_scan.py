"""Which paths are a builder's, where they stand, and how certain that is."""

import marshal

import pytest

from belljar.audit.isa.source import Sparse
from belljar.audit.ties import Certainty, Kind, Scanner, Where, traits_of
from belljar.audit.ties.scan import _hits_in_chunks

NIX = "/nix/store/" + "a" * 32 + "-zlib-1.3/lib"


def ties(data, name="x.bin", **options):
    return Scanner(**options).ties_of(name, data if isinstance(data, bytes) else data.encode())


def only(data, name="x.bin", **options):
    [tie] = ties(data, name, **options)
    return tie


@pytest.mark.parametrize(
    ("text", "kind", "root"),
    [
        ("/home/mara/src/x.c", Kind.HOME, "/home/mara"),
        ("/root/.config/x", Kind.HOME, "/root/.config"),
        ("/Users/mara/x", Kind.HOME, "/Users/mara"),
        ("/home/runner/work/x/x", Kind.CI, "/home/runner"),
        ("/__w/numpy/numpy", Kind.CI, "/__w/numpy"),
        ("/builds/group/project/x", Kind.CI, "/builds/group/project"),
        ("/github/home/.cargo/registry/src/x.rs", Kind.CI, "/github/home"),
        ("/root/.cargo/registry/src/x.rs", Kind.HOME, "/root/.cargo"),
        ("/usr/local/cargo/registry/src/x.rs", Kind.PACKAGER, "/usr/local"),
        ("/home/conda/feedstock_root/build_artifacts/x", Kind.PACKAGER, "/home/conda/feedstock_root"),
        ("/opt/_internal/cpython-3.11.14/lib", Kind.PACKAGER, "/opt/_internal"),
        ("/build/gdb-kUlB6r/gdb-13.1/x.h", Kind.PACKAGER, "/build/gdb-kUlB6r"),
        ("/tmp/mara/spack-stage/spack-stage-zlib/x.c", Kind.PACKAGER, "/tmp/mara"),
        (NIX, Kind.STORE, "/nix/store/" + "a" * 32 + "-"),
        ("/tmp/tmpab12cd_9/x.c", Kind.TEMPORARY, "/tmp/tmp"),
        ("/tmp/ccrD85BE.o", Kind.TEMPORARY, "/tmp/cc"),
        ("/project/src/x.c", Kind.CI, "/project/src"),
        ("/tmp/x", Kind.TEMPORARY, "/tmp"),
    ],
)
def test_builders_paths_are_known(text, kind, root):
    tie = only(b"\0" + text.encode() + b"\0")
    assert (tie.kind, tie.root, tie.text, tie.offset) == (kind, root, text, 1)


@pytest.mark.parametrize(
    "text",
    [
        "/usr/lib/libz.so",
        "/etc/passwd",
        "/rustc/9fc6b43126469e3858e2fe86cafb4f0fd5068869/library/core/src/x.rs",
        "/srv/home/mara/x",
        "../tmp/x",
        "src/tmp/x",
        "/home/",
        "/home/%s/x",
        "/tmp/",
        "/homestead/x",
        "/rooted/x",
        "/nix/store/short-x",
        "/io/grpc/internal/Stream",
        "/project/region",
    ],
)
def test_other_paths_are_not_ties(text):
    assert ties(b"\0" + text.encode() + b"\0") == ()


def test_given_paths_and_names_are_found_and_nothing_that_only_begins_alike():
    data = b"\0/src/proj/x\0/src/project/x\0-I/src/proj\0built by mara on host7\0marathon"
    found = ties(data, prefixes=["/src/proj/"], names=["mara", "host7"])
    assert [(tie.kind, tie.root, tie.count) for tie in found] == [
        (Kind.GIVEN, "/src/proj", 2),
        (Kind.NAME, "mara", 1),
        (Kind.NAME, "host7", 1),
    ]


def test_host_paths_are_told_when_asked_for():
    data = b"\0/etc/ld.so.cache\0/usr\0/dev/null\0"
    assert ties(data) == ()
    assert {tie.kind for tie in ties(data, host=True)} == {Kind.HOST}
    assert sum(tie.count for tie in ties(data, host=True)) == 3


def test_paths_with_one_root_are_one_tie_and_counted():
    tie = only(b"\0/home/mara/a\0/home/mara/b\0/home/mara/c\0")
    assert (tie.count, tie.text) == (3, "/home/mara/a")


def test_rusts_unterminated_strings_end_with_their_file_name():
    data = b"\0called/root/.cargo/registry/src/a/lib.rs/root/.cargo/registry/src/b/io.rsindex out\0"
    assert [(tie.text, tie.count) for tie in ties(data)] == [("/root/.cargo/registry/src/a/lib.rs", 2)]


def test_byte_code_is_read_without_being_run():
    code = compile("raise SystemExit('ran')", "/home/mara/src/mod.py", "exec")
    tie = only(b"\xa7\r\r\n" + bytes(12) + marshal.dumps(code), "mod.cpython-311.pyc")
    assert (tie.where, tie.text) == (Where.BYTE_CODE, "/home/mara/src/mod.py")


def test_a_path_within_byte_code_that_stands_in_a_longer_one_is_none():
    code = compile("", "/usr/lib/python3/dist-packages/pip/_internal/operations/build/wheel.py", "exec")
    assert ties(bytes(16) + marshal.dumps(code), "wheel.pyc") == ()


@pytest.mark.parametrize(
    ("name", "content", "where", "text"),
    [
        ("bin/x", "#!/opt/app/bin/python3 -E\n", Where.SHEBANG, "/opt/app/bin/python3"),
        ("x.pc", "prefix=/opt/app\nlibdir=${prefix}/lib\n", Where.PKG_CONFIG, "/opt/app"),
        ("x.la", "# x\nlibdir='/opt/app/lib'\n", Where.LIBTOOL, "/opt/app/lib"),
    ],
)
def test_what_binds_a_text_to_a_directory_is_a_tie_whatever_it_looks_like(name, content, where, text):
    tie = only(content, name)
    assert (tie.where, tie.text, tie.kind, tie.certainty) == (where, text, Kind.LOCATION, Certainty.CERTAIN)


def test_standard_interpreters_are_no_ties():
    for line in ("#!/bin/sh\n", "#! /usr/bin/env python3\n", "#!/usr/bin/perl -w\n", "#!\n", "#!"):
        assert ties(line, "x") == ()


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("x.cmake", Where.CMAKE),
        ("_sysconfigdata__linux_x86_64-linux-gnu.py", Where.PYTHON_CONFIG),
        ("numpy/__config__.py", Where.PYTHON_CONFIG),
        ("a.whl!a-1.dist-info/direct_url.json", Where.RECORD),
        ("auto/X/.packlist", Where.RECORD),
        ("x", Where.TEXT),
    ],
)
def test_files_are_known_by_name(name, where):
    assert only("p = '/home/mara/x'\n", name).where is where


def test_links_are_ties_unless_they_are_relative_or_standard():
    scanner = Scanner()
    assert scanner.ties_of_link("x", "../lib/y") == ()
    assert scanner.ties_of_link("x", "/usr/lib/y") == ()
    [home] = scanner.ties_of_link("x", "/root/.pyenv/bin/python3")
    [fixed] = scanner.ties_of_link("x", "/opt/app/y")
    assert (home.kind, fixed.kind, fixed.where) == (Kind.HOME, Kind.LOCATION, Where.LINK)


def test_examples_in_prose_are_only_possible():
    assert only("see /home/guido/data.txt", "x.py").certainty is Certainty.POSSIBLE
    assert only("see /home/guido/data.txt", "x.conf").certainty is Certainty.CERTAIN


def test_a_file_is_scanned_by_windows_as_bytes_are(tmp_path, monkeypatch):
    size = 4096
    data = bytearray(b"\0" * size * 4)
    for at in (5, size - 8, 2 * size - 1, 3 * size, 4 * size - 13):
        data[at : at + 13] = b"/home/mara/x\0"
    whole = Scanner(names=["mara"]).ties_of("x", bytes(data))
    assert [tie.count for tie in whole] == [5, 5]
    (tmp_path / "x").write_bytes(data)
    monkeypatch.setattr("belljar.audit.isa.source._WINDOW", size)
    with (tmp_path / "x").open("rb") as file:
        for content in (bytes(data), Sparse.of(file.fileno(), len(data))):
            assert Scanner(names=["mara"]).ties_of("x", content) == whole


def test_a_stream_gives_each_path_once_however_it_is_cut():
    table = Scanner()._table
    data = b"\0".join(b"/home/mara/src/" + str(n).encode() for n in range(300))
    for step in (700, 1000, 1499, len(data)):
        chunks = (data[at : at + step] for at in range(0, len(data), step))
        assert [hit.text for hit in _hits_in_chunks(chunks, table)] == data.split(b"\0")


@pytest.mark.parametrize(
    "data", [b"", b"/", b"/home", b"/home/a", b"\xff" * 1000, b"/" * 5000, b"/root/" * 5000]
)
def test_odd_bytes_are_taken(data):
    ties(data, "x", host=True, prefixes=["/home"], names=["a"])
    ties(data, "x.pyc")


def test_the_number_of_ties_is_limited():
    data = b"\0".join(b"/home/u%d/x" % number for number in range(5000))
    assert len(ties(data)) == 1000


def test_modes_that_hardened_systems_watch():
    assert [(item.trait.value, item.evidence[:9]) for item in traits_of(None, 0o4757)] == [
        ("set-id", "mode 4757"),
        ("world-writable", "mode 4757"),
    ]
    assert traits_of(None, 0o755) == ()


def test_a_home_directory_is_certain_where_it_has_sources_and_likely_elsewhere():
    assert only(b"\0/home/mara/app/main.c\0").certainty is Certainty.CERTAIN
    assert only(b"\0/home/mara/production\0").certainty is Certainty.LIKELY
