"""Which file of a Debian source package is the upstream tarball."""

import pytest

from belljar.recipe.sources.debsrc import is_main_tarball


@pytest.mark.parametrize("name", ["hello_2.10.orig.tar.gz", "dpkg_1.21.22.tar.xz", "git_2.39.5.orig.tar.xz"])
def test_the_upstream_tarball_is_known_by_its_name(name):
    assert is_main_tarball(name)


@pytest.mark.parametrize(
    "name",
    [
        "sqlite3_3.40.1.orig-www.tar.xz",
        "perl_5.36.0.orig-regen-configure.tar.xz",
        "hello_2.10-3.debian.tar.xz",
        "hello_2.10.orig.tar.gz.asc",
        "hello_2.10-3.dsc",
    ],
)
def test_components_signatures_and_debians_own_part_are_not_it(name):
    assert not is_main_tarball(name)
