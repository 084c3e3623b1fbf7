"""Options as data: a command line means the same whether click reads it or not."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import belljar
from belljar.cli.options import read
from belljar.cli.run import command
from belljar.cli.runner import OPTIONS

NAMES = sorted({name for option in OPTIONS for name in (*option.names, option.off) if name})
WORDS = st.one_of(
    st.sampled_from([*NAMES, "--", "-", "-qh", "-h", "--qu", "--unknown", "/", ".", "/nowhere", "make", ""]),
    st.builds("{}={}".format, st.sampled_from(NAMES), st.sampled_from(["/", "/nowhere", "", "x"])),
    st.text(max_size=3),
)


def by_click(words):
    """Return what click makes of the words; None where it complains, or prints and stops."""
    try:
        values = dict(command.make_context("run", [*words]).params)
    except (click.ClickException, click.exceptions.Exit):
        return None
    rest = values.pop("command_words")
    return values, rest


@given(st.lists(WORDS, max_size=6))
def test_what_is_read_is_what_click_reads(words):
    ours = read(OPTIONS, words)
    if ours is not None:
        assert ours == by_click(words)


@pytest.mark.parametrize(
    "words",
    [
        ["--", "make"],
        ["make", "-j2", "--quiet"],
        ["-q", "--report", "x.json", "--", "make", "--", "-k"],
        ["--allow-env", "A", "--allow-env=B", "--ro", "/usr", "--", "cc", "-c"],
        ["--unlocked", "--clock", "--trace", "--project", "/", "--system=/", "true"],
        ["--report", "-", "--profile", "make", "--tools", "/opt", "-", "x"],
        [],
    ],
)
def test_usual_command_lines_are_read_without_click(words):
    assert read(OPTIONS, words) == by_click(words) is not None


@pytest.mark.parametrize(
    "words",
    [
        *(["--help"], ["-h"], ["--nope"], ["--quiet=1"], ["-q=1"], ["-qh"], ["--report"], ["--locked=x"]),
        *(["--project", "/nowhere", "true"], ["--report", "/", "true"], ["--project", "/etc/passwd", "true"]),
    ],
)
def test_what_is_wrong_is_left_to_click(words):
    assert read(OPTIONS, words) is None
    assert by_click(words) is None


def test_a_run_loads_no_click(tmp_path):
    code = (
        "import sys; sys.argv = ['belljar', 'run', '--dry-run', '--', 'true'];"
        "from belljar.cli.entry import _run; _run();"
        "print(sorted({'click', 'dataclasses', 'inspect', 'json', 'hashlib', 'tomllib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(belljar.__file__).parents[1])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
