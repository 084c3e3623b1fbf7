"""The journal: what is written is read again, and what is damaged or hostile is refused."""

import json
import os
import stat
from dataclasses import replace

import pytest

from belljar.errors import InputError
from belljar.relocate.edits import Edits
from belljar.relocate.journal import DIRECTORY, Directory, Phase, Record, locked, reading
from belljar.relocate.root import opened
from belljar.relocate.steps import Retarget, Rewrite, Small
from belljar.splice import Splice

RECORD = Record(
    key="0a1b2c",
    tree="/somewhere/\udcff",
    moves=((b"/old", b"/new\xff"),),
    steps=(
        Rewrite(
            names=("bin/\udcfe\n", "twin"),
            size=99,
            splices=Edits.of(
                [Splice(offset=3, old=b"/old", new=b"/new"), Splice(offset=9, old=b"\x00\xff", new=b"")]
            ),
        ),
        Rewrite(
            names=("b",),
            size=9,
            splices=Edits.of([Splice(offset=5, old=b"/old", new=b"/new")]),
            witness=Splice(offset=5, old=b"o", new=b"\xff"),
        ),
        Retarget(path="lib", old=b"/old/x", new=b"\xfe"),
        Small(path="bin/.x", old=None, new=b"#!\xff", mode=0o755),
    ),
    directories={"": Directory(mode=0o755, times=(1, 2)), "bin": Directory(mode=0o2555, times=(-1, 2**62))},
    notes=("bin/y: stays",),
)


def written(tree):
    with opened(tree) as root, locked(root) as book:
        book.begin(RECORD)
    return tree / DIRECTORY / "1.applying"


def read(tree):
    with opened(tree) as root, reading(root) as book:
        assert book is not None
        return book.read(1, Phase.APPLYING)


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = written(tmp_path)
    assert read(tmp_path) == RECORD
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_pair_of_strings_is_written_once(tmp_path):
    assert written(tmp_path).read_bytes().count(b"/new") == 1  # a pair for both files


def test_an_empty_journal_leaves_no_trace(tmp_path):
    os.utime(tmp_path, ns=(5, 6))
    with opened(tmp_path) as root, locked(root):
        assert (tmp_path / DIRECTORY / "lock").exists()
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mtime_ns == 6


def test_a_journal_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tree" / DIRECTORY).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match=r"symbolic link|Not a directory"):
        written(tmp_path / "tree")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_every_truncation_is_refused(tmp_path):
    path = written(tmp_path)
    whole = path.read_bytes()
    for end in range(len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match="damaged"):
            read(tmp_path)


HOSTILE = {
    "a path above": {"file": ["../x"], "size": 1, "edits": []},
    "an absolute path": {"link": "/etc/passwd", "old": "a", "new": "b"},
    "a path in the journal": {"create": f"{DIRECTORY}/lock", "content": "", "mode": 0},
    "a NUL": {"create": "a\0b", "content": "", "mode": 0},
    "no name": {"file": [], "size": 1, "edits": []},
    "an unknown pair": {"file": ["x"], "size": 1, "edits": [[0, 7]]},
    "a negative offset": {"file": ["x"], "size": 1, "edits": [[-1, 0]]},
    "edits that overlap": {"file": ["x"], "size": 1, "edits": [[0, 0], [3, 0]]},
    "a size that is text": {"file": ["x"], "size": "1", "edits": []},
    "a size that is true": {"file": ["x"], "size": True, "edits": []},
    "a mode out of range": {"create": "x", "content": "", "mode": 1 << 20},
    "bytes that are no base64": {"link": "x", "old": {"base64": "?"}, "new": ""},
    "another step": {"device": "x"},
    "edits without a file": {"edits": [[0, 0]]},
    "edits that overlap those of the line before": {"file": ["x"], "size": 1, "edits": [[1, 0]], "before": 1},
    "a witness of an unknown pair": {"file": ["x"], "size": 1, "edits": [], "witness": [0, 9]},
    "a witness that is no edit": {"file": ["x"], "size": 1, "edits": [], "witness": 5},
}


@pytest.mark.parametrize("step", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_step_is_refused(tmp_path, step):
    path = written(tmp_path)
    head = path.read_bytes().splitlines()[0]
    pair = json.dumps({"pair": ["/old", "/new"]}).encode()
    sound = json.dumps({"file": ["x"], "size": 1, "edits": [[0, 0], [4, 0]]}).encode()
    before = [b'{"edits":[[0,0]]}'] if "before" in step else []
    for lines, is_sound in (([pair, sound], True), ([pair, *before, json.dumps(step).encode()], False)):
        path.write_bytes(b"\n".join([head, *lines, b'{"steps":1}']))
        if is_sound:
            assert len(read(tmp_path).steps) == 1
            continue
        with pytest.raises(InputError, match="damaged"):
            read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"belljar-relocation": 3},
        {"key": "../x"},
        {"key": 5},
        {"moves": [["a"]]},
        {"directories": {"..": [1, 2, 3]}},
        {"directories": {"x": [1, 2]}},
        {"directories": []},
        {"notes": 7},
    ],
)
def test_a_hostile_head_is_refused(tmp_path, change):
    path = written(tmp_path)
    head, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(json.dumps(json.loads(head) | change).encode() + b"\n" + rest)
    with pytest.raises(InputError, match=r"damaged|version"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n", b"[]", b"null\n", b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_what_is_no_journal_is_refused(tmp_path, content):
    written(tmp_path).write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path)


def test_other_names_in_the_directory_are_no_relocations(tmp_path):
    path = written(tmp_path)
    for name in ("x.applied", "1.other", "new", "-1.applied", "\u0661.applied"):
        (path.parent / name).touch()
    with opened(tmp_path) as root, reading(root) as book:
        assert book is not None
        assert book.entries() == [(1, Phase.APPLYING)]


def test_many_edits_stand_in_short_lines_and_come_back(tmp_path):
    edits = Edits.of(Splice(offset=at, old=b"/old", new=b"/new") for at in range(0, 100_000, 5))
    record = replace(RECORD, steps=(Rewrite(names=("log",), size=100_000, splices=edits), *RECORD.steps))
    with opened(tmp_path) as root, locked(root) as book:
        book.begin(record)
    assert read(tmp_path) == record
    assert max(map(len, (tmp_path / DIRECTORY / "1.applying").read_bytes().splitlines())) < 100_000


def test_a_journal_of_version_1_is_read_still(tmp_path):
    path = written(tmp_path)
    lines = [
        *(b'{"belljar-relocation":1,"key":"0a","tree":"/t","moves":[],"notes":[],"directories":{}}',),
        *(b'{"pair":["/old","/new"]}', b'{"file":["x"],"size":9,"edits":[[3,0]]}', b'{"steps":1}'),
    ]
    path.write_bytes(b"\n".join(lines))
    edits = Edits.of([Splice(offset=3, old=b"/old", new=b"/new")])
    assert read(tmp_path).steps == (Rewrite(names=("x",), size=9, splices=edits),)
