"""Closures in made-up roots: what has no loader here to ask, and what means harm."""

import json
import os
import time
from pathlib import Path

import pytest
from elf_writer import Made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from belljar.elf.const import Machine
from belljar.errors import BelljarError
from belljar.ldso import Cache, How, Libc, Surroundings, resolve

MUSL, GLIBC = "/lib/ld-musl-x86_64.so.1", "/lib64/ld-linux-x86-64.so.2"


@pytest.fixture
def put(tmp_path):
    """Return a function that puts an ELF file into the root."""

    def write(path, **fields):
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(Made(**fields).write())
        return Path(path)

    write.root = tmp_path
    return write


def closure(put, path, **surroundings):
    return resolve(Path(path), root=put.root, surroundings=Surroundings(**surroundings))


def found(result):
    return [item.path for item in result.objects[1:]]


def why(result, name):
    return next(item for item in result.edges if item.name == name)


def test_musl_takes_the_names_of_the_libc_family_for_itself(put):
    put(MUSL)
    put("/usr/lib/libpthread.so.0")
    put("/usr/lib/libz.so.1", needed=("libc.musl-x86_64.so.1",))
    path = put("/bin/x", interpreter=MUSL, needed=("libpthread.so.0", "libz.so.1", "libc.so"))
    result = closure(put, path)
    assert result.libc is Libc.MUSL
    assert found(result) == [MUSL, "/usr/lib/libz.so.1"]
    assert why(result, "libpthread.so.0").how is How.LIBC


def test_musl_knows_a_library_by_the_name_it_was_searched_for_and_not_by_its_soname(put):
    put(MUSL)
    put("/lib/libone.so", soname="libtwo.so")
    path = put("/bin/x", interpreter=MUSL, needed=("libone.so", "libtwo.so", "libone.so"))
    result = closure(put, path)
    assert [item.how for item in result.edges[1:]] == [How.DEFAULT, How.MISSING, How.LOADED]


def test_musl_inherits_runpath_puts_the_environment_first_and_reads_its_own_file_of_directories(put):
    put(MUSL)
    put("/opt/libmid.so", needed=("libleaf.so",))
    put("/opt/libleaf.so")
    path = put("/bin/x", interpreter=MUSL, needed=("libmid.so",), runpath="/opt")
    assert found(closure(put, path)) == ["/opt/libmid.so", "/opt/libleaf.so"]
    put("/env/libmid.so", needed=("libleaf.so",))
    assert found(closure(put, path, library_path="/env")) == ["/env/libmid.so", "/opt/libleaf.so"]
    put("/vendor/libz.so")
    path = put("/bin/y", interpreter=MUSL, needed=("libz.so",))
    assert closure(put, path).missing
    (put.root / "etc").mkdir()
    (put.root / "etc/ld-musl-x86_64.path").write_text("/nowhere\n/vendor\n")
    assert found(closure(put, path)) == ["/vendor/libz.so"]


def test_without_its_loader_a_program_has_a_missing_interpreter_and_upstreams_directories(put):
    put("/usr/lib64/liba.so.1")
    path = put("/bin/x", interpreter=GLIBC, needed=("liba.so.1",))
    result = closure(put, path)
    assert found(result) == ["/usr/lib64/liba.so.1"]
    assert [item.name for item in result.missing] == [GLIBC]
    assert not result.loader_found


def test_a_root_s_links_never_lead_to_the_host(put):
    put("/usr/lib64/liba.so.1")
    (put.root / "lib64").symlink_to("/usr/lib64")
    (put.root / "usr/lib64/libhost.so.1").symlink_to("/etc/passwd")
    path = put("/bin/x", interpreter=GLIBC, needed=("liba.so.1", "libhost.so.1"))
    result = closure(put, path)
    assert (result.objects[1].path, result.objects[1].real) == ("/lib64/liba.so.1", "/usr/lib64/liba.so.1")
    assert "libhost.so.1" in {item.name for item in result.missing}


def test_a_librarys_libc_is_that_which_it_needs(put):
    put(MUSL)
    put(GLIBC)
    assert closure(put, put("/a.so", needed=("libc.so.6",))).libc is Libc.GLIBC
    assert closure(put, put("/b.so", needed=("libc.musl-x86_64.so.1",))).libc is Libc.MUSL
    (put.root / GLIBC[1:]).unlink()
    assert closure(put, put("/c.so")).libc is Libc.MUSL


def test_other_machines_files_are_resolved_with_their_own_loader(put):
    put("/lib/libx.so.1", machine=Machine.AARCH64)
    path = put(
        "/bin/x",
        interpreter="/lib/ld-linux-aarch64.so.1",
        needed=("libx.so.1",),
        machine=Machine.AARCH64,
        runpath="/lib",
    )
    assert found(closure(put, path)) == ["/lib/libx.so.1"]
    big = put("/bin/y", interpreter="/lib/ld.so.1", needed=("libx.so.1",), big=True, wide=False, machine=20)
    assert why(closure(put, big), "libx.so.1").how in {How.MISSING, How.DAMAGED}


def test_needs_in_a_circle_end(put):
    put("/lib64/liba.so", needed=("libb.so", "liba.so"), soname="liba.so")
    put("/lib64/libb.so", needed=("liba.so", "libb.so", "x"), soname="libb.so")
    path = put("/lib64/x", interpreter=GLIBC, needed=("liba.so",), soname="x")
    result = closure(put, path)
    assert found(result) == ["/lib64/liba.so", "/lib64/libb.so"]
    assert json.loads(json.dumps(result.to_json()))["path"] == "/lib64/x"


def test_a_list_of_a_hundred_thousand_directories_is_looked_through_once(put):
    long = ":".join(f"$ORIGIN/{number}" for number in range(100_000))
    path = put("/bin/x", interpreter=GLIBC, needed=tuple(f"lib{n}.so" for n in range(300)), rpath=long)
    started = time.perf_counter()
    assert len(closure(put, path).missing) == 301
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "empty", "text"])
def test_what_is_no_library_is_damage_and_never_waited_for(put, kind):
    place = put.root / "lib64/libx.so"
    place.parent.mkdir()
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "device":
            (put.root / "dev").mkdir()
            place.symlink_to("/dev/zero")
        case "directory":
            place.mkdir()
        case "empty":
            place.touch()
        case "text":
            place.write_text("INPUT(libx.so.1)")
    path = put("/bin/x", interpreter=GLIBC, needed=("libx.so",))
    want = How.MISSING if kind == "device" else How.DAMAGED
    edge = why(closure(put, path), "libx.so")
    assert edge.how is want
    assert edge.describe()


def test_a_note_about_opened_libraries_that_is_malformed_is_passed_over(put):
    deep = b"[" * 100_000
    odd = b'[1, {"soname": 1}, {"soname": ["", "a\\u0000b", "\\ud800", "libgood.so"], "priority": []}]'
    notes = tuple((b"FDO\0", 0x407C0C0A, text) for text in (b"not json", deep, odd, b'{"soname": 3}'))
    path = put("/bin/x", interpreter=GLIBC, notes=notes)
    assert [(item.name, item.priority) for item in closure(put, path).dlopened] == [
        ("libgood.so", "recommended")
    ]


def test_names_that_are_no_names_are_missing(put):
    names = ("", "..", "/", "$ORIGIN", "$PLATFORM/$LIB", "a" * 5000, "x/" * 3000)
    for interpreter in (GLIBC, MUSL):
        path = put("/bin/x", interpreter=interpreter, needed=names, runpath="/bin:$ORIGIN::")
        result = closure(put, path)
        assert not found(result)
        assert list(result.describe())


def test_one_cache_serves_many_programs_and_takes_over_what_others_have_read(put):
    put("/lib64/liba.so")
    cache = Cache(put.root)
    for number in range(3):
        path = put(f"/bin/{number}", interpreter=GLIBC, needed=("liba.so",))
        assert found(resolve(path, cache=cache)) == ["/lib64/liba.so"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_change_of_bytes_makes_resolving_fail_otherwise_than_it_may(put, data):
    library = bytearray(Made(needed=("libb.so",), rpath="$ORIGIN:/x", soname="liba.so").write())
    program = bytearray(Made(interpreter=GLIBC, needed=("liba.so",), runpath="/lib64").write())
    for content in (library, program):
        for _ in range(data.draw(st.integers(0, 4))):
            content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    (put.root / "lib64").mkdir(exist_ok=True)
    (put.root / "lib64/liba.so").write_bytes(library)
    (put.root / "x").write_bytes(program)
    try:
        result = resolve(Path("/x"), root=put.root)
    except BelljarError:
        return
    assert json.dumps(result.to_json())
    assert len(list(result.describe())) >= len(result.edges)
