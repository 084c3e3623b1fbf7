"""The relocation table as a value and as JSON, and reading a file as if it had never been moved."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from belljar.errors import InputError, IntegrityError
from belljar.placeholder import LENGTH, PLACEHOLDER, location
from belljar.references import CHUNK, Reference, Table, read_canonical, rewritten

WHOLE = PLACEHOLDER.encode()
HERE = location(Path("/srv/here"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def table(files=None, links=None):
    return {"version": 1, "files": files or {}, "links": links or {}}


@given(st.dictionaries(st.sampled_from(["a", "b/c", "d-\udcff"]), st.sets(st.integers(0, 10**6), max_size=5)))
def test_a_table_survives_json(places):
    files = {
        path: tuple(
            Reference(offset=number * 100, start=number % 50, length=40) for number in sorted(numbers)
        )
        for path, numbers in places.items()
    }
    links = {"link": (Reference(offset=0), Reference(offset=96))}
    before = Table(files=files, links=links)
    after = Table.from_json(json.loads(json.dumps(before.to_json())))
    assert after == before
    assert len(after) == sum(map(len, files.values())) + 2


def test_the_json_of_a_table_does_not_depend_on_the_order_of_paths():
    one = Table(files={"a": (Reference(offset=1),), "b": (Reference(offset=2),)}, links={})
    other = Table(files={"b": (Reference(offset=2),), "a": (Reference(offset=1),)}, links={})
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())


@settings(max_examples=60)
@given(JSON)
@example(None)
@example([])
@example({"version": 2, "files": {}, "links": {}})
@example({"version": 1, "files": []})
def test_arbitrary_json_is_refused_with_an_input_error(value):
    with pytest.raises(InputError):
        Table.from_json(value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(JSON, JSON)
def test_arbitrary_members_give_a_table_or_an_input_error(files, links):
    with contextlib.suppress(InputError):
        assert isinstance(Table.from_json({"version": 1, "files": files, "links": links}), Table)


@pytest.mark.parametrize(
    "items",
    [
        [-1],
        [True],
        [1.5],
        ["0"],
        [[0, 0]],
        [[0, 0, 97]],
        [[0, 96, 1]],
        [[0, 90, 7]],
        [[0, 0, 0]],
        [[0, -1, 4]],
        [[True, 0, 8]],
        [0, 95],
        [96, 0],
        [0, 0],
        "000",
        {"0": 0},
        None,
        7,
    ],
)
def test_references_out_of_range_or_order_are_refused(items):
    with pytest.raises(InputError, match="relocation table"):
        Table.from_json(table(files={"a": items}))


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".", "./a", "a\0b", "\ud800"]
)
@pytest.mark.parametrize("side", ["files", "links"])
def test_a_path_that_leaves_the_tree_is_refused(path, side):
    with pytest.raises(InputError, match="relocation table"):
        Table.from_json(table(**{side: {path: [0]}}))


def test_a_path_that_is_both_file_and_link_is_refused():
    with pytest.raises(InputError, match="both a file and a link: 'a'"):
        Table.from_json(table(files={"a": [0]}, links={"a": [0]}))


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused(version):
    with pytest.raises(InputError, match="version"):
        Table.from_json({**table(), "version": version})


def moved(references, size):
    """Return a content at its origin and at HERE, with the references in it."""
    origin = bytearray(b"." * size)
    for reference in references:
        origin[reference.offset : reference.end] = WHOLE[reference.start :][: reference.length]
    pieces = [reference.piece for reference in references]
    return bytes(origin), rewritten(bytes(origin), pieces, old=WHOLE, new=HERE, subject="x")


@pytest.mark.parametrize("shift", [-97, -96, -95, -48, -1, 0, 1])
def test_reading_turns_a_reference_across_a_chunk_boundary_back(tmp_path, shift):
    references = (Reference(offset=CHUNK + shift), Reference(offset=2 * CHUNK + shift, start=3, length=60))
    origin, here = moved(references, 2 * CHUNK + 300)
    assert origin != here
    path = tmp_path / "file"
    path.write_bytes(here)
    assert b"".join(read_canonical(path, references, HERE)) == origin


def test_reading_without_references_is_reading(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert list(read_canonical(path, (), HERE)) == []
    path.write_bytes(b"x" * (CHUNK + 1))
    assert [len(chunk) for chunk in read_canonical(path, (), HERE)] == [CHUNK, 1]


@pytest.mark.parametrize("offset", [0, 200 - LENGTH])
def test_a_damaged_reference_is_not_read_as_if_it_were_whole(tmp_path, offset):
    references = (Reference(offset=offset),)
    _, here = moved(references, 200)
    path = tmp_path / "file"
    for place in (offset, offset + 50, offset + LENGTH - 1):
        path.write_bytes(here[:place] + b"?" + here[place + 1 :])
        with pytest.raises(IntegrityError, match=rf"file: offset {offset}:"):
            list(read_canonical(path, references, HERE))


@pytest.mark.parametrize("offset", [200, 105, 10**9, 2**70])
def test_a_reference_beyond_the_end_is_an_integrity_error(tmp_path, offset):
    path = tmp_path / "file"
    path.write_bytes((HERE * 3)[:200])
    with pytest.raises(IntegrityError, match="offset"):
        list(read_canonical(path, (Reference(offset=offset),), HERE))
