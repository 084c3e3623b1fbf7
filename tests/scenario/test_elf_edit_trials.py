"""Law 7: real files load and run after random edits, and after `strip -g`.

The table of docs/elf-editing.md in small; `make bench ARGS=edit` takes a thousand files, and patchelf 0.18
and lief too.
"""

import random

import pytest
from edit_oracle import debian_tools
from edit_trials import copied, files_of, judged, trial, ways

ROOT = "pilots"
COUNT = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return files_of(ROOT, (), tmp_path_factory.mktemp("wheels"), COUNT)


def test_no_file_is_broken_and_fewer_bytes_are_added_than_by_patchelf(files, tmp_path):
    strip = debian_tools(tmp_path / "binutils")
    every = ways(debian_tools(tmp_path / "multiarch", "multiarch"))
    ours = trial(files, every["belljar"], strip, tmp_path, ROOT)
    assert (ours.refused, ours.broken, ours.stripped) == ([], [], [])
    theirs = trial(files, every["patchelf 0.19"], strip, tmp_path, ROOT)
    assert sum(ours.added) * 4 < sum(theirs.added)


def test_the_judge_sees_each_kind_of_damage(files, tmp_path):
    """The negative control: where the dynamic segment is said to be nothing of it stands."""
    copies = copied(files[:8], tmp_path / "files")
    before = judged(copies, tmp_path, ROOT)
    for path in copies:
        data = bytearray(path.read_bytes())
        table = int.from_bytes(data[32:40], "little")
        rows = range(table, table + 56 * int.from_bytes(data[56:58], "little"), 56)
        row = next(at for at in rows if data[at : at + 4] == b"\2\0\0\0")
        data[row + 8 : row + 24] = random.Random(1).randbytes(3).ljust(8, b"\0") * 2
        path.write_bytes(data)
    pairs = zip(judged(copies, tmp_path, ROOT), before, strict=True)
    assert all(any(new > old for new, old in zip(*pair, strict=True)) for pair in pairs)
