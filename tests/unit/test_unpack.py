"""Unpacking: what an archive holds arrives, and nothing ever lands outside the directory."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.archive.members import is_archive
from belljar.archive.unpack import unpack
from belljar.errors import InputError

MTIME = 315_619_200


def member(name, kind=tarfile.REGTYPE, data=b"", target="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size, info.mtime = kind, target, mode, len(data), 1_700_000_000
    return info, data


def link(name, target):
    return member(name, tarfile.SYMTYPE, target=target)


def hard(name, target):
    return member(name, tarfile.LNKTYPE, target=target)


def directory(name):
    return member(name, tarfile.DIRTYPE, mode=0o700)


def tar(*members, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def ar(*members):
    out = b"!<arch>\n"
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data
        out += b"\n" * (len(data) % 2)
    return out


def deb(data):
    return ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"?"), ("data.tar.xz", lzma.compress(data)))


def zipped(*members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return out.getvalue()


PLAIN = tar(
    directory("top"),
    member("top/run", data=b"#!x\n", mode=0o4755),
    member("./top//sub/data", data=b"d" * 3000, mode=0o400),
    link("top/abs", "/etc/passwd"),
    link("top/up", "../../../x"),
    hard("top/again", "top/run"),
)
COMPRESSED = {
    "tar": PLAIN,
    "gz": gzip.compress(PLAIN),
    "bz2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "zst": zstandard.compress(PLAIN),
    "deb": deb(PLAIN),
}


def snapshot(root):
    found = {}
    for base, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(base, name)
            info = os.lstat(path)
            content = None
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                content = Path(path).read_bytes()
            found[os.path.relpath(path, root)] = (oct(info.st_mode), int(info.st_mtime), content)
    return found


@pytest.fixture
def try_unpack(tmp_path):
    """Unpack bytes into tmp_path/into, beside a directory that must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("mine")

    def attempt(data, **options):
        archive = tmp_path / "archive"
        archive.write_bytes(data)
        unpack(archive, tmp_path / "into", **{"mtime": MTIME, **options})
        return tmp_path / "into"

    yield attempt
    assert sorted(os.listdir(tmp_path)) in (["archive", "into", "outside"], ["archive", "outside"])
    assert (tmp_path / "outside/file").read_text() == "mine"
    assert os.listdir(tmp_path / "outside") == ["file"]
    assert (tmp_path / "outside/file").stat().st_nlink == 1


@pytest.mark.parametrize("kind", COMPRESSED)
def test_every_format_gives_the_same_normal_tree(try_unpack, kind):
    assert snapshot(try_unpack(COMPRESSED[kind])) == {
        "top": ("0o40755", MTIME, None),
        "top/run": ("0o100755", MTIME, b"#!x\n"),
        "top/again": ("0o100755", MTIME, b"#!x\n"),
        "top/sub": ("0o40755", MTIME, None),
        "top/sub/data": ("0o100644", MTIME, b"d" * 3000),
        "top/abs": ("0o120777", MTIME, "/etc/passwd"),
        "top/up": ("0o120777", MTIME, "../../../x"),
    }


def test_a_zip_keeps_links_and_executable_bits(try_unpack):
    data = zipped(
        ("a/", 0o40700, b""), ("a/x", 0o100755, b"x"), ("a/plain", 0, b"p"), ("l", 0o120777, b"a/x")
    )
    assert snapshot(try_unpack(data)) == {
        "a": ("0o40755", MTIME, None),
        "a/x": ("0o100755", MTIME, b"x"),
        "a/plain": ("0o100644", MTIME, b"p"),
        "l": ("0o120777", MTIME, "a/x"),
    }


def test_the_caller_s_umask_does_not_show(try_unpack):
    old = os.umask(0o077)
    try:
        into = try_unpack(PLAIN)
    finally:
        os.umask(old)
    assert snapshot(into)["top/sub"][0] == "0o40755"
    assert snapshot(into)["top/sub/data"][0] == "0o100644"


@pytest.mark.parametrize(
    ("name", "case"),
    {
        "upwards": (tar(member("../outside/x")), "leads upwards"),
        "upwards inside": (tar(member("a/../../outside/x")), "leads upwards"),
        "absolute": (tar(member("/outside/x")), "absolute"),
        "link then file through it": (tar(link("a", "../outside"), member("a/x")), "leads through a link"),
        "link then link through it": (tar(link("a", "../outside"), link("a/x", "y")), "leads through a link"),
        "link then directory on it": (tar(link("a", "../outside"), directory("a")), "leads through a link"),
        "link to here then through it": (tar(link("a", "."), member("a/x")), "leads through a link"),
        "link chain": (tar(link("a", "b"), link("b", "../outside"), member("a/x")), "leads through a link"),
        "file then below it": (tar(member("a"), member("a/x")), "leads through a link or a file"),
        "directory then file": (tar(directory("a"), member("a")), "a directory is there"),
        "hard link outside": (tar(hard("a", "../outside/file")), "leads upwards"),
        "hard link absolute": (tar(hard("a", "/etc/passwd")), "absolute"),
        "hard link through link": (tar(link("a", "../outside"), hard("b", "a/file")), "through a link"),
        "hard link to link": (tar(link("a", "../outside/file"), hard("b", "a")), "no file here"),
        "hard link to nothing": (tar(hard("b", "a")), "no file here"),
        "hard link to itself": (tar(member("a"), hard("a", "a")), "no file here"),
        "hard link to directory": (tar(directory("a"), hard("b", "a")), "no file here"),
        "device": (tar(member("a", tarfile.CHRTYPE)), "neither a file"),
        "fifo": (tar(member("a", tarfile.FIFOTYPE)), "neither a file"),
        "long component": (tar(member("a" * 256)), "too long"),
        "long path": (tar(member("a/" * 2100 + "b")), "too long or too deep"),
        "deep path": (tar(member("a/" * 200 + "b")), "too long or too deep"),
        "empty target": (tar(link("a", "")), "cannot be that of a link"),
        "zip upwards": (zipped(("../outside/x", 0, b"")), "leads upwards"),
        "zip absolute": (zipped(("/outside/x", 0, b"")), "absolute"),
        "zip through link": (zipped(("a", 0o120777, b"../outside"), ("a/x", 0, b"")), "through a link"),
        "zip device": (zipped(("a", 0o20666, b"")), "neither a file"),
        "zip long link": (zipped(("a", 0o120777, b"x" * 5000)), "link to 5000 bytes"),
        "no archive": (b"hello, world\n" * 100, "archive: "),
        "empty": (b"", "archive: "),
        "deb without data": (ar(("debian-binary", b"2.0\n")), "no data.tar"),
        "deb cut off": (deb(PLAIN)[:-20], "cut off"),
        "ar with a negative size": (
            ar(("data.tar", b"")).replace(b"0         `", b"-1        `"),
            "ar header",
        ),
        "sparse": (tar(member("a", tarfile.GNUTYPE_SPARSE), form=tarfile.GNU_FORMAT), "sparse"),
        "no end mark": (tar(member("a", data=b"x" * 512))[:1024], "cut off at byte 1024"),
    }.items(),
)
def test_hostile_and_damaged_archives_are_refused(try_unpack, name, case):
    data, message = case
    with pytest.raises(InputError, match=message):
        try_unpack(data)


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(try_unpack):
    data = bytearray(tar(member("a"), member("b")))
    data[512 + 5] ^= 1
    with pytest.raises(InputError, match="at byte 512"):
        try_unpack(bytes(data))


def test_what_a_link_points_to_is_not_overwritten_by_a_file_of_its_name(try_unpack):
    into = try_unpack(tar(link("a", "../outside/file"), member("a", data=b"new")))
    assert snapshot(into) == {"a": ("0o100644", MTIME, b"new")}


def test_a_later_member_replaces_an_earlier_file_but_not_its_hard_links(try_unpack):
    into = try_unpack(tar(member("a", data=b"1"), hard("b", "a"), member("a", data=b"2")))
    assert ((into / "a").read_bytes(), (into / "b").read_bytes()) == (b"2", b"1")


def test_links_that_are_there_already_are_not_followed(try_unpack, tmp_path):
    (tmp_path / "into").mkdir()
    (tmp_path / "into/a").symlink_to("../outside")
    with pytest.raises(InputError, match="through a link"):
        try_unpack(tar(member("a/x")))


def test_more_than_the_limit_is_refused_before_it_is_written(try_unpack, tmp_path):
    assert try_unpack(tar(member("a", data=b"x" * 1000)), limit=1000)
    with pytest.raises(InputError, match="more than 1500 bytes in all"):
        try_unpack(tar(member("b", data=b"x" * 1000), member("c", data=b"x" * 1000)), limit=1500)
    assert not (tmp_path / "into/c").exists()


def test_an_extended_header_may_not_fill_the_memory(try_unpack):
    info, _ = member("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = 1 << 33
    with pytest.raises(InputError, match="header with a size"):
        try_unpack(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 10240)


def test_a_negative_size_is_refused(try_unpack):
    info, _ = member("a")
    info.size = -512
    with pytest.raises(InputError, match="header with a size of -512"):
        try_unpack(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 10240)


def test_endless_data_after_the_end_is_refused(try_unpack):
    with pytest.raises(InputError, match="more data after its end"):
        try_unpack(gzip.compress(PLAIN + bytes(9 << 20), 1))


def test_the_only_top_directory_is_stripped(try_unpack):
    into = try_unpack(tar(member("p-1/p-1/x"), member("p-1/y")), strip_top=True)
    assert set(snapshot(into)) == {"p-1", "p-1/x", "y"}


def test_nothing_is_stripped_when_something_stands_beside_it(try_unpack):
    assert set(snapshot(try_unpack(tar(member("p/x"), member("y")), strip_top=True))) == {"p", "p/x", "y"}


def test_a_link_at_the_top_is_not_stripped(try_unpack):
    assert set(snapshot(try_unpack(tar(link("p", "../outside")), strip_top=True))) == {"p"}


def test_merged_usr_moves_what_stands_at_the_old_places(try_unpack):
    data = tar(
        directory("bin"),
        member("bin/sh"),
        member("lib/x86/libc.so"),
        hard("sbin/sh", "bin/sh"),
        link("lib/mod", "../usr/share/mod"),
        link("lib/x86/up", "../other"),
        link("lib/x86/out", "../../etc/x"),
        link("lib64/ld.so", "/lib/x86/libc.so"),
        link("sbin", "usr/sbin"),
        member("etc/x"),
    )
    into = try_unpack(deb(data), merged_usr=True)
    links = {name: found[2] for name, found in snapshot(into).items() if found[0] == "0o120777"}
    assert links == {
        "bin": "usr/bin",
        "sbin": "usr/sbin",
        "lib": "usr/lib",
        "lib64": "usr/lib64",
        "usr/lib/mod": "../../usr/share/mod",
        "usr/lib/x86/up": "../other",
        "usr/lib/x86/out": "../../../etc/x",
        "usr/lib64/ld.so": "/lib/x86/libc.so",
    }
    assert (into / "usr/bin/sh").samefile(into / "usr/sbin/sh")
    assert (into / "usr/lib/x86/libc.so").is_file()
    assert set(snapshot(try_unpack(deb(data), merged_usr=True))) == set(snapshot(into)), "twice is as once"


@pytest.mark.parametrize(
    "data", [tar(link("bin", "../outside")), tar(member("lib")), tar(hard("bin/x", "lib/../../outside/file"))]
)
def test_merged_usr_cannot_be_led_elsewhere(try_unpack, data):
    with pytest.raises(InputError):
        try_unpack(data, merged_usr=True)


def test_archives_are_told_from_other_files(tmp_path):
    path = tmp_path / "f"
    for data, want in [
        *((data, True) for data in COMPRESSED.values()),
        (b"#!/bin/sh\n", False),
        (b"", False),
    ]:
        path.write_bytes(data)
        assert is_archive(path) == want


HOSTILE = tar(
    directory("d"),
    member("d/f", data=b"content" * 40),
    link("out", "../outside"),
    hard("h", "d/f"),
    member("x" * 120, data=b"y"),
    form=tarfile.GNU_FORMAT,
)
SEEDS = [
    HOSTILE,
    PLAIN,
    deb(PLAIN),
    ar(("data.tar", HOSTILE)),
    gzip.compress(HOSTILE),
    zstandard.compress(HOSTILE),
    bz2.compress(HOSTILE),
    lzma.compress(HOSTILE),
    zipped(("a/x", 0o100755, b"x" * 50), ("out", 0o120777, b"../outside"), ("b", 0, b"")),
]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_mutated_archives_end_in_words_and_stay_inside(tmp_path_factory, data):
    seed = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(seed) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                seed[at] = data.draw(st.integers(0, 255))
            case 1:
                del seed[at : at + data.draw(st.integers(1, 600))]
                seed = seed or bytearray(1)
            case 2:
                seed[at : at + 1] = data.draw(st.binary(min_size=1, max_size=12))
            case 3:
                other = data.draw(st.integers(0, len(seed) - 1))
                seed[at : at + 512] = seed[other : other + 512]
    root = tmp_path_factory.mktemp("fuzz")
    (root / "outside").mkdir()
    (root / "archive").write_bytes(seed)
    try:
        unpack(root / "archive", root / "into", mtime=MTIME, limit=1 << 20)
    except InputError as error:
        assert str(error).startswith("archive: ")
    assert os.listdir(root / "outside") == []
    assert set(os.listdir(root)) <= {"outside", "archive", "into"}
    for base, directories, files in os.walk(root / "into"):
        for name in directories + files:
            mode = os.lstat(os.path.join(base, name)).st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
            assert not mode & 0o6000


@pytest.mark.parametrize("kind", COMPRESSED)
def test_every_truncation_is_refused_or_loses_only_padding(tmp_path, kind):
    data = COMPRESSED[kind]
    into = tmp_path / "into"
    for length in range(0, len(data), max(1, len(data) // 25)):
        (tmp_path / "archive").write_bytes(data[:length])
        try:
            unpack(tmp_path / "archive", into / str(length), mtime=MTIME)
        except InputError:
            continue
        assert kind == "tar", f"cut off at {length} of {len(data)}"
        assert len(snapshot(into / str(length))) == 7
