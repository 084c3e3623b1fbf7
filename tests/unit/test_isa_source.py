"""Pages of a file are its bytes, and a file that shrinks is read as zeros."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iced_x86 import _iced_x86_py

from belljar.audit import parallel
from belljar.audit.isa import Effort, examine
from belljar.audit.isa.source import Pages
from belljar.elf import read

DATA = bytes(range(251)) * 800  # 200 kB, no two pages alike
LIBRARY = Path(_iced_x86_py.__file__)
PLACES = st.integers(-len(DATA) - 5, len(DATA) + 70_000)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "data"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        yield Pages(file.fileno(), len(DATA))


@given(start=PLACES, stop=PLACES)
def test_slices_of_pages_are_slices_of_the_bytes(pages, start, stop):
    assert pages[start:stop] == DATA[start:stop]
    assert len(pages) == len(DATA)


def test_a_file_that_shrank_reads_as_zeros(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        pages = Pages(file.fileno(), len(DATA))
        os.truncate(path, 100)
        assert pages[90:110] == DATA[90:100] + bytes(10)
        assert pages[150_000:] == bytes(len(DATA) - 150_000)


def test_a_verdict_by_pages_is_that_of_the_bytes():
    path = LIBRARY
    data = path.read_bytes()
    with path.open("rb") as file:
        facts = examine(Pages(file.fileno(), len(data)), read(data))
    assert facts.coverage.decoded > 0
    assert facts == examine(data, read(data))


def test_a_program_that_is_cut_while_it_is_read_gives_a_verdict(tmp_path):
    data = LIBRARY.read_bytes()
    path = tmp_path / "program"
    path.write_bytes(data)
    with path.open("rb") as file:
        pages = Pages(file.fileno(), len(data))
        for size in (len(data) // 2, 4096, 0):
            os.truncate(path, size)
            assert examine(pages, read(data), effort=Effort.FULL).arch


def test_heavy_items_are_one_process_work():
    weights = [parallel.HEAVY, 5, parallel.HEAVY + 1, 6, 2 * parallel.HEAVY]
    processes = parallel.each(lambda _: os.getpid(), weights, weight=int, jobs=2, done=lambda _: None)
    assert processes[0] == processes[2] == processes[4]
    assert processes[1] == processes[3] != processes[0]
