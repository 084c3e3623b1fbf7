"""What an audit looks at: files, archives, archives in archives, and what cannot be read."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from belljar.audit.isa.source import source_of
from belljar.audit.subjects import Limits, walk
from belljar.errors import InputError

PAYLOAD = b"\x7fELF" + bytes(range(256)) * 8


def found(*paths, **options):
    """Return by name what a walk reads; trouble as text."""
    return {
        item.name: item.trouble or item.link or source_of(item.read())[:]
        for item in walk(list(paths), **options)
    }


def tar_of(files, **mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = mode.get(name, 0o644)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_of(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def ar_of(files):
    out = b"!<arch>\n"
    for name, data in files.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data
        out += b"\n" * (len(data) % 2)
    return out


PACKED = {
    "x.tar": lambda data: data,
    "x.tar.gz": gzip.compress,
    "x.tar.bz2": bz2.compress,
    "x.tar.xz": lzma.compress,
    "x.tar.zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_tar_archive_is_read_in_every_compression(tmp_path, name):
    (tmp_path / name).write_bytes(PACKED[name](tar_of({"lib/x.so": PAYLOAD})))
    assert found(tmp_path / name) == {f"{tmp_path}/{name}!lib/x.so": PAYLOAD}


def test_archives_nest_and_members_are_named_by_their_way(tmp_path):
    wheel = zip_of({"numpy/core/x.so": PAYLOAD})
    (tmp_path / "all.tgz").write_bytes(
        gzip.compress(tar_of({"./w/a.whl": wheel, "l.a": ar_of({"x.o/": PAYLOAD})}))
    )
    names = [name.removeprefix(f"{tmp_path}/") for name in found(tmp_path)]
    assert names == ["all.tgz!w/a.whl!numpy/core/x.so", "all.tgz!l.a!x.o"]


def test_a_debian_package_holds_what_it_installs(tmp_path):
    data = lzma.compress(tar_of({"./usr/bin/x": PAYLOAD}))
    deb = ar_of({"debian-binary": b"2.0\n", "control.tar.gz": gzip.compress(tar_of({})), "data.tar.xz": data})
    (tmp_path / "x.deb").write_bytes(deb)
    assert list(found(tmp_path / "x.deb")) == [f"{tmp_path}/x.deb!usr/bin/x"]


def test_the_objects_of_a_real_static_library_have_their_long_names(tmp_path):
    names = ["short.o", "a_name_that_is_longer_than_the_sixteen_bytes.o"]
    for name in names:
        (tmp_path / name).write_bytes(PAYLOAD)
    subprocess.run(["ar", "rcs", "lib.a", *names], cwd=tmp_path, check=True)
    assert found(tmp_path / "lib.a") == {f"{tmp_path}/lib.a!{name}": PAYLOAD for name in names}


def test_links_are_told_and_looked_through_once(tmp_path):
    (tmp_path / "a").write_bytes(PAYLOAD)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("/home/me/x")
    result = found(tmp_path, tmp_path / "b")
    assert result == {f"{tmp_path}/a": PAYLOAD, f"{tmp_path}/c": "/home/me/x"}


def test_a_compressed_file_that_is_no_tar_is_a_file(tmp_path):
    page = gzip.compress(b"a manual page")
    (tmp_path / "x.1.gz").write_bytes(page)
    assert found(tmp_path / "x.1.gz") == {f"{tmp_path}/x.1.gz": page}


@pytest.mark.parametrize("content", [PAYLOAD, b"", b"short"])
def test_standard_input_may_be_a_file(content):
    assert found("-", stdin=io.BytesIO(content)) == {"-": content}


def test_standard_input_may_be_an_archive():
    assert found("-", stdin=io.BytesIO(zip_of({"x": PAYLOAD}))) == {"-!x": PAYLOAD}


def test_standard_input_is_limited_and_its_failure_told():
    [item] = walk(["-"], stdin=io.BytesIO(zip_of({"x": os.urandom(5000)})), limits=Limits(size=1000))
    assert "more than 1000 bytes" in item.trouble

    class Broken(io.BytesIO):
        def read(self, *_):
            raise OSError(5, "Input/output error")

    [item] = walk(["-"], stdin=Broken())
    assert item.trouble == "Input/output error"


def test_set_user_id_is_seen_in_an_archive(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of({"su": PAYLOAD}, su=0o4755))
    assert [item.mode for item in walk([tmp_path / "x.tar"])] == [0o4755]


def test_a_device_in_an_archive_is_passed_over(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        device = tarfile.TarInfo("dev/null")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
        tar.addfile(tarfile.TarInfo("x"), io.BytesIO())
    (tmp_path / "x.tar").write_bytes(buffer.getvalue())
    assert found(tmp_path) == {f"{tmp_path}/x.tar!x": b""}


def test_a_file_with_holes_is_read_whole(tmp_path):
    with (tmp_path / "holes").open("wb") as file:
        file.seek(1 << 20)
        file.write(PAYLOAD)
    for form in ("gnu", "posix"):
        subprocess.run(["tar", f"--format={form}", "-Scf", f"{form}.tar", "holes"], cwd=tmp_path, check=True)
        assert (tmp_path / f"{form}.tar").stat().st_size < 1 << 17
        assert list(found(tmp_path / f"{form}.tar").values()) == [bytes(1 << 20) + PAYLOAD]


def test_a_big_member_is_there_by_pages_and_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("belljar.audit.subjects.IN_MEMORY", 1000)
    (tmp_path / "x.tar").write_bytes(tar_of({"x": PAYLOAD}))
    (tmp_path / "y").write_bytes(PAYLOAD)
    (tmp_path / "z.zip").write_bytes(zip_of({"big.zip": zip_of({"x": PAYLOAD})}))
    assert set(found(tmp_path).values()) == {PAYLOAD}


def test_depth_is_limited(tmp_path):
    data = PAYLOAD
    for _ in range(20):
        data = zip_of({"x": data})
    (tmp_path / "x.zip").write_bytes(data)
    [trouble] = [item.trouble for item in walk([tmp_path])]
    assert trouble == "archives nested more than 6 deep"


def test_size_and_number_are_limited_before_anything_is_unpacked(tmp_path):
    bomb = zip_of({"x": bytes(50 << 20)})
    assert len(bomb) < 1 << 16
    (tmp_path / "x.zip").write_bytes(zip_of({"bomb.zip": bomb}))
    [item] = walk([tmp_path], limits=Limits(size=1 << 20))
    assert "more bytes than are looked at" in item.trouble
    (tmp_path / "x.zip").write_bytes(zip_of({str(n): b"" for n in range(10)}))
    *_, item = walk([tmp_path], limits=Limits(members=9))
    assert "more files than are looked at" in item.trouble


@pytest.mark.parametrize("name", [*PACKED, "x.zip", "x.a", "x.deb"])
def test_a_damaged_archive_is_trouble_and_the_walk_goes_on(tmp_path, name):
    if name in PACKED:
        whole = PACKED[name](tar_of({"a": os.urandom(5000), "b": os.urandom(3000)}))
    elif name == "x.zip":
        whole = zip_of({"a": os.urandom(5000)})
    elif name == "x.a":
        whole = ar_of({"a.o/": os.urandom(5000)})
    else:
        whole = ar_of({"debian-binary": b"2.0\n", "data.tar": tar_of({"a": os.urandom(5000)})})
    (tmp_path / "zz").write_bytes(PAYLOAD)
    for cut in range(len(whole) // 40 + 1, len(whole), len(whole) // 17):
        (tmp_path / name).write_bytes(whole[:cut])
        result = reading(tmp_path)
        assert result[-1] == PAYLOAD
    for at in range(0, len(whole), len(whole) // 41):
        broken = bytearray(whole)
        broken[at] ^= 0xA5
        (tmp_path / name).write_bytes(broken)
        assert reading(tmp_path)[-1] == PAYLOAD


def reading(path):
    """Read all there is, as the audit does: a member that cannot be read is passed over."""
    result = []
    for item in walk([path]):
        try:
            result.append(item.trouble or item.link or item.read())
        except InputError as error:
            result.append(error.message)
    return result


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no-such"):
        list(walk([tmp_path / "no-such"]))


def test_what_is_no_file_is_refused_or_passed_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path) == {}
    with pytest.raises(InputError, match="neither a file nor a directory"):
        list(walk([tmp_path / "pipe"]))


def test_progress_is_told(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"")
    events = []
    list(walk([tmp_path], progress=events.append))
    assert [(Path(event.subject).name, event.done) for event in events] == [("a", 0), ("b", 1)]
