"""Scripts run after their interpreter has moved, however long or odd its new path is."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.plan import plan
from belljar.relocate.foreign.subject import Options
from belljar.relocate.moving import apply

OLD = "/opt/vendor/old-1.0"
PYTHON = r'''
"""The documentation."""
from __future__ import annotations
import sys
print(repr([sys.argv[1:], __doc__, sys.executable.rsplit("/", 1)[1], f"{1 + 1}"]))
'''
SHELL = """
printf '%s|' "$#" "$@" "${0##*/}" "${_bj-unset}"
sh -c 'printf %s "${_bj-unset}"'
"""


@pytest.fixture(params=["plain", "with a space", "long" * 60, "qu'ote", "long" * 30])
def place(request, tmp_path):
    """A directory in which a tree is to work."""
    path = tmp_path / request.param
    path.mkdir()
    return path


def moved(tree, name, content, **options):
    """Put a script into a tree that was made for OLD, move the tree, return the script's path."""
    script = tree / "bin" / name
    script.parent.mkdir(exist_ok=True)
    script.write_bytes(content)
    script.chmod(0o755)
    found = plan(tree, Moves.of([(OLD, str(tree))]), Options(**options))
    assert not found.refusals, found.describe()
    apply(found)
    return script


def with_python(tree):
    (tree / "bin").mkdir()
    (tree / "bin/python3").symlink_to(os.path.realpath(sys.executable))
    (tree / "pyvenv.cfg").write_text(f"home = {sysconfig.get_config_var('BINDIR')}\n")


def run(*argv, **more):
    return subprocess.run(argv, capture_output=True, text=True, check=True, **more)


@pytest.mark.parametrize(
    "first", ["#!{}/bin/python3", "#!{}/bin/python3 -I", "#! /usr/bin/env -S {}/bin/python3 -I -u"]
)
def test_a_python_script_runs_with_its_docstring_and_future_imports(place, first):
    with_python(place)
    script = moved(place, "x", (first.format(OLD) + PYTHON).encode())
    done = run(script, "a b", "", "c'd")
    assert done.stdout.strip() == repr([["a b", "", "c'd"], "The documentation.", "python3", "2"])
    assert not done.stderr


def test_the_negative_control_a_plain_replacement_does_not_run_from_a_place_with_a_space(tmp_path):
    place = tmp_path / "with a space"
    place.mkdir()
    with_python(place)
    script = place / "bin/x"
    script.write_text(f"#!{place}/bin/python3{PYTHON}")
    script.chmod(0o755)
    with pytest.raises(OSError):
        run(script)


@pytest.mark.parametrize("coding", ["latin-1", "utf-8"])
def test_a_declared_coding_counts_after_the_first_line_became_two(place, coding):
    with_python(place)
    text = f"#!{OLD}/bin/python3\n# -*- coding: {coding} -*-\nprint(ascii('\u00e9'))\n"
    script = moved(place, "x", text.encode(coding))
    assert run(script).stdout.strip() == ascii("\u00e9")


def test_a_shell_of_the_tree_runs_its_script_once(place):
    (place / "bin").mkdir()
    (place / "bin/sh").symlink_to(os.path.realpath("/bin/sh"))
    script = moved(place, "x", f"#!{OLD}/bin/sh -u{SHELL}".encode())
    assert run(script, "a b", "").stdout == "2|a b||x|unset|unset"


def test_a_script_without_an_end_of_line_is_kept_so(place):
    with_python(place)
    script = moved(place, "x", f"#!{OLD}/bin/python3\nprint(1)".encode())
    assert run(script).stdout == "1\n"
    assert not script.read_bytes().endswith(b"\n")


def test_relative_first_lines_work_wherever_the_tree_goes_next(place, tmp_path):
    with_python(place)
    script = moved(place, "x", (f"#!{OLD}/bin/python3" + PYTHON).encode(), relative=True)
    (tmp_path / "link").symlink_to(script)
    assert "The documentation." in run(tmp_path / "link", "a").stdout
    away = tmp_path / "somewhere else"
    shutil.move(place, away)
    assert "The documentation." in run(away / "bin/x", "a").stdout
    assert str(tmp_path).encode() not in (away / "bin/x").read_bytes()


def test_an_interpreter_without_a_sound_line_is_refused(tmp_path):
    tree = tmp_path / "with a space"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/x").write_text(f"#!{OLD}/bin/awk -f\nBEGIN {{ print 1 }}\n")
    (refusal,) = plan(tree, Moves.of([(OLD, str(tree))])).refusals
    assert "has a space" in refusal.reason
    assert "--alias" in refusal.reason


@pytest.mark.parametrize("length", [126, 127, 128, 254, 255, 256])
def test_a_first_line_runs_at_every_length_around_the_kernels_limits(tmp_path, length):
    fixed = len(f"#!{tmp_path}//bin/python3")
    tree = Path(f"{tmp_path}/{'x' * (length - fixed)}")
    tree.mkdir()
    with_python(tree)
    script = moved(tree, "x", f"#!{OLD}/bin/python3\nprint('ran')\n".encode())
    assert run(script).stdout == "ran\n"
    assert (script.read_bytes().startswith(b"#!/bin/sh\n")) == (length > 127)
