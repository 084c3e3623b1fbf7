"""The relocation table as a value and as JSON, and reading a file as if it had never been moved."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from belljar.errors import InputError, IntegrityError
from belljar.placeholder import LENGTH, PLACEHOLDER, location
from belljar.references import CHUNK, Encoding, Reference, Table, read_canonical, rewritten
from belljar.relocate import copy_tree, rewrite_tree

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
    for encoding in Encoding:
        files[encoding] = (Reference(offset=7, start=4, length=2, encoding=encoding),)
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
        [[0, 0, 8, "latin-1"]],
        [[0, 0, 8, None]],
        [[0, 0, 8, ["bytes"]]],
        [[0, 0, 8, "bytes", 1]],
        [[0, 0, 3, "imm16"]],
        [[0, 95, 2, "imm16"]],
        [[0, 0, 2, "imm16"], 3],
        [[0, 0, 96, "utf-16-le"], 191],
        [[0, 0, 96, "utf-32-be"], 383],
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


def planted(references, noise):
    """Return a content that holds the references at its origin."""
    origin = bytearray(noise)
    for reference in references:
        place = slice(reference.offset, reference.end)
        origin[place] = reference.written(bytes(origin[place]), WHOLE)
    return bytes(origin)


def moved(references, size):
    """Return a content at its origin and at HERE, with the references in it."""
    origin = planted(references, b"." * size)
    return origin, rewritten(origin, references, old=WHOLE, new=HERE, subject="x")


@st.composite
def reference_lists(draw):
    """References of every encoding, in order, without overlap, and how many bytes they reach over."""
    found, at = [], 0
    for encoding in draw(st.lists(st.sampled_from(Encoding), max_size=8)):
        length = 2 if encoding == Encoding.IMM16 else draw(st.integers(1, LENGTH))
        start = draw(st.integers(0, LENGTH - length))
        at += draw(st.integers(0, 9))
        found.append(Reference(offset=at, start=start, length=length, encoding=encoding))
        at = found[-1].end
    return found, at


PLACES = st.text("ab/", min_size=1, max_size=70).map(
    lambda name: (b"/" + name.encode().replace(b"/", b"x")).ljust(80, b"/") + WHOLE[80:]
)


@given(reference_lists(), st.randoms(use_true_random=False), PLACES, PLACES)
def test_relocation_restores_and_does_not_depend_on_the_way(drawn, random, a, b):
    references, size = drawn

    def move(content, old, new):
        return rewritten(content, references, old=old, new=new, subject="x")

    noise = random.randbytes(size + 5)
    origin = planted(references, noise)
    at_a = move(origin, WHOLE, a)
    assert len(at_a) == len(origin)
    assert move(at_a, a, WHOLE) == origin, "A->B->A restores every byte"
    assert move(at_a, a, b) == move(origin, WHOLE, b), "A->B->C is A->C"
    assert move(move(origin, WHOLE, b), b, b) == move(origin, WHOLE, b), "twice is once"
    covered = {place for ref in references for place in range(ref.offset, ref.end)}
    assert all(at_a[i] == noise[i] for i in range(size + 5) if i not in covered), "nothing else changes"


def test_the_immediate_of_an_instruction_is_rewritten_and_nothing_else_of_it():
    # movz x1, #0x772f; movk x1, #0x676e, lsl #16 (assembled by hand: Arm ARM C6.2)
    code = bytes.fromhex("e1e58ed2") + bytes.fromhex("c1edacf2")
    references = [
        Reference(offset=0, start=0, length=2, encoding=Encoding.IMM16),
        Reference(offset=4, start=2, length=2, encoding=Encoding.IMM16),
    ]
    there = rewritten(code, references, old=WHOLE, new=HERE, subject="x")
    before, after = (int.from_bytes(data, "little") for data in (code, there))
    mask = 0xFFFF << 5 | 0xFFFF << 37
    assert before & ~mask == after & ~mask
    imm = [int.from_bytes(there[i : i + 4], "little") >> 5 & 0xFFFF for i in (0, 4)]
    assert b"".join(value.to_bytes(2, "little") for value in imm) == HERE[:4]


@pytest.mark.parametrize("encoding", Encoding)
def test_one_wrong_bit_is_not_taken_for_a_reference(encoding):
    references = [Reference(offset=3, start=2, length=2, encoding=encoding)]
    content = planted(references, b"\xaa" * 20)
    size = references[0].size
    bits = range(5, 21) if encoding == Encoding.IMM16 else range(size * 8)
    for bit in bits:
        wrong = bytearray(content)
        wrong[3 + bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError, match="x: offset 3"):
            rewritten(bytes(wrong), references, old=WHOLE, new=HERE, subject="x")
    with pytest.raises(IntegrityError):
        rewritten(content[: 3 + size - 1], references, old=WHOLE, new=HERE, subject="x")


def test_a_wide_reference_refuses_a_location_that_is_not_ascii_before_anything_is_written(tmp_path):
    odd = location(Path("/srv/é"))
    reference = Reference(offset=0, encoding=Encoding.UTF_16_LE)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_bytes(WHOLE)
    (tmp_path / "tree/b").write_bytes(PLACEHOLDER.encode("utf-16-le"))
    wide = Table(files={"a": (Reference(offset=0),), "b": (reference,)}, links={})
    with pytest.raises(InputError, match="not ASCII"):
        rewrite_tree(tmp_path / "tree", wide, old=WHOLE, new=odd)
    with pytest.raises(InputError, match="not ASCII"):
        copy_tree(tmp_path / "tree", tmp_path / "copy", table=wide, old=WHOLE, new=odd)
    assert (tmp_path / "tree/a").read_bytes() == WHOLE
    assert not (tmp_path / "copy").exists()
    narrow = Table(files={"a": (Reference(offset=0),)}, links={})
    rewrite_tree(tmp_path / "tree", narrow, old=WHOLE, new=odd)
    assert (tmp_path / "tree/a").read_bytes() == odd


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("shift", [-383, -2, -1, 0])
def test_reading_turns_every_encoding_back_across_a_chunk_boundary(tmp_path, encoding, shift):
    length = 2 if encoding == Encoding.IMM16 else LENGTH
    references = (
        Reference(offset=CHUNK + shift, length=length, encoding=encoding),
        Reference(offset=2 * CHUNK + 500, length=length, encoding=encoding),
    )
    origin, here = moved(references, 2 * CHUNK + 900)
    path = tmp_path / "file"
    path.write_bytes(here)
    assert b"".join(read_canonical(path, references, HERE)) == origin


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
