"""Real programs, built at the placeholder and rewritten to a location, behave as if built at the location."""

import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from belljar.placeholder import PLACEHOLDER, location, store_root
from belljar.relocate import copy_tree, scan

ORIGIN = PLACEHOLDER.encode()
NAME = "a2" * 16 + "-demo-1.0"
USES = """
#include <stdio.h>
#include <string.h>
static volatile int zero;
static const char whole[] = P "/share/locale";
static const char *const tails[] = { whole, whole + sizeof(P) - 1, whole + sizeof(P "/share/") - 1 };
static const struct { unsigned length; const char *text; } counted = { sizeof(P "/bin") - 1, P "/bin" };
static const char padded[160] = P "/var";
static const char *const list = "PATH=" P "/bin:" P "/sbin:/bin";
__attribute__((noinline)) static void by_puts(void) { puts(P "/puts"); }
__attribute__((noinline)) static void by_strcpy(void) { char b[200]; strcpy(b, P "/strcpy"); puts(b + zero); }
__attribute__((noinline)) static void by_init(void) { char b[] = P; b[0] += zero; puts(b); }
__attribute__((noinline)) static void by_format(void) {
    char b[300]; snprintf(b, sizeof b, P "/%s/%d:%s", "x" + zero, 42, P "/y"); puts(b);
}
int main(int argc, char **argv) {
    zero = argc > 9;
    by_puts(); by_strcpy(); by_init(); by_format();
    for (int i = zero; i < 3; i++) puts(tails[i]);
    fwrite(counted.text, 1, counted.length, stdout); putchar('\\n');
    puts(padded + zero); puts(list + zero);
    printf("strncmp %d\\n", strncmp(argv[1], P "/", sizeof P) == 0);
    printf("memcmp %d\\n", memcmp(argv[1], P, sizeof P - 1) == 0);
    return 0;
}
"""


@pytest.fixture
def home():
    """A directory whose path is short enough for a location, whatever the temporary directory is."""
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="bj", dir="/tmp")))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree"
    path.mkdir()
    return path


def output(*argv):
    return subprocess.run(argv, capture_output=True, check=True).stdout


def move(tree, home):
    """Install a tree built at the placeholder below `home`; return where it lies and its scan."""
    target = store_root(home) / NAME
    target.parent.mkdir(exist_ok=True)
    found = scan(tree)
    assert found.is_relocatable, [item.describe() for item in found.unsupported]
    copy_tree(tree, target, table=found.table, old=ORIGIN, new=location(home))
    return target, found


def padded_with_nul(program, new):
    """Rewrite as others do: put the shorter path, pull up what follows, fill with NUL to the old length."""

    def shorten(match):
        return match[0].replace(ORIGIN, new).ljust(len(match[0]), b"\0")

    return re.sub(re.escape(ORIGIN) + rb"[^\0]*\0", shorten, program)


@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os"])
def test_a_c_program_prints_and_compares_the_location_in_all_its_strings(zig_cc, tree, home, level):
    program = shutil.copy(zig_cc(USES, level, f'-DP="{PLACEHOLDER}"'), tree / "program")
    before = output(program, PLACEHOLDER + "/")
    assert before.count(b"strncmp 1\nmemcmp 1\n") == 1
    place = location(home)
    oracle = before.replace(ORIGIN, place)

    control = home / "control"
    control.write_bytes(padded_with_nul(Path(program).read_bytes(), os.fsencode(store_root(home))))
    control.chmod(0o755)
    wrong = output(control, os.fsdecode(place) + "/").splitlines()
    assert b"locale" not in wrong, "NUL padding loses the tails of strings"
    assert any(b"\0" in line for line in wrong), "NUL padding breaks a compiled-in length"

    moved, found = move(tree, home)
    assert len(found.table) >= 7
    assert output(moved / "program", os.fsdecode(place) + "/") == oracle
    assert b"strncmp 0\nmemcmp 0\n" in output(moved / "program", PLACEHOLDER + "/")


def test_python_byte_code_names_the_location_and_stays_valid(tree, home):
    module = tree / "lib/module.py"
    module.parent.mkdir()
    module.write_text(f"PREFIX = '{PLACEHOLDER}/{NAME}'\ndef where():\n    return PREFIX + '/share'\n")
    os.utime(module, (1_600_000_000, 1_600_000_000))
    py_compile.compile(str(module), dfile=f"{PLACEHOLDER}/{NAME}/lib/module.py", doraise=True)
    moved, found = move(tree, home)
    assert found.names == {NAME}
    (byte_code,) = (moved / "lib/__pycache__").iterdir()
    content = byte_code.read_bytes()
    assert ORIGIN not in content
    code = "import module; print(module.where()); print(module.where.__code__.co_filename)"
    env = {"PYTHONPATH": str(moved / "lib"), "PATH": os.environ["PATH"]}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    where, file = ran.stdout.split()
    assert os.path.normpath(where) == str(moved / "share")
    assert Path(file).samefile(moved / "lib/module.py")
    assert byte_code.read_bytes() == content, "Python compiled anew"


def test_a_script_runs_by_an_interpreter_in_its_own_tree(tree, home):
    (tree / "bin").mkdir()
    (tree / "bin/sh").symlink_to("/bin/sh")
    (tree / "bin/again").symlink_to(f"{PLACEHOLDER}/{NAME}/bin/script")
    (tree / "bin/script").write_text(f"#!{PLACEHOLDER}/{NAME}/bin/sh\necho '{PLACEHOLDER}/{NAME}' \"$0\"\n")
    (tree / "bin/script").chmod(0o555)
    with pytest.raises(OSError, match="No such file"):
        subprocess.run([tree / "bin/script"], check=False)
    moved, _ = move(tree, home)
    for way in ("script", "again"):
        prefix, itself = output(moved / "bin" / way).decode().split()
        assert os.path.normpath(prefix) == str(moved)
        assert Path(itself).samefile(moved / "bin/script")


def test_the_variables_of_a_pc_file_lead_to_the_tree(tree, home):
    (tree / "lib/pkgconfig").mkdir(parents=True)
    (tree / "include").mkdir()
    (tree / "lib/pkgconfig/demo.pc").write_text(
        f"prefix={PLACEHOLDER}/{NAME}\nincludedir=${{prefix}}/include\n"
        f"Libs: -L{PLACEHOLDER}/{NAME}/lib -Wl,-rpath,{PLACEHOLDER}/{NAME}/lib -ldemo\n"
    )
    moved, found = move(tree, home)
    text = (moved / "lib/pkgconfig/demo.pc").read_text()
    paths = re.findall(r"(?:=|-L|rpath,)(/\S+)", text)
    assert len(paths) == len(found.table) == 3
    assert [Path(path).resolve() for path in paths] == [moved, moved / "lib", moved / "lib"]
