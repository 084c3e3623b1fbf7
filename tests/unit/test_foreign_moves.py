"""Where a prefix counts, and which of several wins."""

import os
import time

import pytest

from belljar.errors import InputError
from belljar.relocate.foreign import moves as module
from belljar.relocate.foreign.moves import Moves


def moved(text, *pairs):
    return Moves.of(pairs or [("/opt/old", "/new")]).replaced(text)


@pytest.mark.parametrize(
    "text",
    [
        b"/opt/old", b"/opt/old/", b"/opt/old/bin", b"/opt/old.", b"see /opt/old. Then", b"'/opt/old'",
        b"/opt/old\n",
        b"-I/opt/old/include", b"-L/opt/old", b"-F/opt/old", b"-isystem/opt/old", b"-Wl,-rpath,/opt/old/lib",
        b"a=/opt/old:/x", b"PATH=/a:/opt/old/bin:/opt/old/sbin", b"${DESTDIR}/opt/old",
        b"$DESTDIR/opt/old", b"$(D)/opt/old",
        b"file:///opt/old/x", b"@/opt/old/args", b"ExecStart=-/opt/old/bin/d", b'"\\n/opt/old"',
        b"\\t/opt/old\\n",
        b"%s/opt/old%s", b"//opt/old", b"/opt/old)", b"#!/opt/old/bin/sh\r\n", b"\xef\xbb\xbf/opt/old",
        b"\xab/opt/old\xbb",
        b"\xe2\x80\x98/opt/old\xe2\x80\x99", b"/opt/old\x00", b"[/opt/old]", b"/opt/old#x",
        b"\x1b[1m/opt/old\x1b[0m",
    ],
)  # fmt: skip
def test_a_prefix_counts_at_the_ends_of_a_path(text):
    assert b"/opt/old" not in moved(text)
    assert moved(text) == text.replace(b"/opt/old", b"/new")


@pytest.mark.parametrize(
    "text",
    [
        b"/opt/old2", b"/opt/older/x", b"/opt/old.bak", b"/opt/old-1", b"/opt/old_x", b"/opt/old~",
        b"/opt/old@2",
        b"/dont/opt/old", b"./opt/old", b"../opt/old", b"~/opt/old", b"$HOME/opt/old", b"${ORIGIN}/opt/old",
        b"http://opt/old", b"x//opt/old", b"${x}//opt/old", b"lib/opt/old", b"/opt/old\xc3\xa9",
        b"/opt/old%20x", b"/opt/old./x",
    ],
)  # fmt: skip
def test_a_part_of_another_path_does_not_count(text):
    assert moved(text) == text


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    "text", ["/opt/old", "x=/opt/old/bin:/opt/old", "\u00e9 '/opt/old' \u20ac", "/opt/old2 /a/opt/old"]
)
def test_wide_characters_move_like_narrow_ones(codec, text):
    wanted = moved(text.encode()).decode().encode(codec)
    assert moved(text.encode(codec)) == wanted


def test_the_longest_prefix_wins_in_any_order_of_the_moves():
    pairs = [("/p", "/a"), ("/p/q", "/b"), ("/p2", "/c")]
    text = b"/p /p/q /p/qq /p2 /p2/q /p3 /p/q/r:/p/x"
    wanted = b"/a /b /a/qq /c /c/q /p3 /b/r:/a/x"
    assert moved(text, *pairs) == moved(text, *pairs[::-1]) == wanted


def test_a_moved_text_stays_as_it_is_even_where_the_new_prefix_holds_the_old():
    for pair in [("/tmp/x", "/tmp/x/tmp/x"), ("/opt", "/opt/new"), ("/x", "/tmp/x")]:
        text = b"%s/lib -L%s: '%s'" % ((pair[0].encode(),) * 3)
        once = moved(text, pair)
        assert once == text.replace(pair[0].encode(), pair[1].encode())
        assert moved(once, pair) == once


def test_two_moves_that_feed_each_other_are_refused():
    for pairs in [
        [("/a", "/b"), ("/b", "/c")],
        [("/a", "/b/x"), ("/b", "/c")],
        [("/a", "/b"), ("/a", "/c")],
        [],
    ]:
        with pytest.raises(InputError):
            Moves.of(pairs)


@pytest.mark.parametrize("bad", ["", "rel", "/", "//", "/a/../b", "/a/./b", "/a\0b", "/a\nb"])
def test_a_prefix_that_is_no_path_is_refused(bad):
    with pytest.raises(InputError):
        Moves.of([(bad, "/new")])


def test_slashes_at_the_end_or_doubled_do_not_matter():
    assert Moves.of([("//opt//old/", "/new/")]) == Moves.of([("/opt/old", "/new")])


def test_a_file_is_searched_alike_wherever_its_chunks_end(tmp_path, monkeypatch):
    text = b"".join(b"%d:/opt/old/x -I/opt/old /opt/old2 /a/opt/old " % n for n in range(400))
    text += "wide /opt/old".encode("utf-16-le") + b"/opt/old"
    path = tmp_path / "file"
    path.write_bytes(text)
    moves = Moves.of([("/opt/old", "/new")])
    wanted = moves.over(text)
    fd = os.open(path, os.O_RDONLY)
    for size in (1, 7, 64, 1000, 4096):
        monkeypatch.setattr(module, "_CHUNK", size)
        assert list(moves.along(fd)) == wanted
    os.close(fd)


def test_a_hundred_prefixes_side_by_side_all_count():
    assert moved(b"/opt/old:" * 100) == b"/new:" * 100
    assert moved(b"/opt/old\0" * 100) == b"/new\0" * 100


def test_a_thousand_prefixes_cost_little_more_than_one():
    pairs = [(f"/store/{number:032d}-x", f"/other/{number:032d}-x") for number in range(1000)]
    text = b"".join(f"{old}/lib:{old}2 ".encode() for old, _ in pairs) * 5
    started = time.process_time()
    once = moved(text, *pairs)
    assert once.count(b"/other/") == once.count(b"/store/") == 5000
    assert time.process_time() - started < 5
