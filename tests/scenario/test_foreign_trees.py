"""Trees of other package managers work at another place, and open nothing where they came from.

Where they came from is covered by an empty directory when they run.
"""

import os
import shutil

import pytest
from foreign_forms import FORMS, build, use

from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.plan import plan
from belljar.relocate.foreign.prefix import find
from belljar.relocate.foreign.subject import Options
from belljar.relocate.moving import apply


def place(old, length):
    """Return another place as long as the old one, shorter or longer."""
    size = {"equal": len(old), "shorter": len(old) - 7, "longer": len(old) + 9}[length]
    return "/srv/t".ljust(size, "x")


@pytest.fixture(scope="module", params=sorted(FORMS))
def built(request, tmp_path_factory):
    """A form's tree, built once."""
    form, top = FORMS[request.param], tmp_path_factory.mktemp(request.param)
    build(form, top / "tree", top / "work", tell=True)
    return form, top / "tree"


def copied(tree, to):
    return shutil.copytree(tree, to, symlinks=True)


def everything(tree):
    """Yield what files hold and links say."""
    for path in tree.rglob("*"):
        if ".belljar-relocation" in path.parts:
            continue
        if path.is_symlink():
            yield os.fsencode(os.readlink(path))
        elif path.is_file():
            yield path.read_bytes()


@pytest.mark.parametrize("length", ["equal", "shorter"])
def test_a_tree_works_at_another_place_and_opens_nothing_at_the_old_one(built, tmp_path, length):
    form, original = built
    tree, new = copied(original, tmp_path / "tree"), place(form.root, length)
    assert use(form, tree, new)[0] != 0, "the control: unmoved references fail"
    found = plan(tree, Moves.of([(form.root, new)]))
    assert not found.refusals
    apply(found)
    status, said, old = use(form, tree, new)
    assert (status, old) == (0, []), said
    assert said.count("text of w") == 4
    assert said.count(f"PATH={new}") == 3
    assert form.root.encode() not in b"".join(everything(tree)), "nothing of the old place is left"
    assert not plan(tree, Moves.of([(form.root, new)])).changes


def test_a_longer_place_is_refused_with_a_reason_for_each_program_that_holds_the_path(built):
    form, tree = built
    found = plan(tree, Moves.of([(form.root, place(form.root, "longer"))]))
    assert {item.path.rpartition("/")[2] for item in found.refusals} == {"app", "libw.so.1"}
    assert all("longer" in item.reason or "piece" in item.reason for item in found.refusals)


def test_the_likely_prefix_of_a_tree_is_where_it_was_built(built):
    form, tree = built
    assert find(tree).prefix == form.root.encode()


@pytest.mark.parametrize("name", sorted(FORMS))
@pytest.mark.parametrize("relative", [False, True])
def test_a_tree_whose_programs_hold_no_path_works_at_a_longer_place(tmp_path, name, relative):
    form, tree = FORMS[name], tmp_path / "tree"
    build(form, tree, tmp_path / "work", tell=False)
    new = place(form.root, "longer")
    assert use(form, tree, new)[0] != 0, "the control: unmoved references fail"
    found = plan(tree, Moves.of([(form.root, new)]), Options(relative=relative))
    assert not found.refusals
    apply(found)
    status, said, old = use(form, tree, new)
    assert (status, old) == (0, []), said
    assert said.count("found") == 4
