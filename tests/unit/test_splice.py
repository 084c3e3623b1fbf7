"""Edits as values: applied, turned round, checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.errors import IntegrityError
from belljar.splice import Splice, in_place, inverse, merged, spliced


@st.composite
def edited(draw):
    """Bytes, and edits that fit them."""
    data = draw(st.binary(max_size=60))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8, unique=True)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    new = st.binary(max_size=9)
    return data, tuple(Splice(offset=begin, old=data[begin:end], new=draw(new)) for begin, end in pairs)


@given(edited())
def test_the_inverse_restores_every_byte(case):
    data, splices = case
    there = spliced(data, splices, subject="x")
    assert len(there) == len(data) + sum(splice.growth for splice in splices)
    assert spliced(there, inverse(splices), subject="x") == data


@given(edited())
def test_the_inverse_of_the_inverse_is_the_edit(case):
    _, splices = case
    assert inverse(inverse(splices)) == splices


def test_other_bytes_than_expected_are_refused_with_their_offset():
    with pytest.raises(IntegrityError, match="f: offset 2:"):
        spliced(b"abcdef", [Splice(offset=2, old=b"xx", new=b"yy")], subject="f")
    with pytest.raises(IntegrityError, match="offset 9"):
        spliced(b"abc", [Splice(offset=9, old=b"", new=b"y")], subject="f")


def test_overlapping_edits_are_refused():
    one, two = Splice(offset=0, old=b"abc", new=b"x"), Splice(offset=2, old=b"c", new=b"y")
    with pytest.raises(ValueError, match="overlap at offset 2"):
        spliced(b"abc", [one, two], subject="f")
    with pytest.raises(ValueError, match="overlap at offset 2"):
        merged([two, one])
    assert merged([one, one]) == (one,)


def test_what_keeps_its_length_is_in_place():
    assert in_place([Splice(offset=0, old=b"ab", new=b"cd")])
    assert not in_place([Splice(offset=3, old=b"", new=b"cd")])
