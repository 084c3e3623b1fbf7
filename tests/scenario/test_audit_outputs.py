"""What `belljar audit` prints and writes for other programs, from the command line."""

import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A program that needs a library of its own, and asks for it by a path of its builder."""
    place = tmp_path_factory.mktemp("audited") / "app"
    (place / "bin").mkdir(parents=True)
    (place / "x.c").write_text("int x(void) { return 0; }")
    (place / "m.c").write_text("int x(void); int main(void) { return x(); }")
    for words in (
        ["-shared", "-fPIC", "x.c", "-o", "libx.so"],
        ["m.c", "-L.", "-lx", "-Wl,-rpath,/home/mara/lib", "-Wl,--disable-new-dtags", "-o", "bin/m"],
    ):
        subprocess.run(["gcc", *words], cwd=place, check=True)
    (place / "x.c").unlink()
    (place / "m.c").unlink()
    return place


def belljar(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "belljar", "audit", "--no-isa", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_baseline_forgives_what_is_known_and_nothing_new(tree, tmp_path):
    gate = ("--policy", "portable", tree)
    assert belljar(*gate, cwd=tmp_path).returncode == 1
    made = belljar(*gate, "--write-baseline", "known.json", cwd=tmp_path)
    assert made.returncode == 1
    known = belljar(*gate, "--baseline", "known.json", cwd=tmp_path)
    assert (known.returncode, known.stderr.count("error:")) == (0, 0)
    (tmp_path / "known.json").write_text('{"version": 1, "findings": []}')
    assert belljar(*gate, "--baseline", "known.json", cwd=tmp_path).returncode == 1
    assert belljar(*gate, "--baseline", "no-such.json", cwd=tmp_path).returncode == 3


def test_one_run_prints_annotations_and_writes_sarif_a_picture_and_a_page(tree, tmp_path):
    done = belljar(
        "--policy", "portable", "--format", "github", "--sarif", "a.sarif", "--graph", "a.svg",
        "--html", "a.html", tree, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert any(line.startswith("::error file=") for line in done.stdout.splitlines())
    results = json.loads((tmp_path / "a.sarif").read_text())["runs"][0]["results"]
    assert {"interpreter", "search-path", "host-path", "tie", "glibc-floor"} & {
        item["ruleId"] for item in results
    }
    assert "libx.so" in (tmp_path / "a.svg").read_text()
    assert "/home/mara/lib" in (tmp_path / "a.html").read_text()


def test_dot_is_told_by_the_files_name(tree, tmp_path):
    belljar("--graph", "a.dot", tree, cwd=tmp_path)
    assert (tmp_path / "a.dot").read_text().startswith("digraph")


def test_gitlab_gets_json_alone(tree, tmp_path):
    done = belljar("--policy", "portable", "--format", "gitlab", tree, cwd=tmp_path)
    assert {item["location"]["path"] for item in json.loads(done.stdout)} >= {f"{tree}/bin/m"}


def test_locations_are_relative_to_where_it_runs(tree):
    done = belljar("--policy", "portable", "--format", "sarif", tree, cwd=tree.parent)
    results = json.loads(done.stdout)["runs"][0]["results"]
    uris = {item["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for item in results}
    assert "app/bin/m" in uris


def test_what_cannot_be_written_is_an_error_with_its_name(tree, tmp_path):
    done = belljar("--html", "/proc/x.html", tree, cwd=tmp_path)
    assert done.returncode == 4
    assert "/proc" in done.stderr
    assert "Traceback" not in done.stderr
