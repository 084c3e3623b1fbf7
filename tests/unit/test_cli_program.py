"""The command line as a program: exit statuses, streams, help, errors in words."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import belljar
from belljar import errors
from belljar.cli import entry, program
from belljar.cli.program import COMMANDS

SOURCE = str(Path(belljar.__file__).parents[1]) + os.pathsep + os.environ.get("PYTHONPATH", "/nowhere")


@pytest.fixture
def call(tmp_path):
    """Run belljar with a home of its own."""

    def run(*words, cwd=tmp_path, **more):
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        return subprocess.run(
            [sys.executable, "-m", "belljar", *map(str, words)],
            cwd=cwd,
            env=kept | {"PYTHONPATH": SOURCE, "BELLJAR_HOME": str(tmp_path / "h")} | more,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


def test_the_version_is_told_without_loading_anything(call):
    assert call("--version").stdout == f"belljar {belljar.__version__}\n"
    modules = "import sys; sys.argv = ['belljar', '--version']; from belljar.__main__ import main; main()"
    code = f"{modules}; print(sorted(name for name in sys.modules if 'click' in name or 'belljar.' in name))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[1] == "['belljar.__main__']"


def _all_commands():
    for name in COMMANDS:
        command = importlib.import_module(f"belljar.cli.{name}").command
        yield name, command
        if isinstance(command, click.Group):
            for inner, below in command.commands.items():
                yield f"{name} {inner}", below


@pytest.mark.parametrize(("path", "command"), [*_all_commands()], ids=lambda value: str(value)[:30])
def test_every_command_says_what_it_does_and_gives_examples(path, command):
    text = click.Context(command, info_name=path).get_help()
    assert command.help
    if not isinstance(command, click.Group):
        assert "Examples:\n" in text
        assert f"belljar {path}" in text
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.name}"


def test_help_lists_every_command_and_the_exit_statuses(call):
    text = call("--help").stdout
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "70 a bug of belljar" in text
    assert call().returncode in (0, 2)
    assert "Usage" in call().stdout + call().stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["biuld"], "No such command 'biuld'. Did you mean 'build'?"),
        (["zzz"], "No such command 'zzz'."),
        (["store", "lst"], "No such command 'lst'"),
        (["build", "--no-such"], "No such option"),
        (["build", "--jobs", "0"], "0 is not in the range"),
        (["build", "nowhere"], "'nowhere' does not exist"),
        (["install", "x"], "Missing option '--to'"),
        (["audit"], "Missing argument"),
        (["store", "list", "--format", "xml"], "'xml' is not one of"),
        (["completion", "csh"], "'csh' is not one of"),
    ],
)
def test_a_wrong_call_is_status_2_with_one_error_and_where_help_is(words, says, call):
    done = call(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "--help` shows what it takes" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["build", "."], 3),
        (["lock", "."], 3),
        (["fetch", "."], 3),
        (["store", "path", "nothing"], 3),
        (["install", "nothing", "--to", "x"], 3),
        (["uninstall", "."], 3),
        (["store", "verify", "nothing"], 3),
    ],
)
def test_bad_input_is_status_3_with_a_subject(words, status, call):
    done = call(*words)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("error: ")
    assert ": " in done.stderr.removeprefix("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["store", "list"], ["store", "path"], ["store", "verify"]])
def test_json_is_versioned_and_alone_on_stdout(words, call):
    done = call(*words, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1
    assert done.stderr == ""


def test_an_empty_store_says_so(call, tmp_path):
    assert call("store", "list").stdout == "the store is empty\n"
    assert call("store", "verify").stdout == "nothing to check\n"
    assert call("store", "path").stdout == f"{tmp_path}/h/store/qzgydlfqzvtvrjf\n"
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_its_shell_can_read(shell, call):
    done = call("completion", shell)
    assert done.returncode == 0
    assert "_BELLJAR_COMPLETE" in done.stdout
    assert "_belljar_completion" in done.stdout


def test_completion_completes_commands_and_options(call):
    def complete(words: str, count: int) -> str:
        return call(_BELLJAR_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(count)).stdout

    assert "plain,install" in complete("belljar ins", 1)
    assert "plain,--offline" in complete("belljar build --off", 2)
    assert "plain,verify" in complete("belljar store v", 2)


def test_a_reader_that_goes_away_does_no_harm(call, tmp_path):
    words = f"'{sys.executable}' -m belljar --help"
    for script in (f"{words} | head -1", f"{words} | true", f"{words} >&-"):
        done = subprocess.run(
            ["sh", "-c", script],
            env=os.environ | {"PYTHONPATH": SOURCE},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == "", script


def test_a_full_device_for_the_output_is_an_error_not_a_traceback(call):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "belljar", "store", "list"],
            env=os.environ | {"PYTHONPATH": SOURCE, "BELLJAR_HOME": "/nowhere"},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_removed_working_directory_is_an_error_not_a_traceback(tmp_path):
    script = f"mkdir gone; cd gone; rmdir ../gone; '{sys.executable}' -m belljar build"
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": SOURCE, "BELLJAR_HOME": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (2, 3, 4)
    assert "Traceback" not in done.stderr


KINDS = {
    errors.NegativeVerdict: 1,
    errors.UsageError: 2,
    errors.InputError: 3,
    errors.HostError: 4,
    errors.IntegrityError: 6,
    errors.RemoteError: 7,
    errors.BelljarError: 70,
}


def _raising(monkeypatch, error) -> int:
    def fail(**_options):
        raise error

    monkeypatch.setattr(program.program, "main", fail)
    return entry._run()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_has_its_status_its_message_and_its_hint(kind, monkeypatch, capsys):
    assert _raising(monkeypatch, kind("subject: what", hint="do this")) == KINDS[kind]
    assert capsys.readouterr().err.splitlines() == ["error: subject: what", "hint: do this"]


def test_every_kind_of_error_has_a_status_of_its_own_in_the_table():
    def below(kind):
        return {kind} | {item for sub in kind.__subclasses__() for item in below(sub)}

    known = {*KINDS, errors.BuildError}
    for kind in below(errors.BelljarError):
        assert (
            any(issubclass(kind, one) for one in known - {errors.BelljarError}) or kind is errors.BelljarError
        )


def test_a_failed_build_shows_the_log_without_what_could_move_a_terminal(monkeypatch, capsys):
    error = errors.BuildError("x: failed", log="/the/log", tail=("one", "\x1b[2Jtwo"), hint=None)
    assert _raising(monkeypatch, error) == 5
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: x: failed", "  | one", r"  | \x1b[2Jtwo", "  whole log: /the/log"]


def test_what_nobody_expected_is_our_bug_with_a_traceback_and_where_to_turn(monkeypatch, capsys):
    assert _raising(monkeypatch, ZeroDivisionError("oops")) == 70
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "ZeroDivisionError: oops" in text
    assert "this is a bug of belljar, not of what you gave it" in text
    assert belljar.__version__ in text


def test_an_interrupt_is_one_line_and_130(monkeypatch, capsys):
    assert _raising(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_colour_is_for_terminals_that_want_it(tmp_path):
    def seen(**more: str) -> bytes:
        """What a terminal gets: the program runs on a pseudo-terminal."""
        import pty

        child, master = pty.fork()
        if child == 0:
            os.environ.update(
                {"PYTHONPATH": SOURCE, "BELLJAR_HOME": str(tmp_path / "h"), "TERM": "xterm"} | more
            )
            os.execv(sys.executable, [sys.executable, "-m", "belljar", "store", "path", "nothing"])
        text = b""
        try:
            while chunk := os.read(master, 4096):
                text += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
        os.waitpid(child, 0)
        os.close(master)
        return text

    assert b"\x1b[" in seen()
    assert b"\x1b[" not in seen(NO_COLOR="1")
    assert b"no such entry" in seen(NO_COLOR="1")
