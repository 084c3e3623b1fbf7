"""Prefixes that cannot be sealed, or not yet: told with the reason, and nothing is written."""

import json
import os
import shutil
from pathlib import Path

import pytest
from loader_oracle import own_loader

from belljar import fsys
from belljar.errors import HostError, InputError
from belljar.seal import doing
from belljar.seal.launcher import Form
from belljar.seal.plan import Options, plan

HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }'


@pytest.fixture
def prefix(tmp_path):
    tree = tmp_path / "prefix"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/cat", tree / "bin/cat")
    return tree


def contents(tree):
    return {entry.path: (tree / entry.path).read_bytes() for entry in fsys.walk(tree) if entry.is_file}


def refused(prefix, words, **options):
    """Planning tells the reason, doing raises it, the prefix is as it was."""
    before = contents(prefix)
    with pytest.raises(InputError, match=words):
        doing.seal(plan(prefix, Options(**options)))
    assert contents(prefix) == before
    assert not (prefix / "lib").exists()


@pytest.mark.parametrize("form", [Form.EMBEDDED, Form.STATIC])
def test_programs_of_two_machines_are_refused(form, prefix, zig_cc):
    shutil.copy(zig_cc(HELLO, target="aarch64-linux-gnu.2.17"), prefix / "bin/other")
    refused(prefix, "bin/other: is for another machine", form=form)


def test_a_program_whose_loader_is_not_there_is_refused(tmp_path, zig_cc):
    tree = tmp_path / "prefix"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(zig_cc(HELLO, target="aarch64-linux-gnu.2.17"), tree / "bin/other")
    refused(tree, r"bin/other: ld-linux-aarch64\.so\.1 is not found")


def test_two_libcs_are_refused(prefix, zig_cc, tmp_path):
    libc = zig_cc("int puts(const char *x) { return 0; }", "-shared", "-nostdlib", "-Wl,-soname,libc.so.6")
    (tmp_path / "other").mkdir()
    shutil.copy(libc, tmp_path / "other/libc.so.6")
    shutil.copy(zig_cc(HELLO, f"-Wl,-rpath,{tmp_path}/other"), prefix / "bin/second")
    refused(prefix, r"two libraries are called libc\.so\.6")


def test_programs_of_another_libc_static_ones_and_damaged_ones_are_left_alone_and_said(prefix, zig_cc):
    musl = zig_cc(HELLO, "-dynamic", target="x86_64-linux-musl")
    shutil.copy(musl, prefix / "bin/musl")
    shutil.copy(zig_cc(HELLO, "-static", target="x86_64-linux-musl"), prefix / "bin/static")
    (prefix / "bin/broken").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(60))
    (prefix / "bin/broken").chmod(0o755)
    shutil.copy("/bin/cat", prefix / "bin/set")
    (prefix / "bin/set").chmod(0o4755)
    told = {item.path: item.reason for item in plan(prefix).left}
    assert "damaged" in told["bin/broken"] or "neither" in told["bin/broken"]
    assert "set-user-ID" in told["bin/set"]
    assert "static" in told["bin/static"]
    assert "static" in told["bin/musl"] or "not glibc's" in told["bin/musl"]


@pytest.mark.parametrize("form", [Form.EMBEDDED, Form.STATIC])
def test_a_prefix_that_may_not_be_written_is_told(form, prefix):
    before = contents(prefix)
    child = os.fork()
    if child == 0:
        for path in (prefix, *prefix.parents):
            path.chmod(path.stat().st_mode | 0o055) if os.geteuid() == 0 else None
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        else:
            (prefix / "bin").chmod(0o555)
            prefix.chmod(0o555)
        try:
            doing.recover(prefix)
            doing.seal(plan(prefix, Options(form=form)))
        except HostError as error:
            os._exit(40 if "lib" in error.message or "denied" in error.message else 41)
        finally:
            os._exit(42)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 40
    assert contents(prefix) == before


def test_a_place_that_is_taken_is_a_refusal_and_what_is_there_stays(prefix, tmp_path):
    (tmp_path / "outside").mkdir()
    shutil.rmtree(prefix / "lib", ignore_errors=True)
    for make, path, words in (
        (lambda: (prefix / "lib").write_text("mine"), "lib", "is no directory of the prefix"),
        (lambda: (prefix / "lib").symlink_to(tmp_path / "outside"), "lib", "is no directory of the prefix"),
        (lambda: (prefix / "lib/belljar").mkdir(parents=True), "lib/belljar", "is not what belljar bundled"),
        (lambda: (prefix / "lib/belljar/seal").write_text("x"), "lib/belljar", "is not what belljar bundled"),
    ):
        make()
        before = contents(prefix)
        doing.recover(prefix)
        sealing = plan(prefix)
        assert (path, True) in {(item.path, words in item.reason) for item in sealing.changes.refusals}
        with pytest.raises(InputError, match=words):
            doing.seal(sealing)
        assert contents(prefix) == before
        if (prefix / "lib").is_symlink() or (prefix / "lib").is_file():
            (prefix / "lib").unlink()
    assert not list((tmp_path / "outside").iterdir())


def test_a_libc_of_the_prefixs_own_is_a_refusal_that_says_where(prefix):
    """One that its programs would start on: another, for a compiler say, is a file like any other."""
    libc = Path(own_loader()).resolve().with_name("libc.so.6")
    for directory in ("sysroot/lib", "lib"):
        (prefix / directory).mkdir(parents=True)
    shutil.copy(libc, prefix / "sysroot/lib")
    assert plan(prefix).changes.refusals == ()
    shutil.copy(libc, prefix / "lib")
    with pytest.raises(InputError, match=r"two libcs: the prefix has one, lib/libc\.so\.6; take it away"):
        doing.seal(plan(prefix))


def test_a_seal_with_a_damaged_record_is_neither_sealed_nor_unsealed(prefix):
    doing.seal(plan(prefix, Options(form=Form.STATIC)))
    record = prefix / "lib/belljar/seal.json"
    whole = json.loads(record.read_text())
    odd = [
        {"form": "auto"},
        {"files": []},
        {"files": {"a/b": {"source": "/bin/sh", "sha256": ""}}},
        {"files": {"a": {"source": 1, "sha256": ""}}},
        {"libraries": {"lib/x.so": [[0, "AA=="]]}},
        {"libraries": {"lib/x.so": [[-1, "", ""]]}},
        {"libraries": {"lib/x.so": [[0, "*", ""]]}},
        {"libraries": {"../x.so": []}},
        {"wrapped": {"bin/x": {"program": "libexec/x"}}},
        {"wrapped": {"bin/x": {"program": "/bin/x", "directories": []}}},
        {"trees": "gconv"},
        {"trees": ["locale/../../../x"]},
        {"host": [1]},
        {"host": ["../x"]},
    ]
    texts = [json.dumps(whole | item) for item in odd]
    for damage in ("{", "[]", '{"version": 9}', '{"version": 1, "form": "static"}', "null", *texts):
        record.write_text(damage)
        before = contents(prefix)
        for work in (plan, doing.unseal_plan, doing.check, doing.recover):
            with pytest.raises(InputError, match="damaged"):
                work(prefix)
        assert contents(prefix) == before
