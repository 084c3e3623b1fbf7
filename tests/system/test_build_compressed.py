"""A build that leaves compressed manual pages, archives and hash lists: stored, proved, installed, right."""

import gzip
import hashlib
import tempfile
from pathlib import Path

import pytest
from test_build_support import TINY, home, home_of, recipe

from belljar.build import Options, build
from belljar.placeholder import location
from belljar.relocate.install import install, plan
from belljar.store import Store

SCRIPT = """
mkdir -p "$PREFIX/share/man/man1" "$PREFIX/share/doc"
{ cat word; seq 1 3000; echo ".SH FILES"; echo "$PREFIX/etc/tiny.conf"; seq 1 3000; } > page
gzip -9 -n -c page > "$PREFIX/share/man/man1/tiny.1.gz"
xz -c page > "$PREFIX/share/doc/page.xz"
echo "$PREFIX" > "$PREFIX/share/doc/where"
cd "$PREFIX/share"
sha256sum man/man1/tiny.1.gz doc/where > SHA256SUMS
"""


@pytest.fixture(scope="module")
def kitchen():
    with tempfile.TemporaryDirectory() as scratch:
        yield home_of(home(Path(scratch) / "home"))


def test_what_is_compressed_moves_like_anything_else(tmp_path, kitchen):
    directory = recipe(tmp_path / "r", SCRIPT, packages=(*TINY, "deb:gzip", "deb:xz-utils"))
    artifact = build(directory, home=kitchen, options=Options(prove=True))
    assert artifact.record.relocatable
    store = Store(directory=kitchen.store)
    assert store.verify(artifact.name) == ()
    target = tmp_path / "there"
    install(plan(store, artifact.name, target))
    moved = Store(directory=target)
    assert moved.verify(artifact.name) == ()
    tree = moved.path(artifact.name)
    page = gzip.decompress((tree / "share/man/man1/tiny.1.gz").read_bytes())
    assert location(target) + f"/{artifact.name}/etc/tiny.conf\n".encode() in page
    for line in (tree / "share/SHA256SUMS").read_text().splitlines():
        value, name = line.split()
        assert value == hashlib.sha256((tree / "share" / name).read_bytes()).hexdigest(), name
