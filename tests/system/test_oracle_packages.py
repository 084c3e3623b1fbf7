"""Real packages from Debian's sources: moving one gives what building it there gives, and it works there.

The small ones; `make bench ARGS=oracle` has SQLite, jq, Perl, CPython and git, with parts of their own tests.
"""

import shutil
import tempfile
from pathlib import Path

import packages
import pytest
from test_build_support import home, home_of

from belljar.relocate.install import install, plan
from belljar.store import Store

SMALL = ("zlib", "lua")


@pytest.fixture(scope="module")
def scratch():
    """A directory whose path is short enough for a location, with a home in it."""
    with tempfile.TemporaryDirectory(prefix="bj", dir="/tmp") as place:
        yield Path(place)


@pytest.fixture(scope="module")
def kitchen(scratch):
    return home_of(home(scratch / "home"))


@pytest.fixture(scope="module", params=SMALL)
def package(request, kitchen, scratch):
    """A package's name and its artifact, built under two prefixes."""
    return request.param, packages.proved(request.param, kitchen, scratch)


def test_moving_a_package_gives_what_building_it_there_gives(package):
    _, artifact = package
    proof = artifact.record.proof
    assert proof["verdict"] in {"exact", "derived"}
    assert {item["section"] for item in proof["findings"]} <= {".note.gnu.build-id"}
    assert proof["references"] > 0


def test_a_moved_package_works_and_looks_for_nothing_where_it_was(package, kitchen, scratch):
    name, artifact = package
    old, new = scratch / f"{name}-a", scratch / f"{name}-b"
    entry = packages.moved(artifact, kitchen, old, new)
    use = packages.used(name, entry, kitchen, scratch, old, new)
    assert use.status == 0, use.said
    assert use.below_new > 0
    assert use.below_old == ()


def test_a_copy_that_was_not_relocated_looks_for_its_old_place(kitchen, scratch):
    """The negative control of the test above."""
    artifact = packages.proved("lua", kitchen, scratch)
    old, new = scratch / "copied-a", scratch / "copied-b"
    install(plan(Store(directory=kitchen.store), artifact.name, old))
    shutil.copytree(old, new, symlinks=True)
    place = scratch / "copied"
    shutil.copytree(scratch / "recipe-lua", place / "recipe-lua")
    use = packages.used("lua", artifact.name, kitchen, place, old, new)
    assert use.status != 0
    assert any(path.startswith(f"{old}/") for path in use.below_old)
