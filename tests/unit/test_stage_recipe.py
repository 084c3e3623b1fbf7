"""[toolchain] in a recipe: the baseline, an override, opting out, opting in to a seal."""

import json
from pathlib import Path

import pytest

from belljar.build.inputs import inputs_of
from belljar.build.sandboxed import variables
from belljar.recipe import Lock, Recipe, load
from belljar.recipe.lock import requests_of
from belljar.schema import SchemaError
from belljar.store import StoreName
from belljar.types import Arch, Digest

NAME = StoreName.make("p", "1", Digest("0" * 64))


def recipe(directory: Path, toolchain: str = "", *, packages: str = '"deb:dash"', more: str = "") -> Recipe:
    (directory / "belljar.toml").write_text(
        f'[package]\nname = "p"\nversion = "1"\n[environment]\nsuite = "bookworm"\npackages = [{packages}]\n'
        f'[build]\nscript = "true"\n{toolchain}\n{more}\n'
    )
    return load(directory)


def environment(found: Recipe) -> dict[str, str]:
    return variables(found, NAME, Arch.X86_64, 1)


def test_without_the_table_nothing_is_staged_and_nothing_promised(tmp_path: Path) -> None:
    found = recipe(tmp_path)
    assert found.toolchain is None
    assert found.portability.glibc is None
    assert "CC" not in environment(found)


def test_the_empty_table_gives_the_baseline_and_promises_it(tmp_path: Path) -> None:
    found = recipe(tmp_path, "[toolchain]")
    assert found.toolchain is not None
    assert (found.toolchain.glibc, found.portability.glibc, found.toolchain.seal) == ("2.17", "2.17", False)
    assert "pypi:ziglang==0.17.0" in requests_of(found)["environment.packages"]
    given = environment(found)
    assert given["PATH"] == "/run/belljar/toolchain/bin:/usr/bin:/usr/sbin"
    assert given["BELLJAR_TARGET"] == "x86_64-linux-gnu.2.17"


def test_a_package_may_ask_for_another_glibc_and_promise_an_older_one(tmp_path: Path) -> None:
    found = recipe(tmp_path, '[toolchain]\nglibc = "2.28"', more='[portability]\nglibc = "2.20"')
    assert environment(found)["BELLJAR_GLIBC"] == "2.28"
    assert found.portability.glibc == "2.20"


def test_opting_out_is_as_if_the_table_were_not_there(tmp_path: Path) -> None:
    found = recipe(tmp_path, '[toolchain]\nenabled = false\nglibc = "2.28"')
    assert found == recipe(tmp_path)


def test_the_table_is_an_input_and_its_absence_changes_no_name(tmp_path: Path) -> None:
    def inputs(toolchain: str) -> str:
        found = recipe(tmp_path, toolchain)
        lock = Lock(arch=Arch.X86_64, requests=requests_of(found))
        return json.dumps(inputs_of(found, lock, tmp_path), sort_keys=True)

    kinds = ["", "[toolchain]", '[toolchain]\nglibc = "2.28"', "[toolchain]\nseal = true"]
    assert len({inputs(kind) for kind in kinds}) == len(kinds)
    assert "toolchain" not in inputs("")


def test_a_zig_among_the_packages_is_the_one_that_counts(tmp_path: Path) -> None:
    found = recipe(tmp_path, "[toolchain]", packages='"deb:dash", "pypi:ziglang==0.16.0"')
    assert found.toolchain is not None
    assert found.toolchain.zig == "0.16.0"
    assert requests_of(found)["environment.packages"] == ("deb:dash", "pypi:ziglang==0.16.0")


@pytest.mark.parametrize(
    ("toolchain", "says"),
    [
        ('[toolchain]\nglibc = "latest"', "version of glibc"),
        ("[toolchain]\nglibc = 2.17", "should be a string"),
        ('[toolchain]\nglib = "2.17"', "did you mean 'glibc'"),
        ('[toolchain]\nzig = "newest"', "release of zig"),
        ('[toolchain]\nseal = "yes"', "should be"),
    ],
)
def test_what_the_table_cannot_say_is_refused_with_its_line(
    tmp_path: Path, toolchain: str, says: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        recipe(tmp_path, toolchain)
    assert says in caught.value.message
    assert "toolchain" in caught.value.message


def test_two_zigs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"toolchain\.zig"):
        recipe(tmp_path, '[toolchain]\nzig = "0.16.0"', packages='"pypi:ziglang==0.17.0"')
