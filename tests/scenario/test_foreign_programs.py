"""Real programs that were built for another prefix run after they moved, or are refused with reasons."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from belljar.elf import read
from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.plan import plan
from belljar.relocate.foreign.prefix import find
from belljar.relocate.foreign.subject import Options
from belljar.relocate.moving import apply

LIBRARY = """
#include <stdio.h>
int where(void) { puts(P "/share/locale"); return puts("locale"); }
"""
PROGRAM = """
#include <stdio.h>
extern int where(void);
static const char whole[] = P "/share/locale/e";
static const char *const tails[] = { whole, whole + sizeof(whole) - 2, whole + sizeof(P "/share/") - 1 };
static const struct { unsigned length; const char *text; } counted = { sizeof(P "/bin") - 1, P "/bin" };
int main(int argc, char **argv) {
    where();
    for (int i = 0; i < 3; i++) puts(tails[i]);
    fwrite(counted.text, 1, counted.length, stdout); putchar('\\n');
    puts("PATH=" P "/bin:" P "/sbin:/bin");
    return 0;
}
"""
PLAIN = "extern int where(void); int main(void) { return where() < 0; }"
QUIET = '#include <stdio.h>\nint where(void) { return puts("found"); }'
ORIGIN = "/opt/vendor/base-1.0-with-a-name"


@pytest.fixture
def short():
    """A directory with a short path, whatever the temporary directory is."""
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="b", dir="/tmp")))
    yield path
    shutil.rmtree(path)


def build(tree, zig_cc, library, program):
    """Build a prefix as Spack or Homebrew would: programs with RUNPATH, .pc, .la, CMake files, links."""
    for name in ("bin", "lib/pkgconfig", "lib/cmake/w"):
        (tree / name).mkdir(parents=True)
    define = f'-DP="{ORIGIN}"'
    made = zig_cc(library, define, "-shared", "-fPIC", "-Os", "-Wl,-soname,libw.so.1")
    shutil.copy(made, tree / "lib/libw.so.1")
    (tree / "lib/libw.so").symlink_to(f"{ORIGIN}/lib/libw.so.1")
    flags = (define, "-Os", f"-Wl,-rpath,{ORIGIN}/lib", f"-Wl,-rpath,{ORIGIN}/lib64")
    shutil.copy(zig_cc(program, *flags, tree / "lib/libw.so.1"), tree / "bin/w")
    (tree / "lib/pkgconfig/w.pc").write_text(
        f"prefix={ORIGIN}\nlibdir={ORIGIN}/lib\nLibs: -L{ORIGIN}/lib -lw\n"
    )
    (tree / "lib/libw.la").write_text(f"libdir='{ORIGIN}/lib'\ndependency_libs=' -L{ORIGIN}/lib'\n")
    (tree / "lib/cmake/w/w-config.cmake").write_text(f'set(W_DIR "{ORIGIN}/lib")\n')
    return tree


def run(program, **more):
    done = subprocess.run([program], capture_output=True, text=True, check=False, **more)
    return done.stdout if done.returncode == 0 else f"failed: {done.stderr}"


def wanted(new):
    """Return what the program prints that was built for `new`."""
    share = f"{new}/share/locale"
    lines = [share, "locale", f"{share}/e", "e", "locale/e", f"{new}/bin", f"PATH={new}/bin:{new}/sbin:/bin"]
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("exact", [True, False])
def test_a_prefix_with_programs_moves_to_a_path_that_is_not_longer(zig_cc, short, exact):
    tree = build(
        short / ("n" * (len(ORIGIN) - len(str(short)) - 1) if exact else "n"), zig_cc, LIBRARY, PROGRAM
    )
    assert run(tree / "bin/w").startswith("failed")
    assert find(tree).prefix == ORIGIN.encode()
    apply(plan(tree, Moves.of([(ORIGIN, str(tree))])))
    fill = "/" * (len(ORIGIN) - len(str(tree)))
    assert run(tree / "bin/w") == wanted(f"{tree}{fill}")
    assert os.path.realpath(tree / "lib/libw.so") == str(tree / "lib/libw.so.1")
    assert f"-L{tree}/lib -lw" in (tree / "lib/pkgconfig/w.pc").read_text()
    assert not plan(tree, Moves.of([(ORIGIN, str(tree))])).changes


def test_the_negative_control_what_others_do_breaks_the_same_programs(zig_cc, short):
    tree = build(short / "n", zig_cc, LIBRARY, PROGRAM)
    old, new = ORIGIN.encode(), str(tree).encode()
    for name in ("bin/w", "lib/libw.so.1"):
        data = (tree / name).read_bytes()
        shifted = re.sub(
            re.escape(old) + rb"[^\0]*\0",
            lambda match: match[0].replace(old, new).ljust(len(match[0]), b"\0"),
            data,
        )
        (tree / name).write_bytes(shifted)
    assert run(tree / "bin/w") != wanted(str(tree))
    tree = build(short / "m", zig_cc, LIBRARY, PROGRAM)
    (tree / "bin/w").write_bytes((tree / "bin/w").read_bytes().replace(old, str(tree).encode()))
    assert run(tree / "bin/w").startswith("failed")


def test_a_longer_path_is_refused_where_programs_hold_strings_and_nothing_is_written(zig_cc, tmp_path):
    tree = build(tmp_path / "a-longer-name-than-before", zig_cc, LIBRARY, PROGRAM)
    found = plan(tree, Moves.of([(ORIGIN, str(tree))]))
    assert {(item.path, item.section) for item in found.refusals} == {
        ("bin/w", ".rodata"),
        ("lib/libw.so.1", ".rodata"),
    }
    assert all("longer" in item.reason and item.offset for item in found.refusals)


def test_a_longer_path_is_taken_where_only_the_loader_reads_the_old_one(zig_cc, tmp_path):
    tree = build(tmp_path / "a-longer-name-than-before", zig_cc, QUIET, PLAIN)
    assert run(tree / "bin/w").startswith("failed")
    apply(plan(tree, Moves.of([(ORIGIN, str(tree))])))
    assert run(tree / "bin/w") == "found\n"
    assert ORIGIN.encode() not in (tree / "bin/w").read_bytes()
    dynamic = read((tree / "bin/w").read_bytes()).dynamic
    assert dynamic is not None
    assert dynamic.runpath == f"{tree}/lib:{tree}/lib64"


def test_an_alias_lets_a_tree_lie_at_a_path_that_is_too_long(zig_cc, short, tmp_path):
    tree = build(tmp_path / "a-longer-name-than-before", zig_cc, LIBRARY, PROGRAM)
    alias = short / "a"
    found = plan(tree, Moves.of([(ORIGIN, str(alias))]), Options(alias=tree))
    assert found.alias == (alias, tree)
    apply(found)
    alias.symlink_to(tree)
    assert run(tree / "bin/w") == wanted(f"{alias}{'/' * (len(ORIGIN) - len(str(alias)))}")


def test_a_relative_tree_runs_wherever_it_is_put(zig_cc, tmp_path):
    tree = build(tmp_path / "here", zig_cc, QUIET, PLAIN)
    found = plan(tree, Moves.of([(ORIGIN, str(tree))]), Options(relative=True))
    assert any(note.startswith("lib/libw.la: has no relative form") for note in found.notes)
    apply(found)
    away = tmp_path / "away" / "there"
    away.parent.mkdir()
    shutil.rmtree(tree / ".belljar-relocation")
    tree.rename(away)
    assert run(away / "bin/w") == "found\n"
    assert os.path.realpath(away / "lib/libw.so") == str(away / "lib/libw.so.1")
    assert (away / "lib/pkgconfig/w.pc").read_text().startswith("prefix=${pcfiledir}/../..\n")
    assert '"${CMAKE_CURRENT_LIST_DIR}/../../../lib"' in (away / "lib/cmake/w/w-config.cmake").read_text()


def test_one_dependency_is_replaced_by_another(zig_cc, short):
    tree = build(short / "app", zig_cc, QUIET, PLAIN)
    other = short / "dep-2"
    (tree / "lib").rename(other)
    assert run(tree / "bin/w").startswith("failed")
    apply(plan(tree, Moves.of([(ORIGIN, str(tree)), (f"{ORIGIN}/lib", str(other))])))
    assert run(tree / "bin/w") == "found\n"


def test_a_prefix_that_a_compiler_split_is_refused_not_half_rewritten(zig_cc, tmp_path):
    source = """
    #include <stdio.h>
    static volatile int zero;
    int main(void) { char b[sizeof(P)]; __builtin_memcpy(b, P, sizeof b); b[1] += zero; puts(b);
                     puts(P "/x"); return 0; }
    """
    (tmp_path / "bin").mkdir()
    shutil.copy(zig_cc(source, '-DP="/opt/vendor/ab"', "-O1"), tmp_path / "bin/w")
    found = plan(tmp_path, Moves.of([("/opt/vendor/ab", "/srv/tenant/cd")]))
    assert {item.section for item in found.refusals} == {".text"}
    assert all("piece of the prefix" in item.reason for item in found.refusals)


def test_constants_of_16_bytes_that_hold_a_part_of_the_prefix_are_refused(zig_cc, tmp_path):
    old = "/opt/vendor/base-1.0/x86-64"
    source = """
    #include <stdio.h>
    __attribute__((aligned(16))) const struct { char a[16], b[16]; } pieces = { "%s", "%s" };
    int main(void) { return fwrite(&pieces, 1, 32, stdout) != 32; }
    """
    (tmp_path / "bin").mkdir()
    shutil.copy(zig_cc(source % (old[:16], old[-16:])), tmp_path / "bin/w")
    found = plan(tmp_path, Moves.of([(old, "/srv")]))
    assert [item.section for item in found.refusals] == [".rodata", ".rodata"]


TAIL = """
#include <stdio.h>
static const char whole[] = P;
static const char *const pointer = whole + sizeof(P) - 4;
int main(int argc, char **argv) {
    puts(whole); puts(whole + sizeof(P) - 7); puts((&pointer)[argc - 1]); return 0;
}
"""


@pytest.mark.parametrize("flags", [("-fPIE", "-pie"), ("-fno-pie",)])
def test_a_string_that_is_the_tail_of_the_prefix_is_never_overwritten(zig_cc, tmp_path, flags):
    """As CPython's version is, in the tail of a prefix that ends in it."""
    (tmp_path / "bin").mkdir()
    shutil.copy(zig_cc(TAIL, '-DP="/opt/python/with/3.11.7"', "-O1", *flags), tmp_path / "bin/w")
    assert run(tmp_path / "bin/w") == "/opt/python/with/3.11.7\n3.11.7\n1.7\n"
    (refusal,) = plan(tmp_path, Moves.of([("/opt/python/with/3.11.7", "/srv/python")])).refusals
    assert "another string, too: '3.11.7'" in refusal.reason
    apply(plan(tmp_path, Moves.of([("/opt/python/with/3.11.7", "/srv/3.11.7")])))
    assert run(tmp_path / "bin/w") == "/srv/////////////3.11.7\n3.11.7\n1.7\n"


def test_a_store_moves_to_a_path_of_the_same_length_byte_for_byte(zig_cc, tmp_path):
    """A tree as /nix/store has them: the result is what a build at the other path gives."""
    store, name = "/nix/store/", "0123456789abcdfghijklmnpqrsvwxyz-w-1.0"
    old, new = store + name, "/tmp/belja/" + name
    flags = ("-Os", "-Wl,--build-id=none")
    made = {}
    for prefix in (old, new):
        source = f'#define P "{prefix}"\n' + PROGRAM.replace("where();", "")
        made[prefix] = zig_cc(
            source, *flags, f"-Wl,-rpath,{prefix}/lib", f"-Wl,-rpath,{store}other/lib"
        ).read_bytes()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/w").write_bytes(made[old])
    (tmp_path / "bin/w").chmod(0o755)
    apply(plan(tmp_path, Moves.of([(old, new)])))
    assert (tmp_path / "bin/w").read_bytes() == made[new]
    apply(plan(tmp_path, Moves.of([(new, old)])))
    assert (tmp_path / "bin/w").read_bytes() == made[old]


def test_a_package_with_a_long_placeholder_moves_as_a_whole(zig_cc, short):
    """As conda packages are: a placeholder of 255 bytes, hashes in conda-meta."""
    old = "/home/conda/feedstock_root/build_artifacts/w/_h_env" + "_placehold" * 20 + "_plac"
    tree = short / "env"
    (tree / "bin").mkdir(parents=True)
    (tree / "conda-meta").mkdir()
    source = f'#define P "{old}"\n' + PROGRAM.replace("where();", "")
    shutil.copy(zig_cc(source, "-Os", "-Wl,-rpath,$ORIGIN/../lib"), tree / "bin/w")
    (tree / "bin/script").write_text(f"#!{old}/bin/sh\necho {old}/share\n")
    (tree / "bin/script").chmod(0o755)
    (tree / "bin/sh").symlink_to(os.path.realpath("/bin/sh"))
    digest = hashlib.sha256((tree / "bin/script").read_bytes()).hexdigest()
    (tree / "conda-meta/w.json").write_text(json.dumps({"paths": [{"sha256_in_prefix": digest}]}))
    apply(plan(tree, Moves.of([(old, str(tree))])))
    assert os.path.normpath(run(tree / "bin/w").splitlines()[0]) == f"{tree}/share/locale/e"
    assert run(tree / "bin/w").splitlines()[1:3] == ["e", "locale/e"]
    assert run(tree / "bin/script") == f"{tree}/share\n"
    recorded = json.loads((tree / "conda-meta/w.json").read_text())["paths"][0]["sha256_in_prefix"]
    assert recorded == hashlib.sha256((tree / "bin/script").read_bytes()).hexdigest()
    assert b"_placehold" not in b"".join(path.read_bytes() for path in (tree / "bin").iterdir())


@pytest.mark.parametrize("comment", ["rustc version 1.80", "clang version 18"])
@pytest.mark.parametrize("packed", ["/opt/vendor/oldNext", "/z/opt/vendor/old"])
def test_a_prefix_that_runs_into_another_string_is_refused_where_strings_have_no_end(
    zig_cc, tmp_path, comment, packed
):
    source = """
    #include <stdio.h>
    __asm__(".pushsection .comment\\n.string \\"%s\\"\\n.popsection");
    static const char packed[] = "%s";
    int main(int argc, char **argv) { return fwrite(packed, 1, sizeof packed + argc, stdout) == 0; }
    """
    (tmp_path / "bin").mkdir()
    shutil.copy(zig_cc(source % (comment, packed)), tmp_path / "bin/w")
    found = plan(tmp_path, Moves.of([("/opt/vendor/old", "/srv/x")]))
    assert bool(found.refusals) == comment.startswith("rustc")
    assert not found.changes
