"""Comparing trees and telling kinds of differences apart, on bytes made for it."""

import hashlib

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
