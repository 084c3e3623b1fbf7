"""A hash of a file with references follows it, wherever it is written down."""

import base64
import gzip
import hashlib
import os
import zlib
from pathlib import Path

import pytest

from belljar.errors import InputError, IntegrityError
from belljar.placeholder import PLACEHOLDER, location
from belljar.references import Table, read_canonical
from belljar.relocate import copy_tree, open_tree, rewrite_tree, scan
from belljar.store.manifest import describe

P = PLACEHOLDER.encode()
A = location(Path("/opt/a"))
SCRIPT = b"#!" + P + b"/bin/python3\nprint(1)\n"


def record(*contents):
    lines = [
        b"../../bin/x%d,sha256=%s,%d" % (number, value, 30)
        for number, value in enumerate(
            base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=") for content in contents
        )
    ]
    return b"\n".join([*lines, b"x.dist-info/RECORD,,", b""])


def installed(tree):
    """Lay a tree out as pip does, with a list of hashes of the list beside it."""
    (tree / "bin").mkdir(parents=True)
    (tree / "x.dist-info").mkdir()
    (tree / "bin/x0").write_bytes(SCRIPT)
    (tree / "bin/x1").write_bytes(b"nothing")
    (tree / "x.dist-info/RECORD").write_bytes(record(SCRIPT, b"nothing"))
    text = f"{hashlib.sha256(record(SCRIPT, b'nothing')).hexdigest()}  RECORD\n"
    (tree / "SHA256SUMS").write_text(text)
    (tree / "page.gz").write_bytes(gzip.compress(b"page " * 99 + SCRIPT))
    return tree


def right(tree):
    scripts = [(tree / name).read_bytes() for name in ("bin/x0", "bin/x1")]
    listed = (tree / "x.dist-info/RECORD").read_bytes()
    assert listed == record(*scripts)
    return (tree / "SHA256SUMS").read_text().startswith(hashlib.sha256(listed).hexdigest())


def test_without_the_table_the_hashes_would_be_wrong(tmp_path):
    tree = installed(tmp_path / "tree")
    table = Table(files=scan(tree).table.files, links={})
    rewrite_tree(tree, table, old=P, new=A)
    with pytest.raises(AssertionError):
        right(tree)


@pytest.mark.parametrize("how", ["in place", "copied"])
def test_hashes_follow_and_the_way_back_restores_every_byte(tmp_path, how):
    tree, moved = installed(tmp_path / "tree"), tmp_path / "moved"
    open_tree(tree)
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    table = Table.from_json(scan(tree).table.to_json())
    assert table.sums.keys() == {"x.dist-info/RECORD", "SHA256SUMS", "page.gz"}
    digest = describe(tree, table, P).digest
    if how == "copied":
        copy_tree(tree, moved, table=table, old=P, new=A)
        assert right(moved)
        assert describe(moved, table, A).digest == digest
        copy_tree(moved, tmp_path / "back", table=table, old=A, new=P)
        back = tmp_path / "back"
    else:
        rewrite_tree(tree, table, old=P, new=A)
        assert right(tree)
        assert describe(tree, table, A).digest == digest
        rewrite_tree(tree, table, old=A, new=P)
        back = tree
    assert all((back / path.relative_to(tree)).read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("name", ["x.dist-info/RECORD", "SHA256SUMS", "page.gz"])
def test_a_checksum_that_was_changed_is_noticed(tmp_path, name):
    tree = installed(tmp_path / "tree")
    open_tree(tree)
    table = scan(tree).table
    rewrite_tree(tree, table, old=P, new=A)
    place = table.sums[name][0].offset
    content = bytearray((tree / name).read_bytes())
    content[place + 1] ^= 1
    (tree / name).write_bytes(content)
    with pytest.raises(IntegrityError, match="not those"):
        describe(tree, table, A)
    with pytest.raises(IntegrityError, match="not those"):
        rewrite_tree(tree, table, old=A, new=P)
    with pytest.raises(IntegrityError, match="not those"):
        b"".join(read_canonical(tree / name, table.places(name, tree), A))


def test_a_hash_of_something_else_is_not_touched(tmp_path):
    tree = installed(tmp_path / "tree")
    (tree / "x.dist-info/RECORD").write_bytes(record(SCRIPT + b"changed since", b"nothing"))
    assert "x.dist-info/RECORD" not in scan(tree).table.sums


def test_names_of_one_file_share_its_hashes(tmp_path):
    tree = installed(tmp_path / "tree")
    os.link(tree / "x.dist-info/RECORD", tree / "another")
    table = scan(tree).table
    assert table.sums["another"] == table.sums["x.dist-info/RECORD"]
    rewrite_tree(tree, table, old=P, new=A)
    assert right(tree)


def test_a_debug_link_follows_its_debug_file(tmp_path, zig_cc):
    tree = tmp_path
    debug = b"\x7fELF" + P
    (tree / "lib/debug").mkdir(parents=True)
    (tree / "lib/debug/hello.debug").write_bytes(debug)
    link = b"hello.debug\0" + zlib.crc32(debug).to_bytes(4, "little")
    assembly = f'.section .gnu_debuglink,"",@progbits\n.byte {",".join(map(str, link))}\n'
    program = zig_cc("int main(void) { return 0; }", "link.s", files={"link.s": assembly})
    (tree / "hello").write_bytes(program.read_bytes())
    table = scan(tree).table
    rewrite_tree(tree, table, old=P, new=A)
    crc = zlib.crc32((tree / "lib/debug/hello.debug").read_bytes()).to_bytes(4, "little")
    assert b"hello.debug\0" + crc in (tree / "hello").read_bytes()


def test_opening_puts_hashes_and_sizes_right_at_once(tmp_path):
    tree = installed(tmp_path / "tree")
    page = (tree / "page.gz").read_bytes()
    text = (tree / "x.dist-info/RECORD").read_bytes().replace(b"\nx.dist", b"\n%s\nx.dist")
    value = base64.urlsafe_b64encode(hashlib.sha256(page).digest()).rstrip(b"=")
    (tree / "x.dist-info/RECORD").write_bytes(text % b"page.gz,sha256=%s,%d" % (value, len(page)))
    listed = hashlib.sha256((tree / "x.dist-info/RECORD").read_bytes()).hexdigest()
    (tree / "SHA256SUMS").write_text(f"{listed}  RECORD\n")
    assert open_tree(tree) == ("page.gz",)
    page = (tree / "page.gz").read_bytes()
    value = base64.urlsafe_b64encode(hashlib.sha256(page).digest()).rstrip(b"=")
    listed = (tree / "x.dist-info/RECORD").read_bytes()
    assert b"\npage.gz,sha256=%s,%d\n" % (value, len(page)) in listed
    assert (tree / "SHA256SUMS").read_text() == f"{hashlib.sha256(listed).hexdigest()}  RECORD\n"
    assert len(scan(tree).table.sums["x.dist-info/RECORD"]) == 2


SUM = [10, "crc32", "00112233", [0, 96, "bytes", 5]]
DIGEST = [0, "sha256-hex", "0" * 64, "file"]


def test_a_sound_table_of_checksums_is_read():
    value = {"version": 1, "files": {"file": [100]}, "links": {}, "sums": {"file": [SUM], "list": [DIGEST]}}
    assert Table.from_json(value).to_json() == value


@pytest.mark.parametrize(
    "sums",
    [
        [],
        {"../out": [SUM]},
        {"file": [[10, "crc32", "0011", [0, 96, "bytes", 5]]]},
        {"file": [[10, "crc32", "00112233", [0, 97, "bytes", 5]]]},
        {"file": [[10, "crc32", "00112233", [0, 96, "bytes", -5]]]},
        {"file": [[10, "crc32", "00112233", [0, 96, "bytes", 5, 6]]]},
        {"file": [[10, "adler32", "00112233", [0, 96, "bytes", 5]]]},
        {"file": [[10, "crc32", "00112233", [0, 96, "base64", 5]]]},
        {"file": [[98, "crc32", "00112233", [0, 96, "bytes", 5]]]},
        {"file": [[-1, "crc32", "00112233"]]},
        {"file": [[True, "crc32", "00112233"]]},
        {"file": [[10, "crc7", "00112233"]]},
        {"file": [SUM, SUM]},
        {"list": [[0, "sha256-hex", "0" * 63, "file"]]},
        {"list": [[0, "sha256-hex", "0" * 64, "/etc/shadow"]]},
        {"list": [[0, "sha256-hex", "0" * 64]]},
        {"list": [[0, "sha256-hex", "0" * 64, "list"]]},
        {"a": [[0, "sha256-hex", "0" * 64, "b"]], "b": [[0, "sha256-hex", "0" * 64, "a"]]},
        {"link": [SUM]},
    ],
)
def test_a_damaged_table_of_checksums_is_refused(sums):
    value = {"version": 1, "files": {"file": [100]}, "links": {"link": [0]}, "sums": sums}
    with pytest.raises(InputError, match="damaged"):
        Table.from_json(value)
