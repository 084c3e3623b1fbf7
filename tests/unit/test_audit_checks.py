"""The rules of the audit, one by one, on facts made by hand."""

import dataclasses

import pytest

from belljar.audit import FileFacts, InterpreterRule, Kind, Policy, Severity, VersionUse
from belljar.audit.checks import check
from belljar.audit.leaks import Leak, Where
from belljar.errors import InputError

PLAIN = FileFacts(
    path="bin/x",
    kind=Kind.EXECUTABLE,
    arch="x86_64",
    interpreter="/lib64/ld-linux-x86-64.so.2",
    needed=("libc.so.6",),
    soname=None,
    rpath=(),
    runpath=(),
    versions=(),
    defines_glibc=False,
    kernel=None,
    build_id=None,
    leaks=(),
)
STRICT = Policy.of(glibc="2.17", isa="x86-64")


def facts(**changes):
    return dataclasses.replace(PLAIN, **changes)


def use(version, *symbols, library="libc.so.6", weak=False, required=True):
    return VersionUse(library=library, version=version, weak=weak, required=required, symbols=symbols)


def rules(file, policy=STRICT):
    return [(finding.rule, finding.severity) for finding in check(file, policy)]


def test_a_plain_file_passes_a_strict_policy():
    assert rules(facts(versions=(use("GLIBC_2.17", "printf"), use("GLIBC_2.2.5")))) == []


def test_a_version_above_the_declared_one_names_symbol_file_version_library_and_remedy():
    (finding,) = check(facts(versions=(use("GLIBC_2.34", "pthread_create"),)), STRICT)
    assert (finding.rule, finding.severity, finding.path) == ("glibc-floor", Severity.ERROR, "bin/x")
    assert (finding.symbols, finding.version, finding.library) == (
        ("pthread_create",),
        "GLIBC_2.34",
        "libc.so.6",
    )
    assert finding.message == "needs GLIBC_2.34 of libc.so.6 for pthread_create; declared is 2.17"
    assert "zig cc -target x86_64-linux-gnu.2.17" in (finding.hint or "")


def test_symbols_of_c23_are_explained_by_the_headers():
    (finding,) = check(facts(versions=(use("GLIBC_2.38", "__a", "__isoc23_strtol"),)), STRICT)
    assert "__isoc23_strtol exists since 2.38" in (finding.hint or "")


def test_without_a_declared_glibc_no_version_is_too_new():
    assert rules(facts(versions=(use("GLIBC_2.99", "future"),)), Policy()) == []


def test_a_weak_need_is_noted_and_sets_no_floor():
    file = facts(versions=(use("GLIBC_2.17"), use("GLIBC_2.34", "maybe", weak=True, required=False)))
    assert rules(file) == [("glibc-floor", Severity.NOTE)]
    assert str(file.floor) == "2.17"


def test_other_libraries_versions_set_no_floor():
    file = facts(versions=(use("GLIBCXX_3.4.30", "_Zx", library="libstdc++.so.6"),))
    assert rules(file) == []
    assert file.floor is None


def test_packed_relocations_need_the_loader_that_knows_them():
    (finding,) = check(facts(versions=(use("GLIBC_ABI_DT_RELR", library=""),)), STRICT)
    assert finding.severity is Severity.ERROR
    assert "relative-relocs" in (finding.hint or "")


def test_private_symbols_are_left_to_glibc_itself():
    versions = (use("GLIBC_PRIVATE", "__internal"),)
    assert rules(facts(versions=versions)) == [("glibc-private", Severity.ERROR)]
    assert rules(facts(versions=versions), Policy()) == [("glibc-private", Severity.NOTE)]
    assert rules(facts(versions=versions, defines_glibc=True)) == []


def test_an_unknown_marker_is_no_pass():
    assert rules(facts(versions=(use("GLIBC_ABI_NEW"),))) == [("glibc-marker", Severity.ERROR)]


def test_a_program_for_musl_meets_no_glibc_floor():
    file = facts(interpreter="/lib/ld-musl-x86_64.so.1", needed=("libc.so",))
    assert rules(file) == [("libc", Severity.ERROR)]
    assert rules(file, Policy()) == []


def test_another_architecture_is_an_error_in_what_runs():
    arm = {"arch": "aarch64", "interpreter": "/lib/ld-linux-aarch64.so.1"}
    assert rules(facts(**arm)) == [("arch", Severity.ERROR)]
    assert rules(facts(**arm), Policy.of(isa="aarch64")) == []
    assert rules(facts(arch="machine 247", kind=Kind.OBJECT, interpreter=None)) == []


def test_a_loader_of_its_own_place_is_an_error_unless_any_will_do():
    file = facts(interpreter="/opt/glibc/ld-linux-x86-64.so.2")
    assert rules(file) == [("interpreter", Severity.ERROR)]
    assert rules(file, Policy(interpreter=InterpreterRule.ANY)) == []


@pytest.mark.parametrize("entry", ["lib", "", "./lib", "../lib"])
def test_a_search_path_from_the_working_directory_is_an_error(entry):
    assert rules(facts(runpath=("$ORIGIN/../lib", entry, "$ORIGIN"))) == [("search-path", Severity.ERROR)]


def test_an_absolute_search_path_is_noted_and_origin_is_not():
    assert rules(facts(rpath=("/opt/x/lib",))) == [("search-path", Severity.NOTE)]
    assert rules(facts(rpath=("$ORIGIN/../lib", "${ORIGIN}"))) == []


@pytest.mark.parametrize("where", list(Where))
def test_a_build_path_is_an_error_where_the_loader_reads_it(where):
    file = facts(leaks=(Leak(where=where, text="/build/x", offset=64),))
    by_loader = where not in (Where.LOADED, Where.DEBUG)
    assert rules(file) == [("build-path", Severity.ERROR if by_loader else Severity.NOTE)]


@pytest.mark.parametrize(
    "words", [{"glibc": "new"}, {"isa": "z80"}, {"build_paths": ("build",)}, {"build_paths": ("/",)}]
)
def test_a_policy_that_makes_no_sense_is_refused(words):
    with pytest.raises(InputError):
        Policy.of(**words)


@pytest.mark.parametrize("isa", ["x86-64", "x86-64-v3", "x86_64"])
def test_levels_of_one_architecture_are_that_architecture(isa):
    assert Policy.of(isa=isa).arch == "x86_64"
