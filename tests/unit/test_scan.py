"""A scan finds what stands in a tree, all of it and nothing else."""

import os
import random
import socket
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from belljar.errors import InputError
from belljar.placeholder import LENGTH, PLACEHOLDER
from belljar.references import Encoding, Reference
from belljar.relocate import scan
from belljar.relocate.search import BUFFER, CONTEXT, MINIMUM, Window

WHOLE = PLACEHOLDER.encode()
NAME = "a2" * 16 + "-hello-2.10"
EDGES = sorted(
    {edge + shift for edge in (BUFFER, BUFFER - CONTEXT, BUFFER + 1) for shift in range(-99, 3, 7)}
)


def put(tree, path, content):
    place = tree / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def offsets(found, path):
    return [reference.offset for reference in found.table.files.get(path, ())]


def planted(places, size, seed=0, what=WHOLE):
    content = bytearray(random.Random(seed).randbytes(size))
    for place in places:
        content[place : place + len(what)] = what
    return bytes(content[:size])


def runs(content):
    return sorted({(run.offset, run.start, run.length) for run in Window().over(content).runs()})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_scan_of_random_bytes_finds_exactly_what_was_planted(tmp_path, data):
    places, at = [], 0
    for gap in data.draw(st.lists(st.integers(0, 9000), max_size=60)):
        places.append(at + gap)
        at += gap + LENGTH
    put(tmp_path, "file", planted(places, at + data.draw(st.integers(0, 50)), seed=at))
    found = scan(tmp_path)
    assert offsets(found, "file") == places
    assert found.is_relocatable


@pytest.mark.parametrize("edge", EDGES)
def test_a_reference_across_the_end_of_a_buffer_is_found_once(tmp_path, edge):
    put(tmp_path, "file", planted([edge, edge + 2 * BUFFER], 4 * BUFFER))
    assert offsets(scan(tmp_path), "file") == [edge, edge + 2 * BUFFER]


def test_references_at_the_start_and_the_very_end_are_found(tmp_path):
    put(tmp_path, "both", planted([0, 1000 - LENGTH], 1000))
    put(tmp_path, "only", WHOLE)
    found = scan(tmp_path)
    assert offsets(found, "both") == [0, 1000 - LENGTH]
    assert offsets(found, "only") == [0]


@pytest.mark.parametrize("lead", [0, BUFFER - 5000])
def test_adjacent_references_are_all_found(tmp_path, lead):
    put(tmp_path, "file", b"." * lead + WHOLE * 100)
    found = scan(tmp_path)
    assert offsets(found, "file") == [lead + LENGTH * i for i in range(100)]
    assert found.is_relocatable


def test_a_placeholder_cut_short_or_with_one_wrong_byte_is_no_reference_but_is_reported(tmp_path):
    put(tmp_path, "short", WHOLE[:-1])
    put(tmp_path, "late", b"x" * 50 + WHOLE[1:])
    put(tmp_path, "wrong", WHOLE[:50] + b"?" + WHOLE[51:])
    found = scan(tmp_path)
    assert len(found.table) == 0
    assert [(item.path, item.offset) for item in found.unsupported] == [
        ("late", 50),
        ("short", 0),
        ("wrong", 0),
        ("wrong", 51),
    ]


@pytest.mark.parametrize("length", [MINIMUM, 9, 16, 32, 64, 95])
def test_every_piece_that_holds_a_varying_byte_is_found(length):
    for start in range(min(80, LENGTH - length + 1)):
        content = b"\x01" * 300 + WHOLE[start : start + length] + b"\x02" * 300
        assert runs(content) == [(300, start, length)]


def test_a_piece_shorter_than_8_bytes_or_inside_the_constant_tail_is_none():
    assert runs(WHOLE[3:10]) == []
    assert runs(WHOLE[80:]) == []


def test_pieces_that_touch_and_overlap_are_all_found():
    touching = WHOLE[0:8] + WHOLE[24:32] + WHOLE[8:16]
    assert {(0, 0, 8), (8, 24, 8), (16, 8, 8)} <= set(runs(touching))
    constants = WHOLE[0:32] + WHOLE[28:60]
    assert {(0, 0, 32), (32, 28, 32)} <= set(runs(constants))
    sharing = WHOLE[0:8] + WHOLE[15:23]  # the first ends in the anchor that stands before the second
    assert runs(sharing) == [(0, 0, 8), (5, 12, 11)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("lead", [0, 12, BUFFER - 100])
def test_wide_placeholders_are_references_with_their_encoding(tmp_path, encoding, lead):
    put(tmp_path, "file", b"." * lead + f"say {PLACEHOLDER}/lib".encode(encoding) + b"." * 9)
    found = scan(tmp_path)
    width = int(encoding[4:6]) // 8
    assert found.table.files["file"] == (Reference(offset=lead + 4 * width, encoding=Encoding(encoding)),)
    assert found.is_relocatable


@pytest.mark.parametrize("width", [2, 4])
def test_wide_characters_whose_zeros_are_not_all_zero_are_no_reference_but_reported(tmp_path, width):
    text = PLACEHOLDER.encode(f"utf-{width * 8}-le")
    put(tmp_path, "end", b"\xff" * 8 + text[:-1] + b"\xff" * 8)
    put(tmp_path, "cut", b"\xff" * 8 + text[:-width])
    found = scan(tmp_path)
    assert len(found.table) == 0
    assert {(item.path, item.what.endswith(f"UTF-{width * 8}")) for item in found.unsupported} == {
        ("end", True),
        ("cut", True),
    }


def test_names_after_a_reference_are_collected_and_end_where_the_shortest_does(tmp_path):
    other = "b7" * 16 + "-lib.x+y_z-1.0~rc1"
    put(
        tmp_path,
        "text",
        f"A={PLACEHOLDER}/{NAME}/lib:{PLACEHOLDER}/{NAME}. B={PLACEHOLDER}//{other}\n".encode(),
    )
    put(tmp_path, "packed", f"{PLACEHOLDER}/{NAME}andmore {PLACEHOLDER}/UPPER{PLACEHOLDER}".encode())
    os.symlink(f"{PLACEHOLDER}/{'c' * 32}-linked-1/x", tmp_path / "link")
    assert scan(tmp_path).names == {NAME, other, "c" * 32 + "-linked-1"}


def test_a_name_across_the_end_of_a_buffer_is_whole(tmp_path):
    for shift in range(LENGTH, LENGTH + 60, 5):
        put(tmp_path, "file", b"." * (BUFFER - shift) + f"{PLACEHOLDER}/{NAME}/".encode() + b"." * BUFFER)
        assert scan(tmp_path).names == {NAME}


def test_link_targets_are_references_too_dangling_or_not(tmp_path):
    os.symlink(f"{PLACEHOLDER}/{NAME}/bin", tmp_path / "link")
    os.symlink(f"file:{PLACEHOLDER}", tmp_path / "late")
    os.symlink("usr/lib", tmp_path / "plain")
    os.symlink(PLACEHOLDER[:40], tmp_path / "piece")
    found = scan(tmp_path)
    assert {path: [ref.offset for ref in refs] for path, refs in found.table.links.items()} == {
        "link": [0],
        "late": [5],
    }
    assert [(item.path, item.offset) for item in found.unsupported] == [("piece", 0)]


def test_the_placeholder_in_a_name_is_reported(tmp_path):
    put(tmp_path, f"var{PLACEHOLDER}/file", b"")
    put(tmp_path, "a-wngnlqzbx.conf", b"")
    put(tmp_path, "qz-is-no-trace", b"")
    found = scan(tmp_path)
    first, second = PLACEHOLDER.split("/")[1:]
    assert next((item.path, item.offset) for item in found.unsupported if first in item.path) == (
        f"var/{first}",
        0,
    )
    assert second not in "".join(item.path for item in found.unsupported)
    assert ("a-wngnlqzbx.conf", 2) in [(item.path, item.offset) for item in found.unsupported]
    assert not any("no-trace" in item.path for item in found.unsupported)


def test_hard_links_are_listed_under_each_name(tmp_path):
    os.link(put(tmp_path, "a", b"12" + WHOLE), tmp_path / "b")
    found = scan(tmp_path)
    assert offsets(found, "a") == offsets(found, "b") == [2]


def test_fifos_sockets_and_links_to_elsewhere_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    os.symlink("/dev/zero", tmp_path / "zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        assert len(scan(tmp_path).table) == 0


def test_an_empty_tree_and_empty_files_have_no_references(tmp_path):
    assert len(scan(tmp_path).table) == 0
    put(tmp_path, "empty", b"")
    found = scan(tmp_path)
    assert len(found.table) == 0
    assert found.is_relocatable


def test_undecodable_names_are_kept(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    with open(path, "wb") as file:
        file.write(WHOLE)
    assert offsets(scan(tmp_path), os.fsdecode(b"caf\xe9")) == [0]


def test_a_big_file_takes_no_memory_to_speak_of(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.seek((96 << 20) - 40)
        file.write(WHOLE)
        file.truncate(256 << 20)
    code = (
        "import resource, sys; from pathlib import Path; from belljar.relocate import scan; "
        "resource.setrlimit(resource.RLIMIT_AS, (120 << 20, 120 << 20)); "
        "print([r.offset for r in scan(Path(sys.argv[1])).table.files['sparse']])"
    )
    out = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [f"[{(96 << 20) - 40}]"]


def test_progress_ends_with_all_bytes(tmp_path):
    events = []
    put(tmp_path, "a", b"x" * 100)
    put(tmp_path, "b", b"x" * 200)
    scan(tmp_path, progress=events.append)
    assert (events[-1].stage, events[-1].done, events[-1].total) == ("scan", 300, 300)


def test_a_tree_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="nowhere: cannot be scanned"):
        scan(tmp_path / "nowhere")


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_cannot_be_read_is_named(tmp_path, what):
    place = put(tmp_path, "closed/file", b"").parent
    place = place / "file" if what == "file" else place
    place.chmod(0)
    code = (
        "import os, sys; from pathlib import Path; from belljar.relocate import scan\n"
        "os.chdir(sys.argv[1])\n"
        "os.getuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))\n"
        "try: scan(Path('.'))\n"
        "except Exception as error: print(type(error).__name__, error, '|', error.hint)"
    )
    tmp_path.chmod(0o755)
    try:
        out = subprocess.run(
            [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
        )
    finally:
        place.chmod(0o755)
    assert out.stdout.startswith("InputError"), out
    assert f"{place.relative_to(tmp_path)}: cannot be scanned: Permission denied" in out.stdout
    assert "user who owns it" in out.stdout
