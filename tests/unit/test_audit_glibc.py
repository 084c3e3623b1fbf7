"""Versions of glibc, what version names say, and where a release is found."""

import pytest

from belljar.audit import GlibcVersion
from belljar.audit.floors.distributions import distributions
from belljar.audit.floors.glibc import is_family, release_of
from belljar.errors import InputError


def version(text):
    return GlibcVersion.parse(text)


def test_releases_are_ordered_by_number_and_not_by_text():
    words = ["2.0", "2.2.5", "2.3", "2.3.4", "2.9", "2.17", "2.34", "3.0"]
    assert sorted(map(version, reversed(words))) == [version(word) for word in words]


@pytest.mark.parametrize("text", ["2.17", "2.2.5", "2.0"])
def test_a_release_is_written_as_it_is_read(text):
    assert str(version(text)) == text


@pytest.mark.parametrize(
    "text", ["", "2", "2.", "2.17.", "2.17-1", " 2.17", "2.x", "2.17.1.1", "2.99999", "٢.١٧"]
)
def test_what_is_no_release_is_refused(text):
    with pytest.raises(InputError):
        version(text)


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("GLIBC_2.17", "2.17"),
        ("GLIBC_2.2.5", "2.2.5"),
        ("GLIBC_ABI_DT_RELR", "2.36"),
        ("GLIBC_PRIVATE", None),
        ("GLIBC_ABI_SOMETHING_NEW", None),
        ("GLIBCXX_3.4.21", None),
        ("MYGLIBC_2.17", None),
        ("CXXABI_1.3", None),
    ],
)
def test_a_version_name_says_its_release(name, release):
    assert release_of(name) == (version(release) if release else None)


@pytest.mark.parametrize(
    "library",
    [
        "libc.so.6",
        "libpthread.so.0",
        "ld-linux-x86-64.so.2",
        "ld64.so.1",
        "libm.so.6",
        "librt.so.1",
        "libnss_dns.so.2",
    ],
)
def test_the_libraries_of_glibc_are_known(library):
    assert is_family(library)


@pytest.mark.parametrize(
    "library", ["libstdc++.so.6", "libgcc_s.so.1", "libz.so.1", "libc.so", "libcurl.so.4"]
)
def test_other_libraries_are_not_of_glibc(library):
    assert not is_family(library)


def test_a_floor_names_the_first_release_of_each_distribution():
    assert distributions(version("2.17")) == (
        "RHEL/CentOS 7+",
        "Debian 8+",
        "Ubuntu 14.04+",
        "Amazon Linux 2+",
        "SLES 12+",
    )
    assert "Debian 12+" in distributions(version("2.34"))
    assert distributions(version("9.9")) == ()
