"""Edits of small files in every class and byte order: read back, in place where possible, and undone."""

import functools
import struct
from dataclasses import replace

import pytest
from edit_oracle import assert_sound
from elf_writer import Made
from hypothesis import given, settings
from hypothesis import strategies as st
from test_elf_reader import FORMS, everything

from belljar.elf import ElfError, read
from belljar.elf.edit import (
    AddNeeded,
    AddRunpath,
    EditRefused,
    PathTag,
    RemoveNeeded,
    RemoveRunpath,
    ReplaceNeeded,
    SetInterpreter,
    SetRunpath,
    SetSoname,
    edit,
)
from belljar.splice import in_place, inverse, spliced

LONG = "/opt/a-rather-long-directory/" * 12 + "lib"


def edited(image, *edits):
    """The file after some edits; they are undone and made again on the way."""
    splices = edit(image, edits)
    new = spliced(image, splices, subject="made")
    assert spliced(new, inverse(splices), subject="made") == image
    return new


def path_of(image):
    dynamic = read(image).dynamic
    return dynamic.runpath if dynamic.rpath is None else dynamic.rpath


def rest_of(image):
    """What no edit of names may change."""
    elf = read(image)
    needs = [replace(item, library="") for item in elf.needs]
    return (
        elf.symbols and [item._replace(library=None) for item in elf.symbols],
        needs,
        elf.definitions,
        elf.notes,
    )


@pytest.mark.parametrize("counted_by", ["sysv", "gnu"])
@pytest.mark.parametrize("name", ["x", LONG], ids=["short", "long"])
@pytest.mark.parametrize(("wide", "big"), FORMS)
def test_every_edit_is_read_back_in_every_class_and_order(wide, big, name, counted_by):
    image = everything(wide=wide, big=big, hash=counted_by).write()
    new = edited(
        image,
        SetRunpath(entries=(f"/{name}", "$ORIGIN")),
        AddNeeded(name=f"lib{name}.so".replace("/", "-")),
        ReplaceNeeded(old="libm.so.6", new=f"{name}/libm.so.6"),
        SetSoname(name=f"{name}.so"),
        SetInterpreter(path=f"/{name}/ld.so"),
    )
    elf = read(new)
    assert elf.dynamic.runpath == f"/{name}:$ORIGIN:$ORIGIN/../lib:/u"
    assert elf.dynamic.rpath == "/r"
    assert elf.dynamic.needed == ("libc.so.6", f"{name}/libm.so.6", f"lib{name}.so".replace("/", "-"))
    assert elf.dynamic.soname == f"{name}.so"
    assert elf.interpreter == f"/{name}/ld.so"
    assert {need.library for need in elf.needs} == {"libc.so.6", f"{name}/libm.so.6"}
    assert rest_of(new) == rest_of(image)
    assert_sound(new)


@pytest.mark.parametrize(("wide", "big"), FORMS)
def test_a_name_that_is_not_longer_is_written_where_the_old_one_was(wide, big):
    image = everything(wide=wide, big=big).write()
    for wish in (
        SetRunpath(entries=("$ORIGIN/../li",), replace=True),
        SetRunpath(entries=("/u",), replace=True),
        RemoveRunpath(),
        ReplaceNeeded(old="libm.so.6", new="libM.so.6"),
        SetInterpreter(path="/lib/ld.so.2"),
        SetSoname(name=None),
        RemoveRunpath(entries=("/u",)),
    ):
        splices = edit(image, [wish])
        assert splices, wish
        assert in_place(splices), wish
        assert sum(len(splice.new) for splice in splices) < 600


def test_old_names_do_not_stay_behind():
    image = everything().write()
    assert b"$ORIGIN/../lib:/u" in image
    assert b"../lib:/u" not in edited(image, SetRunpath(entries=("/x",), replace=True))
    assert b"../lib:/u" not in edited(image, SetRunpath(entries=(LONG,), replace=True))
    assert b"ld.so.1" not in edited(image, SetInterpreter(path=f"/{LONG}"))


class Merged(Made):
    """A file whose strings share tails, as GNU ld makes them."""

    def string(self, text):
        at = self._strings.find(text.encode() + b"\0")
        return at if at >= 0 else super().string(text)


@pytest.mark.parametrize(("wide", "big"), FORMS)
def test_a_tail_that_others_use_keeps_its_bytes(wide, big):
    made = Merged(
        wide=wide,
        big=big,
        runpath="/opt/work/frob",
        soname="libx-VERS_1",
        needed=("lib-need-me",),
        symbols=(("frob", 1, True, 2), ("me", 1, True, 2)),
        definitions=(("VERS_1", 2, 0, ()),),
    )
    image = made.write()
    assert image.count(b"frob") == image.count(b"VERS_1") == 1, "they do share"
    for wish in (
        RemoveRunpath(),
        SetRunpath(entries=("/a/b/c",), replace=True),
        SetRunpath(entries=("/a/b/c/d/e/f/g/",), replace=True),
        SetRunpath(entries=(LONG,), replace=True),
        SetSoname(name="y"),
        SetSoname(name="libx-VERS_2"),
        RemoveNeeded(name="lib-need-me"),
        ReplaceNeeded(old="lib-need-me", new="lib-need-mf"),
    ):
        new = edited(image, wish)
        assert [item.name for item in read(new).symbols] == ["frob", "me"], wish
        assert [item.name for item in read(new).definitions] == ["VERS_1"], wish


def test_a_name_that_is_the_tail_of_another_needs_no_room():
    image = Made(needed=("libfoo.so.1",), runpath="/x/lib", hash="").write()
    splices = edit(image, [SetSoname(name="foo.so.1"), SetRunpath(entries=("lib",), replace=True)])
    new = spliced(image, splices, subject="made")
    assert read(new).dynamic.soname == "foo.so.1"
    assert path_of(new) == "lib"


def test_search_paths_are_merged_and_the_tag_stays():
    image = Made(rpath="/a:/b").write()
    assert path_of(edited(image, SetRunpath(entries=("/b", "/c")))) == "/b:/c:/a"
    assert path_of(edited(image, AddRunpath(entries=("/b", "/c")))) == "/a:/b:/c"
    assert path_of(edited(image, RemoveRunpath(entries=("/a",)))) == "/b"
    assert path_of(edited(image, SetRunpath(entries=("/c",), replace=True))) == "/c"
    assert read(edited(image, AddRunpath(entries=("/c",)))).dynamic.runpath is None
    moved = read(edited(image, AddRunpath(entries=("/c",), tag=PathTag.RUNPATH))).dynamic
    assert (moved.rpath, moved.runpath) == (None, "/a:/b:/c")
    gone = read(edited(image, RemoveRunpath())).dynamic
    assert (gone.rpath, gone.runpath) == (None, None)


def test_an_edit_that_is_made_is_not_made_again():
    image = everything().write()
    assert edit(image, []) == ()
    for wish in (
        SetRunpath(entries=("$ORIGIN/../lib",)),
        AddRunpath(entries=("/u",)),
        RemoveRunpath(entries=("/not-there",)),
        AddNeeded(name="libc.so.6"),
        RemoveNeeded(name="libnone.so"),
        ReplaceNeeded(old="libnone.so", new="libc.so.6"),
        SetSoname(name="libx.so.1"),
        SetInterpreter(path="/lib/ld.so.1"),
    ):
        assert edit(image, [wish]) == (), wish
    there = [AddNeeded(name="liby.so"), SetRunpath(entries=(LONG,))]
    assert edit(edited(image, *there), there) == ()
    assert edit(image, [AddNeeded(name="liby.so"), RemoveNeeded(name="liby.so")]) == ()


@pytest.mark.parametrize(("wide", "big"), FORMS)
def test_many_edits_add_one_segment_and_little_more_than_one_edit(wide, big):
    image = everything(wide=wide, big=big).write()
    once = many = edited(image, SetRunpath(entries=(LONG + "0123456789",)), AddNeeded(name="liba.so"))
    for number in range(10):
        many = edited(many, SetRunpath(entries=(LONG + "x" * number,), replace=True))
        many = edited(
            many, AddNeeded(name=f"lib{number}.so"), SetInterpreter(path=f"/lib/ld.so.{10**number}")
        )
        assert_sound(many)
    loads = [item for item in read(many).segments if item.type == 1]
    assert len(loads) == len([item for item in read(image).segments if item.type == 1]) + 1
    assert len(many) - len(once) < 1200
    assert rest_of(many) == rest_of(image)


def test_what_relates_to_an_entrys_own_place_follows_it():
    rld_map_rel = 0x70000035
    image = Made(machine=8, needed=("a",), extra_tags=((rld_map_rel, 0x500),)).write()

    def target(data):
        elf = read(data)
        entry = elf.dynamic.first(rld_map_rel)
        dynamic = next(item for item in elf.segments if item.type == 2)
        return dynamic.address + entry.offset - dynamic.offset + entry.value & (1 << 64) - 1

    for wishes in (
        [AddNeeded(name="b", first=True)],
        [AddNeeded(name=f"lib{number}", first=True) for number in range(9)],
        [RemoveNeeded(name="a")],
    ):
        assert target(edited(image, *wishes)) == target(image)


REFUSED = [
    (everything(), RemoveNeeded(name="libm.so.6"), "symbol versions of it are needed"),
    (everything(), ReplaceNeeded(old="libq.so", new="libr.so"), "is not needed"),
    (everything(), SetInterpreter(path="ld.so"), "absolute"),
    (everything(), SetInterpreter(path="/" * 4096), "the kernel takes 4095"),
    (Made(needed=("a",)), SetInterpreter(path="/ld.so"), "has no interpreter"),
    (Made(needed=("a",), kind=2), SetSoname(name="x"), "a program gets no soname"),
    (Made(needed=("a",), kind=1), SetSoname(name="x"), "an object file"),
    (Made(needed=("a",), kind=4), SetSoname(name="x"), "a core dump"),
    (Made(needed=("a",), kind=77), SetSoname(name="x"), "a file of type 77"),
    (Made(soname="ld-linux-x86-64.so.2"), SetRunpath(entries=("/x",)), "the loader itself"),
    (Made(soname="ld64.so.2"), AddRunpath(entries=("/x",)), "the loader itself"),
    (Made(soname="ld-musl-x86_64.so.1"), AddRunpath(entries=("/x",)), "the loader itself"),
    (Made(soname="libc.musl-x86_64.so.1"), AddRunpath(entries=("/x",)), "the loader itself"),
    (everything(), SetRunpath(entries=("/a:/b",)), "a colon would make two of it"),
    (everything(), SetRunpath(entries=("",)), "is empty"),
    (everything(), AddNeeded(name="a\0b"), "holds a NUL"),
    (everything(), AddNeeded(name="\ud800"), "is no text"),
]


@pytest.mark.parametrize(("made", "wish", "reason"), REFUSED, ids=[reason for *_, reason in REFUSED])
def test_what_is_not_to_be_done_is_refused_with_its_reason(made, wish, reason):
    with pytest.raises(EditRefused, match=reason):
        edit(made.write(), [wish])


def test_what_stands_behind_the_program_is_not_moved_nor_followed_by_anything():
    image = everything().write() + b"payload of an archive"
    assert in_place(edit(image, [SetRunpath(entries=("/u",), replace=True)]))
    with pytest.raises(EditRefused, match="data of its own stands behind the program"):
        edit(image, [SetRunpath(entries=(LONG,))])


def test_a_file_without_names_is_refused_without_a_string_table():
    with pytest.raises((EditRefused, ElfError)):
        edit(_static(), [SetRunpath(entries=("/x",))])


def _static():
    data = bytearray(Made(needed=()).write())
    struct.pack_into("<I", data, 64 + 56, 0)  # PT_DYNAMIC becomes PT_NULL
    return bytes(data)


NAMES = st.text("abl/.-$", min_size=1, max_size=40)
EDITS = st.one_of(
    st.builds(
        SetRunpath,
        entries=st.lists(NAMES, max_size=4).map(tuple),
        tag=st.sampled_from(PathTag),
        replace=st.booleans(),
    ),
    st.builds(AddRunpath, entries=st.lists(NAMES, max_size=4).map(tuple), tag=st.sampled_from(PathTag)),
    st.builds(RemoveRunpath, entries=st.lists(NAMES, max_size=2).map(tuple)),
    st.builds(AddNeeded, name=NAMES, first=st.booleans()),
    st.builds(RemoveNeeded, name=NAMES),
    st.builds(ReplaceNeeded, old=st.sampled_from(["libc.so.6", "libm.so.6"]), new=NAMES),
    st.builds(SetSoname, name=st.none() | NAMES),
    st.builds(SetInterpreter, path=NAMES.map("/{}".format)),
)


@functools.cache
def _sample(number):
    wide, big = FORMS[number]
    return everything(wide=wide, big=big).write()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3), st.lists(st.lists(EDITS, max_size=3), max_size=6))
def test_any_sequence_of_edits_leaves_a_sound_file_and_can_be_undone(number, steps):
    image = start = _sample(number)
    undo = []
    for wishes in steps:
        try:
            splices = edit(image, wishes)
        except EditRefused:
            continue
        image = spliced(image, splices, subject="made")
        undo.append(inverse(splices))
        assert rest_of(image) == rest_of(start)
        assert_sound(image)
        again = [wish for wish in wishes if isinstance(wish, SetInterpreter)][-1:]
        assert edit(image, again) == ()
    for splices in reversed(undo):
        image = spliced(image, splices, subject="made")
    assert image == start


WISHES = (
    SetRunpath(entries=(LONG, "/short")),
    AddNeeded(name="libnew.so"),
    SetSoname(name="s"),
    SetInterpreter(path="/" + LONG),
)


def survive(data, wishes=WISHES):
    """Edit a hostile file: refusing it is fine, anything but that or splices that fit is not."""
    try:
        splices = edit(data, wishes)
    except (ElfError, EditRefused):
        return False
    spliced(data, splices, subject="hostile")
    return True


@pytest.mark.parametrize("number", range(4))
def test_every_cut_of_a_file_is_refused(number):
    image = _sample(number)
    assert survive(image)
    for size in range(len(image)):
        assert not survive(image[:size]), size


@settings(max_examples=400, deadline=2000)
@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
)
def test_no_damage_makes_the_editor_fail_otherwise(number, damage):
    image = bytearray(_sample(number))
    for at, new in damage:
        at %= len(image) - 8
        image[at : at + len(new)] = new
    survive(bytes(image))


@pytest.mark.parametrize("number", range(4))
def test_no_byte_of_the_headers_makes_the_editor_fail_otherwise(number):
    image = _sample(number)
    for at in range(len(image)):
        for byte in (0, 1, 0xFF):
            damaged = bytearray(image)
            damaged[at] = byte
            survive(bytes(damaged))


def test_no_byte_of_the_section_headers_makes_the_editor_fail_otherwise(zig_cc):
    """The tail that moves behind a new segment is what these headers say it is."""
    source = "int other(void); int _start(void) { return other(); }"
    library = ("-shared", "-nostdlib", "-fPIC", "-Wl,--allow-shlib-undefined")
    image = zig_cc(source, *library, target="x86_64-linux-musl").read_bytes()
    names = WISHES[:3]  # a library has no interpreter
    assert survive(image, names)
    table = int.from_bytes(image[40:48], "little")
    for at in (*range(40, 64), *range(table, len(image))):
        for byte in (0, 1, 0xFF):
            damaged = bytearray(image)
            damaged[at] = byte
            survive(bytes(damaged), names)
    for size in range(0, len(image), 5):
        assert not survive(image[:size], names), size
