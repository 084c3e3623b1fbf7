"""The laws of the placeholder and of locations, which all of relocation rests on."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from belljar.errors import InputError
from belljar.placeholder import DIRECTORY_LIMIT, LENGTH, PLACEHOLDER, TAIL, location, store_root

COMPONENT = st.text("abcXYZ019._-+@é", min_size=1, max_size=20).filter(lambda name: name not in {".", ".."})
DIRECTORIES = st.lists(COMPONENT, max_size=6).map(lambda names: Path("/" + "/".join(names)))
FITTING = DIRECTORIES.filter(lambda path: len(os.fsencode(path)) <= DIRECTORY_LIMIT)


def test_the_placeholder_has_96_bytes_and_a_tail_of_16():
    assert len(PLACEHOLDER) == LENGTH == 96
    assert len(TAIL) == 16
    assert DIRECTORY_LIMIT == 80
    assert PLACEHOLDER.endswith(TAIL)
    assert TAIL.startswith("/qz")


def test_the_placeholder_is_an_absolute_path_of_small_consonants():
    assert PLACEHOLDER.startswith("/")
    assert os.path.normpath(PLACEHOLDER) == PLACEHOLDER
    assert set(PLACEHOLDER) <= set("/bcdfghjklmnpqrstvwxyz")


def test_all_4_grams_are_distinct():
    grams = [PLACEHOLDER[i : i + 4] for i in range(LENGTH - 3)]
    assert len(set(grams)) == len(grams)


def test_every_window_of_8_bytes_that_holds_a_varying_byte_holds_the_anchor():
    for start in range(DIRECTORY_LIMIT):
        assert "qz" in PLACEHOLDER[start : start + 8], start


def test_q_and_z_stand_nowhere_but_in_anchors_of_the_body():
    body = PLACEHOLDER[:DIRECTORY_LIMIT]
    assert body.count("q") == body.count("z") == body.count("qz")


@given(FITTING)
@example(Path("/"))
@example(Path("/a"))
@example(Path("/" + "d" * 79))
def test_a_location_has_96_bytes_and_names_the_store_root(directory):
    place = location(directory)
    assert len(place) == LENGTH
    assert place.endswith(TAIL.encode())
    assert os.path.normpath(os.fsdecode(place)) == str(store_root(directory))


@pytest.mark.parametrize("too_many", [1, 2, 16, 1000])
def test_a_directory_of_80_bytes_fits_and_one_byte_more_is_refused(too_many):
    assert len(location(Path("/" + "a" * 79))) == LENGTH
    with pytest.raises(InputError, match=f"too long by {too_many} bytes"):
        location(Path("/" + "a" * (79 + too_many)))


def test_length_counts_bytes_not_letters():
    assert len(location(Path("/" + "é" * 39))) == LENGTH
    with pytest.raises(InputError, match="too long by 1 bytes"):
        location(Path("/" + "é" * 40))


@pytest.mark.parametrize("path", ["relative", ".", "/a/../b", "//a"])
def test_a_path_that_is_not_absolute_and_normal_is_refused(path):
    with pytest.raises(InputError, match="absolute, normal"):
        location(Path(path))


@pytest.mark.parametrize("character", " :;\n\t'\"$`\\*?%#!~=,&|<>()[]{}^\x7f")
def test_what_scripts_take_for_syntax_is_refused(character):
    with pytest.raises(InputError, match="syntax"):
        location(Path(f"/opt/a{character}b"))
