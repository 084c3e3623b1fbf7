"""Ties of whole trees, as findings that a policy can judge."""

import io
import os
import subprocess
import sys
import zipfile

import pytest

from belljar.audit import Severity
from belljar.audit.ties import Certainty, Scanner
from belljar.audit.ties.tree import Search, findings


def told(*paths, least=Certainty.LIKELY, fixed_paths=True, jobs=1, stdin=None, **options):
    search = Search(scanner=Scanner(**options), least=least, fixed_paths=fixed_paths)
    return list(findings(list(paths), search, jobs=jobs, stdin=stdin))


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/home/mara/venv/bin/python\n")
    (tmp_path / "bin/plain").write_text("#!/bin/sh\necho /tmp/x\n")
    (tmp_path / "x.pc").write_text("prefix=/opt/app\n")
    (tmp_path / "link").symlink_to("/home/mara/x")
    os.link(tmp_path / "x.pc", tmp_path / "y.pc")
    return tmp_path


def test_each_tie_is_one_finding_with_a_rule_and_a_remedy(tree):
    found = {(item.rule, item.path.removeprefix(f"{tree}/")) for item in told(tree)}
    assert found == {("home-path", "bin/tool"), ("home-path", "link"), ("fixed-path", "x.pc")}
    assert all(item.hint for item in told(tree))
    assert {item.severity for item in told(tree)} == {Severity.NOTE}


def test_what_is_only_possible_is_told_when_asked_for(tree):
    rules = [item.rule for item in told(tree, least=Certainty.POSSIBLE)]
    assert sorted(set(rules)) == ["fixed-path", "home-path", "temporary-path"]


def test_only_what_the_loader_reads_is_an_error_under_a_policy_without_fixed_paths(tree):
    errors = [item for item in told(tree, fixed_paths=False) if item.severity is Severity.ERROR]
    assert [item.path for item in errors] == [f"{tree}/bin/tool"]


def test_the_number_of_processes_changes_nothing(tree, monkeypatch):
    monkeypatch.setattr("belljar.audit.ties.tree._PAYS", 0)
    monkeypatch.setattr("belljar.audit.ties.tree._BATCH", 2)
    assert told(tree, jobs=3) == told(tree, jobs=1)


def test_members_of_archives_are_looked_into_from_standard_input_too(tree):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(tree / "bin/tool", "bin/tool")
    buffer.seek(0)
    [item] = told("-", stdin=buffer)
    assert (item.path, item.rule) == ("-!bin/tool", "home-path")


def test_the_python_that_runs_this_names_the_place_it_was_built_for():
    """Its settings name the prefix that it was configured with, whoever made it."""
    settings = subprocess.run(
        [sys.executable, "-c", "import sysconfig; print(sysconfig._get_sysconfigdata_name())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    module = __import__(settings)
    prefix = module.build_time_vars["prefix"]
    found = told(module.__file__, prefixes=[prefix])
    assert {item.rule for item in found} >= {"build-path"}
    assert any("Python's build settings" in item.message for item in found)


def test_unreadable_and_damaged_files_do_not_end_the_search(tree):
    (tree / "broken.zip").write_bytes(b"PK\x03\x04" + b"\xff" * 100)
    (tree / "broken").write_bytes(b"\x7fELF" + b"\xff" * 100 + b"\0/home/mara/x\0")
    assert {item.path.removeprefix(f"{tree}/") for item in told(tree)} >= {"broken", "bin/tool", "x.pc"}
