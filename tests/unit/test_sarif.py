"""SARIF, annotations of CI services, and baselines."""

import json
import re

import pytest

from belljar.audit import Finding, Severity
from belljar.errors import InputError
from belljar.report.annotations import Service, annotations
from belljar.report.baseline import Baseline, fingerprint, read_baseline, write_baseline
from belljar.report.sarif import to_sarif, uri_of

LEVELS = {"none", "note", "warning", "error"}


def finding(path="dist/x", rule="glibc-floor", severity=Severity.ERROR, message="needs GLIBC_2.34", **rest):
    return Finding(rule=rule, severity=severity, path=path, message=message, **rest)


FINDINGS = (
    finding(version="GLIBC_2.34", library="libc.so.6", hint="build against glibc 2.17"),
    finding(path="dist/a b.whl!pkg/x.so", rule="build-path", message="names /home/me (3x)", offset=7),
    finding(path="/srv/odd\udcff,:%\n", severity=Severity.NOTE, rule="search-path", message="a\nb"),
)


def test_sarif_has_what_the_standard_requires():
    log = json.loads(json.dumps(to_sarif(FINDINGS)))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "belljar"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", driver["semanticVersion"])
    identities = [rule["id"] for rule in driver["rules"]]
    assert len(set(identities)) == len(identities)
    assert len(run["results"]) == len(FINDINGS)
    for result in run["results"]:
        assert identities[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in LEVELS
        assert result["message"]["text"]
        [location] = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9/+\-._~@%:]+", uri)
        assert location["physicalLocation"]["region"]["startLine"] >= 1
        assert all(isinstance(text, str) for text in result["partialFingerprints"].values())


def test_sarif_names_the_outer_file_and_the_member_in_it():
    location = to_sarif(FINDINGS)["runs"][0]["results"][1]["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "dist/a%20b.whl"
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "pkg/x.so"


def test_sarif_locations_are_relative_to_the_repository():
    assert uri_of("/src/repo/dist/x", "/src/repo") == "dist/x"
    assert uri_of("/srv/x", "/src/repo") == "file:///srv/x"
    assert uri_of("./dist/x", "/src/repo") == "dist/x"


def test_sarif_of_nothing_is_a_run_without_results():
    assert to_sarif(())["runs"][0]["results"] == []


def test_sarif_says_what_is_new():
    baseline = Baseline(frozenset({fingerprint(FINDINGS[0])}))
    states = [item["baselineState"] for item in to_sarif(FINDINGS, baseline=baseline)["runs"][0]["results"]]
    assert states == ["unchanged", "new", "new"]


def test_github_gets_one_line_per_finding_worst_first_and_escaped():
    lines = annotations(Service.GITHUB, FINDINGS[::-1])
    assert lines[-1] == "::warning file=/srv/odd\ufffd%2C%3A%25%0A,title=belljar%3A search-path::a%0Ab"
    assert lines[1] == (
        "::error file=dist/x,title=belljar%3A glibc-floor::needs GLIBC_2.34%0Abuild against glibc 2.17"
    )
    assert lines[0].endswith("::pkg/x.so: names /home/me (3x)")
    assert all("\n" not in line for line in lines)


def test_github_is_told_how_many_it_would_not_show():
    lines = annotations(Service.GITHUB, [finding(path=str(number)) for number in range(25)])
    assert len(lines) == 10
    assert lines[-1] == "::error title=belljar::and 16 more; see the job's log"


def test_gitlab_gets_a_code_quality_report():
    report = json.loads("\n".join(annotations(Service.GITLAB, FINDINGS)))
    assert [item["severity"] for item in report] == ["major", "major", "info"]
    for item in report:
        assert {"description", "check_name", "fingerprint", "severity", "location"} == set(item)
        assert item["location"]["lines"]["begin"] == 1
    assert len({item["fingerprint"] for item in report}) == 3


def test_azure_gets_a_logging_command_in_one_line():
    assert annotations(Service.AZURE, FINDINGS[2:]) == [
        "##vso[task.logissue type=warning;sourcepath=/srv/odd\ufffd,:%AZP25%0A;code=search-path]a b"
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (finding(offset=1), finding(offset=2)),
        (finding(message="names /home/me (3x)"), finding(message="names /home/me (14x)")),
        (
            finding(path="w/a-1.0-cp311-cp311-linux_x86_64.whl!x"),
            finding(path="w/a-1.1-cp311-cp311-linux_x86_64.whl!x"),
        ),
        (
            finding(path="w/a-1.0-cp311-cp311-linux_x86_64.whl!x"),
            finding(path="w/a-2.0.1rc1-cp313-abi3-linux_x86_64.whl!x"),
        ),
        (finding(path="a_1.0-1_amd64.deb!x"), finding(path="a_1.0-2_amd64.deb!x")),
        (finding(path="a-1.0.tar.gz!x"), finding(path="a-1.2.tar.gz!x")),
        (finding(path="n.libs/libz-0a1b2c3d.so.1"), finding(path="n.libs/libz-99aabbcc.so.1")),
        (finding(message="names /tmp/tmpab/x.c"), finding(message="names /tmp/tmpcd/x.c")),
        (
            finding(version="GLIBC_2.34", message="needs it for a, b"),
            finding(version="GLIBC_2.34", message="needs it for a, b and 3 more"),
        ),
    ],
)
def test_what_changes_with_each_build_is_not_in_the_fingerprint(one, other):
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    "other",
    [
        finding(rule="arch"),
        finding(path="dist/y"),
        finding(message="names /home/you"),
        finding(version="GLIBC_2.35", library="libc.so.6"),
        finding(version="GLIBC_2.34", library="libm.so.6"),
    ],
)
def test_what_a_finding_is_about_is_in_the_fingerprint(other):
    assert fingerprint(other) != fingerprint(finding())


def test_a_fingerprint_does_not_depend_on_where_the_tree_lies():
    assert fingerprint(finding("/a/b/lib/x"), ["/a/b"]) == fingerprint(finding("/c/lib/x"), ["/c/"])
    assert fingerprint(finding("/a/x.whl!y"), ["/a/x.whl"]) == fingerprint(finding("x.whl!y"), ["x.whl"])


def test_a_baseline_knows_what_was_written_and_nothing_else(tmp_path):
    file = tmp_path / "baseline.json"
    write_baseline(file, FINDINGS[:2])
    assert read_baseline(file).new(FINDINGS) == FINDINGS[2:]
    before = file.read_bytes()
    write_baseline(file, FINDINGS[1::-1])
    assert file.read_bytes() == before
    write_baseline(file, ())
    assert read_baseline(file).new(FINDINGS) == FINDINGS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "findings": []}',
        '{"version": 1}',
        '{"version": 1, "findings": [1]}',
        '{"version": 1, "findings": [{"fingerprint": 3}]}',
        '{"version": 1, "findings": {"a": 1}}',
        "\xff",
        "[" * 100_000,
    ],
)
def test_a_damaged_baseline_is_refused_by_name(tmp_path, text):
    (tmp_path / "b").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"/b: "):
        read_baseline(tmp_path / "b")
    with pytest.raises(InputError, match="no-such"):
        read_baseline(tmp_path / "no-such")
