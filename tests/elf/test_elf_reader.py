"""The reader on files made byte by byte, in every class and byte order."""

import dataclasses

import pytest
from elf_writer import Made
from hypothesis import given
from hypothesis import strategies as st

from belljar.elf import read
from belljar.elf.const import Binding
from belljar.elf.interpreter import HEAD, interpreter_extent

FORMS = [(wide, big) for wide in (True, False) for big in (True, False)]


def everything(**changes):
    return Made(
        interpreter="/lib/ld.so.1",
        needed=("libc.so.6", "libm.so.6"),
        soname="libx.so.1",
        rpath="/r",
        runpath="$ORIGIN/../lib:/u",
        needs=(
            ("libc.so.6", (("GLIBC_2.17", 3, 0), ("GLIBC_2.34", 4, 2))),
            ("libm.so.6", (("GLIBC_2.29", 5, 0),)),
        ),
        definitions=(("libx.so.1", 1, 1, ()), ("X_2", 2, 0, ("X_1",))),
        symbols=(("pow", 1, False, 5), ("maybe", 2, False, 4), ("old", 1, True, 0x8002), ("new", 1, True, 2)),
        notes=((b"GNU\0", 3, bytes(range(20))),),
        **changes,
    )


@pytest.mark.parametrize("counted_by", ["sysv", "gnu"])
@pytest.mark.parametrize(("wide", "big"), FORMS)
def test_all_that_a_loader_reads_is_read_in_every_class_and_order(wide, big, counted_by):
    elf = read(everything(wide=wide, big=big, hash=counted_by).write())
    assert (elf.header.is_wide, elf.header.is_big_endian) == (wide, big)
    assert elf.interpreter == "/lib/ld.so.1"
    assert elf.dynamic is not None
    assert elf.dynamic.needed == ("libc.so.6", "libm.so.6")
    assert (elf.dynamic.soname, elf.dynamic.rpath) == ("libx.so.1", "/r")
    assert elf.dynamic.runpath == "$ORIGIN/../lib:/u"
    assert [(need.library, need.name, need.weak) for need in elf.needs] == [
        ("libc.so.6", "GLIBC_2.17", False),
        ("libc.so.6", "GLIBC_2.34", True),
        ("libm.so.6", "GLIBC_2.29", False),
    ]
    assert [(item.name, item.index, item.parents) for item in elf.definitions] == [
        ("libx.so.1", 1, ()),
        ("X_2", 2, ("X_1",)),
    ]
    assert [(s.name, s.binding, s.defined, s.version, s.library, s.hidden) for s in elf.symbols] == [
        ("pow", Binding.GLOBAL, False, "GLIBC_2.29", "libm.so.6", False),
        ("maybe", Binding.WEAK, False, "GLIBC_2.34", "libc.so.6", False),
        ("old", Binding.GLOBAL, True, "X_2", None, True),
        ("new", Binding.GLOBAL, True, "X_2", None, False),
    ]
    assert elf.build_id == bytes(range(20)).hex()


@pytest.mark.parametrize(("wide", "big"), FORMS)
def test_symbols_of_a_file_that_exports_nothing_are_counted_by_its_relocations(wide, big):
    made = Made(
        wide=wide,
        big=big,
        hash="gnu",
        needs=(("libc.so.6", (("GLIBC_2.17", 2, 0),)),),
        symbols=(("one", 1, False, 2), ("two", 1, False, 2)),
    )
    assert [symbol.name for symbol in read(made.write()).symbols] == ["one", "two"]


@pytest.mark.parametrize(("wide", "big"), FORMS)
def test_the_kernel_of_the_abi_note_is_read_in_every_order(wide, big):
    made = Made(wide=wide, big=big)
    made.notes = ((b"GNU\0", 1, made.pack("4I", 0, 3, 2, 1)),)
    assert read(made.write()).kernel == (3, 2, 1)


@pytest.mark.parametrize("words", ["sysv", "sysv of 8 bytes"])
def test_s390x_symbols_are_counted_whichever_size_the_linker_gave_the_hash_table(words):
    made = Made(big=True, machine=22, hash=words, symbols=(("one", 1, False, 1), ("two", 1, True, 1)))
    assert [symbol.name for symbol in read(made.write()).symbols] == ["one", "two"]


def test_rpath_and_runpath_are_kept_apart():
    with_rpath = read(Made(rpath="/r").write()).dynamic
    with_runpath = read(Made(runpath="/r").write()).dynamic
    assert with_rpath is not None
    assert with_runpath is not None
    assert (with_rpath.rpath, with_rpath.runpath) == ("/r", None)
    assert (with_runpath.rpath, with_runpath.runpath) == (None, "/r")


def test_an_address_is_found_in_the_file():
    made = everything()
    data = made.write()
    elf = read(data)
    assert elf.dynamic is not None
    table = elf.dynamic.first(5)
    assert table is not None
    assert elf.offset_of(table.value) == made.at["strtab"]
    assert elf.offset_of(0) is None


def test_a_name_that_is_no_text_keeps_its_bytes():
    data = everything().write().replace(b"libx.so.1", b"lib\xff.so.1")
    dynamic = read(data).dynamic
    assert dynamic is not None
    assert (dynamic.soname or "").encode("utf-8", "surrogateescape") == b"lib\xff.so.1"


def test_memory_and_bytes_read_alike():
    data = everything().write()
    assert read(memoryview(data)) == read(data)


def test_values_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read(everything().write()).interpreter = "/x"  # type: ignore[misc]  # what is being tried


def named(data):
    """Return the interpreter by the short way."""
    offset, size = interpreter_extent(data[:HEAD]) or (0, 0)
    return data[offset : offset + size].rstrip(b"\0").decode() or None


@pytest.mark.parametrize(("wide", "big"), FORMS)
def test_the_interpreter_is_found_in_the_first_bytes_as_by_reading_all(wide, big):
    for interpreter in ("/lib/ld.so.1", None):
        data = dataclasses.replace(everything(wide=wide, big=big), interpreter=interpreter).write()
        assert named(data) == read(data).interpreter == interpreter


@given(st.binary(max_size=200), st.integers(0, 300), st.sampled_from(FORMS))
def test_whatever_the_bytes_the_short_way_fails_never(noise, at, form):
    data = bytearray(everything(wide=form[0], big=form[1]).write())
    data[at : at + len(noise)] = noise
    offset, size = interpreter_extent(bytes(data)) or (0, 2)
    assert 0 <= offset < 1 << 63
    assert 2 <= size <= 4096


def test_no_bytes_at_all_name_nothing():
    for size in range(80):
        assert interpreter_extent(everything().write()[:size]) is None
