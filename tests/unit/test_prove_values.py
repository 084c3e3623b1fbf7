"""Comparing trees and telling kinds of differences apart, on bytes made for it."""

import hashlib
import struct
import tempfile
from pathlib import Path

import pytest

from belljar.build.compare import Aspect, compare
from belljar.build.explain import Kind
from belljar.build.prove import SECOND, Verdict, prove
from belljar.placeholder import DIRECTORY_LIMIT, LENGTH, PLACEHOLDER, TAIL
from belljar.relocate import scan


def test_the_second_root_differs_from_the_placeholder_in_every_byte_that_varies():
    assert len(SECOND) == LENGTH
    assert SECOND.startswith("/")
    assert SECOND.endswith(TAIL)
    assert all(SECOND[i] != PLACEHOLDER[i] for i in range(1, DIRECTORY_LIMIT))
    assert len({SECOND[i : i + 4] for i in range(LENGTH - 3)}) == LENGTH - 3


def trees(tmp_path, make, *, third=None):
    """Make a tree by make(directory, store root) under both roots, and prove it."""

    def build(root, name="again"):
        tree = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        tree.mkdir()
        (third if third and root == PLACEHOLDER and name == "again" else make)(tree, root)
        return tree

    first = build(PLACEHOLDER, "first")
    return prove(first, scan(first).table, tmp_path, build)


def test_a_tree_of_whole_references_is_proved_exactly(tmp_path):
    def make(tree, root):
        (tree / "text").write_text(f"x={root}/bin:{root}/lib\n" * 1000)
        (tree / "link").symlink_to(f"{root}/text")

    proof = trees(tmp_path, make)
    assert (proof.verdict, proof.builds, proof.references) == (Verdict.EXACT, 2, 2001)


MISSES = {
    "one letter": lambda tree, root: (tree / "f").write_text(f"a{root[17]}b{root}"),
    "a letter in the middle of a large file": lambda tree, root: (tree / "f").write_bytes(
        bytes(1 << 20) + root[33].encode() + bytes(1 << 20)
    ),
    "a shifted letter": lambda tree, root: (tree / "f").write_text(chr(ord(root[40]) + 1)),
    "a hash of the path": lambda tree, root: (tree / "f").write_text(
        hashlib.sha256(root.encode()).hexdigest()
    ),
    "a file's name": lambda tree, root: (tree / root[5:7]).write_text("x"),
    "the target of a link": lambda tree, root: (tree / "l").symlink_to(root[5:7]),
    "a size": lambda tree, root: (tree / "f").write_bytes(bytes(ord(root[9]))),
    "a mode": lambda tree, root: (tree / "f").touch(0o755 if root == SECOND else 0o644),
    "a type": lambda tree, root: (tree / "f").mkdir() if root == SECOND else (tree / "f").touch(),
}


@pytest.mark.parametrize("name", MISSES)
def test_whatever_follows_the_prefix_unseen_by_the_scan_is_caught(name, tmp_path):
    proof = trees(tmp_path, MISSES[name])
    assert (proof.verdict, proof.builds) == (Verdict.REFUTED, 3)
    assert {item.kind for item in proof.findings} == {Kind.MISSED}


def test_a_text_that_only_looks_like_a_reference_is_caught(tmp_path):
    proof = trees(tmp_path, lambda tree, root: (tree / "doc").write_text(f"the placeholder is {PLACEHOLDER}"))
    assert proof.verdict == Verdict.REFUTED
    assert {item.kind for item in proof.findings} == {Kind.EXTRA}


def test_what_differs_at_every_build_is_told_apart_and_proves_nothing(tmp_path):
    count = iter(range(1000, 2000, 111))
    proof = trees(tmp_path, lambda tree, root: (tree / "f").write_text(f"{root} built {next(count)}"))
    assert (proof.verdict, proof.builds) == (Verdict.UNDECIDED, 3)
    assert {item.kind for item in proof.findings} == {Kind.UNSTABLE}


def test_noise_in_one_place_does_not_hide_a_miss_in_another(tmp_path):
    count = iter(range(1000, 2000, 111))

    def make(tree, root):
        (tree / "f").write_text(f"built {next(count)}" + " " * 40 + root[7])

    proof = trees(tmp_path, make)
    assert proof.verdict == Verdict.REFUTED
    assert {item.kind for item in proof.findings} == {Kind.UNSTABLE, Kind.MISSED}


def test_the_hash_of_a_file_that_moves_follows_it_where_hashes_are_listed(tmp_path):
    def make(tree, root):
        (tree / "f").write_text(f"#!{root}/bin/sh\n")
        (tree / "f.sha256").write_text(hashlib.sha256((tree / "f").read_bytes()).hexdigest() + "  f\n")

    assert trees(tmp_path, make).verdict == Verdict.EXACT


def test_the_hash_of_a_file_that_moves_is_a_derived_value(tmp_path):
    def make(tree, root):
        (tree / "f").write_text(f"#!{root}/bin/sh\n")
        (tree / "notes").write_text(hashlib.sha256((tree / "f").read_bytes()).hexdigest() + "  f\n")

    proof = trees(tmp_path, make)
    assert (proof.verdict, proof.builds) == (Verdict.DERIVED, 2)
    assert [item.kind for item in proof.findings] == [Kind.FILE_SUM]


def test_a_finding_names_file_offset_and_both_bytes(tmp_path):
    (finding,) = trees(tmp_path, MISSES["a shifted letter"]).findings
    line = finding.describe()
    here, there = (f"{ord(root[40]) + 1:x}" for root in (PLACEHOLDER, SECOND))
    assert line == f"f: missed reference: offset 0..1: {here} moved, {there} built there"


def test_differences_near_each_other_are_one_and_chunks_do_not_matter(tmp_path):
    left, right = bytearray(3 << 20), bytearray(3 << 20)
    for place in (0, 5, 100, (1 << 20) - 1, 3 * (1 << 20) - 1):
        right[place] = 1
    for name, data in (("a", left), ("b", right)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(data)
    found = [(item.offset, item.end) for item in compare(tmp_path / "a", tmp_path / "b")]
    assert found == [(0, 6), (100, 101), ((1 << 20) - 1, 1 << 20), (3 * (1 << 20) - 1, 3 << 20)]


def test_a_longer_file_differs_from_where_the_shorter_one_ends(tmp_path):
    for name, data in (("a", b"12345"), ("b", b"12x45678")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(data)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert [(item.offset, item.end, item.aspect) for item in found] == [
        (2, 3, Aspect.CONTENT),
        (5, 8, Aspect.SIZE),
    ]


def elf(strings, info, *, code=b"", note=b""):
    """An ELF file with sections only: merged strings, numbers, code at 0x1000, a note."""
    names = b"\0.debug_str\0.debug_info\0.text\0.note.gnu.build-id\0.shstrtab\0"
    rows = [
        (b".debug_str", 1, 0x30, 0x2000, strings),
        (b".debug_info", 1, 0, 0, info),
        (b".text", 1, 6, 0x1000, code),
        (b".note.gnu.build-id", 7, 2, 0, note),
        (b".shstrtab", 3, 0, 0, names),
    ]
    body, headers = bytearray(64), [bytes(64)]
    for name, kind, flags, address, data in rows:
        place = (names.index(name), kind, flags, address, len(body), len(data), 0, 0, 1, 0)
        headers.append(struct.pack("<2I4Q2I2Q", *place))
        body += data
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack(
        "<2HI3QI6H", 1, 62, 1, 0, 0, len(body), 0, 64, 0, 0, 64, len(headers), len(headers) - 1
    )
    body[:64] = ident + head
    return bytes(body) + b"".join(headers)


def words(*numbers):
    return struct.pack(f"<{len(numbers)}i", *numbers)


ONE, TWO = b"\0apple\0pear\0", b"\0pear\0apple\0"
SAME = (words(1, 7), words(6, 1))  # offsets of apple and pear in either


def kinds(tmp_path, *, first, second):
    """What two files that hold no reference differ in."""
    place = Path(tempfile.mkdtemp(dir=tmp_path))
    proof = trees(place, lambda tree, root: (tree / "f").write_bytes(second if root == SECOND else first))
    return {item.section: item.kind for item in proof.findings}


def test_offsets_that_lead_to_the_same_strings_are_their_order(tmp_path):
    found = kinds(tmp_path, first=elf(ONE, SAME[0]), second=elf(TWO, SAME[1]))
    assert found == {".debug_str": Kind.STRINGS, ".debug_info": Kind.STRINGS}


def test_an_offset_that_leads_to_another_string_is_missed(tmp_path):
    found = kinds(tmp_path, first=elf(ONE, words(1, 7)), second=elf(TWO, words(6, 6)))
    assert found == {".debug_str": Kind.STRINGS, ".debug_info": Kind.MISSED}


def test_a_number_that_differs_while_no_order_does_is_missed(tmp_path):
    found = kinds(tmp_path, first=elf(ONE * 2, words(1)), second=elf(ONE * 2, words(13)))
    assert found == {".debug_info": Kind.MISSED}


def test_strings_that_are_not_the_same_are_missed(tmp_path):
    found = kinds(tmp_path, first=elf(ONE, SAME[0]), second=elf(TWO.replace(b"pear", b"plum"), SAME[0]))
    assert found == {".debug_str": Kind.MISSED}


def test_displacements_of_instructions_are_followed(tmp_path):
    def code(offset):
        return b"\x48\x8d\x05" + words(0x2000 + offset - 0x1007) + b"\xc3"  # lea rax, [rip + ...]

    found = kinds(tmp_path, first=elf(ONE, b"", code=code(1)), second=elf(TWO, b"", code=code(6)))
    assert found == {".debug_str": Kind.STRINGS, ".text": Kind.STRINGS}
    found = kinds(
        tmp_path, first=elf(ONE, b"", code=b"\xb8" + words(1)), second=elf(TWO, b"", code=b"\xb8" + words(6))
    )
    assert found[".text"] == Kind.MISSED


def test_a_build_id_is_known_by_its_note_and_not_by_the_name_of_a_section(tmp_path):
    def note(owner, value):
        return words(4, 20, 3) + owner + value * 20

    found = kinds(
        tmp_path,
        first=elf(ONE, b"", note=note(b"GNU\0", b"1")),
        second=elf(ONE, b"", note=note(b"GNU\0", b"2")),
    )
    assert found == {".note.gnu.build-id": Kind.BUILD_ID}
    found = kinds(
        tmp_path,
        first=elf(ONE, b"", note=note(b"XYZ\0", b"1")),
        second=elf(ONE, b"", note=note(b"XYZ\0", b"2")),
    )
    assert found == {".note.gnu.build-id": Kind.MISSED}


def test_byte_code_is_followed_to_its_source(tmp_path):
    import importlib.util

    def make(tree, root, *, wrong=b""):
        (tree / "__pycache__").mkdir()
        (tree / "m.py").write_text(f"x = {root!r}\n")
        header = importlib.util.MAGIC_NUMBER + words(3)
        told = importlib.util.source_hash((tree / "m.py").read_bytes() + wrong)
        (tree / "__pycache__/m.cpython-3.pyc").write_bytes(header + told)

    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    (right,) = trees(tmp_path / "right", make).findings
    assert right.kind == Kind.BYTE_CODE
    (wrong,) = trees(tmp_path / "wrong", lambda tree, root: make(tree, root, wrong=b"x")).findings
    assert wrong.kind == Kind.MISSED


def test_damaged_files_are_compared_like_any_others(tmp_path):
    whole = elf(ONE, SAME[0])
    for size in range(4, len(whole), 37):
        found = kinds(tmp_path, first=whole[:size] + b"1", second=whole[:size] + b"2")
        assert set(found.values()) == {Kind.MISSED}
