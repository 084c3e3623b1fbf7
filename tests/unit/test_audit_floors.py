"""What sets a floor beside glibc's version names, and what lowers it."""

import dataclasses

import pytest
from test_audit_checks import facts, use

from belljar.audit import GlibcVersion, Known, Report, gcc_of
from belljar.audit.checks import remedy
from belljar.audit.floors.distributions import distributions
from belljar.audit.floors.series import split
from belljar.audit.floors.symbols import first, is_in_musl, origins
from belljar.audit.policy import ANYTHING


def report(*files):
    return Report(paths=("t",), policy=ANYTHING, files=files, findings=())


@pytest.mark.parametrize(
    ("symbol", "arch", "release", "library"),
    [
        ("stat", "x86_64", "2.33", "libc.so.6"),
        ("__isoc23_strtol", "aarch64", "2.38", "libc.so.6"),
        ("printf", "x86_64", "2.2.5", "libc.so.6"),
        ("printf", "riscv64", "2.27", "libc.so.6"),
        ("pthread_create", "x86_64", "2.2.5", "libpthread.so.0"),
        ("__cxa_thread_atexit_impl", "x86_64", "2.18", "libc.so.6"),
    ],
)
def test_the_table_knows_which_release_first_had_a_symbol(symbol, arch, release, library):
    origin = first(symbol, arch)
    assert (str(origin.release), origin.library) == (release, library)


def test_the_table_says_nothing_of_what_is_not_glibcs():
    assert first("PyErr_Clear", "x86_64") is None
    assert first("printf", "machine 247") is None


def test_a_function_that_moved_is_known_in_both_places():
    assert [(str(item.release), item.library) for item in origins("dlopen", "x86_64")] == [
        ("2.2.5", "libdl.so.2"),
        ("2.34", "libc.so.6"),
    ]


def test_musl_has_what_posix_has_and_not_what_fortify_calls():
    assert is_in_musl("printf")
    assert not is_in_musl("__printf_chk")


@pytest.mark.parametrize(
    ("version", "symbol", "words"),
    [
        ("GLIBC_2.36", "arc4random", "arc4random is first in 2.36"),
        ("GLIBC_2.33", "stat", "libc_nonshared.a"),
        ("GLIBC_2.34", "dlopen", "dlopen moved from libdl.so.2 to libc.so.6 in 2.34"),
        ("GLIBC_2.14", "memcpy", "memcpy exists since 2.2.5 and got a new version in 2.14"),
        ("GLIBC_2.38", "__isoc23_strtol", "a newer toolchain chose it"),
        ("GLIBC_2.34", "__libc_start_main", "start-up code"),
        ("GLIBC_ABI_DT_RELR", "", "nopack-relative-relocs"),
    ],
)
def test_a_remedy_says_why_a_symbol_needs_its_release(version, symbol, words):
    assert words in remedy(use(version, *[symbol] * bool(symbol)), "x86_64")


def test_a_file_has_a_floor_of_each_library():
    file = facts(
        kernel="3.2.0",
        versions=(
            use("GLIBC_2.17"),
            use("GLIBCXX_3.4.9", library="libstdc++.so.6"),
            use("GLIBCXX_3.4.21", library="libstdc++.so.6"),
            use("CXXABI_1.3.9", library="libstdc++.so.6"),
            use("CXXABI_TM_1", library="libstdc++.so.6"),
            use("GCC_3.0", library="libgcc_s.so.1"),
        ),
    )
    floors = file.floors
    assert (floors.glibc, floors.glibcxx, floors.cxxabi) == ("2.17", "3.4.21", "1.3.9")
    assert (floors.gcc, floors.kernel) == ("3.0", "3.2.0")
    assert report(file).floors == dataclasses.replace(floors, isa="x86-64")


def test_a_library_of_the_tree_meets_needs_of_it():
    needy = facts(versions=(use("GLIBCXX_3.4.30", library="libstdc++.so.6"),))
    own = facts(path="lib/libstdc++.so.6", soname="libstdc++.so.6")
    assert report(needy).floors.glibcxx == "3.4.30"
    assert report(needy, own).floors.glibcxx is None


def test_each_cause_names_file_version_library_symbols_and_remedy():
    file = facts(versions=(use("GLIBC_2.34", "dlopen"), use("GLIBC_2.2.5", "printf")))
    (cause,) = report(file).causes
    assert (cause.floor, cause.release, cause.path) == ("glibc", "2.34", "bin/x")
    assert cause.use.symbols == ("dlopen",)
    assert "libdl.so.2" in cause.remedy


def test_a_distribution_must_have_the_libstdcxx_too():
    old = GlibcVersion.parse("2.17")
    assert "RHEL/CentOS 7+" in distributions(old, "3.4.19")
    assert "RHEL/CentOS 9+" in distributions(old, "3.4.29")
    assert "Debian 13+" in distributions(old, "3.4.33")


@pytest.mark.parametrize(
    ("version", "gcc"),
    [("GLIBCXX_3.4", "3.4"), ("GLIBCXX_3.4.30", "12.1"), ("CXXABI_1.3.9", "5.1"), ("GCC_7.0.0", "7.0.0")],
)
def test_a_version_of_gccs_libraries_says_its_gcc(version, gcc):
    assert gcc_of(version) == gcc


@pytest.mark.parametrize("version", ["CXXABI_TM_1", "GLIBC_PRIVATE", "GLIBCXX_LDBL_3.4", "X", ""])
def test_names_without_a_number_of_their_own_set_no_floor(version):
    assert split(version) is None
    assert gcc_of(version) is None


def test_what_is_known_by_a_symbol_is_worded_so():
    file = facts(versions=(use("GLIBC_2.36", "arc4random"),))
    known = dataclasses.replace(file.versions[0], known=Known.SYMBOL)
    assert known.glibc == GlibcVersion(2, 36)
