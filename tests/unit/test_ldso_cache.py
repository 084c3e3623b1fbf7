"""/etc/ld.so.cache: its three forms, what the processor decides, and hostile bytes."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.elf.const import Data, Machine
from belljar.ldso.ldcache import LdCache, parse

X86_64, I386 = 0x0303, 0x0003
NAMED = 1 << 62


def new_cache(entries, levels=(), *, order="<", before=b""):
    """Return a cache in the new form: entries are (flags, name, path, hwcap)."""
    start = len(before)
    head = 48 + 24 * len(entries)
    texts = bytearray()

    def place(text):
        texts.extend(text.encode() + b"\0")
        return head + len(texts) - len(text.encode()) - 1

    rows = b"".join(
        struct.pack(order + "4IQ", flags, place(name), place(path), 0, hwcap)
        for flags, name, path, hwcap in entries
    )
    indices = [start + place(level) for level in levels]
    size = len(texts)
    texts.extend(b"\0" * (-len(texts) % 4))
    section = start + head + len(texts) + 24
    extension = struct.pack(order + "2I4I", 0xEAA42174, 1, 1, 0, section, 4 * len(indices))
    extension += b"".join(struct.pack(order + "I", index) for index in indices)
    offset = start + head + len(texts) if levels else 0
    header = b"glibc-ld.so.cache1.1" + struct.pack(order + "IIB3xI12x", len(entries), size, 2, offset)
    return before + header + rows + bytes(texts) + (extension if levels else b"")


def old_cache(entries, order="<"):
    rows, texts = b"", b""
    for flags, name, path in entries:
        key, value = len(texts), len(texts) + len(name) + 1
        texts += name.encode() + b"\0" + path.encode() + b"\0"
        rows += struct.pack(order + "3I", flags, key, value)
    return b"ld.so-1.7.0\0" + struct.pack(order + "I", len(entries)) + rows + texts


def find(cache: LdCache, name, *, machine=Machine.X86_64, levels=(), legacy=()):
    return cache.find(name, machine=machine, levels=levels, legacy=legacy)


def test_a_name_that_is_not_there_is_not_found_and_one_that_is_is():
    cache = parse(new_cache([(X86_64, "liba.so.1", "/lib/liba.so.1", 0)]))
    assert find(cache, "libb.so.1") is None
    assert find(cache, "liba.so.1") == "/lib/liba.so.1"


def test_each_machine_has_its_own_entries():
    cache = parse(
        new_cache(
            [(I386, "liba.so.1", "/lib/i386/liba.so.1", 0), (X86_64, "liba.so.1", "/lib/x64/liba.so.1", 0)]
        )
    )
    assert find(cache, "liba.so.1") == "/lib/x64/liba.so.1"
    assert find(cache, "liba.so.1", machine=Machine.I386) == "/lib/i386/liba.so.1"
    assert find(cache, "liba.so.1", machine=Machine.AARCH64) is None


def test_the_best_level_that_the_processor_has_wins():
    levels = ("x86-64-v2", "x86-64-v3")
    cache = parse(
        new_cache(
            [
                (X86_64, "liba.so.1", "/v2", NAMED | 0),
                (X86_64, "liba.so.1", "/v3", NAMED | 1),
                (X86_64, "liba.so.1", "/base", 0),
            ],
            levels,
        )
    )
    assert find(cache, "liba.so.1") == "/base"
    assert find(cache, "liba.so.1", levels=("x86-64-v2",)) == "/v2"
    assert find(cache, "liba.so.1", levels=("x86-64-v3", "x86-64-v2")) == "/v3"


def test_older_subdirectories_count_only_for_loaders_that_know_them():
    entries = [(X86_64, "liba.so.1", "/tls", 1 << 63), (X86_64, "liba.so.1", "/base", 0)]
    cache = parse(new_cache(entries))
    assert find(cache, "liba.so.1") == "/base"
    assert find(cache, "liba.so.1", legacy=("tls",)) == "/tls"


def test_the_old_form_is_read_and_the_new_one_behind_it_goes_before_it():
    old = old_cache([(X86_64, "liba.so.1", "/old")])
    assert find(parse(old), "liba.so.1") == "/old"
    bare = b"ld.so-1.7.0\0" + struct.pack("<I", 0)
    assert find(parse(new_cache([(X86_64, "liba.so.1", "/new", 0)], before=bare)), "liba.so.1") == "/new"


def test_the_other_byte_order_is_read_for_machines_that_have_it():
    data = new_cache([(0x0403, "liba.so.1", "/lib/liba.so.1", 0)], order=">")
    cache = parse(data, byte_order=Data.BIG)
    assert find(cache, "liba.so.1", machine=Machine.S390) == "/lib/liba.so.1"
    assert len(parse(data)) == 0


def test_numbers_in_names_are_compared_as_numbers():
    cache = parse(new_cache([(X86_64, "libdb-5.03.so", "/db", 0), (X86_64, "liba.so.100", "/a", 0)]))
    assert find(cache, "libdb-5.3.so") == "/db"
    assert find(cache, "liba.so.100") == "/a"
    assert find(cache, "liba.so.10") is None


def test_a_cache_cut_anywhere_is_read_without_error():
    for whole in (
        new_cache([(X86_64, "liba.so.1", "/v2", NAMED), (X86_64, "liba.so.1", "/base", 0)], ("x86-64-v2",)),
        old_cache([(X86_64, "liba.so.1", "/old")] * 3),
    ):
        for end in range(len(whole)):
            find(parse(whole[:end]), "liba.so.1", levels=("x86-64-v2",))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_change_of_bytes_makes_the_reader_fail(data):
    whole = bytearray(
        new_cache([(X86_64, "liba.so.1", "/v2", NAMED), (X86_64, "liba.so.1", "/b", 0)], ("x86-64-v2",))
    )
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cache = parse(bytes(whole))
    for name in ("liba.so.1", ""):
        found = find(cache, name, levels=("x86-64-v2",), legacy=("tls",))
        assert found is None or isinstance(found, str)


def test_a_huge_count_takes_no_memory():
    head = b"glibc-ld.so.cache1.1" + struct.pack("<IIB3xI12x", 0xFFFFFFFF, 0, 2, 0)
    assert len(parse(head + b"\0" * 100)) == 0
