"""What a plan says of each kind of content; nothing is written by planning."""

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
from pathlib import Path

import pytest
from zstandard import ZstdCompressionParameters, ZstdCompressor, ZstdDecompressor

from belljar.errors import InputError
from belljar.relocate.change import FileChange, LinkChange
from belljar.relocate.foreign import packed
from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.plan import plan
from belljar.relocate.foreign.prefix import find
from belljar.relocate.foreign.subject import Options
from belljar.splice import spliced

OLD = "/opt/vendor/old-1.0"
EQUAL, SHORT, LONG = "/srv/tenant/new-2.0", "/srv/new", "/srv/a/much/longer/place/for/it"


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree"
    path.mkdir()
    return path


def put(tree, name, content, mode=0o644):
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def planned(tree, new=EQUAL, *more, **options):
    return plan(tree, Moves.of([(OLD, new), *more]), Options(**options))


def change(found, path):
    return next((item for item in found.changes if item.path == path), None)


def result(tree, found, path):
    """Return what a file becomes."""
    item = change(found, path)
    content = (tree / path).read_bytes()
    return content if item is None else spliced(content, item.splices, subject=path)


@pytest.mark.parametrize("new", [EQUAL, SHORT, LONG])
@pytest.mark.parametrize("codec", ["utf-8", "latin-1", "utf-16", "utf-16-be", "utf-32-le", "utf-32"])
def test_text_takes_any_length_in_any_encoding(tree, new, codec):
    text = f"prefix={OLD}\r\nname=\u00e9 '{OLD}/share' {OLD}2 no newline at the end: {OLD}"
    put(tree, "file", text.encode(codec))
    found = planned(tree, new)
    wanted = text.replace(OLD, new).replace(new + "2", OLD + "2")
    assert result(tree, found, "file") == wanted.encode(codec)
    assert not found.refusals


@pytest.mark.parametrize(("new", "fill"), [(EQUAL, ""), (SHORT, "/" * (len(OLD) - len(SHORT)))])
def test_bytes_keep_their_length(tree, new, fill):
    data = b"\0\1" + OLD.encode() + b"/lib\0" + OLD.encode() + b"\0x:" + f"{OLD}:{OLD}/b".encode() + b"\0"
    wide = f"{OLD}/wide".encode("utf-16-le") + b"\0\0"
    put(tree, "data", data + wide)
    found = planned(tree, new)
    expected = data.replace(OLD.encode(), (new + fill).encode()) + f"{new}{fill}/wide\0".encode("utf-16-le")
    assert result(tree, found, "data") == expected


def test_bytes_that_would_have_to_grow_are_refused_with_their_place(tree):
    put(tree, "data", b"\0\1\2" + OLD.encode() + b"/lib\0")
    (refusal,) = planned(tree, LONG).refusals
    assert (refusal.path, refusal.offset) == ("data", 3)
    assert "12 bytes longer" in refusal.reason


def test_a_plan_writes_nothing_and_can_be_printed(tree):
    put(tree, "data", b"\0" + OLD.encode())
    put(tree, "text", OLD)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tree.iterdir()}
    found = planned(tree, LONG)
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tree.iterdir()}
    assert json.loads(json.dumps(found.to_json()))["refusals"][0]["path"] == "data"
    assert any("refused: data" in line for line in found.describe())


def test_what_the_user_leaves_is_noted_and_stays_whole(tree):
    put(tree, "doc/data", b"\0" + OLD.encode())
    found = planned(tree, LONG, leave=("doc/*",))
    assert not found.refusals
    assert not found.changes
    assert any("as you said" in note for note in found.notes)


def test_hard_links_are_one_change(tree):
    put(tree, "one", OLD)
    os.link(tree / "one", tree / "two")
    (item,) = planned(tree).changes
    assert (item.path, item.aliases) == ("one", ("two",))


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (f"{OLD}/lib/x", f"{LONG}/lib/x"),
        (OLD, LONG),
        (f"{OLD}/not/there", f"{LONG}/not/there"),
        (f"{OLD}2/lib", None),
        ("../lib/x", None),
        ("x", None),
        ("/usr/lib/x", None),
        ("../../dep-1/lib/y", "/srv/dep-2/lib/y"),
        ("../../old-1.0/lib/x", "../lib/x"),
    ],
)
def test_links_lead_to_what_they_meant(tree, target, wanted):
    (tree / "bin").mkdir()
    (tree / "bin/link").symlink_to(target)
    item = change(planned(tree, LONG, ("/opt/vendor/dep-1", "/srv/dep-2")), "bin/link")
    if wanted is None:
        assert item is None
    else:
        assert isinstance(item, LinkChange)
        meant = os.path.normpath(os.path.join(f"{LONG}/bin", os.fsdecode(item.new)))
        assert meant == os.path.normpath(os.path.join(f"{LONG}/bin", wanted))


def test_a_link_out_of_the_tree_is_noted(tree):
    (tree / "link").symlink_to("../elsewhere")
    found = planned(tree)
    assert not found.changes
    assert any("leads out of the tree" in note for note in found.notes)


def test_moving_twice_changes_nothing_more(tree):
    for number, new in enumerate([EQUAL, SHORT, LONG, f"{OLD}/in/it"]):
        put(tree, f"{number}.txt", f"{OLD} -I{OLD}/include:{OLD}/lib")
        moves = [(OLD, new)]
        once = result(tree, plan(tree, Moves.of(moves)), f"{number}.txt")
        put(tree, f"{number}.txt", once)
        assert change(plan(tree, Moves.of(moves)), f"{number}.txt") is None


def test_a_place_inside_the_old_one_that_the_tree_has_itself_is_refused(tree):
    put(tree, "in/it/file", "x")
    with pytest.raises(InputError, match="cannot be told apart"):
        planned(tree, f"{OLD}/in/it")


def test_what_is_sorted_by_paths_is_refused_with_the_remedy(tree):
    path = OLD.encode()
    put(tree, "etc/ld.so.cache", b"ld.so-1.7.0\0" + path)
    put(tree, "share/gschemas.compiled", b"GVariant\0" + path)
    put(tree, "share/mime/mime.cache", b"\0\1\0\2" + path)
    put(tree, "x.nar", b"\r\0\0\0\0\0\0\0nix-archive-1\0" + path)
    found = planned(tree)
    remedies = ("ldconfig", "glib-compile-schemas", "update-mime-database", "pack it again")
    assert [any(word in item.reason for word in remedies) for item in found.refusals] == [True] * 4


def test_a_database_takes_the_same_length_only(tree):
    import sqlite3

    with sqlite3.connect(tree / "db") as base:
        base.execute("create table t (name text, path text)")
        base.execute("insert into t values ('zlib', ?)", (f"{OLD}/lib",))
    base.close()
    put(
        tree,
        "db",
        result(
            tree,
            planned(
                tree,
                EQUAL,
            ),
            "db",
        ),
    )
    assert sqlite3.connect(tree / "db").execute("select path from t").fetchone() == (f"{EQUAL}/lib",)
    found = plan(tree, Moves.of([(EQUAL, SHORT)]))
    assert "same length only" in found.refusals[0].reason


def test_checksums_of_changed_files_follow(tree):
    content = f"path = '{OLD}'\n".encode()
    site = "lib/python3.11/site-packages"
    put(tree, f"{site}/m/a.py", content)
    coded = (
        "sha256="
        + __import__("base64").urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    )
    put(tree, f"{site}/m-1.dist-info/RECORD", f"m/a.py,{coded},{len(content)}\nm/b.py,{coded},1\n")
    put(tree, "data.txt", content)
    put(tree, "data.txt.sha256", hashlib.sha256(content).hexdigest() + "  data.txt\n")
    put(tree, "conda-meta/m.json", json.dumps({"sha256_in_prefix": hashlib.sha256(content).hexdigest()}))
    found = planned(tree, LONG)
    new = content.replace(OLD.encode(), LONG.encode())
    record = result(tree, found, f"{site}/m-1.dist-info/RECORD").decode().splitlines()
    assert record[0].endswith(f",{len(new)}")
    assert record[0] != f"m/a.py,{coded},{len(new)}"
    assert record[1] == f"m/b.py,{coded},1"
    digest = hashlib.sha256(new).hexdigest()
    assert result(tree, found, "data.txt.sha256").decode() == f"{digest}  data.txt\n"
    assert digest.encode() in result(tree, found, "conda-meta/m.json")


def test_a_signed_file_is_refused(tree):
    put(tree, "data.txt", OLD)
    put(tree, "data.txt.asc", "-----BEGIN PGP SIGNATURE-----")
    put(tree, "lib/x.so", b"\0" + OLD.encode())
    put(tree, "lib/.x.so.hmac", "00")
    assert [item.path for item in planned(tree).refusals] == ["data.txt", "lib/x.so"]


def compile_at(tree, name, text, place):
    """Write a module and its byte code, whose code objects say that it lies at `place`."""
    import py_compile

    source = put(tree, name, text)
    compiled = py_compile.compile(str(source), dfile=place)
    return Path(compiled).relative_to(tree)


IMPORT = (
    "import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True; import m;"
    "print(m.where, m.list[0].split(':')[1])"
)


@pytest.mark.parametrize("new", [EQUAL, SHORT, LONG])
def test_byte_code_stays_valid_or_is_made_stale_never_wrong(tree, new):
    text = f"where = '{OLD}'\nlist = ['{OLD}/bin:{OLD}/sbin']\ndef f(): return where\n"
    cached = str(compile_at(tree, "m.py", text, f"{OLD}/m.py"))
    times = (tree / "m.py").stat().st_mtime_ns
    found = planned(tree, new)
    assert not found.refusals
    for path in ("m.py", cached):
        put(tree, path, result(tree, found, path))
    os.utime(tree / "m.py", ns=(times, times))
    done = subprocess.run(
        [sys.executable, "-v", "-c", IMPORT, tree], capture_output=True, text=True, check=True
    )
    where, _ = done.stdout.split()
    assert os.path.normpath(where) == new
    assert (f"code object from {str(tree / cached)!r}" in done.stderr) == (new != LONG)
    assert (f"code object from {tree / 'm.py'}" in done.stderr) == (new == LONG)


def test_byte_code_without_its_source_is_refused(tree):
    cached = compile_at(tree, "m.py", f"where = '{OLD}'\n", f"{OLD}/m.py")
    (tree / cached).rename(tree / "m.pyc")
    (tree / "m.py").unlink()
    assert "without its source" in planned(tree, LONG).refusals[0].reason
    assert not planned(tree, SHORT).refusals


def gz(text):
    return gzip.compress(text, mtime=1)


@pytest.mark.parametrize("new", [EQUAL, SHORT, LONG])
@pytest.mark.parametrize(
    ("name", "pack", "unpack"),
    [
        ("x.1.gz", gz, gzip.decompress),
        ("x.bz2", bz2.compress, bz2.decompress),
        ("x.xz", lzma.compress, lzma.decompress),
        (
            "x.zst",
            lambda text: ZstdCompressor().compress(text),
            lambda data: ZstdDecompressor().decompress(data),
        ),
        ("x.gz", lambda text: gz(gz(text)), lambda data: gzip.decompress(gzip.decompress(data))),
    ],
)
def test_compressed_text_is_rewritten_and_compressed_again(tree, new, name, pack, unpack):
    text = f"see {OLD}/etc/x.conf\n"
    put(tree, name, pack(text.encode()))
    put(tree, "other.gz", gz(b"nothing\n"))
    found = planned(tree, new)
    assert unpack(result(tree, found, name)).decode() == text.replace(OLD, new)
    assert change(found, "other.gz") is None
    assert result(tree, found, name) == result(tree, planned(tree, new), name)


def test_a_compressed_archive_keeps_its_lengths(tree):
    def tarred(text):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz") as archive:
            info = tarfile.TarInfo("x")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
        return made.getvalue()

    put(tree, "x.tgz", tarred(f"see {OLD}/etc".encode()))
    with tarfile.open(fileobj=io.BytesIO(result(tree, planned(tree, SHORT), "x.tgz"))) as archive:
        assert archive.extractfile("x").read() == f"see {SHORT}{'/' * (len(OLD) - len(SHORT))}/etc".encode()
    assert "inside gzip" in planned(tree, LONG).refusals[0].section


def test_a_wheel_gets_new_members_and_record(tree):
    made, text = io.BytesIO(), f"where = '{OLD}'\n".encode()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m.py", text)
        archive.writestr("n.py", "x = 1\n")
        coded = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")
        archive.writestr("m-1.dist-info/RECORD", f"m.py,sha256={coded},{len(text)}\nn.py,,\n")
    put(tree, "m.whl", made.getvalue())
    with zipfile.ZipFile(io.BytesIO(result(tree, planned(tree, LONG), "m.whl"))) as archive:
        new = archive.read("m.py")
        assert new == text.replace(OLD.encode(), LONG.encode())
        coded = base64.urlsafe_b64encode(hashlib.sha256(new).digest()).decode().rstrip("=")
        assert archive.read("m-1.dist-info/RECORD").decode() == f"m.py,sha256={coded},{len(new)}\nn.py,,\n"
        assert archive.namelist() == ["m.py", "n.py", "m-1.dist-info/RECORD"]


def test_a_signed_jar_is_refused(tree):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("META-INF/X.SF", "signed")
        archive.writestr("a.txt", OLD)
    put(tree, "x.jar", made.getvalue())
    assert "signed" in planned(tree).refusals[0].reason


def test_a_bomb_takes_bounded_memory_and_is_not_passed_over(tree, monkeypatch):
    monkeypatch.setattr(packed, "SEARCHED", 1 << 20)
    put(tree, "bomb.gz", gz(bytes(3 << 20)))
    assert "not searched" in planned(tree).refusals[0].reason


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF",
        b"\x7fELF" + b"\xff" * 300,
        b"\x7fELF\2\1\1" + b"\xff" * 57,
        b"#!",
        b"#!\n",
        b"PK\3\4",
        b"\x1f\x8b\x08",
        b"!<arch>\n",
    ],
)
def test_hostile_bytes_are_planned_or_refused_never_a_crash(tree, content):
    for number, more in enumerate([b"", OLD.encode(), b"\0" * 9 + OLD.encode() + b"\0" * 9]):
        put(tree, f"f{number}", content + more)
        put(tree, f"f{number}.pyc", content + more)
    for new in (EQUAL, SHORT, LONG):
        found = planned(tree, new)
        assert all(isinstance(item, FileChange) for item in found.changes)


def test_prose_and_one_file_alone_do_not_say_which_prefix_a_tree_was_made_for(tree):
    put(tree, "jdk/bin/java", "x")
    put(tree, "jdk/lib/modules", "x")
    named = "/Users/john/dev/jdk/bin/java and /Users/john/dev/jdk/lib/modules"
    put(tree, "jdk-1.dist-info/METADATA", named)
    put(tree, "README.md", named)
    with pytest.raises(InputError, match="no path in it says"):
        find(tree)
    put(tree, "jdk/bin/start", named)
    with pytest.raises(InputError, match="ambiguous: one file alone"):
        find(tree)
    put(tree, "jdk/bin/stop", named)
    assert find(tree).prefix == b"/Users/john/dev"


def test_streams_of_xz_behind_each_other_are_one_content(tree):
    text = f"see {OLD}/etc/x.conf\n"
    put(
        tree, "x.xz", lzma.compress(b"") + lzma.compress(text[:9].encode()) + lzma.compress(text[9:].encode())
    )
    assert lzma.decompress(result(tree, planned(tree, LONG), "x.xz")).decode() == text.replace(OLD, LONG)


def with_closed_member(text):
    """Return an archive whose second member says to be encrypted."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.txt", text)
        archive.writestr("b.txt", "closed")
    data = bytearray(made.getvalue())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.rindex(mark) + flags] |= 1
    return bytes(data)


def with_a_wide_window(content):
    """Return what takes 512 MiB of memory to unpack."""
    packer = ZstdCompressor(compression_params=ZstdCompressionParameters(window_log=29)).compressobj()
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.zip", with_closed_member("nothing")),
        ("x.xz", lzma.compress(b"nothing " * 999)[:-20]),
        ("x.gz", gz(b"nothing")[:-9]),
        ("x.gz", gz(gz(gz(gz(OLD.encode()))))),
        ("x.zst", with_a_wide_window(b"nothing")),
    ],
)
def test_what_cannot_be_unpacked_is_said_not_to_be_looked_into(tree, name, content):
    put(tree, name, content)
    found = planned(tree)
    assert [note for note in found.notes if "not looked into" in note and name in note]
    assert not found.changes
    assert not found.refusals


def test_an_archive_with_a_member_that_cannot_be_unpacked_is_not_written_again(tree):
    put(tree, "x.zip", with_closed_member(OLD))
    assert "b.txt cannot be unpacked" in planned(tree).refusals[0].reason


def test_two_members_of_one_name_are_refused(tree):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr("a.txt", OLD)
        archive.writestr("a.txt", f"{OLD}/2")
    put(tree, "x.zip", made.getvalue())
    assert "two members" in planned(tree).refusals[0].reason


def test_a_content_too_large_to_be_kept_is_searched_and_refused_only_where_it_matters(tree, monkeypatch):
    monkeypatch.setattr(packed, "LIMIT", 1 << 20)
    put(tree, "harmless.gz", gz(bytes(3 << 20)))
    put(tree, "twice.gz", gz(gz(b"x") + bytes(3 << 20)))
    put(tree, "matters.gz", gz(bytes(3 << 20) + OLD.encode()))
    found = planned(tree)
    assert [item.path for item in found.refusals] == ["matters.gz"]
    assert ["twice" in note for note in found.notes] == [True]


def test_the_holes_of_a_file_are_not_read(tree):
    path, far = tree / "sparse", 1 << 40
    with path.open("wb") as file:
        for place in (0, far):
            file.seek(place)
            file.write(b"\0" + OLD.encode() + b"/x\0")
        file.truncate(2 * far)
    begin = time.process_time()
    assert [splice.offset for splice in change(planned(tree), "sparse").splices] == [1, far + 1]
    assert time.process_time() - begin < 1, "reading 2 TiB of zeros takes minutes"


def test_a_link_that_led_to_itself_still_does_and_one_that_would_begin_to_is_refused(tree):
    (tree / "self").symlink_to(f"{OLD}/self")
    (tree / "other").symlink_to("/opt/dependency/other")
    assert change(planned(tree), "self").new == f"{EQUAL}/self".encode()
    found = planned(tree, EQUAL, ("/opt/dependency", EQUAL))
    assert [item.path for item in found.refusals] == ["other"]
    found = planned(tree, EQUAL, ("/opt/dependency", EQUAL), leave=("other",))
    assert not found.refusals
    assert any("as you said: other" in note for note in found.notes)


def test_an_archive_behind_a_first_line_is_said_not_to_be_looked_into(tree):
    made = io.BytesIO(b"#!/bin/sh\n")
    made.seek(0, io.SEEK_END)
    with zipfile.ZipFile(made, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", f"print('{OLD}')")
    put(tree, "tool.pyz", made.getvalue())
    assert planned(tree).notes == ("tool.pyz: holds a zip archive behind other content, not looked into",)
