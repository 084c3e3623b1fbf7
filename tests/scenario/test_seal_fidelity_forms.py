"""What each form of sealing keeps of a program, measured: the table of docs/sealing.md, column by column.

Every property is looked at in the same way on the program unsealed and sealed in each form; what is said of
the embedded form alone is in test_seal_fidelity.py, with the probe.
"""

import os
import re
import shutil
import signal
import subprocess

import compilers
import pytest
from test_seal_fidelity import NO_MDWE, PROBE, UNDER_MDWE

from belljar.sandbox import Bind, Devices, Sandbox
from belljar.sandbox import run as run_in
from belljar.sandbox.diagnosis import SandboxError
from belljar.seal import doing
from belljar.seal.launcher import Form
from belljar.seal.plan import Options, plan
from belljar.seal.record import PRIVATE

FORMS = ("unsealed", "embedded", "static", "sh")
ALL, NOT_SH, EMBEDDED = {"embedded", "static", "sh"}, {"embedded", "static"}, {"embedded"}
KEPT = {
    "argv": ALL,
    "program_invocation_name": ALL,
    "RLIMIT_STACK": ALL,
    "children's environment": ALL,
    "its own environment": NOT_SH,
    "through a link": ALL,
    "by PATH": NOT_SH,
    "a signal that ends it": ALL,
    "address randomisation": ALL,
    "under MDWE": ALL,
    "maps of files": ALL,
    "ldd": NOT_SH,
    "without /proc and host": NOT_SH,
    "/proc/self/exe": EMBEDDED,
    "re-execution": EMBEDDED,
    "comm": EMBEDDED,
    "cmdline": EMBEDDED,
    "AT_EXECFN": EMBEDDED,
    "AT_BASE": EMBEDDED,
    "gdb: break main": EMBEDDED,
    "gdb: backtrace": EMBEDDED,
    "core: backtrace": EMBEDDED,
}
"""In which forms a property is as unsealed."""


@pytest.fixture(scope="module")
def top(zig_cc, tmp_path_factory):
    """The probe at TOP/FORM/bin/probe."""
    program = zig_cc(PROBE, "-g", "-O0", "-fno-sanitize=all", "-fPIE", "-pie")
    place = tmp_path_factory.mktemp("forms")
    for name in FORMS:
        (place / name / "bin").mkdir(parents=True)
        shutil.copy(program, place / name / "bin/probe")
        if name != "unsealed":
            doing.seal(plan(place / name, Options(form=Form(name))))
    return place


def ran(*command, env=None, **options):
    """Status and output of a command."""
    env = {"PATH": "/usr/bin:/bin", "A": "1", "LD_PRELOAD": "", **(env or {})}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, **options)
    return done.returncode, done.stdout


def facts(tree, *words, program=None, **options):
    """What the probe tells of itself, by name, with the tree's path taken out."""
    _, told = ran(program or tree / "bin/probe", *words, **options)
    found = {}
    for line in told.replace(str(tree), "TREE").splitlines():
        name = re.match(r"comm|cmdline|[a-z]+", line)
        if name:
            found.setdefault(name[0], []).append(line[len(name[0]) :].strip())
    return found


def measured(tree, place, helper):
    """The properties of one tree's probe, without those that a debugger tells."""
    own = facts(tree, "a b", "")
    shell = facts(tree, "-c", f"ulimit -s 1234; exec '{tree}/bin/probe'", program="/bin/sh")
    link = place / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(tree / "bin/probe")
    _, child = ran(tree / "bin/probe", "child")
    variables = [line for line in child.splitlines() if not line.startswith(("BJLPATH=", "BJCNV_PATH="))]
    places = {ran(tree / "bin/probe", "places")[1] for _ in range(9)}
    code = _executable_maps(tree)
    _, libraries = ran(tree / "bin/probe", env={"LD_TRACE_LOADED_OBJECTS": "1"})
    paths = re.findall(r"(/\S*) \(0x", libraries)
    outside = [path for path in paths if not os.path.normpath(path).startswith(f"{tree}/{PRIVATE}/")]
    return {
        "argv": [value for name, value in own.items() if name == "argv"],
        "program_invocation_name": own["name"],
        "RLIMIT_STACK": shell["stack"],
        "children's environment": sorted(variables),
        "its own environment": sorted(own["env"]),
        "through a link": (_status(link, "a"), facts(tree, "a", program=link).get("stack")),
        "by PATH": facts(tree, f"PATH={tree}/bin", "probe", program="/usr/bin/env").get("argv"),
        "a signal that ends it": _status(tree / "bin/probe", "crash"),
        "address randomisation": len(places) > 1,
        "under MDWE": ran(helper, tree / "bin/probe", "gain")[0] in (0, NO_MDWE),
        "maps of files": bool(code) and all(os.path.exists(path) for path in code),
        "ldd": len(paths) > 1 and (tree.name == "unsealed" or not outside),
        "without /proc and host": tree.name == "unsealed" or _runs_alone(tree),
        "/proc/self/exe": own["exe"],
        "re-execution": facts(tree, "again", "x").get("argv"),
        "comm": own["comm"],
        "cmdline": own["cmdline"],
        "AT_EXECFN": own["execfn"],
        "AT_BASE": own["base"],
    }


def _status(*command):
    return ran(*command)[0]


def _executable_maps(tree):
    _, told = ran(tree / "bin/probe", "maps")
    lines = [line.removeprefix("maps").split(maxsplit=5) for line in told.splitlines()]
    return [line[5] for line in lines if len(line) == 6 and "x" in line[1] and line[5][0] != "["]


def _runs_alone(tree):
    box = Sandbox(operations=(Devices(), Bind(source=str(tree), target="/opt/a b")), env={"A": "1"}, cwd="/")
    try:
        return run_in(box, ["/opt/a b/bin/probe"], timeout=60).status == 0
    except SandboxError:  # nothing there executes it
        return False


GDB = r"""
set confirm off
set pagination off
set debuginfod enabled off
set startup-with-shell off
file /w/FORM/bin/probe
break main
run crash
break inner
continue
backtrace
continue
generate-core-file /w/core.FORM
kill
"""
CORE = r"""
set debuginfod enabled off
file /w/FORM/bin/probe
core-file /w/core.FORM
backtrace
"""


def debugged(top, work):
    """What a debugger can do with each form's `bin/probe`: by form, by property."""
    for name in FORMS:
        shutil.copytree(top / name, work / name, symlinks=True)
        (work / f"{name}.gdb").write_text(GDB.replace("FORM", name))
        (work / f"{name}.core").write_text(CORE.replace("FORM", name))
    gdb = "gdb -nx -batch -x"
    runs = f"{gdb} /w/$n.gdb > /w/$n.log 2>&1 || :; {gdb} /w/$n.core > /w/$n.told 2>&1 || :"
    compilers.shell("gdb", f"for n in {' '.join(FORMS)}; do {runs}; done", work)
    found = {}
    for name in FORMS:
        log, told = (work / f"{name}.log").read_text(), (work / f"{name}.told").read_text()
        found[name] = {
            "gdb: break main": "Breakpoint 1, main (argc=2, " in log,
            "gdb: backtrace": bool(re.search(r"#0 .*inner \(value=40\).*\n#1 .* main \(argc=2", log)),
            "core: backtrace": bool(re.search(r"inner|main \(argc=2", told)),
        }
    return found


def test_each_form_keeps_what_is_said_of_it_and_nothing_more(top, zig_cc, tmp_path):
    helper = zig_cc(UNDER_MDWE, "-static", target="x86_64-linux-musl")
    (tmp_path / "gdb").mkdir()
    shown = debugged(top, tmp_path / "gdb")
    every = {name: measured(top / name, tmp_path, helper) | shown[name] for name in FORMS}
    plain = every["unsealed"]
    assert plain["a signal that ends it"] == -signal.SIGABRT
    assert all(plain.values()), "a property that is not there cannot be kept"
    kept = {row: {name for name in FORMS[1:] if every[name][row] == value} for row, value in plain.items()}
    assert kept == KEPT
