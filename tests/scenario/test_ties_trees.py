"""Ties of whole trees, as findings that a policy judges."""

import io
import os
import subprocess
import sys
import zipfile

import pytest

from belljar.audit import Policy, Severity, audit
from belljar.audit.run import waived
from belljar.audit.ties import Certainty


def told(*paths, stdin=None, jobs=None, **policy):
    report = audit(list(paths), policy=Policy(**policy), ties=True, jobs=jobs, stdin=stdin)
    return [item for item in report.findings if item.rule == "tie"]


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/home/mara/venv/bin/python\n")
    (tmp_path / "bin/app").write_text("#!/opt/app/bin/python\n")
    (tmp_path / "bin/plain").write_text("#!/bin/sh\necho /tmp/x\n")
    (tmp_path / "x.pc").write_text("prefix=/opt/app\n")
    (tmp_path / "link").symlink_to("/home/mara/x")
    os.link(tmp_path / "x.pc", tmp_path / "y.pc")
    return tmp_path


def test_each_tie_is_one_finding_with_a_remedy(tree):
    found = {item.path.removeprefix(f"{tree}/"): item.message for item in told(tree)}
    assert set(found) == {"bin/app", "bin/tool", "link", "x.pc"}
    assert found["bin/tool"] == "names a home directory in #! line (1x): /home/mara/venv/bin/python"
    assert all(item.hint for item in told(tree))
    assert {item.severity for item in told(tree)} == {Severity.NOTE}


def test_what_is_only_possible_is_in_the_report_and_no_finding(tree):
    report = audit([tree], ties=True)
    possible = [tie for tie in report.ties if tie.certainty is Certainty.POSSIBLE]
    assert [tie.path for tie in possible] == [f"{tree}/bin/plain"]
    assert not [item for item in report.findings if item.path.endswith("plain")]


def test_ties_are_errors_under_a_policy_without_host_paths(tree):
    errors = [item for item in told(tree, host_paths=False) if item.severity is Severity.ERROR]
    assert {item.path.removeprefix(f"{tree}/") for item in errors} == {"bin/app", "bin/tool", "link", "x.pc"}


def test_the_number_of_processes_changes_nothing(tree, monkeypatch):
    monkeypatch.setattr("belljar.audit.run._PAYS", 0)
    assert told(tree, jobs=3) == told(tree, jobs=1)


def test_members_of_archives_are_looked_into_from_standard_input_too(tree):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(tree / "bin/tool", "bin/tool")
    buffer.seek(0)
    assert [item.path for item in told("-", stdin=buffer)] == ["-!bin/tool"]


def test_an_exception_with_a_reason_covers_ties(tree):
    from datetime import date

    from belljar.audit.policy import Waiver

    waiver = Waiver(rule="tie", path="bin/tool", reason="made anew when it is installed")
    policy = Policy(host_paths=False, waivers=(waiver,))
    found = waived(told(tree, host_paths=False), policy, date(2030, 1, 1))
    assert [item.path for item in found if item.waived] == [f"{tree}/bin/tool"]


def test_the_python_that_runs_this_names_the_place_it_was_built_for():
    """Its settings name the prefix that it was configured with, whoever made it."""
    code = (
        "import sysconfig as s, importlib as i; m = i.import_module(s._get_sysconfigdata_name());"
        "print(m.__file__); print(m.build_time_vars['prefix'])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    file, prefix = out.splitlines()
    report = audit([file], policy=Policy(build_paths=(prefix,)), ties=True)
    assert {str(tie.where) for tie in report.ties} == {"Python's build settings"}
    assert any(tie.root == prefix for tie in report.ties)


def test_unreadable_and_damaged_files_do_not_end_the_search(tree):
    (tree / "broken.zip").write_bytes(b"PK\x03\x04" + b"\xff" * 100)
    (tree / "broken").write_bytes(b"\x7fELF" + b"\xff" * 100)
    assert {item.path.removeprefix(f"{tree}/") for item in told(tree)} >= {"bin/tool", "x.pc"}
