"""Edits are kept small, and are the splices they were made of; files whose size stays are told apart."""

import os
import random
import subprocess
import sys

import pytest

from belljar.errors import InputError, IntegrityError
from belljar.placeholder import PLACEHOLDER
from belljar.references import Reference, References, Table
from belljar.relocate import inode
from belljar.relocate.edits import Edits
from belljar.relocate.root import opened
from belljar.relocate.steps import Rewrite, State
from belljar.splice import Splice, inverse, merged, spliced


def splice(offset, old, new):
    return Splice(offset=offset, old=old, new=new)


def some(dice, size):
    """Edits at random places of random bytes, some of them insertions or removals."""
    found, at = [], 0
    while (at := at + dice.choice((0, 1, 90, 5000, 200_000)) + 1) < size - 9:
        old = data_at(at, dice.randrange(4))
        found.append(splice(at, old, dice.choice((old[::-1], b"", b"/new", b"\xff" * 9))))
        at += len(old)
    return [one for one in found if one.old != one.new]


def data_at(offset, length):
    return bytes(at * 7 % 251 for at in range(offset, offset + length))


def test_edits_are_the_splices_they_were_made_of():
    dice = random.Random(3)
    for _ in range(50):
        splices = some(dice, 1 << 20)
        edits = Edits.of(splices)
        assert list(edits) == splices
        assert list(edits.inverse) == list(inverse(splices))
        assert edits.growth == sum(one.growth for one in splices)
        assert edits.in_place == all(not one.growth for one in splices)
        assert edits[3:9] == splices[3:9]
        assert edits[-1] == splices[-1]
        assert Edits.of(dice.sample(splices, len(splices))) == merged(splices)


def test_a_million_edits_take_twelve_bytes_each():
    edits = Edits.of(splice(at, b"/old", b"/new") for at in range(0, 5_000_000, 5))
    assert len(edits) == 1_000_000
    assert sys.getsizeof(edits.offsets) + sys.getsizeof(edits.numbers) < 14_000_000
    assert edits.shapes == [(b"/old", b"/new")]


def test_references_are_those_that_they_were_made_of():
    some_of = [Reference(offset=at, start=at % 3, length=8) for at in range(0, 90, 10)]
    kept = References.of([*some_of, Reference(offset=99)])
    assert kept == (*some_of, Reference(offset=99))
    assert kept[-1].is_whole
    assert kept[2:4] == some_of[2:4]
    assert kept != some_of
    assert len(kept.shapes) == 4


@pytest.mark.parametrize("offset", [1 << 62, 1 << 63, 1 << 200, -1])
def test_an_offset_that_no_file_has_is_refused(offset):
    for item in (offset, [offset, 0, 8]):
        with pytest.raises(InputError, match="damaged"):
            Table.from_json({"version": 1, "files": {"x": [item]}, "links": {}})


def test_memory_to_scan_does_not_grow_with_the_file(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from belljar.relocate import scan
peaks = []
for name in ("few", "many"):
    found = scan(Path(sys.argv[1]) / name)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(len(found.table), (peaks[1] - peaks[0]) << 10)
"""
    for name, count in (("few", 10), ("many", 100_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_text(f"{PLACEHOLDER}/share\n" * count)
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True
    )
    count, grown = map(int, done.stdout.split())
    assert count == 100_000
    assert grown < 60 * count


def test_edits_that_change_nothing_are_none_and_those_that_overlap_are_refused():
    assert list(Edits.of([splice(1, b"a", b"a")])) == []
    for overlapping in ([splice(0, b"ab", b""), splice(1, b"b", b"")], [splice(0, b"", b"x")] * 2):
        with pytest.raises(ValueError, match="overlap"):
            Edits.of(iter(overlapping))


@pytest.mark.parametrize("size", [0, 9, inode.SMALL, inode.SMALL + 1, 3 << 20])
def test_a_filled_file_is_the_source_with_its_edits(tmp_path, size):
    data, dice = data_at(0, size), random.Random(size)
    (tmp_path / "source").write_bytes(data)
    for number in range(9):
        splices = some(dice, size)
        with open(tmp_path / "source", "rb") as source, open(tmp_path / f"{number}", "w+b") as target:
            inode.fill(source.fileno(), target.fileno(), splices, subject="x")
        assert (tmp_path / f"{number}").read_bytes() == spliced(data, splices, subject="x")


@pytest.mark.parametrize("size", [99, 3 << 20])
def test_a_file_that_is_not_as_planned_is_not_filled(tmp_path, size):
    (tmp_path / "source").write_bytes(bytes(size))
    wrong = [splice(3, bytes(4), b"four"), splice(90, b"x", b"y")]
    with open(tmp_path / "source", "rb") as source, open(tmp_path / "target", "w+b") as target:
        with pytest.raises(IntegrityError, match="offset 90"):
            inode.fill(source.fileno(), target.fileno(), wrong, subject="x")
        assert inode.first_other(source.fileno(), wrong) == 90


def step_for(path, splices):
    with open(path, "rb") as file:
        return Rewrite.of(file.fileno(), (path.name,), splices)


BALANCED = {
    "longer, then shorter": (b"ab" + b"." * 9 + b"abcd", [(0, b"ab", b"abab"), (11, b"abcd", b"ab")]),
    "a run of one letter": (b"a" * 30 + b"b", [(0, b"", b"aa"), (29, b"ab", b"")]),
    "what differs lies far behind": (
        b"a" * (3 << 20) + b"b" * 9,
        [(0, b"", b"a"), ((3 << 20) + 8, b"b", b"")],
    ),
}


@pytest.mark.parametrize("name", BALANCED)
def test_old_and_new_of_one_size_are_never_taken_for_each_other(tmp_path, name):
    old, edits = BALANCED[name]
    splices = [splice(*edit) for edit in edits]
    new = spliced(old, splices, subject=name)
    assert len(new) == len(old)
    assert new != old
    (tmp_path / "f").write_bytes(old)
    step = step_for(tmp_path / "f", splices)
    with opened(tmp_path) as root:
        assert (step.state(root), step.inverse.state(root)) == (State.OLD, State.NEW)
        (tmp_path / "f").write_bytes(new)
        assert (step.state(root), step.inverse.state(root)) == (State.NEW, State.OLD)


def test_edits_that_give_the_same_content_are_no_step(tmp_path):
    (tmp_path / "f").write_bytes(b"a" * 30)
    assert step_for(tmp_path / "f", [splice(0, b"", b"aa"), splice(28, b"aa", b"")]) is None
    with pytest.raises(InputError, match="overlap"):
        step_for(tmp_path / "f", [splice(0, b"aa", b""), splice(1, b"aa", b"")])


def test_directories_are_looked_up_anew_by_who_asks_for_it(tmp_path):
    deep = tmp_path.joinpath(*map(str, range(100)))
    deep.mkdir(parents=True)
    (deep / "f").touch()
    before = len(os.listdir("/proc/self/fd"))
    with opened(tmp_path) as root:
        path = (deep / "f").relative_to(tmp_path).as_posix()
        inner = root.lstat(path).st_ino
        for number in range(100):
            (tmp_path / f"d{number}").mkdir()
            root.directory(f"d{number}")
        assert len(os.listdir("/proc/self/fd")) < before + 40
        root.lstat(path)
        deep.rename(tmp_path / "away")
        assert root.lstat(path).st_ino == inner  # the directory that it was
        with root.apart() as own, pytest.raises(FileNotFoundError):
            own.lstat(path)
    assert len(os.listdir("/proc/self/fd")) == before
