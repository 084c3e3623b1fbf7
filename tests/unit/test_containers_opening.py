"""What was compressed once is relocated like anything else: opened, overwritten, its checksums right."""

import base64
import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import struct
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.placeholder import PLACEHOLDER, location
from belljar.relocate import rewrite_tree, scan
from belljar.relocate.containers import open_tree

P = PLACEHOLDER.encode()
A, B = location(Path("/opt/a")), location(Path("/srv/some/where/else"))
PAGE = b"".join(b"line %d of a page, %d\n" % (n, n * n) for n in range(3000))
TEXT = PAGE + b"see " + P + b"/share" + PAGE + P + b"\n" + P + P + PAGE


def zipped(content, method=zipfile.ZIP_DEFLATED, **kind):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("mimetype", b"application/x", zipfile.ZIP_STORED)
        archive.writestr("a/text", content)
        archive.writestr("b/last", PAGE)
        archive.comment = kind.get("comment", b"")
    return kind.get("prefix", b"") + buffer.getvalue()


def streamed(content):
    """Return a zip whose sizes follow the members, as jar writes them."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation

        def tell(self):
            raise io.UnsupportedOperation

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/text", content)
        with archive.open("big", "w", force_zip64=True) as member:
            member.write(content)
        archive.writestr("b/last", PAGE)
    return pipe.getvalue()


def unzipped(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return b"".join(archive.read(item) for item in archive.infolist())


def tarred(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("page")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def unzstd(data):
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read()


def elf(content, *, method=1, wide=True, order="<"):
    """Return an ELF file of two compressed sections and one that is none, headers in the middle."""
    header = struct.Struct(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"))
    section = struct.Struct(order + ("2I4Q2I2Q" if wide else "10I"))
    chdr = struct.Struct(order + ("2I2Q" if wide else "3I"))
    pack = zlib.compress if method == 1 else zstandard.ZstdCompressor().compress
    extra = (0,) if wide else ()
    first = chdr.pack(method, *extra, len(content), 1) + pack(content)
    second = chdr.pack(method, *extra, len(PAGE), 1) + pack(PAGE)
    table = 16 + header.size
    at = table + 4 * section.size
    rows = [section.pack(*[0] * 10)]
    for data, flags in ((first, 0x800), (b"plain", 0), (second, 0x800)):
        rows.append(section.pack(0, 1, flags, 0, at, len(data), 0, 0, 1, 0))
        at += len(data)
    ident = b"\x7fELF" + bytes([1 + wide, 1 if order == "<" else 2, 1]) + bytes(9)
    fields = (1, 62, 1, 0, 0, table, 0, 16 + header.size, 0, 0, section.size, 4, 0)
    return b"".join([ident, header.pack(*fields), *rows, first, b"plain", second])


def unelf(data):
    from elftools.elf.elffile import ELFFile

    file = ELFFile(io.BytesIO(data))
    contents = []
    for item in file.iter_sections():
        if item.compressed and item["sh_size"]:
            method = struct.unpack_from("<I" if file.little_endian else ">I", data, item["sh_offset"])[0]
            begin, end = (
                item["sh_offset"] + file.structs.Elf_Chdr.sizeof(),
                item["sh_offset"] + item["sh_size"],
            )
            raw = data[begin:end]
            contents.append(item.data() if method == 1 else unzstd(raw))
    return b"".join(contents)


CASES = {
    "gzip": (lambda text: gzip.compress(text, mtime=77), gzip.decompress),
    "two gzip members": (lambda text: gzip.compress(PAGE) + gzip.compress(text), gzip.decompress),
    "tar.gz": (tarred, gzip.decompress),
    "xz": (lzma.compress, lzma.decompress),
    "xz of sha256": (lambda text: lzma.compress(text, check=lzma.CHECK_SHA256), lzma.decompress),
    "two xz streams": (
        lambda text: lzma.compress(text) + lzma.compress(PAGE, check=lzma.CHECK_NONE),
        lzma.decompress,
    ),
    "zstd": (zstandard.ZstdCompressor(write_checksum=True).compress, unzstd),
    "two zstd frames": (
        lambda text: zstandard.ZstdCompressor().compress(PAGE) + zstandard.ZstdCompressor().compress(text),
        unzstd,
    ),
    "zip": (zipped, unzipped),
    "zip, stored": (lambda text: zipped(text, zipfile.ZIP_STORED), unzipped),
    "zip, bzip2": (lambda text: zipped(text, zipfile.ZIP_BZIP2), unzipped),
    "zip, lzma": (lambda text: zipped(text, zipfile.ZIP_LZMA), unzipped),
    "zip behind a script": (lambda text: zipped(text, prefix=b"#!" + P + b"/bin/python3\n"), unzipped),
    "zip with a comment": (lambda text: zipped(text, comment=b"hello"), unzipped),
    "zip behind a script, with a comment": (
        lambda text: zipped(text, prefix=b"#!" + P + b"/bin/python3\n", comment=b"hello"),
        unzipped,
    ),
    "zip, streamed": (streamed, unzipped),
    "elf": (elf, unelf),
    "elf, zstd": (lambda text: elf(text, method=2), unelf),
    "elf32, big": (lambda text: elf(text, wide=False, order=">"), unelf),
}
cases = pytest.mark.parametrize(("pack", "unpack"), CASES.values(), ids=CASES.keys())


def closed(tree, data, name="file"):
    (tree / name).write_bytes(data)
    return tree / name


@cases
def test_a_tree_that_was_not_opened_is_refused(tmp_path, pack, unpack, request):
    closed(tmp_path, pack(TEXT))
    assert scan(tmp_path).is_relocatable == ("stored" in request.node.callspec.id)


@cases
def test_opened_content_is_the_same_and_every_reference_stands_raw(tmp_path, pack, unpack):
    path = closed(tmp_path, pack(TEXT))
    before = unpack(path.read_bytes())
    open_tree(tmp_path)
    assert unpack(path.read_bytes()) == before
    found = scan(tmp_path)
    assert found.is_relocatable, found.unsupported
    assert path.read_bytes().count(P) >= before.count(P) == TEXT.count(P) * (before.count(P) // 4)
    assert len(found.table) >= before.count(P)


@cases
def test_relocated_content_is_right_and_the_way_back_restores_every_byte(tmp_path, pack, unpack):
    path = closed(tmp_path, pack(TEXT))
    before = unpack(path.read_bytes())
    open_tree(tmp_path)
    table = scan(tmp_path).table
    canonical = path.read_bytes()
    rewrite_tree(tmp_path, table, old=P, new=A)
    at_a = path.read_bytes()
    assert unpack(at_a) == before.replace(P, A)
    rewrite_tree(tmp_path, table, old=A, new=B)
    assert unpack(path.read_bytes()) == before.replace(P, B)
    rewrite_tree(tmp_path, table, old=B, new=A)
    assert path.read_bytes() == at_a
    rewrite_tree(tmp_path, table, old=A, new=P)
    assert path.read_bytes() == canonical


@cases
def test_opening_twice_changes_nothing(tmp_path, pack, unpack):
    path = closed(tmp_path, pack(TEXT))
    open_tree(tmp_path)
    once = path.read_bytes()
    assert open_tree(tmp_path) == ()
    assert path.read_bytes() == once


@cases
def test_what_holds_no_reference_is_left_alone(tmp_path, pack, unpack):
    path = closed(tmp_path, pack(PAGE))
    data, inode = path.read_bytes(), path.stat().st_ino
    assert all(PLACEHOLDER not in name for name in open_tree(tmp_path))
    assert (path.read_bytes(), path.stat().st_ino) == (data, inode)


PARTS = st.lists(
    st.one_of(st.just(P), st.just(P.decode().encode("utf-16-le")), st.binary(max_size=300)), max_size=12
)


@pytest.mark.parametrize("name", ["gzip", "xz", "zstd", "zip", "zip, stored", "elf"])
@settings(max_examples=25, deadline=None)
@given(parts=PARTS)
def test_any_content_is_opened_and_rewritten(name, parts):
    pack, unpack = CASES[name]
    content = b"x" + b"x".join(parts)
    with tempfile.TemporaryDirectory() as directory:
        path = closed(Path(directory), pack(content))
        before = unpack(path.read_bytes())
        open_tree(Path(directory))
        found = scan(Path(directory))
        assert found.is_relocatable
        rewrite_tree(Path(directory), found.table, old=P, new=B)
        wide = P.decode().encode("utf-16-le")
        want = before.replace(P, B).replace(wide, B.decode().encode("utf-16-le"))
        assert unpack(path.read_bytes()) == want


def test_modes_times_and_hard_links_are_kept(tmp_path):
    path = closed(tmp_path, gzip.compress(TEXT))
    os.link(path, tmp_path / "other")
    path.chmod(0o750)
    os.utime(path, (1000, 1000))
    assert open_tree(tmp_path) == ("file",)
    info = (tmp_path / "other").stat()
    assert (info.st_mode & 0o777, info.st_mtime, info.st_nlink) == (0o750, 1000, 2)
    assert info.st_ino == path.stat().st_ino
    assert scan(tmp_path).is_relocatable


def library(*objects):
    """Return a static library."""
    members = (b"%-48s%-10d`\n%s%s" % (b"x.o/", len(item), item, b"\n" * (len(item) % 2)) for item in objects)
    return b"!<arch>\n" + b"".join(members)


REFUSED = {
    "an object in a library": (library(elf(PAGE), b"odd", elf(TEXT)), "compressed section: object at"),
    "bzip2": (bz2.compress(TEXT), "bzip2"),
    "gzip in zip": (zipped(gzip.compress(TEXT)), "gzip inside it"),
    "zip in gzip": (gzip.compress(zipped(TEXT)), "zip inside it"),
    "stored zip in zip": (zipped(zipped(TEXT, zipfile.ZIP_STORED)), "zip inside it"),
    "a split literal": (gzip.compress(PAGE + P[:40] + PAGE), "pieces"),
    "skippable frames": (
        zstandard.ZstdCompressor().compress(TEXT) + b"\x50\x2a\x4d\x18\4\0\0\0abcd",
        "skippable",
    ),
}


@pytest.mark.parametrize(("data", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_opened_is_left_and_reported(tmp_path, data, why):
    path = closed(tmp_path, data)
    assert open_tree(tmp_path) == ()
    assert path.read_bytes() == data
    found = scan(tmp_path)
    assert not found.is_relocatable
    assert any(why in item.what for item in found.unsupported), found.unsupported


def overlapping():
    """Return a zip whose directory names one member twice."""
    data = zipped(TEXT)
    end, central = data.rindex(b"PK\5\6"), data.index(b"PK\1\2")
    record = bytearray(data[end:])
    record[8:16] = struct.pack("<HHI", 6, 6, 2 * (end - central))
    return data[:end] + data[central:end] + bytes(record)


TOO_MUCH = 129 << 20
HOSTILE = {
    "overlapping members": (overlapping, "overlap"),
    "garbage behind xz": (lambda: lzma.compress(TEXT) + b"junkjunk", "other bytes follow"),
    "garbage behind zip": (lambda: zipped(TEXT) + b"junk", "no end record"),
    "a second member that is damaged": (
        lambda: gzip.compress(TEXT) + gzip.compress(TEXT)[:-8] + bytes(8),
        "checksum or size",
    ),
    "a checksum in the header": (
        lambda: b"\x1f\x8b\x08\x02" + bytes(6) + b"??" + gzip.compress(TEXT, mtime=0)[10:],
        "checksum of its own",
    ),
    "too much in gzip": (lambda: gzip.compress(P + bytes(TOO_MUCH), 1), "more than 128 MiB"),
    "too much in zstd": (
        lambda: zstandard.ZstdCompressor(level=1).compress(P + bytes(TOO_MUCH)),
        "more than 128 MiB",
    ),
}


@pytest.mark.parametrize(("make", "why"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_hostile_is_left_and_reported(tmp_path, make, why):
    data = make()
    path = closed(tmp_path, data)
    assert open_tree(tmp_path) == ()
    assert path.read_bytes() == data
    assert any(why in item.what for item in scan(tmp_path).unsupported), scan(tmp_path).unsupported


KEPT = {
    "zeros behind gzip": (gzip.compress(TEXT) + bytes(512), gzip.decompress),
    "garbage behind gzip": (
        gzip.compress(TEXT) + b"garbage",
        lambda data: zlib.decompressobj(31).decompress(data),
    ),
    "padding between xz streams": (
        lzma.compress(PAGE) + bytes(8) + lzma.compress(TEXT) + bytes(4),
        lambda data: lzma.decompress(data).removeprefix(PAGE),
    ),
    "a zip64 archive": (streamed(TEXT), lambda data: zipfile.ZipFile(io.BytesIO(data)).read("big")),
}


@pytest.mark.parametrize(("data", "unpack"), KEPT.values(), ids=KEPT.keys())
def test_what_is_strange_but_sound_is_opened(tmp_path, data, unpack):
    path = closed(tmp_path, data)
    open_tree(tmp_path)
    found = scan(tmp_path)
    assert found.is_relocatable, found.unsupported
    rewrite_tree(tmp_path, found.table, old=P, new=B)
    assert unpack(path.read_bytes()) == TEXT.replace(P, B)


def test_a_zip_with_garbage_behind_a_script_is_not_taken_for_text(tmp_path):
    """Readers find it; its checksums would no longer hold."""
    closed(tmp_path, zipped(TEXT, zipfile.ZIP_STORED, prefix=b"#!" + P + b"/bin/python3\n") + b"junk")
    assert open_tree(tmp_path) == ()
    assert "no end record" in scan(tmp_path).unsupported[0].what


def test_what_only_looks_like_the_end_of_a_zip_is_no_zip(tmp_path):
    closed(tmp_path, b"#!" + P + b"/bin/sh\n# PK\1\2 PK\5\6" + bytes(18) + b"\n")
    assert scan(tmp_path).is_relocatable


def test_a_wheel_whose_record_hashes_the_member_is_reported(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/where.py", TEXT)
        value = base64.urlsafe_b64encode(hashlib.sha256(TEXT).digest()).rstrip(b"=").decode()
        archive.writestr("x-1.dist-info/RECORD", f"x/where.py,sha256={value},{len(TEXT)}\n")
    closed(tmp_path, buffer.getvalue(), "x-1-py3-none-any.whl")
    open_tree(tmp_path)
    (item,) = scan(tmp_path).unsupported
    assert "x/where.py: its hash stands in RECORD" in item.what


def test_a_reference_in_a_tar_header_is_reported(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("ab" + PLACEHOLDER))
    closed(tmp_path, gzip.compress(buffer.getvalue()))
    open_tree(tmp_path)
    assert "header of a tar" in scan(tmp_path).unsupported[0].what


def test_a_signed_jar_is_reported(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/ANN.SF", b"signature")
        archive.writestr("text", TEXT)
    closed(tmp_path, buffer.getvalue())
    assert open_tree(tmp_path) == ()
    assert "it is signed" in scan(tmp_path).unsupported[0].what


def is_sound(unpack, data):
    """Whether all of it can be read; a sound member beside a damaged one may be opened."""
    try:
        unpack(data)
    except Exception:  # noqa: BLE001 - of many libraries
        return False
    return True


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_makes_no_trouble(tmp_path, name):
    """Whatever bytes are wrong: no exception, and a file that is changed holds what it held."""
    pack, unpack = CASES[name]
    data = pack(TEXT)
    dice = random.Random(name)
    for number in range(12):
        torn = bytearray(data)
        if number % 3 == 0:
            del torn[dice.randrange(len(torn)) :]
        else:
            for _ in range(number):
                torn[dice.randrange(len(torn))] = dice.randrange(256)
        path = closed(tmp_path, bytes(torn))
        if open_tree(tmp_path) and is_sound(unpack, bytes(torn)):
            assert unpack(path.read_bytes()) == unpack(bytes(torn))
        scan(tmp_path)
        path.unlink()
