"""Ties of programs that a real compiler made."""

import struct
import subprocess
import zlib

import pytest
import zstandard

from belljar.audit.subjects import walk
from belljar.audit.ties import Kind, Scanner, Where, traits_of
from belljar.elf import read

SOURCE = "#include <stdio.h>\nint main(void) { return puts(PLACE) < 0; }\n"
HOME = "/home/mara/src"


def build(directory, *flags, place="/etc/motd", out="a.out"):
    """Compile a program as if its sources lay in HOME."""
    (directory / "x.c").write_text(SOURCE)
    subprocess.run(
        ["gcc", f'-DPLACE="{place}"', f"-ffile-prefix-map={directory}={HOME}", *flags, "x.c", "-o", out],
        cwd=directory,
        check=True,
    )
    return (directory / out).read_bytes()


def ties(data, **options):
    return Scanner(**options).ties_of("a.out", data, read(data))


def test_a_plain_program_has_no_ties_and_no_traits(tmp_path):
    data = build(tmp_path)
    assert ties(data) == ()
    assert traits_of(read(data), 0o755) == ()


def with_zstd(data):
    """Compress with zstd what is compressed with zlib, since not every binutils can."""
    data = bytearray(data)
    table, count = int.from_bytes(data[0x28:0x30], "little"), int.from_bytes(data[0x3C:0x3E], "little")
    for at in range(table, table + 64 * count, 64):
        name, kind, flags, address, offset, size, *rest = struct.unpack_from("<IIQQQQIIQQ", data, at)
        if flags & 0x800:
            packed = zstandard.ZstdCompressor().compress(zlib.decompress(data[offset + 24 : offset + size]))
            header = struct.pack("<I", 2) + data[offset + 4 : offset + 24]
            fields = (name, kind, flags, address, len(data), 24 + len(packed), *rest)
            struct.pack_into("<IIQQQQIIQQ", data, at, *fields)
            data += header + packed
    return bytes(data)


@pytest.mark.parametrize("compression", ["none", "zlib", "zlib-gnu", "zstd"])
def test_the_build_directory_is_found_in_debug_information_however_packed(tmp_path, compression):
    is_zstd = compression == "zstd"
    data = build(tmp_path, "-g", f"-gz={'zlib' if is_zstd else compression}")
    data = with_zstd(data) if is_zstd else data
    found = ties(data)
    assert found
    assert {(tie.kind, tie.where, tie.root) for tie in found} == {(Kind.HOME, Where.DEBUG, "/home/mara")}
    assert all(tie.section.startswith((".debug_", ".zdebug_")) for tie in found)
    assert HOME in {tie.text for tie in found}


def test_paths_are_told_apart_by_where_they_stand(tmp_path):
    data = build(
        tmp_path,
        "-Wl,-rpath,/home/mara/lib:$ORIGIN/../lib:/opt/app/lib",
        "-Wl,--enable-new-dtags",
        "-Wl,--dynamic-linker=/opt/app/ld.so",
        place="/builds/group/project/data",
    )
    found = {(tie.where, tie.kind, tie.text) for tie in ties(data)}
    assert {
        (Where.INTERPRETER, Kind.LOCATION, "/opt/app/ld.so"),
        (Where.RUNPATH, Kind.LOCATION, "/opt/app/lib"),
        (Where.LOADED, Kind.CI, "/builds/group/project/data"),
    } < found
    assert [tie.kind for tie in ties(data) if tie.text.startswith("/home/mara/lib")] == [Kind.HOME]
    offsets = {tie.text: tie.offset for tie in ties(data)}
    for text in ("/opt/app/ld.so", "/opt/app/lib", "/builds/group/project/data"):
        assert data[offsets[text] :].startswith(text.encode())


def test_ties_are_found_without_section_headers(tmp_path):
    place = "/builds/group/project/data"
    data = bytearray(build(tmp_path, place=place))
    [with_sections] = ties(bytes(data))
    data[0x28:0x30] = bytes(8)
    [without] = ties(bytes(data))
    assert (with_sections.section, without.section) == (".rodata", "")
    assert without.where is with_sections.where is Where.LOADED


def test_damaged_section_tables_change_labels_only(tmp_path):
    whole = build(tmp_path, "-g", "-gz=zlib", place="/builds/group/project/data")
    elf = read(whole)
    start = int.from_bytes(whole[0x28:0x30], "little")
    for at in range(start, len(whole), 7):
        broken = bytearray(whole)
        broken[at : at + 4] = b"\xff\xff\xff\x7f"
        texts = {tie.text for tie in Scanner().ties_of("x", bytes(broken), elf)}
        assert "/builds/group/project/data" in texts


def test_stacks_and_code_that_hardened_systems_refuse_are_told(tmp_path):
    assert traits_of(read(build(tmp_path, "-Wl,-z,noexecstack"))) == ()
    [stack] = traits_of(read(build(tmp_path, "-Wl,-z,execstack")))
    assert stack.trait.value == "exec-stack"
    (tmp_path / "w.c").write_text("void _start(void) { for (;;); }")
    omagic = ["gcc", "-nostdlib", "-static", "-Wl,--omagic", "-Wl,-z,noexecstack", "w.c", "-o", "w"]
    subprocess.run(omagic, cwd=tmp_path, check=True, capture_output=True)
    [writable] = traits_of(read((tmp_path / "w").read_bytes()))
    assert writable.trait.value == "writable-code"
    (tmp_path / "t.s").write_text(
        '.globl f\n.text\nf: movabs $g, %rax\n ret\n.section .note.GNU-stack,"",@progbits\n'
    )
    subprocess.run(
        ["gcc", "-shared", "-Wl,-z,notext", "t.s", "-o", "t.so"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    [text] = traits_of(read((tmp_path / "t.so").read_bytes()))
    assert text.trait.value == "text-relocations"


def test_the_scripts_and_links_of_a_virtual_environment_are_tied_to_it(tmp_path):
    place = tmp_path / "venv"
    subprocess.run(["python3", "-m", "venv", "--without-pip", place], check=True)
    scanner = Scanner(prefixes=[str(place)])
    found = [
        tie
        for item in walk([place])
        for tie in (
            scanner.ties_of(item.name, item.read())
            if item.is_file
            else scanner.ties_of_link(item.name, item.link or "")
        )
    ]
    assert f"{place}/bin/activate" in {tie.path for tie in found if tie.kind is Kind.GIVEN}
    assert f"{place}/pyvenv.cfg" in {tie.path for tie in found if tie.where is Where.PYTHON_CONFIG}
