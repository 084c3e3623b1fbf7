"""A reference that compression hides is reported, whatever hides it."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile

import pytest
import zstandard

from belljar.placeholder import PLACEHOLDER
from belljar.relocate import scan

TEXT = b"see " + PLACEHOLDER.encode() + b"/share for more\n"


def zipped(content, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("first", b"nothing")
        archive.writestr("META-INF/MANIFEST.MF", content)
    return buffer.getvalue()


def tarred(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("page")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def noise(size):
    """Return text that compresses to about half: no compressor leaves it as it is."""
    return os.urandom(size // 2).hex().encode()


PACK = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "zip": zipped,
    "tar.gz": tarred,
    "two gzip members": lambda content: gzip.compress(b"first") + gzip.compress(content),
    "two zstd frames": lambda content: (
        zstandard.ZstdCompressor().compress(b"first") + zstandard.ZstdCompressor().compress(content)
    ),
}


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK.keys())
def test_nothing_hidden_means_nothing_reported(tmp_path, pack):
    (tmp_path / "page").write_bytes(pack(b"an innocent page, quizzes included, qz\n" * 5000))
    assert scan(tmp_path).is_relocatable


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK.keys())
def test_a_hidden_reference_is_reported(tmp_path, pack):
    (tmp_path / "page").write_bytes(pack(noise(300_000) + TEXT + noise(300_000)))
    found = scan(tmp_path)
    assert [item.path for item in found.unsupported] == ["page"]
    assert "the placeholder, inside" in found.unsupported[0].what
    assert not found.is_relocatable


@pytest.mark.parametrize("cut", range(262_144 - 110, 262_144 + 10, 7))
def test_a_reference_across_two_chunks_is_reported(tmp_path, cut):
    (tmp_path / "page").write_bytes(gzip.compress(b"x" * cut + TEXT))
    assert "inside gzip" in scan(tmp_path).unsupported[0].what


@pytest.mark.parametrize("pack", [gzip.compress, zipped, zstandard.ZstdCompressor().compress])
def test_what_a_compressor_left_as_it_is_is_no_obstacle(tmp_path, pack):
    """Between bytes that do not compress, the placeholder stands in the file: it is a reference."""
    (tmp_path / "page").write_bytes(pack(os.urandom(300_000) + TEXT + os.urandom(300_000)))
    found = scan(tmp_path)
    assert len(found.table) == 1
    assert found.is_relocatable or pack not in (gzip.compress, zipped)


def test_a_stored_member_of_a_zip_is_a_reference_with_two_checksums(tmp_path):
    (tmp_path / "some.jar").write_bytes(zipped(TEXT, zipfile.ZIP_STORED))
    found = scan(tmp_path)
    assert found.is_relocatable
    assert len(found.table.sums["some.jar"]) == 2


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK.keys())
@pytest.mark.parametrize("keep", [3, 7, 20, 40, 0.5, 0.9])
def test_a_damaged_file_is_passed_over(tmp_path, pack, keep):
    content = pack(os.urandom(3000))
    length = keep if isinstance(keep, int) else int(len(content) * keep)
    (tmp_path / "cut").write_bytes(content[:length])
    (tmp_path / "torn").write_bytes(content[:length] + os.urandom(200) + content[length:])
    assert scan(tmp_path).is_relocatable


def test_an_encrypted_zip_is_passed_over(tmp_path):
    content = bytearray(zipped(TEXT))
    for offset in range(len(content) - 4):
        if content[offset : offset + 4] in (b"PK\1\2", b"PK\3\4"):
            content[offset + (8 if content[offset + 2] == 1 else 6)] |= 1
    (tmp_path / "secret.zip").write_bytes(content)
    assert scan(tmp_path).is_relocatable


def test_a_damaged_member_does_not_hide_the_next(tmp_path):
    content = bytearray(zipped(TEXT))
    place = content.index(b"nothing") if b"nothing" in content else content.index(b"first") + 5
    content[place] ^= 0xFF
    (tmp_path / "torn.jar").write_bytes(content)
    assert any("inside zip" in item.what for item in scan(tmp_path).unsupported)


def test_the_search_is_bounded(tmp_path, monkeypatch):
    from belljar.relocate.containers import hiding

    monkeypatch.setattr(hiding, "LIMIT", 1 << 20)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"\0" * (8 << 20)))
    assert "not searched" in scan(tmp_path).unsupported[0].what
