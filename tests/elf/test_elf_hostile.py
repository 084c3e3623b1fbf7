"""Damaged and hostile files: ElfError and nothing else, in time and memory bounded by the file's size."""

import contextlib
import struct
import time
import tracemalloc

import pytest
from elf_writer import BASE, Made
from hypothesis import given, settings
from hypothesis import strategies as st
from test_elf_reader import FORMS, everything

from belljar.elf import ElfError, read

SAMPLES = [
    everything(wide=wide, big=big, hash=kind).write() for wide, big in FORMS for kind in ("sysv", "gnu")
]
EXTREMES = (0, 1, 0x80, 0xFF)


def patched(data, offset, form, *numbers):
    out = bytearray(data)
    struct.pack_into(form, out, offset, *numbers)
    return bytes(out)


def in_bounds(data, *, seconds=5.0, times=64):
    """Read a hostile file; it must fail, soon, and without taking more than `times` its size."""
    tracemalloc.start()
    begin = time.monotonic()
    with pytest.raises(ElfError) as caught:
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - begin < seconds
    assert peak < times * len(data)
    return caught.value


def test_a_real_file_cut_short_anywhere_is_refused_or_says_the_same(zig_cc):
    data = zig_cc("int main(void) { return 0; }", "-s").read_bytes()
    whole = read(data)
    refused = 0
    for size in range(len(data)):
        try:
            assert read(data[:size]) == whole, size
        except ElfError:
            refused += 1
    # What may go missing unnoticed is what is not loaded: comments and the section headers.
    assert refused >= max(item.offset + item.file_size for item in whole.segments if item.type == 1)


@pytest.mark.parametrize("data", SAMPLES)
def test_every_cut_of_every_form_is_refused(data):
    for size in range(len(data)):
        with pytest.raises(ElfError):
            read(data[:size])


@pytest.mark.parametrize("data", SAMPLES)
def test_every_byte_may_hold_anything(data):
    for offset in range(4, len(data)):
        for value in EXTREMES:
            with contextlib.suppress(ElfError):
                read(data[:offset] + bytes([value]) + data[offset + 1 :])


@settings(max_examples=300, deadline=None)
@given(
    number=st.integers(0, len(SAMPLES) - 1),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=12),
    size=st.integers(0, 4000),
)
def test_random_damage_gives_an_elf_or_an_elf_error(number, edits, size):
    data = bytearray(SAMPLES[number])
    for offset, value in edits:
        data[offset % len(data)] = value
    with contextlib.suppress(ElfError):
        read(bytes(data[:size]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x7fELF", b"\x7fELF\x02\x01", b"\x7fELF\x01\x02"]))
def test_random_bytes_give_an_elf_error(data, head):
    with contextlib.suppress(ElfError):
        read(head + data)


def test_what_is_no_elf_file_is_refused_at_its_start():
    for data in (b"", b"\x7fEL", b"#!/bin/sh\n", bytes(100)):
        with pytest.raises(ElfError) as caught:
            read(data)
        assert caught.value.offset == 0


def test_the_error_says_where():
    made = everything()
    data = made.write()
    error = in_bounds(patched(data, made.at["verneed"] + 12, "<I", 3))
    assert error.offset == made.at["verneed"]
    assert hex(error.offset) in error.message


def test_a_chain_of_versions_that_overlaps_itself_ends():
    made = Made(needs=(("libc.so.6", (("GLIBC_2.17", 2, 0),)),))
    data = made.write()
    at = made.at["verneed"]
    # Each of 65535 needs claims 65535 versions, which are the needs themselves.
    filler = struct.pack("<HHIII", 1, 0xFFFF, 1, 16, 16) * 60_000
    filler += struct.pack("<HHIII", 1, 0xFFFF, 1, 16, 0)
    grown = bytearray(data + filler)
    grown[at : at + 16] = struct.pack("<HHIII", 1, 0xFFFF, 1, len(data) - at, len(data) - at)
    count = bytes(grown).index(struct.pack("<QQ", 0x6FFFFFFF, 1))
    struct.pack_into("<QQ", grown, count, 0x6FFFFFFF, 0xFFFFFFFF)
    for place in (64 + 32, 64 + 40):
        struct.pack_into("<Q", grown, place, len(grown))
    assert "overlap" in in_bounds(bytes(grown)).message


@pytest.mark.parametrize("link", [1, 15, 0xFFFFFFFF])
def test_a_link_to_itself_or_beyond_is_refused(link):
    made = everything()
    data = made.write()
    in_bounds(patched(data, made.at["verneed"] + 12, "<I", link))
    in_bounds(patched(data, made.at["verdef"] + 16, "<I", link))


def test_names_that_all_overlap_are_refused():
    size = 200_000
    made = Made(symbols=tuple(("", 1, False, 1) for _ in range(20_000)), soname="x" * size)
    data = bytearray(made.write())
    for number in range(1, 20_001):
        struct.pack_into("<I", data, made.at["symtab"] + 24 * number, number)
    error = in_bounds(bytes(data))
    assert "overlap" in error.message


def test_note_segments_that_all_cover_the_file_are_refused():
    count = 30_000
    size = 64 + 56 * count
    head = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 4, 4, 0, 0, 0, size, size, 4) * count
    error = in_bounds(b"\x7fELF\x02\x01\x01" + bytes(9) + head + segments)
    assert "notes" in error.message


@pytest.mark.parametrize(("name", "at"), [("hash", 4), ("gnu_hash", 0), ("gnu_hash", 8)])
def test_huge_counts_are_refused_before_memory_is_taken(name, at):
    made = everything(hash="sysv" if name == "hash" else "gnu")
    in_bounds(patched(made.write(), made.at[name] + at, "<I", 0xFFFFFFFF))


def test_a_hash_chain_without_end_is_refused():
    made = Made(hash="gnu", symbols=(("defined", 1, True, 1),))
    data = made.write()
    # From the bucket on there are only even words up to the end of the segment.
    start = made.at["gnu_hash"] + 16 + 8 + 4
    for at in range(start, len(data) - 3, 4):
        data = patched(data, at, "<I", struct.unpack_from("<I", data, at)[0] & ~1)
    in_bounds(data)


def test_a_table_outside_all_segments_is_refused():
    made = everything()
    data = made.write()
    at = data.index(struct.pack("<QQ", 5, BASE + made.at["strtab"]))
    error = in_bounds(patched(data, at + 8, "<Q", 1 << 40))
    assert error.offset == at


def test_a_segment_beyond_the_file_is_refused():
    data = everything().write()
    assert "ends at" in in_bounds(patched(data, 64 + 32, "<Q", 1 << 63)).message


def test_more_program_headers_than_fit_their_count_are_read_from_section_zero():
    made = everything()
    data = bytearray(made.write())
    plain = read(bytes(data))
    section = bytearray(64)
    struct.pack_into("<I", section, 44, 4)
    struct.pack_into("<H", data, 56, 0xFFFF)
    struct.pack_into("<Q", data, 40, len(data))
    assert read(bytes(data + section)).segments == plain.segments
    in_bounds(bytes(data))
