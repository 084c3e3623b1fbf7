"""How an audit is told to people: the worst first, what is alike once, all of it with --why."""

from test_audit_checks import facts, use

from belljar.audit import Policy, Report
from belljar.audit.run import judged
from belljar.report.audit_text import render

POLICY = Policy.of(glibc="2.17")


def told(*files, why=False, paths=("tree",)):
    found = judged(files, (), POLICY)
    return render(Report(paths=paths, policy=POLICY, files=files, findings=found), why=why)


def needing(name, version, *symbols):
    return facts(path=f"tree/{name}", versions=(use(version, *symbols),))


def test_files_stand_with_the_worst_first():
    lines = told(
        needing("good", "GLIBC_2.4"), needing("bad", "GLIBC_2.34", "f"), needing("fair", "GLIBC_2.17")
    )
    rows = [line.split()[0] for line in lines if " x86_64 " in line]
    assert rows == ["bad", "fair", "good"]


def test_what_many_files_have_in_common_is_told_once_with_their_number():
    lines = told(*(needing(f"b{number:02}", "GLIBC_2.34", "dlopen") for number in range(40)))
    (line,) = [line for line in lines if line.startswith("error:")]
    assert line == "error: 40 files: needs GLIBC_2.34 of libc.so.6 for dlopen; declared is 2.17"
    assert "  in b00, b01, b02, b03, b04, b05 and 34 more" in lines


def test_why_leaves_nothing_out():
    files = [needing(f"b{number:02}", "GLIBC_2.34", "dlopen") for number in range(40)]
    short, whole = told(*files), told(*files, why=True)
    assert sum("b39" in line for line in short) == 0
    assert sum("b39" in line for line in whole) == 3
    assert sum(line.startswith("error: b") for line in whole) == 40
    assert any(line.strip().startswith("lower: dlopen moved from libdl.so.2") for line in whole)


def test_the_verdict_is_the_last_line_and_the_floor_the_first():
    lines = told(needing("x", "GLIBC_2.34", "f"))
    assert lines[0].startswith("tree: 1 ELF file, glibc 2.34 or newer (RHEL/CentOS 9+")
    assert lines[-1] == "failed: 1 error, 0 notes"


def test_members_of_an_archive_are_told_without_its_name():
    file = facts(path="x.whl!lib/a.so", versions=(use("GLIBC_2.34", "f"),))
    assert any(line.startswith("error: lib/a.so: ") for line in told(file, paths=("x.whl",)))
