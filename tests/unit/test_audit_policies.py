"""Policies as data: the built-in ones nest, users' files are read whole or refused whole."""

import dataclasses
import datetime
import itertools

import pytest
from test_audit_checks import facts, use

from belljar.audit import GlibcVersion, Policy, Severity, policies
from belljar.audit.checks import check
from belljar.audit.policy import BASELINE, Waiver
from belljar.audit.profiles import met
from belljar.audit.run import judged, waived
from belljar.errors import InputError
from belljar.schema import SchemaError

ARCHES = ("x86_64", "aarch64", "i386", "ppc64le", "s390x", "arm", "riscv64", "loongarch64")
SERIES = ("GLIBC", "GLIBCXX", "CXXABI", "GCC", "ZLIB", "LIBATOMIC")
TODAY = datetime.date(2026, 1, 1)


def family(prefix):
    return [policy for name, policy in policies.builtin().items() if name.startswith(prefix)]


def test_each_manylinux_allows_all_that_the_one_before_allows():
    for older, newer in itertools.pairwise(family("manylinux_")):
        assert older.glibc < newer.glibc
        assert older.libraries <= newer.libraries
        assert older.names <= newer.names
        assert {pair for item in newer.forbidden for pair in pairs(item)} <= {
            pair for item in older.forbidden for pair in pairs(item)
        }
        for series, arch in itertools.product(SERIES, ARCHES):
            if older.limit(series, arch) is not None and series != "GLIBC":
                assert older.limit(series, arch) <= newer.limit(series, arch), (newer.name, series, arch)


def pairs(item):
    library, symbols = item
    return [(library, symbol) for symbol in symbols]


def test_each_musllinux_allows_all_that_the_one_before_allows():
    older, newer = family("musllinux_")
    assert older.libraries <= newer.libraries
    assert {p for item in newer.forbidden for p in pairs(item)} < {
        p for item in older.forbidden for p in pairs(item)
    }


def test_a_tree_meets_every_policy_after_the_first_that_it_meets():
    names = met([facts(versions=(use("GLIBC_2.25", "getrandom"),))])
    assert names[0] == "manylinux_2_26"
    assert names == tuple(policy.name for policy in family("manylinux_")[4:])


@pytest.mark.parametrize("name", ["manylinux_2_17", "manylinux2014"])
def test_a_policy_is_found_by_name_and_by_alias(name):
    assert policies.find(name).glibc == GlibcVersion(2, 17)


def test_an_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'manylinux_2_28'"):
        policies.find("manylinux2_28")


def test_versions_above_the_limits_are_errors_with_the_gcc_that_first_had_them():
    needs = (use("GLIBCXX_3.4.30", "_Z1f", library="libstdc++.so.6"),)
    (finding,) = check(facts(versions=needs), policies.find("manylinux_2_17"))
    assert (finding.rule, finding.severity) == ("glibcxx-floor", Severity.ERROR)
    assert "GCC 12.1" in finding.message
    assert check(facts(versions=needs), policies.find("manylinux_2_35")) == ()


def test_what_the_tree_brings_itself_may_be_new_and_needed():
    file = facts(
        versions=(use("GLIBCXX_3.4.30", library="libstdc++.so.6"),), needed=("libstdc++.so.6", "libfoo.so.1")
    )
    strict = policies.find("manylinux_2_17")
    assert [item.rule for item in check(file, strict)] == ["glibcxx-floor", "external-library"]
    assert check(file, strict, frozenset({"libstdc++.so.6", "libfoo.so.1"})) == ()


def test_symbols_that_got_into_a_library_without_version_are_refused():
    file = facts(needed=("libz.so.1",), unversioned=frozenset({"uncompress2", "PyErr_Clear"}))
    (finding,) = check(file, policies.find("manylinux_2_28"))
    assert (finding.rule, finding.symbols) == ("forbidden-symbol", ("uncompress2",))
    assert check(file, policies.find("manylinux_2_34")) == ()


def test_a_limit_of_one_architecture_holds_there_only():
    needs = (use("GLIBC_2.18", "x"),)
    strict = policies.find("manylinux_2_17")
    assert [item.rule for item in check(facts(versions=needs), strict)] == ["glibc-floor"]
    arm = facts(versions=needs, arch="aarch64", interpreter="/lib/ld-linux-aarch64.so.1")
    assert check(arm, strict) == ()


def test_what_is_for_glibc_meets_no_musllinux_and_the_reverse():
    musl = facts(interpreter="/lib/ld-musl-x86_64.so.1", needed=("libc.musl-x86_64.so.1",))
    assert met([musl]) == ("musllinux_1_1", "musllinux_1_2")
    assert not any(name.startswith("musl") for name in met([facts(versions=(use("GLIBC_2.4"),))]))


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_a_users_policy_extends_a_built_in_one(tmp_path):
    path = written(
        tmp_path,
        """
        extends = "manylinux_2_17"
        isa = "x86-64-v2"
        libraries = ["libcuda.so.1"]
        [limits]
        GLIBCXX = "3.4.21"
        [[exceptions]]
        rule = "glibc-floor"
        path = "plugins/*.so"
        reason = "loaded on newer systems only"
        expires = 2030-01-01
        """,
    )
    policy = policies.find(str(path))
    assert (policy.name, policy.isa, str(policy.glibc)) == ("mine", "x86-64-v2", "2.17")
    assert {"libcuda.so.1", "libc.so.6"} <= policy.libraries
    assert policy.limit("GLIBCXX", "x86_64") == (3, 4, 21)
    assert policy.waivers[0].expires == datetime.date(2030, 1, 1)


def test_every_problem_of_a_policy_is_reported_at_once(tmp_path):
    path = written(
        tmp_path,
        """
        extends = "manylinux_9"
        glibc = "new"
        libraries = "libc.so.6"
        colour = 1
        [[exceptions]]
        rule = "glibc-flor"
        path = "x"
        reason = " "
        """,
    )
    with pytest.raises(SchemaError) as caught:
        policies.load(path)
    keys = {issue.key for issue in caught.value.issues}
    assert keys == {"extends", "glibc", "libraries", "colour", "exceptions[0].rule", "exceptions[0].reason"}


def waiver(**changes):
    return Waiver(**{"rule": "glibc-floor", "path": "bin/*", "reason": "known"} | changes)


STRICT = Policy.of(glibc="2.17")
NEW = (facts(path="/tree/bin/x", versions=(use("GLIBC_2.34", "f"),)),)


def test_an_exception_covers_its_rule_and_path_and_says_why():
    assert [item.severity for item in judged(NEW, (), STRICT)] == [Severity.ERROR]
    excused = dataclasses.replace(STRICT, waivers=(waiver(),))
    (finding,) = judged(NEW, (), excused)
    assert (finding.severity, finding.waived) == (Severity.NOTE, "known")


@pytest.mark.parametrize("changes", [{"rule": "libc"}, {"path": "lib/*"}, {"path": "in/*"}])
def test_an_exception_covers_nothing_else(changes):
    excused = dataclasses.replace(STRICT, waivers=(waiver(**changes),))
    assert [item.severity for item in judged(NEW, (), excused)] == [Severity.ERROR]


def test_an_expired_exception_covers_nothing_and_is_a_finding():
    before = dataclasses.replace(STRICT, waivers=(waiver(expires=TODAY - datetime.timedelta(days=1)),))
    found = judged(NEW, (), before, today=TODAY)
    assert [item.rule for item in found] == ["glibc-floor", "exception-expired"]
    assert all(item.severity is Severity.ERROR for item in found)
    last_day = dataclasses.replace(STRICT, waivers=(waiver(expires=TODAY),))
    assert [item.waived for item in waived(judged(NEW, (), STRICT), last_day, TODAY)] == ["known"]


def test_portable_wants_the_baseline_and_no_paths_of_the_host():
    policy = policies.find("portable")
    assert (policy.isa, policy.arch) == (BASELINE, None)
    (finding,) = check(facts(runpath=("/opt/x/lib",)), policy)
    assert (finding.rule, finding.severity) == ("search-path", Severity.ERROR)
