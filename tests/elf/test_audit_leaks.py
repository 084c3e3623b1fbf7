"""Build paths in files made byte by byte: where they stand, and what a file full of them costs."""

import time

from elf_writer import Made

from belljar.audit.leaks import KINDS_LIMIT, Where, find_leaks
from belljar.elf import read


def leaks(data, *prefixes):
    return [(leak.where, leak.text, leak.count) for leak in find_leaks(data, read(data), prefixes)]


def test_each_string_that_the_loader_reads_is_told_apart():
    data = Made(
        interpreter="/build/ld.so",
        needed=("/build/liby.so",),
        soname="/build/libx.so",
        rpath="$ORIGIN:/build/r",
        runpath="/build/u:/usr/lib",
    ).write()
    assert set(leaks(data, "/build/")) == {
        (Where.INTERPRETER, "/build/ld.so", 1),
        (Where.NEEDED, "/build/liby.so", 1),
        (Where.SONAME, "/build/libx.so", 1),
        (Where.RPATH, "/build/r", 1),
        (Where.RUNPATH, "/build/u", 1),
    }


def test_what_follows_the_segments_is_not_loaded():
    data = Made(notes=((b"/build/a\0", 1, b""),)).write() + b"-I/build/b -L/build/b\0/build\0"
    assert leaks(data, "/build") == [
        (Where.LOADED, "/build/a", 1),
        (Where.DEBUG, "/build/b", 2),
        (Where.DEBUG, "/build", 1),
    ]


def test_only_whole_components_from_the_root_count():
    plain = Made().write()
    for text in (
        b"/builder/x",
        b"/build-id",
        b"/home/me/build/x",
        b"../build/x",
        b"./build/x",
        b"https://a.b/build/x",
    ):
        assert leaks(plain + b"\0" + text + b"\0", "/build/") == [], text
    for text in (b"/build/x", b"None/build/x", b"=/build/x", b"file:///build/x", b"a.b:/build/x"):
        assert leaks(plain + b"\0" + text + b"\0", "/build/") == [(Where.DEBUG, "/build/x", 1)], text


def test_the_first_offset_is_told_and_the_rest_counted():
    plain = Made().write()
    data = plain + b"/b/x\0" * 3
    (leak,) = find_leaks(data, read(data), ("/b",))
    assert (leak.offset, leak.count) == (len(plain), 3)


def test_a_file_full_of_paths_takes_time_by_its_size_only():
    """Each of thousands of needed libraries is a suffix of one name, and the file is full of hits."""
    name = "/b" * 20_000
    made = Made(soname=name)
    made.extra_tags = tuple((1, 1 + 2 * number) for number in range(30))
    data = made.write() + b"".join(b"/b/%d\0" % number for number in range(100_000))
    begin = time.monotonic()
    found = leaks(data, "/b")
    assert time.monotonic() - begin < 10
    assert len(found) == KINDS_LIMIT
