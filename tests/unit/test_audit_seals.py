"""What a record says of a sealed prefix, whatever its bytes are; and which files a private libc serves."""

import json

import pytest
from test_audit_checks import facts, use

from belljar.audit import GlibcVersion, Kind, policies
from belljar.audit.checks import check
from belljar.audit.floors.symbols import newest
from belljar.audit.sealing import script_of
from belljar.audit.seals import Form, SealFacts, parse_record, settled
from belljar.elf.private import build_of, left_in_libc, left_in_loader

LOADER = "ld-linux-x86-64.so.2"
RECORD = {
    "version": 1,
    "form": "sh",
    "files": {"libc.so.6": {}, LOADER: {}},
    "wrapped": {"bin/x": {"program": "libexec/x", "directories": ["lib/belljar"]}},
}
EMBEDDED = SealFacts(form=Form.EMBEDDED, loader=f"../lib/belljar/{LOADER}", directories=("../lib/belljar",))


def record(**changes):
    return parse_record("/p/lib/belljar/seal.json", json.dumps(RECORD | changes).encode())


def test_a_record_names_the_programs_that_launchers_start():
    told = record()
    assert (told.form, told.loader, told.prefix) == (Form.SH, LOADER, "/p")
    assert [(item.launcher, item.program) for item in told.wrapped] == [("bin/x", "libexec/x")]
    assert record(form="embedded").form is Form.STATIC


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"3", b"[" * 100_000, b"\xff\xfe", b'{"form": "embedded", "files": null}']
)
def test_a_record_of_any_bytes_is_damaged_at_worst(text):
    assert parse_record("/p/lib/belljar/seal.json", text).form is None


@pytest.mark.parametrize(
    "changes",
    [
        {"form": "other"},
        {"form": ["sh"]},
        {"files": {}},
        {"files": {"libc.so.6": 1}},
        {"wrapped": ["bin/x"]},
        {"wrapped": {"bin/x": "libexec/x"}},
        {"wrapped": {"bin/x": {"program": "/libexec/x", "directories": []}}},
        {"wrapped": {"bin/x": {"program": "libexec/../../x", "directories": []}}},
        {"wrapped": {"bin/x": {"program": "libexec/x", "directories": ["../lib"]}}},
        {"wrapped": {"bin/x": {"program": 3, "directories": []}}},
    ],
)
def test_a_record_that_leads_out_of_the_prefix_or_makes_no_sense_is_damaged(changes):
    assert record(**changes).form is None


def tree(*more, libc="2.36", sealed=EMBEDDED, top="/p"):
    """A sealed program that needs libx.so and it a libc of 2.34, the private directory, and more."""
    needs = (use("GLIBC_2.34", "f"),)
    release = GlibcVersion.parse(libc)
    return (
        facts(path=f"{top}/bin/x", needed=("libx.so.1",), versions=needs, sealed=sealed, interpreter=None),
        facts(path=f"{top}/lib/belljar/libx.so.1", kind=Kind.SHARED, versions=needs, interpreter=None),
        facts(path=f"{top}/lib/belljar/libc.so.6", kind=Kind.SHARED, libc=release, kernel="3.2.0"),
        facts(path=f"{top}/lib/belljar/{LOADER}", kind=Kind.SHARED, kernel="3.10.108"),
        *more,
    )


def nothing(_):
    return None


def test_a_private_libc_serves_the_program_and_what_it_needs_and_the_kernel_is_the_strictest():
    program, library, *_ = settled(tree(), (), nothing)
    assert (program.floor, library.floor) == (None, None)
    assert (str(program.sealed.glibc), program.kernel) == ("2.36", "3.10.108")
    assert library.sealed.is_bundled


def test_a_private_libc_that_is_too_old_serves_nobody():
    program, *_ = settled(tree(libc="2.31"), (), nothing)
    assert program.floor == GlibcVersion(2, 34)
    assert [item.rule for item in check(program, policies.find("manylinux_2_28"))][:1] == ["glibc-floor"]


def test_a_plugin_and_an_unsealed_program_are_the_hosts_to_serve():
    needs = (use("GLIBC_2.34", "f"),)
    more = (
        facts(path="/p/lib/plugin.so", kind=Kind.SHARED, versions=needs, interpreter=None),
        facts(path="/p/bin/y", needed=("libx.so.1",), versions=needs),
        facts(path="/p/lib/belljarx/z.so", kind=Kind.SHARED, versions=needs, interpreter=None),
    )
    assert [item.floor for item in settled(tree(*more), (), nothing)[4:]] == [GlibcVersion(2, 34)] * 3


def test_members_of_an_archive_and_files_given_twice_are_all_there():
    for top in ("all.tar!", "all.tar!p", "./p"):
        files = (
            tree(top=top)
            if top.endswith("p")
            else tuple(
                facts(
                    path=item.path.replace("!/", "!"),
                    kind=item.kind,
                    versions=item.versions,
                    libc=item.libc,
                    sealed=item.sealed,
                    needed=item.needed,
                )
                for item in tree(top=top)
            )
        )
        found = settled((*files, *files), (), nothing)
        assert [item.path for item in found] == [item.path for item in (*files, *files)]
        assert found[0].floor is found[4].floor is None


def test_needs_of_a_file_are_seen_whole_though_none_is_the_hosts():
    program, *_ = settled(tree(), (), nothing)
    assert [item.version for item in program.versions] == ["GLIBC_2.34"]
    assert program.asks == ()


@pytest.mark.parametrize(
    ("library", "release", "version"),
    [("libm.so.6", "2.36", "2.35"), ("libm.so.6", "2.17", "2.15"), ("libc.so.6", "2.31", "2.30")],
)
def test_the_newest_version_of_a_library_in_a_release_is_known(library, release, version):
    assert str(newest(library, "x86_64", GlibcVersion.parse(release))) == version
    assert newest("libnss_files.so.2", "x86_64", GlibcVersion.parse(release)) is None


def test_a_path_of_the_host_that_is_left_is_named_whatever_else_was_overwritten():
    dead = b"\0/dev/null/xxxxxxxx\0"
    assert left_in_loader(dead) is None
    assert left_in_loader(dead + b"/usr/etc/ld.so.cache\0") == "/usr/etc/ld.so.cache"
    assert left_in_loader(b"\0/lib64/\0/usr/lib64/\0") == "/lib64/"
    assert left_in_libc(dead + b"LOCPATH\0") == "LOCPATH"
    assert left_in_libc(dead + b"/usr/lib/locale\0") == "/usr/lib/locale"


def test_a_build_is_told_by_libc_and_newer_loaders():
    assert build_of(b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n") == (
        "2.36 (Debian GLIBC 2.36-9)"
    )
    assert build_of(b"ld.so (Debian GLIBC 2.36-9) stable release version 2.36.\n") is not None
    assert build_of(b"GNU C Library (" + b"x" * 100_000) is None
    assert build_of(b"GNU C Library (x) stable release version 99999999999.1") is None


def test_scripts_are_what_can_be_executed_and_names_an_interpreter():
    assert script_of("x", b"#! /bin/sh -e\n", 0o755).interpreter == "/bin/sh"
    assert script_of("x", b"#!/bin/sh", 0).interpreter == "/bin/sh"
    assert script_of("x", b"#!/bin/sh\n", 0o644) is None
    assert script_of("x", b"#!\n/bin/sh\n", 0o755) is None
