"""The machine's own files, read by belljar and by pyelftools."""

import io
import os
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection, GNUVerSymSection

from belljar.elf import read

PLACES = ("/usr/lib", "/usr/bin", "/usr/sbin")
WANTED = 150
DEEPEST = 4
SIZE_LIMIT = 1_500_000
SYMBOLS_LIMIT = 300


def elf_files():
    found = []
    for place in PLACES:
        for directory, subdirectories, names in os.walk(place):
            subdirectories[:] = sorted(subdirectories) if directory.count("/") < DEEPEST else []
            for name in sorted(names):
                path = Path(directory, name)
                if (".so" in name or "/bin" in directory or "/sbin" in directory) and is_small_elf(path):
                    found.append(path)
    step = max(1, len(found) // WANTED)
    return found[::step]


def is_small_elf(path):
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > SIZE_LIMIT:
            return False
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


@pytest.fixture(scope="module")
def samples():
    found = [(path, path.read_bytes()) for path in elf_files()]
    assert len(found) > 20, "this machine has hardly any programs"
    return found


def oracle(data):
    return ELFFile(io.BytesIO(data))


def test_headers_and_segments_agree(samples):
    for path, data in samples:
        ours, theirs = read(data), oracle(data)
        assert ours.header.entry == theirs.header["e_entry"], path
        assert ours.header.flags == theirs.header["e_flags"], path
        assert (64 if ours.header.is_wide else 32) == theirs.elfclass, path
        assert [
            (s.offset, s.address, s.file_size, s.memory_size, s.flags, s.align) for s in ours.segments
        ] == [
            tuple(s[name] for name in ("p_offset", "p_vaddr", "p_filesz", "p_memsz", "p_flags", "p_align"))
            for s in theirs.iter_segments()
        ], path


def test_dynamic_segments_and_interpreters_agree(samples):
    for path, data in samples:
        ours, theirs = read(data), oracle(data)
        interpreters = [s.get_interp_name() for s in theirs.iter_segments("PT_INTERP")]
        assert ours.interpreter == (interpreters[0] if interpreters else None), path
        segments = list(theirs.iter_segments("PT_DYNAMIC"))
        if not segments:
            assert ours.dynamic is None, path
            continue
        tags = [tag for tag in segments[0].iter_tags() if tag.entry.d_tag != "DT_NULL"]
        assert ours.dynamic is not None, path
        assert [entry.value for entry in ours.dynamic.entries] == [tag.entry.d_val for tag in tags], path
        named = {"DT_NEEDED": [], "DT_SONAME": [], "DT_RPATH": [], "DT_RUNPATH": []}
        for tag in tags:
            if tag.entry.d_tag in named:
                named[tag.entry.d_tag].append(getattr(tag, tag.entry.d_tag[3:].lower()))
        assert list(ours.dynamic.needed) == named["DT_NEEDED"], path
        assert [ours.dynamic.soname] == (named["DT_SONAME"] or [None]), path
        assert [ours.dynamic.rpath] == (named["DT_RPATH"] or [None]), path
        assert [ours.dynamic.runpath] == (named["DT_RUNPATH"] or [None]), path


def test_version_tables_agree(samples):
    seen = 0
    for path, data in samples:
        ours, needs, definitions = read(data), [], []
        for section in oracle(data).iter_sections():
            if isinstance(section, GNUVerNeedSection):
                for need, versions in section.iter_versions():
                    needs += [
                        (need.name, v.name, v["vna_hash"], v["vna_other"], bool(v["vna_flags"] & 2))
                        for v in versions
                    ]
            if isinstance(section, GNUVerDefSection):
                for definition, names in section.iter_versions():
                    definitions.append((definition["vd_ndx"], [name.name for name in names]))
        assert [(n.library, n.name, n.hash, n.index, n.weak) for n in ours.needs] == needs, path
        assert [(d.index, [d.name, *d.parents]) for d in ours.definitions] == definitions, path
        seen += len(needs)
    assert seen > 100


def test_symbols_and_their_versions_agree(samples):
    """Except that symbols which nothing refers to may be missing from a file that exports nothing."""
    seen = 0
    for path, data in samples:
        elf, theirs = read(data), oracle(data)
        table = theirs.get_section_by_name(".dynsym")
        if table is None or table.num_symbols() > SYMBOLS_LIMIT:
            continue
        indices = [s for s in theirs.iter_sections() if isinstance(s, GNUVerSymSection)]
        names = list(table.iter_symbols())[1:]
        seen += len(names)
        assert len(elf.symbols) <= len(names), path
        assert all(symbol["st_shndx"] == "SHN_UNDEF" for symbol in names[len(elf.symbols) :]), path
        for number, (ours, symbol) in enumerate(zip(elf.symbols, names, strict=False), 1):
            assert ours.name == symbol.name, path
            assert ours.defined == (symbol["st_shndx"] != "SHN_UNDEF"), path
            binding = {"STB_LOCAL": 0, "STB_GLOBAL": 1, "STB_WEAK": 2, "STB_LOOS": 10}[
                symbol["st_info"]["bind"]
            ]
            assert ours.binding == binding, path
            if indices:
                index = indices[0].get_symbol(number)["ndx"]
                plain = {"VER_NDX_LOCAL": 0, "VER_NDX_GLOBAL": 1}.get(index, index)
                assert ours.version_index | ours.hidden << 15 == plain, path
    assert seen > 1000


def test_build_ids_agree(samples):
    seen = 0
    for path, data in samples:
        theirs = None
        for segment in oracle(data).iter_segments("PT_NOTE"):
            for note in segment.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    theirs = note["n_desc"]
        assert read(data).build_id == theirs, path
        seen += theirs is not None
    assert seen > 10


def test_a_file_says_the_same_without_section_headers(samples):
    for path, data in samples:
        bare = bytearray(data)
        wide = data[4] == 2
        start, tail = (40, 58) if wide else (32, 46)
        bare[start : start + (8 if wide else 4)] = bytes(8 if wide else 4)
        bare[tail : tail + 6] = bytes(6)
        assert read(bytes(bare)) == read(data), path
