"""What files made byte by byte ask for."""

import pytest
from elf_writer import Made

from belljar.audit import Kind
from belljar.audit.facts import facts_of
from belljar.elf import read

RELR = (36, 0x10000)


def facts(**changes):
    data = Made(**changes).write()
    return facts_of("x", data, read(data))


def need(*versions):
    return (("libc.so.6", tuple((name, index, 0) for index, name in enumerate(versions, 2))),)


def test_packed_relocations_count_with_and_without_their_version():
    assert str(facts(needs=need("GLIBC_2.17")).floor) == "2.17"
    assert str(facts(needs=need("GLIBC_2.17"), extra_tags=(RELR,)).floor) == "2.36"
    assert str(facts(needs=need("GLIBC_2.17", "GLIBC_ABI_DT_RELR")).floor) == "2.36"
    marked = facts(needs=need("GLIBC_2.17", "GLIBC_ABI_DT_RELR"), extra_tags=(RELR,))
    assert [use.library for use in marked.causes] == ["libc.so.6"]


def test_packed_relocations_of_what_needs_no_glibc_set_no_floor():
    assert facts(extra_tags=(RELR,)).floor is None


def test_a_need_counts_though_its_symbols_are_weak():
    file = facts(needs=need("GLIBC_2.34"), symbols=(("maybe", 2, False, 2),))
    assert str(file.floor) == "2.34"


def test_a_file_that_defines_versions_of_glibc_is_part_of_it():
    assert facts(definitions=(("GLIBC_2.17", 2, 0, ()),)).defines_glibc
    assert not facts(definitions=(("X_1", 2, 0, ()),)).defines_glibc


PIE = (0x6FFFFFFB, 0x08000000)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"kind": 1}, Kind.OBJECT),
        ({"kind": 4}, Kind.CORE),
        ({"kind": 77}, Kind.OTHER),
        ({"kind": 2}, Kind.STATIC),
        ({"kind": 2, "interpreter": "/ld.so"}, Kind.EXECUTABLE),
        ({"kind": 3}, Kind.SHARED),
        ({"kind": 3, "extra_tags": (PIE,)}, Kind.STATIC),
        ({"kind": 3, "interpreter": "/ld.so"}, Kind.EXECUTABLE),
        ({"kind": 3, "interpreter": "/ld.so", "soname": "libc.so.6"}, Kind.SHARED),
        ({"kind": 3, "extra_tags": (PIE,), "needed": ("libc.so.6",)}, Kind.EXECUTABLE),
    ],
)
def test_programs_are_told_from_libraries(changes, kind):
    assert facts(**changes).kind is kind


@pytest.mark.parametrize(
    ("code", "kernel"),
    [
        (b"\x3d\x6b\x0a\x03\x00\x0f\x8f\xa3\x04\0\0", "3.10.108"),  # jg: glibc 2.17 built for 3.10.108
        (b"\x3d\xff\x1f\x02\x00\x76\x10", "2.32.0"),  # jbe
        (b"\x3d\x00\x02\x03\x00\x72\x10", "3.2.0"),  # jb
        (b"\x3d\x00\x02\x03\x00\x74\x10", None),  # je: some other constant
        (b"\x3d\x00\x02\x03\x00\x72\x10\x3d\x00\x02\x04\x00\x72\x10", None),  # two: which one?
    ],
)
def test_a_loader_has_the_oldest_kernel_in_its_code(code, kernel):
    made = Made(soname="ld-linux-x86-64.so.2", notes=((b"FATAL: kernel too old\0", 9, code + bytes(8)),))
    data = bytearray(made.write())
    data[64 + 4] = 5  # the segment is executable
    assert facts_of("x", bytes(data), read(bytes(data))).kernel == kernel
    plain = Made(notes=((b"FATAL: kernel too old\0", 9, code + bytes(8)),)).write()
    assert facts_of("x", plain, read(plain)).kernel is None
