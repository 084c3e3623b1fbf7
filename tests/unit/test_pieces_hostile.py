"""Files made to keep a scan busy: the work on each is bounded, and what is not understood is reported."""

import struct
import time

import pytest

from belljar.placeholder import PLACEHOLDER
from belljar.relocate import scan

W = PLACEHOLDER.encode()
LIMIT = 15
"""Seconds of processor time for a file; a quiet machine takes less than a third of it."""
MEGABYTE = 1 << 20
X86_64, I386, AARCH64 = 62, 3, 183


def elf(text, data=b"", machine=X86_64, overlapping=0):
    """The bytes of an ELF file with code, constants, and further sections that claim the code as well."""
    names = b"\0.text\0.rodata\0.shstrtab\0"
    second = 64 + len(text) + -len(text) % 64
    third = second + len(data)
    headers = third + len(names) + -(third + len(names)) % 8
    sections = [
        (0, 0, 0, 0, 0),
        (1, 1, 6, 64, len(text)),
        (7, 1, 2, second, len(data)),
        (15, 3, 0, third, len(names)),
        *[(1, 1, 6, 64 + number, len(text) - number) for number in range(overlapping)],
    ]
    head = struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, headers, 0, 64, 56, 0, 64, len(sections), 3)
    out = bytearray(headers)
    for at, part in ((0, b"\x7fELF\2\1\1" + bytes(9) + head), (64, text), (second, data), (third, names)):
        out[at : at + len(part)] = part
    for name, kind, flags, offset, size in sections:
        out += struct.pack("<IIQQQQIIQQ", name, kind, flags, offset, offset, size, 0, 0, 16, 0)
    return bytes(out)


def load(at):
    """`movabs` of 8 of its bytes, and a store of them."""
    return b"\x48\xb8" + W[at : at + 8] + b"\x48\x89\x07"


def archive(*members):
    return b"!<arch>\n" + b"".join(
        b"a/".ljust(48) + str(len(one)).encode().ljust(10) + b"`\n" + one for one in members
    )


def far(distance):
    return b"\x48\x89\x87" + struct.pack("<i", distance)


HOSTILE = {
    "pieces, one after the other": lambda: elf(b"".join(load(i * 8 % 70) for i in range(40_000))),
    "pieces every 97 bytes": lambda: elf(b"".join(load(i % 70) + b"\x90" * 84 for i in range(5_000))),
    "constants": lambda: elf(b"\xc3", b"".join(W[i % 60 : i % 60 + 16] for i in range(40_000))),
    "immediates of 4 bytes": lambda: elf(
        b"".join(b"\xc7\x07" + W[i % 76 : i % 76 + 4] for i in range(60_000)), machine=I386
    ),
    "stores of one byte": lambda: elf(b"\xc6\x07q\xc6\x07z" * 100_000),
    "wide pieces": lambda: elf(
        b"".join(b"\x48\xb8" + W[i % 70 : i % 70 + 4].decode().encode("utf-16-le") for i in range(100_000))
    ),
    "beginnings behind text": lambda: elf(W + b"\x48\xb8abcdef/w" * 100_000),
    "one buffer": lambda: elf(
        b"".join(load(8 * (i % 9))[:10] + far(8 * i * 7 % 50_000) for i in range(25_000))
    ),
    "addresses of addresses": lambda: elf((b"\x48\x8d\x04\x00" * 20 + load(8)) * 2_500),
    "sections that overlap": lambda: elf(b"".join(load(i % 70) for i in range(8_000)), overlapping=60_000),
    "loads of one constant": lambda: elf(
        b"".join(b"\x0f\x28\x05" + struct.pack("<i", 140_000 - 7 * (i + 1)) for i in range(20_000)), W[8:40]
    ),
    "halves of registers": lambda: elf(
        struct.pack("<I", 0xD2800000 | int.from_bytes(b"qz", "little") << 5) * 100_000, machine=AARCH64
    ),
    "members of an archive": lambda: archive(*[elf(load(8), W[:20])] * 1_500),
    "members that are no ELF file": lambda: archive(*[W[8:28]] * 10_000),
}


def scanned(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    started = time.process_time()
    found = scan(tmp_path)
    return found, time.process_time() - started


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_reported_in_bounded_time(tmp_path, name):
    found, seconds = scanned(tmp_path, HOSTILE[name]())
    assert not found.is_relocatable
    assert seconds < LIMIT


def test_one_piece_in_much_code_costs_its_neighbourhood_only(tmp_path):
    found, seconds = scanned(tmp_path, elf(b"\x90" * (50 * MEGABYTE) + load(8) + b"\x90" * (50 * MEGABYTE)))
    assert [item.section for item in found.unsupported] == [".text"] * len(found.unsupported) != []
    assert seconds < 3
