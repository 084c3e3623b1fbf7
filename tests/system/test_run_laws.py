"""What `belljar run` promises about a command: its status, its streams, its surroundings, its report."""

import fcntl
import hashlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from test_run_support import NOBODY, ROOT, Place, belljar, hermetic, system

import belljar as package
from belljar import api


@pytest.fixture
def place(tmp_path):
    made = Place(top=tmp_path / "top")
    made.home.mkdir(parents=True)
    made.project.mkdir(parents=True)
    return made


def shell(place, script, *options, profile="none"):
    return hermetic(place, "-q", *options, "--", "sh", "-c", script, profile=profile)


@pytest.mark.parametrize(
    ("script", "status"), [("true", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("exit 125", 125)]
)
def test_the_exit_status_is_the_commands(place, script, status):
    assert shell(place, script).returncode == status


def test_what_belljar_cannot_do_has_its_own_status_and_words(place):
    absent = hermetic(place, "--", "no-such-program")
    assert (absent.returncode, "not found" in absent.stderr) == (3, True)
    assert hermetic(place, "--").returncode == 2
    assert hermetic(place, "--project", str(place.home), "--", "true").returncode == 2
    assert hermetic(place, "--ro", "/nonexistent", "--", "true").returncode == 2
    (place.project / "Cargo.toml").touch()
    assert hermetic(place, "--", "cargo", "build", profile="cargo").returncode == 3


def test_root_is_told_why_it_may_not_write_to_anothers_project(place):
    if ROOT:
        os.chown(place.project, NOBODY, NOBODY)
    done = hermetic(place, "--", "touch", "made")
    assert (done.returncode, f"belongs to user {NOBODY}" in done.stderr) == (
        (1, True) if ROOT else (0, False)
    )


@pytest.mark.parametrize("option", ["--ro", "--rw", "--tools"])
def test_a_variable_that_is_not_set_lets_nothing_in(place, option):
    done = hermetic(place, option, "", "--", "true")
    assert (done.returncode, "empty" in done.stderr) == (2, True)


def test_what_cannot_be_started_is_told_with_what_it_needs(place):
    place.write("tools/bin/inner", "", mode=0o755)
    inner = place.project / "tools/bin/inner"
    place.write("needs", f"#!{inner}\n", mode=0o755)
    assert f"it needs {inner}" in (told := hermetic(place, "--", "./needs").stderr)
    assert f"--ro {place.project}/tools\n" in told
    place.write("none", "#!/no/such\n", mode=0o755)
    assert "it needs /no/such, which this machine has not" in hermetic(place, "--", "./none").stderr
    place.write("text", "echo\n", mode=0o755)
    assert "#!/bin/sh" in hermetic(place, "--", "./text").stderr
    assert "not a directory" in hermetic(place, "--tools", str(inner), "--", "true").stderr
    assert hermetic(place, "--", "").returncode == 2


def test_streams_are_carried_whole_and_in_order(place):
    done = shell(place, "seq 1 100000; echo words >&2; cat")
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 100001))
    assert done.stderr == "words\n"


def started(place, script, *before, **streams):
    """Start `belljar run -- sh -c script` with chosen streams, by what stands `before` it."""
    words = [*before, sys.executable, "-m", "belljar", "run", "-q", "--system", str(system())]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([*words, "--", "sh", "-c", script], cwd=place.project, env=env, **streams)


def test_one_stream_for_both_keeps_the_order(place):
    log = place.top / "log"
    with log.open("wb") as file:
        script = "for n in 1 2 3; do echo $n; echo -$n >&2; done"
        assert started(place, script, stdout=file, stderr=file).wait() == 0
    assert log.read_text().split() == ["1", "-1", "2", "-2", "3", "-3"]


def test_what_cannot_be_written_is_not_lost_in_silence(place):
    with open("/dev/full", "wb") as full:
        child = started(place, "echo words", stdout=full, stderr=subprocess.PIPE)
        assert b"No space left" in child.communicate()[1]
    assert child.returncode == 4


def test_a_reader_that_goes_away_ends_what_writes_to_it_and_nothing_else(place):
    script = "(while :; do echo words; done); echo ended by $? >&2"
    child = started(place, script, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.readline() == b"words\n"
    child.stdout.close()
    assert (child.stderr.read(), child.wait()) == (b"ended by 141\n", 0)
    child.stderr.close()


def test_a_stream_that_does_not_wait_or_is_closed_loses_nothing_that_can_be_kept(place):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    child = started(place, "seq 1 100000", stdout=writer)
    os.close(writer)
    time.sleep(1)
    with open(reader, "rb") as file:
        assert file.read() == b"".join(b"%d\n" % n for n in range(1, 100001))
    assert child.wait() == 0
    closed = ["sh", "-c", 'exec "$@" >&-', "sh"]
    child = started(place, "echo lost; echo kept >&2", *closed, stderr=subprocess.PIPE)
    assert (child.communicate()[1], child.returncode) == (b"kept\n", 0)


PROBE = """
umask; id -un; id -u; id -g; uname -n; uname -m; pwd; date +%Z; tty; ls /proc/self/fd | tr '\\n' ' '
echo "$HOME $LANG $TERM $USER $PATH"; bash -c 'ulimit -n; ulimit -c; ulimit -s'
grep -E 'SigIgn|SigBlk|CapEff|NoNewPrivs' /proc/self/status
cat /proc/self/personality 2> /dev/null; ls /home /etc /tmp /sys; wc -c < /dev/stdin; env | wc -l
"""


def test_the_surroundings_are_the_same_whatever_the_callers_are(place):
    usual = shell(place, PROBE)
    assert "0022\nbuild\n1000\n100\nlocalhost\n" in usual.stdout
    other = Place(top=place.top / "other", name="elsewhere", umask=0o077)
    other.home.mkdir(parents=True)
    other.project.mkdir(parents=True)
    other.env = {
        "TZ": "XYZ-3",
        "LC_ALL": "xx",
        "HOSTNAME": "planted",
        "TERM": "xterm",
        "BASH_ENV": "@TOP@/x",
        "ENV": "x",
    }
    handle = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    limits_stack = resource.getrlimit(resource.RLIMIT_STACK)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (4096, limits[1]) if limits[1] != 0 else limits)
        resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, limits_stack[1]))
        varied = shell(other, PROBE)
    finally:
        signal.signal(signal.SIGTTOU, handle)
        resource.setrlimit(resource.RLIMIT_CORE, limits)
        resource.setrlimit(resource.RLIMIT_STACK, limits_stack)
    assert varied.stdout == usual.stdout


def test_the_network_is_off_unless_it_is_asked_for(place):
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}'"
        assert shell(place, script, "--net").returncode == 0
        assert shell(place, script).returncode != 0


def test_the_report_says_what_was_executed_and_let_in(place):
    place.write("tool", "#!/bin/sh\nexit 3\n", mode=0o755)
    place.env["CFLAGS"] = "-O3"
    report = place.top / "report.json"
    done = hermetic(
        place, "--allow-env", "CFLAGS", "--report", str(report), "--ro", str(place.home), "--", "./tool"
    )
    said = json.loads(report.read_text())
    assert (done.returncode, said["status"], said["version"], said["kind"]) == (3, 3, 1, "run")
    tool = said["tools"][0]
    assert tool["path"] == "/build/tool"
    assert tool["sha256"] == hashlib.sha256((place.project / "tool").read_bytes()).hexdigest()
    shell_, loader = tool["interpreters"]
    assert shell_["sha256"] == hashlib.sha256((system() / "usr/bin/dash").read_bytes()).hexdigest()
    assert "ld-linux" in loader["name"]
    assert said["allowed"] == [{"name": "CFLAGS", "set": True, "value": "-O3"}]
    assert {"source": str(place.home), "target": str(place.home), "writable": False} in said["inputs"]
    assert any(line.startswith("network") for line in said["enforced"])
    assert any("clock" in line for line in said["not_enforced"])
    assert "let in: CFLAGS" in done.stderr


def test_a_report_never_says_that_the_network_was_off_when_it_was_on(place):
    report = place.top / "report.json"
    assert shell(place, "true", "--net", "--report", str(report)).returncode == 0
    said = json.loads(report.read_text())
    assert not any(line.startswith("network") for line in said["enforced"])
    assert any(line.startswith("network") for line in said["not_enforced"])


def test_compilers_can_be_forbidden(place):
    place.write("a.c", "int main(void) { return 0; }\n")
    assert shell(place, "gcc a.c").returncode == 0
    assert shell(place, "gcc a.c", "--no-cc").returncode != 0
    assert shell(place, "/usr/bin/g++ a.c || cc a.c || x86_64-linux-gnu-gcc a.c", "--no-cc").returncode != 0


def test_sources_cannot_be_written_where_the_profile_names_outputs(place):
    place.write("CMakeLists.txt", "")
    assert shell(place, "echo x > planted", profile="none").returncode == 0
    assert shell(place, "echo x > planted", profile="cmake").returncode != 0
    assert shell(place, "echo x > build/made", profile="cmake").returncode == 0
    assert (place.project / "build/made").exists()


def test_a_dry_run_runs_nothing(place):
    done = hermetic(place, "--dry-run", "--", "bash", "-c", "touch made")
    assert done.returncode == 0
    assert "bind-rw" in done.stdout
    assert not (place.project / "made").exists()


def test_an_interrupt_ends_everything(place):
    words = [sys.executable, "-m", "belljar", "run", "--system", str(system()), "--", "sh", "-c"]
    script = "date > beat; echo on; while :; do date > beat; sleep 0.05; done"
    child = subprocess.Popen(
        [*words, script],
        cwd=place.project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"on\n"
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=20)
    assert child.returncode == 130, said
    before = (place.project / "beat").stat().st_mtime_ns
    time.sleep(0.3)
    assert (place.project / "beat").stat().st_mtime_ns == before


def test_inside_another_run_it_says_so(place):
    paths = [str(Path(item.__file__ or "").parents[1]) for item in (package, click)]
    start = f"import sys; sys.path[:0] = {paths!r}; from belljar.cli.entry import main; main()"
    shown = [word for path in paths for word in ("--ro", path)]
    done = hermetic(place, *shown, "--", "python3", "-c", start, "run", "--", "true")
    assert done.returncode == 4, done.stderr
    assert "already inside a sandbox of belljar" in done.stderr


def test_the_same_project_gives_the_same_bytes_at_two_paths(place, tmp_path):
    def digest(name: str) -> str:
        here = Place(top=tmp_path / name, name=name)
        here.home.mkdir(parents=True)
        here.write("a.c", 'char const *f = __FILE__;\nint main(void) { return *f == "x"[0]; }\n')
        here.write("Makefile", "a: a.c\n\tgcc -g $(CURDIR)/a.c -o a\n")
        done = hermetic(here, "--", "make", profile="make")
        assert done.returncode == 0, done.stderr
        return hashlib.sha256((here.project / "a").read_bytes()).hexdigest()

    assert digest("one") == digest("another")


def test_a_trace_names_what_was_reached_for_used_and_started(place):
    place.write("a.c", "int main(void) { return 0; }\n")
    (place.top / "unused").mkdir()
    report = place.top / "report.json"
    options = ["--trace", "--report", str(report), "--ro", str(place.top / "unused")]
    done = hermetic(place, *options, "--", "sh", "-c", "gcc a.c; git config user.name; exit 0")
    said = json.loads(report.read_text())
    assert done.returncode == 0, done.stderr
    assert any(path.endswith("/cc1") for path in said["trace"]["executed"])
    assert any(tool["path"].endswith("/cc1") for tool in said["tools"])
    assert {"/home/build/.gitconfig", "/etc/gitconfig"} <= set(said["trace"]["missed"])
    assert "~/.gitconfig (absent)" in done.stderr
    assert said["trace"]["unused"] == [str(place.top / "unused")]
    assert {"path": "/build/a.c", "how": "read", "found": True, "kind": "project"} in said["trace"]["paths"]


def test_with_a_fixed_clock_no_file_is_from_the_future(place):
    place.write("Makefile", "out: in\n\tcp in out\n")
    place.write("in", "")
    done = hermetic(place, "--clock", "--", "sh", "-c", "make && tar xf $(tar cf a.tar in && echo a.tar)")
    assert done.returncode == 0, done.stderr
    assert "skew" not in done.stderr
    assert "future" not in done.stderr


def test_the_clock_and_what_the_machine_is_are_fixed_where_it_is_asked_for(place):
    script = "date +%s | cut -c1-8; nproc; uname -r; od -An -tx8 -N8 /dev/urandom"
    assert shell(place, script).stdout != shell(place, script).stdout
    fixed = shell(place, script, "--clock").stdout
    assert fixed.startswith("21143808\n")
    assert shell(place, script, "--clock").stdout == fixed


def test_calls_that_nothing_needs_do_not_exist(place):
    script = "import ctypes; print(ctypes.CDLL(None, use_errno=True).syscall(425, 1, 0), ctypes.get_errno())"
    done = hermetic(place, "-q", "--", "python3", "-c", script)
    assert done.stdout == "-1 38\n", done.stderr


DEEP = """
import os
here = os.open(".", os.O_RDONLY)
for _ in range(2000):
    os.mkdir("d", dir_fd=here)
    here, old = os.open("d", os.O_RDONLY, dir_fd=here), here
    os.close(old)
os.mkdir("shut", dir_fd=here)
os.mkdir("shut/inner", dir_fd=here)
file = os.open("shut/armed", os.O_CREAT, 0o755, dir_fd=here)
os.fchmod(file, 0o4755)
os.chmod("shut/inner", 0o400, dir_fd=here)
os.chmod("shut", 0, dir_fd=here)
"""


def test_a_program_that_would_run_as_the_caller_is_disarmed_however_deep_it_lies(place):
    place.write("deep.py", DEEP)
    report = place.top / "report.json"
    try:
        subprocess.run([sys.executable, "deep.py"], cwd=place.project, check=True)
        done = hermetic(place, "--report", str(report), "--", "true")
        assert done.returncode == 0, done.stderr
        assert json.loads(report.read_text())["disarmed"] == ["d/" * 2000 + "shut/armed"]
        hermetic(place, "--report", str(report), "--", "true")
        assert json.loads(report.read_text())["disarmed"] == []
    finally:  # neither pytest nor shutil can remove it
        subprocess.run(["chmod", "-R", "700", place.project], check=True)
        subprocess.run(["rm", "-r", place.project], check=True)


def test_a_report_is_written_where_it_was_to_be_whatever_the_command_does_to_the_place(place):
    (place.project / "made").mkdir()
    script = f"rmdir made; ln -s {place.home} made"
    done = hermetic(place, "--report", str(place.project / "made/x.json"), "--", "sh", "-c", script)
    assert (done.returncode, list(place.home.iterdir())) == (3, [])
    assert "made" in done.stderr


@pytest.mark.parametrize("name", ["pipe", "/dev/fd/@"])
def test_a_report_goes_into_a_pipe_that_is_there_and_does_not_take_its_place(place, name):
    pipe = place.top / "pipe"
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDWR), "rb", buffering=0) as end:
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 1 << 20)
        path = str(pipe) if name == "pipe" else name.replace("@", str(end.fileno()))
        words = ["run", "--system", str(system()), "--report", path, "--", "true"]
        done = belljar(*words, cwd=place.project, env=place.environment(), fds=(end.fileno(),))
        assert (done.returncode, pipe.is_fifo()) == (0, True), done.stderr
        assert json.loads(end.read(1 << 20))["status"] == 0


def test_a_report_can_go_to_standard_output_and_the_commands_words_then_do_not(place):
    done = hermetic(place, "--report", "-", "--", "sh", "-c", "echo words")
    assert json.loads(done.stdout)["status"] == 0
    assert "words" in done.stderr


def test_the_report_names_what_is_outside_as_the_caller_would_and_what_was_not_used(place):
    place.write("~/.gitconfig", "[user]\nname = planted\n")
    place.write("../.planted", "x")
    report = place.top / "report.json"
    script = "git config user.name; cat ../.planted ../.absent /usr/local/absent; exit 0"
    options = ["--report", str(report), "--ro", str(place.home)]
    done = hermetic(place, *options, "--", "sh", "-c", script)
    said = {item["path"]: item["state"] for item in json.loads(report.read_text())["trace"]["outside"]}
    assert said["../.planted"] == "hidden"
    assert said["../.absent"] == said["/usr/local/absent"] == "absent"
    assert "../.planted (hidden)" in done.stderr
    assert f"declared and never used: {place.home}" in done.stderr


def test_every_tool_that_is_started_is_identified_with_what_the_kernel_opens_for_it(place):
    place.write("script", "#!/usr/bin/env sh\nls\n", mode=0o755)
    report = place.top / "report.json"
    hermetic(place, "--report", str(report), "--", "make", "-f", "/dev/null", "--eval=all:; ./script")
    tools = {tool["path"]: tool for tool in json.loads(report.read_text())["tools"]}
    assert tools["/usr/bin/ls"]["version"].startswith("ls (GNU coreutils)")
    assert tools["/build/script"]["interpreters"][0]["path"] == "/usr/bin/env"
    loader = next(tool for path, tool in tools.items() if "ld-linux" in path)
    assert (loader["role"], "GLIBC" in loader["version"]) == ("interpreter", True)
    assert all(len(tool["sha256"]) == 64 for tool in tools.values())


def test_the_machine_is_not_told_apart(place):
    script = (
        "cat /proc/cpuinfo /proc/meminfo /proc/version /proc/uptime /proc/loadavg /proc/cmdline; uname -r"
    )
    done = shell(place, script)
    assert "belljar x86-64" in done.stdout or os.uname().machine != "x86_64"
    assert os.uname().release not in done.stdout
    assert shell(place, script).stdout == done.stdout
    names = [f"n{n}" for n in range(40)]
    listed = shell(place, f"touch {' '.join(reversed(names))}; ls -U")
    assert listed.stdout.split() == sorted(names)


def test_tar_writes_one_time(place):
    script = "echo x > a; tar cf a.tar a; cat a.tar"
    assert shell(place, script).stdout == shell(place, script).stdout


def test_a_program_can_run_a_command_as_the_command_line_does(place):
    place.write("../.planted", "x")
    request = api.RunRequest(
        command=("sh", "-c", "cat ../.planted; touch made; exit 3"),
        project=place.project,
        system=system(),
        env={"HOME": str(place.home)},
        opened=True,
    )
    with (place.top / "said").open("wb") as said:
        record = api.run(request, stdout=said.fileno(), stderr=said.fileno())
    assert (record.status, record.step, record.plan.profile.name) == (3, "build", "none")
    assert (place.project / "made").exists()
    assert b"No such file" in (place.top / "said").read_bytes()
    assert "/usr/bin/dash" in {tool.path for tool in record.tools}
    with pytest.raises(api.UsageError):
        api.plan_run(api.RunRequest(command=(), project=place.project))


def test_asking_a_tool_for_its_version_starts_nothing_of_the_project(place):
    place.write("pyproject.toml", '[project]\nname = "p"\nversion = "1"\n')
    for name in ("pip.py", "sitecustomize.py", "python3"):
        place.write(name, "print('spoofed')\n", mode=0o755)
    report = place.top / "report.json"
    done = hermetic(place, "--report", str(report), "--", "true", profile="pip")
    assert done.returncode == 0, done.stderr
    assert "python3" in report.read_text()
    assert "spoofed" not in report.read_text()
