"""Sealed prefixes under audit: told as such, proven by closure and by a traced run; all else is refused."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_audit_json import SCHEMA, problems

from belljar.audit import Kind, Severity, audit, policies
from belljar.audit.seals import Form
from belljar.audit.traced import findings_of, traced
from belljar.elf.names import SetRunpath
from belljar.errors import HostError, UsageError
from belljar.report.audit_text import render
from belljar.report.graph import graph_of, to_dot
from belljar.report.html import to_html
from belljar.seal import doing
from belljar.seal.launcher import Form as Launched
from belljar.seal.plan import Options, plan
from belljar.seal.survey import PRIVATE

LIBRARY = "int answer(void) { return 42; }"
ASK = r"""
#include <stdio.h>
int answer(void);
int main(void) { printf("%d\n", answer()); return 0; }
"""
OPEN = r"""
#include <dlfcn.h>
int main(int count, char **words) { return !dlopen(words[1], RTLD_NOW); }
"""
CALLS = """
#include <unistd.h>
#include <linux/sched.h>
#include <sys/syscall.h>
int main(int count, char **words) {
    char zeros[120] = {0};
    switch (words[1][0]) {
    case 'r': syscall(425, 1, zeros); return 0;
    case 'c': chroot("/no/such"); return 0;
    case 'u': return syscall(SYS_clone, CLONE_UNTRACED | 17, 0, 0, 0, 0) < 0;
    }
    return 1;
}
"""
SEALED = policies.find("sealed")


@pytest.fixture(scope="module")
def made(zig_cc, tmp_path_factory):
    """A shell, a program with a library of its own, one that opens what it is given; and the same sealed."""
    top = tmp_path_factory.mktemp("made")
    tree = top / "prefix"
    for name in ("bin", "lib"):
        (tree / name).mkdir(parents=True)
    library = zig_cc(LIBRARY, "-shared", "-Wl,-soname,libanswer.so.1")
    shutil.copy(library, tree / "lib/libanswer.so.1")
    shutil.copy(library, top / "libanswer.so")
    shutil.copy(zig_cc(ASK, top / "libanswer.so", "-Wl,-rpath,$ORIGIN/../lib"), tree / "bin/ask")
    shutil.copy(zig_cc(OPEN, "-ldl"), tree / "bin/open")
    shutil.copy("/bin/bash", tree / "bin/bash")
    shutil.copytree(tree, top / "sealed")
    seal(top / "sealed")
    return top


def seal(tree, options=None):
    """Seal a tree; of 250 modules for character sets two are enough."""
    doing.seal(plan(tree, options or Options()))
    for module in sorted((tree / PRIVATE / "gconv").glob("*.so"))[2:]:
        module.unlink()


@pytest.fixture
def prefix(made, tmp_path):
    return Path(shutil.copytree(made / "prefix", tmp_path / "prefix", symlinks=True))


@pytest.fixture
def sealed(made, tmp_path):
    return Path(shutil.copytree(made / "sealed", tmp_path / "prefix", symlinks=True))


def look(*paths, **options):
    return audit(paths, effort=None, **options)


def errors(tree, **changes):
    """What the policy has against a tree: rule and path in it."""
    report = look(tree, policy=dataclasses.replace(SEALED, isa=None), **changes)
    return {(item.rule, item.path.removeprefix(f"{tree}/")) for item in report.errors}


def by_name(report, tree):
    return {item.path.removeprefix(f"{tree}/"): item for item in report.files}


def run(tree, *words, policy=SEALED, **options):
    """Trace a command; return the run and its errors: path in the tree and message."""
    told = traced(words, tree, policy, **options)
    found = [item for item in findings_of(told, tree, policy) if item.severity is Severity.ERROR]
    return told, [(item.path.removeprefix(f"{tree}/"), item.message) for item in found]


def test_a_second_audit_in_one_process_sees_what_has_changed(sealed, zig_cc):
    """Even where a file is still the same inode, of its size and time, as after an inode was used again."""
    assert ("unresolved-symbol", "bin/ask") not in errors(sealed, jobs=1)
    library = sealed / "lib/libanswer.so.1"
    info, image = library.stat(), library.read_bytes()
    library.write_bytes(image.replace(b"\0answer\0", b"\0nobody\0"))
    os.utime(library, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert library.stat().st_ino == info.st_ino
    assert ("unresolved-symbol", "bin/ask") in errors(sealed, jobs=1)


# --- facts ----------------------------------------------------------------------------------------


def test_what_a_private_libc_meets_is_no_need_of_the_host(prefix):
    before = look(prefix)
    assert before.floors.glibc is not None
    assert before.sealed == ()
    seal(prefix)
    after = look(prefix)
    assert after.floors.glibc is None
    assert after.distributions == ()
    assert after.floors.kernel is not None
    programs = by_name(after, prefix)
    for name in ("bin/ask", "bin/bash", "bin/open"):
        told = programs[name]
        assert (told.kind, told.sealed.form) == (Kind.EXECUTABLE, Form.EMBEDDED)
        assert told.sealed.glibc >= before.floor.glibc
        assert told.sealed.kernel == told.floors.kernel is not None
    assert programs["lib/libanswer.so.1"].sealed.form is Form.LIBRARY
    assert programs[f"{PRIVATE}/libc.so.6"].sealed.is_bundled


def test_a_program_that_is_not_sealed_still_needs_the_hosts(sealed):
    shutil.copy("/bin/ls", sealed / "bin/ls")
    report = look(sealed)
    assert {path for path, _ in report.floor.causes} == {f"{sealed}/bin/ls"}


def test_a_library_that_no_sealed_program_needs_is_for_whoever_loads_it(sealed, zig_cc):
    plugin = zig_cc("void *memcpy(void*,void*,unsigned long); void *f = memcpy;", "-shared")
    shutil.copy(plugin, sealed / "lib/plugin.so")
    report = look(sealed)
    assert {path for path, _ in report.floor.causes} == {f"{sealed}/lib/plugin.so"}


def test_the_private_directory_serves_nobody_but_what_is_sealed(sealed):
    shutil.copy("/bin/bash", sealed / "bin/other")
    report = look(sealed, policy=policies.find("manylinux_2_41"))
    needs = {(item.path, item.library) for item in report.errors if item.rule == "external-library"}
    assert needs == {(f"{sealed}/bin/other", "libtinfo.so.6")}


def test_one_program_alone_tells_what_it_runs_on(sealed):
    (told,) = look(sealed / "bin/bash").files
    whole = by_name(look(sealed), sealed)["bin/bash"]
    assert told.sealed == whole.sealed
    assert told.floors == whole.floors


def test_a_sealed_prefix_is_told_in_every_form_of_the_report(sealed):
    report = look(sealed, root=Path("/"))
    own = f"own {report.sealed[0].sealed.glibc}"
    lines = render(report)
    assert any("sealed" in line and "3 programs (embedded): run on their own glibc" in line for line in lines)
    assert any(line.split()[:2] == ["bin/bash", "sealed"] and own in line for line in lines)
    assert "<td>sealed (embedded)" in to_html(report)
    assert own in to_dot(graph_of(report))
    value = json.loads(json.dumps(report.to_json()))
    assert list(problems(value, SCHEMA)) == []
    told = {item["path"]: item["sealed"] for item in value["files"]}
    assert told[f"{sealed}/bin/bash"]["directories"][0] == f"../{PRIVATE}"


def test_a_sealed_prefix_in_an_archive_is_told_too(sealed, tmp_path):
    subprocess.run(["tar", "-cf", tmp_path / "all.tar", "-C", sealed, "."], check=True)
    report = look(tmp_path / "all.tar")
    assert report.floors.glibc is None
    assert len(report.sealed) == 3
    refused = look(tmp_path / "all.tar", policy=SEALED)
    assert {item.message for item in refused.errors if item.path.endswith("bin/bash")} == {
        "cannot be followed to its libraries: it lies in an archive"
    }


@pytest.mark.parametrize("form", [Form.STATIC, Form.SH])
def test_what_a_launcher_starts_is_followed_to_the_program(prefix, form):
    seal(prefix, Options(form=Launched(form)))
    report = look(prefix, policy=SEALED)
    assert report.errors == ()
    assert report.floors.glibc is None
    told = by_name(report, prefix)["libexec/bash"]
    assert (told.kind, told.sealed.form) == (Kind.EXECUTABLE, form)
    assert told.sealed.glibc is not None
    run_, found = run(prefix, "bash", "-c", 'echo "$0"; /bin/true; :')
    assert run_.status == 0
    assert found == [("libexec/bash", f"starts {os.path.realpath('/bin/true')} of the host")]
    (prefix / "bin/bash").unlink()
    (prefix / "bin/bash").write_text("#!/bin/sh\nexec /bin/bash\n")
    assert errors(prefix) == {("seal", "bin/bash")}


# --- closure --------------------------------------------------------------------------------------


def test_the_policy_refuses_what_is_not_sealed_and_accepts_what_is(prefix):
    assert errors(prefix) == {("unsealed", f"bin/{name}") for name in ("ask", "bash", "open")}
    seal(prefix)
    assert errors(prefix) == set()


def test_closures_of_sealed_programs_stay_in_the_prefix(sealed):
    report = look(sealed, root=Path("/"))
    real = {item.real for _, closure in report.closures for item in closure.objects}
    assert real
    assert all(path.startswith(f"{sealed}/") for path in real)


def test_the_hosts_library_does_not_stand_in_for_one_that_is_gone(sealed):
    (sealed / PRIVATE / "libtinfo.so.6").unlink()
    assert errors(sealed) >= {("missing-library", "bin/bash")}
    assert ("missing-library", "bin/ask") not in errors(sealed)


def test_a_seal_without_its_loader_is_an_error(sealed):
    next((sealed / PRIVATE).glob("ld-linux*")).unlink()
    assert {("seal", f"bin/{name}") for name in ("ask", "bash", "open")} <= errors(sealed)


@pytest.mark.parametrize("name", ["libc.so.6", "ld-linux-x86-64.so.2"])
def test_a_loader_or_libc_that_is_no_private_copy_is_an_error(sealed, name):
    record = json.loads((sealed / PRIVATE / "seal.json").read_text())
    shutil.copy(record["files"][name]["source"], sealed / PRIVATE / name)
    assert errors(sealed) == {("seal", f"{PRIVATE}/{name}")}


def test_a_link_that_leads_to_the_hosts_library_is_an_error(sealed):
    library = sealed / PRIVATE / "libtinfo.so.6"
    record = json.loads((sealed / PRIVATE / "seal.json").read_text())
    library.unlink()
    library.symlink_to(record["files"]["libtinfo.so.6"]["source"])
    assert ("seal", "bin/bash") in errors(sealed)


def test_what_is_declared_to_come_from_the_host_is_noted_only(prefix):
    seal(prefix, Options(from_host=("libtinfo.so.6",)))
    report = look(prefix, policy=SEALED)
    assert report.errors == ()
    (note,) = [item for item in report.findings if item.rule == "seal"]
    assert (note.path, note.severity) == (f"{prefix}/bin/bash", Severity.NOTE)
    assert "takes libtinfo.so.6 from the host, as is declared" in note.message
    told, found = run(prefix, "bash", "-c", ":")
    assert found == []
    assert any("libtinfo" in item.path for item in told.allowed)


def test_all_libraries_of_a_glibc_are_of_one_release(sealed):
    host = Path(json.loads((sealed / PRIVATE / "seal.json").read_text())["files"]["libc.so.6"]["source"])
    names = ("libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2", "libutil.so.1")
    for name in names:
        shutil.copy(host.parent / name, sealed / PRIVATE / name)
    assert errors(sealed) == set()
    # The same library as one that is newer, and as one that lacks what came last.
    image = (sealed / PRIVATE / "libm.so.6").read_bytes()
    newest = str(by_name(look(sealed), sealed)[f"{PRIVATE}/libm.so.6"].release).encode()
    for other in (b"2.99", b"2.05"):
        changed = image.replace(b"\0GLIBC_" + newest + b"\0", b"\0GLIBC_" + other + b"\0")
        assert changed != image
        (sealed / PRIVATE / "libm.so.6").write_bytes(changed)
        assert ("glibc-family", f"{PRIVATE}/libm.so.6") in errors(sealed)


def test_a_program_that_is_sealed_with_another_prefix_is_an_error(sealed, made):
    other = sealed.with_name("other")
    (other / "bin").mkdir(parents=True)
    shutil.copy(sealed / "bin/bash", other / "bin/bash")
    (other / "lib").symlink_to(sealed / "lib")
    assert ("seal", "bin/bash") in errors(other)


def test_directories_of_a_seal_must_be_the_prefixes(sealed):
    path = sealed / "bin/bash"
    image = path.read_bytes()
    known = b"/../lib\0"
    assert image.count(known) == 1
    path.write_bytes(image.replace(known, b"/../../\0"))
    assert errors(sealed) == {("seal", "bin/bash")}


def test_a_librarys_search_path_must_stay_in_the_prefix(sealed):
    from belljar.elf.edit import edit
    from belljar.splice import spliced

    path = sealed / "lib/libanswer.so.1"
    image = path.read_bytes()
    for entries, expected in ((["$ORIGIN/../.."], True), (["$ORIGIN/../lib64"], False)):
        path.write_bytes(spliced(image, edit(image, [SetRunpath(entries=tuple(entries))]), subject="x"))
        assert (("seal", "lib/libanswer.so.1") in errors(sealed)) is expected


def test_scripts_must_ask_for_interpreters_that_all_machines_have(sealed):
    for name, line, mode in (
        ("good", "#!/bin/sh", 0o755),
        ("env", "#! /usr/bin/env python3", 0o755),
        ("data", "#!/home/builder/bin/python", 0o644),
        ("bad", f"#!{sealed}/bin/bash -e", 0o755),
    ):
        path = sealed / "bin" / name
        path.write_text(f"{line}\n")
        path.chmod(mode)
    assert errors(sealed) == {("shebang", "bin/bad")}


def test_a_damaged_record_is_an_error(sealed):
    (sealed / PRIVATE / "seal.json").write_text('{"form": {"a": 1}, "files": 3')
    assert errors(sealed) == {("seal", f"{PRIVATE}/seal.json")}


def test_a_musl_program_among_sealed_ones_is_an_error_and_a_static_one_is_none(sealed, zig_cc):
    source = "int main(void) { return 0; }"
    shutil.copy(zig_cc(source, "-dynamic", target="x86_64-linux-musl"), sealed / "bin/musl")
    shutil.copy(zig_cc(source, "-static", target="x86_64-linux-musl"), sealed / "bin/static")
    assert {path for rule, path in errors(sealed) if rule == "unsealed"} == {"bin/musl"}


# --- a traced run ---------------------------------------------------------------------------------


def test_a_program_on_the_hosts_loader_is_seen_to_be_so_and_a_sealed_one_is_not(prefix):
    told, found = run(prefix, "ask")
    assert told.status == 0
    (message,) = [text for path, text in found if path == "bin/ask" and text.startswith("maps code")]
    assert "ld-linux" in message
    seal(prefix)
    told, found = run(prefix, "bin/ask")
    assert found == []
    assert told.is_proof
    assert told.opened >= 4  # the program, its library, libc, the loader


def test_a_plugin_of_the_host_is_seen_with_who_opened_it(sealed, zig_cc, tmp_path, monkeypatch):
    plugin = str(shutil.copy(zig_cc(LIBRARY, "-shared"), tmp_path / "plugin.so"))
    monkeypatch.chdir(sealed)
    # Named on the command line it is what the program was asked to open.
    assert run(sealed, "open", plugin)[1] == []
    link = sealed / "lib/plugin.so"
    link.symlink_to(plugin)
    assert run(sealed, "bash", "-c", "bin/open lib/plugin.so")[1] == [
        ("bin/open", f"maps code of the host: {plugin}")
    ]
    link.unlink()
    shutil.copy(plugin, link)
    assert run(sealed, "bash", "-c", "bin/open lib/plugin.so")[1] == []


def test_a_program_of_the_host_is_seen_and_what_it_does_is_its_own_affair(sealed):
    _, found = run(sealed, "bash", "-c", "/bin/cat /etc/fstab || :")
    assert found == [("bin/bash", f"starts {os.path.realpath('/bin/cat')} of the host")]


def test_the_shell_that_starts_a_script_is_noted_where_the_script_is_known(prefix):
    for name, line in (("known", f"#!{prefix}/bin/bash"), ("other", "#!/bin/sh")):
        (prefix / "bin" / name).write_text(f"{line}\n:\n")
        (prefix / "bin" / name).chmod(0o755)
    seal(prefix, Options(scripts=True))
    assert errors(prefix) == set()
    told, found = run(prefix, "known")
    assert (told.status, found) == (0, [])
    assert run(prefix, "other")[1] == [("bin/other", f"starts {os.path.realpath('/bin/sh')} of the host")]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("read x < /etc/passwd", None),
        ("read x < /proc/self/maps; : < /dev/null", None),
        ("read x < /usr/share/zoneinfo/none || :", None),
        ("read x < /etc/os-release || :", "opens files of the host"),
        ("read x < /etc/no/such || :", "looks for files of the host"),
        ("read x < /usr/lib/no/such.so || :", "looks for files of the host"),
        ("exit 3", "ended with status 3"),
    ],
)
def test_only_what_describes_the_machine_may_be_read(sealed, tmp_path, monkeypatch, script, expected):
    monkeypatch.chdir(tmp_path)
    _, found = run(sealed, "bash", "-c", script, env={"LC_ALL": "C"})
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1
        assert expected in found[0][1]


def test_what_a_command_is_pointed_to_and_what_it_makes_is_its_own(sealed, tmp_path, monkeypatch):
    work, other = tmp_path / "work", tmp_path / "other"
    work.mkdir()
    other.mkdir()
    (work / "data").write_text("x\n")
    (other / "data").write_text("y\n")
    monkeypatch.chdir(work)
    assert run(sealed, "bash", "-c", "read x < data")[1] == []
    assert run(sealed, "bash", "-c", 'read x < "$0"', str(other / "data"))[1] == []
    assert len(run(sealed, "bash", "-c", f"read x < {other}/data")[1]) == 1
    assert run(sealed, "bash", "-c", f"echo z > {other}/new; read x < {other}/new")[1] == []
    assert len(run(sealed, "bash", "-c", f"read x < {other}/new")[1]) == 1


def test_the_hosts_settings_lead_a_sealed_program_nowhere(sealed, zig_cc, tmp_path):
    plugin = str(shutil.copy(zig_cc(LIBRARY, "-shared"), tmp_path / "libanswer.so.1"))
    hostile = {
        "LD_PRELOAD": plugin,
        "LD_LIBRARY_PATH": str(tmp_path),
        "LD_AUDIT": plugin,
        "LOCPATH": "/usr/lib/locale",
        "GCONV_PATH": "/usr/lib",
        "LC_ALL": "de_DE.UTF-8",
    }
    told, found = run(sealed, "ask", env=hostile)
    assert (found, told.last_words) == ([], "42")
    doing.unseal(doing.unseal_plan(sealed))
    assert any(plugin in message for _, message in run(sealed, "ask", env=hostile)[1])


def test_a_policy_of_ones_own_allows_more(sealed, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "sealed"\nhost-files = ["/etc/os-release", "/usr/lib/os-release"]\n')
    mine = policies.find(str(path))
    assert run(sealed, "bash", "-c", "read x < /etc/os-release", policy=mine)[1] == []


@pytest.mark.parametrize(
    ("word", "gap"), [("r", "io_uring"), ("c", "chroot"), ("u", "a process that is not to be traced")]
)
def test_what_cannot_be_seen_is_no_proof(sealed, zig_cc, word, gap):
    shutil.copy(zig_cc(CALLS), sealed / "bin/calls")
    seal(sealed)
    told, found = run(sealed, "calls", word)
    assert told.status == 0
    assert [message for _, message in found] == [
        f"`calls {word}` was not seen whole: {sealed}/bin/calls: {gap}"
    ]


def test_children_threads_and_signals_go_on_as_without_a_tracer(sealed):
    script = 'trap "exit 7" TERM; for i in 1 2 3 4 5 6 7 8; do (exit $i) & done; wait; kill $$; sleep 9'
    told, _ = run(sealed, "bash", "-c", script)
    assert told.status == 7
    assert run(sealed, "bash", "-c", "kill -9 $$")[0].status == -9


def test_output_without_end_is_not_kept(sealed):
    told, _ = run(sealed, "bash", "-c", "for i in {1..20000}; do echo $i; done; exit 1")
    assert told.last_words.endswith("19999\n20000")
    assert len(told.last_words) <= 4096


def test_a_command_that_does_not_end_is_ended_with_all_its_children(sealed, tmp_path):
    pid = tmp_path / "pid"
    script = f"while :; do :; done & echo $! > {pid}; wait"
    with pytest.raises(HostError, match="did not end within"):
        run(sealed, "bash", "-c", script, timeout=1)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid.read_text().strip()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "words", [(), ("no-such",), ("/bin/ls",), ("../../../bin/ls",), ("lib/libanswer.so.1x",)]
)
def test_only_programs_of_the_prefix_are_traced(sealed, words):
    with pytest.raises(UsageError):
        run(sealed, *words)


# --- the command ----------------------------------------------------------------------------------


def belljar(*words):
    return subprocess.run(
        [sys.executable, "-m", "belljar", *words], capture_output=True, text=True, check=False
    )


def test_the_command_proves_and_refuses(sealed):
    common = ("audit", "--policy", "sealed", "--no-isa", "--no-ties", "--format", "json")
    good = belljar(*common, "--traced", "ask", "--traced", "bash -c :", sealed)
    assert good.returncode == 0, good.stdout
    value = json.loads(good.stdout)
    assert list(problems(value, SCHEMA)) == []
    assert [item["status"] for item in value["traced"]] == [0, 0]
    page = sealed.with_name("page.html")
    bad = belljar(*common, "--html", page, "--traced", "bash -c '/bin/true; :'", sealed)
    assert bad.returncode == 1
    assert [item["rule"] for item in json.loads(bad.stdout)["findings"] if item["severity"] == "error"] == [
        "trace"
    ]
    assert "1 file of the host" in page.read_text()
    assert belljar(*common, "--traced", "ask", sealed / "bin/ask").returncode == 2
    assert belljar(*common, "--traced", "'", sealed).returncode == 2
    assert "no run: what is opened after the start is not proven" in belljar(*common[:5], sealed).stdout
