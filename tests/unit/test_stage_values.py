"""What a stage consists of: versions, wrappers, shell text, sysroots; and what is refused."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from belljar.errors import BelljarError, InputError, UsageError
from belljar.stage import of_zig, plan, scripts, shell, sysroot, versions, write
from belljar.stage.plan import Stage, check_prefix
from belljar.types import Arch

LIBRARIES = ("lib", "lib64")


def zig() -> Path:
    spec = find_spec("ziglang")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "zig"


def staged(tmp_path: Path, prefix: str, *, glibc: str = "2.17", arch: Arch = Arch.X86_64) -> Stage:
    toolchain = of_zig(zig(), glibc, arch, version="zig", cache="/nowhere")
    return plan(prefix, toolchain, tmp_path / "stage", machine=Arch.X86_64)


def sh(script: str, **env: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", **env}
    done = subprocess.run(
        ["/bin/sh", "-euc", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_versions_offered_begin_with_the_floor_and_have_no_gap() -> None:
    offered = versions.offered(zig())
    assert len(offered) > 20
    assert offered == tuple(f"2.{minor}" for minor in range(17, 17 + len(offered)))


@pytest.mark.parametrize("wanted", ["2.16", "2.99", "3.0", "2.170"])
def test_a_version_that_is_not_offered_is_refused_with_the_list(wanted: str) -> None:
    with pytest.raises(UsageError, match=r"zig has 2\.17 to 2\.\d+"):
        versions.require(wanted, versions.offered(zig()), "zig")


def test_a_table_cut_anywhere_is_refused_or_read_but_nothing_else(tmp_path: Path) -> None:
    table = zig().parent / "lib/libc/glibc/abilists"
    head = table.read_bytes()[:300]
    place = tmp_path / "lib/libc/glibc/abilists"
    place.parent.mkdir(parents=True)
    refused = 0
    for length in range(len(head)):
        place.write_bytes(head[:length])
        try:
            versions.offered(tmp_path / "zig")
        except InputError:
            refused += 1
    assert 200 < refused < 300


def wrapper(tmp_path: Path, *, tail: tuple[str, ...] = ()) -> Path:
    """A wrapper of a compiler that prints its words."""
    text = scripts.compiler(("printf", "%s\n"), str(tmp_path / "a prefix"), LIBRARIES, tail=tail)
    path = tmp_path / "cc"
    path.write_text(text)
    path.chmod(0o755)
    return path


def words(path: Path, *given: str, **env: str) -> list[str]:
    done = subprocess.run(
        [path, *given], env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_program_that_is_linked_gets_a_search_path_and_nothing_else_does(tmp_path: Path) -> None:
    cc = wrapper(tmp_path)
    assert words(cc, "a.o", "-o", "a")[3:] == ["-Wl,-rpath,$ORIGIN/../lib:$ORIGIN/../lib64"]
    assert words(cc, "-shared", "a.o")[2:] == ["-Wl,-rpath,$ORIGIN:$ORIGIN/.."]
    for given in (["-c", "a.c"], ["-E", "a.c"], ["-S", "a.c"], ["-MM", "a.c"], ["-v"], ["-r", "a.o"]):
        assert words(cc, *given) == given


def test_the_prefix_is_searched_after_what_the_build_names_and_before_the_system(tmp_path: Path) -> None:
    prefix = tmp_path / "a prefix"
    (prefix / "include").mkdir(parents=True)
    (prefix / "lib64").mkdir()
    cc = wrapper(tmp_path, tail=("-isystem", "/sysroot"))
    found = words(cc, "-Iown", "-Lown", "a.c")
    assert found[:-1] == [
        "-Iown",
        "-Lown",
        "a.c",
        "-isystem",
        f"{prefix}/include",
        "-isystem",
        "/sysroot",
        f"-L{prefix}/lib64",
    ]
    assert "/sysroot" not in words(cc, "-nostdinc", "-c", "a.c")


def test_words_with_spaces_quotes_and_dollars_arrive_as_they_were(tmp_path: Path) -> None:
    cc = wrapper(tmp_path)
    odd = ["-c", "a b.c", '-DNAME="x y"', "-DHOME=$HOME", "-D'", "*"]
    assert words(cc, *odd) == odd


def test_variables_that_add_directories_of_the_host_do_not_reach_the_compiler(tmp_path: Path) -> None:
    text = scripts.compiler(("env",), "/opt/x", LIBRARIES)
    (tmp_path / "cc").write_text(text)
    said = sh(
        'exec /bin/sh "$0"/cc'.replace('"$0"', str(tmp_path)), CPATH="/bad", LIBRARY_PATH="/bad", KEPT="yes"
    )
    assert "/bad" not in said
    assert "KEPT=yes" in said


@pytest.mark.parametrize("prefix", ["/opt/foo", "/opt/a b", "/opt/it's", '/opt/"$HOME"`id`', "/opt/*"])
def test_shell_text_gives_each_variable_its_exact_value(tmp_path: Path, prefix: str) -> None:
    stage = staged(tmp_path, prefix)
    text = "\n".join(shell.enter(stage))
    said = sh(f'{text}\nexec "{sys.executable}" -c "import json, os; print(json.dumps(dict(os.environ)))"')
    found = json.loads(said)
    assert {name: found.get(name) for name in stage.variables} == dict(stage.variables)
    assert found["PATH"] == f"{stage.bin}:/usr/bin:/bin"


def test_staging_again_leaves_one_directory_on_path_and_undo_leaves_none(tmp_path: Path) -> None:
    first, second = (
        "\n".join(shell.enter(staged(tmp_path, "/opt/x", glibc=glibc))) for glibc in ("2.17", "2.28")
    )
    assert first != second
    undo = "\n".join(shell.leave())
    bin_of_second = staged(tmp_path, "/opt/x", glibc="2.28").bin
    assert sh(f'{first}\n{second}\necho "$PATH"') == f"{bin_of_second}:/usr/bin:/bin\n"
    assert sh(f'{first}\n{undo}\necho "$PATH ${{CC-}}${{BELLJAR_STAGE-}}"') == "/usr/bin:/bin \n"


def test_a_cross_stage_after_a_native_one_leaves_none_of_its_variables(tmp_path: Path) -> None:
    native, cross = staged(tmp_path, "/opt/x"), staged(tmp_path, "/opt/x", arch=Arch.AARCH64)
    text = "\n".join([*shell.enter(native), *shell.enter(cross)])
    assert str(native.directory) not in sh(f"{text}\nenv")
    assert not {"bin/cc", "bin/gcc"} & set(cross.links)


def test_writing_again_changes_nothing_and_mends_what_was_damaged(tmp_path: Path) -> None:
    stage = staged(tmp_path, "/opt/x")
    write(stage)
    cc, alias = stage.bin / "x86_64-linux-gnu-cc", stage.bin / "gcc"
    before = cc.stat().st_mtime_ns
    write(stage)
    assert cc.stat().st_mtime_ns == before
    cc.write_text("half")
    alias.unlink()
    write(stage)
    assert cc.read_text() == stage.files["bin/x86_64-linux-gnu-cc"]
    assert os.access(alias, os.X_OK)


@pytest.mark.parametrize("prefix", ["/", "/usr", "/opt/a:b", "/opt/a;b", "/opt/a\nb", "/usr/local/../"])
def test_a_prefix_of_the_host_or_with_separators_is_refused(prefix: str) -> None:
    with pytest.raises(InputError):
        check_prefix(Path(prefix))


def test_wrappers_do_not_go_where_make_would_split_their_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="split"):
        staged(tmp_path / "with space", "/opt/x")


def test_a_directory_that_is_no_sysroot_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    features = tmp_path / "usr/include/features.h"
    with pytest.raises(InputError, match="not a directory"):
        sysroot.read(tmp_path / "none")
    with pytest.raises(InputError, match=r"features\.h"):
        sysroot.read(tmp_path)
    features.parent.mkdir(parents=True)
    features.write_text("#define _FEATURES_H\n")
    with pytest.raises(InputError, match="which glibc"):
        sysroot.read(tmp_path)
    features.write_text("#define __GLIBC__ 2\n# define\t__GLIBC_MINOR__\t31\n")
    with pytest.raises(InputError, match=r"headers of glibc 2\.31, but no crt1\.o"):
        sysroot.read(tmp_path)
    (tmp_path / "usr/lib").mkdir()
    (tmp_path / "usr/lib/crt1.o").write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(InputError, match=r"no crt1\.o"):
        sysroot.read(tmp_path)


def belljar(*given: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "belljar", *given],
        env=os.environ | env,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_program_prints_text_to_eval_json_and_lines_alike(tmp_path: Path) -> None:
    home = {"BELLJAR_HOME": str(tmp_path)}
    given = ("stage", "/opt/a b", "--zig", str(zig()))
    text, value, lines = (belljar(*given, "--format", form, **home) for form in ("shell", "json", "env"))
    variables = json.loads(value.stdout)["variables"]
    assert f"CC={variables['CC']}" in lines.stdout.splitlines()
    assert sh(f'{text.stdout}\necho "$CC $CMAKE_PREFIX_PATH"') == f"{variables['CC']} /opt/a b\n"
    assert os.access(variables["CC"], os.X_OK)


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        (["--glibc", "2.16", "--zig", str(zig())], 2, "2.17 to 2."),
        (["--glibc", "2.99", "--zig", str(zig())], 2, "2.17 to 2."),
        (["--zig", "/nowhere/zig"], 3, "not a program"),
        (["--glibc", "2.99", "--toolchain", "cc"], 2, "2.17, 2.31, 2.36, 2.41"),
        (["--toolchain", "zig", "--glibc", "/"], 2, "zig brings its own"),
        (["--toolchain", "cc", "--glibc", "/nowhere"], 3, "not a directory"),
        (["--glibc", "/nowhere", "--zig", str(zig())], 2, "--zig: is for"),
        (["--glibc", "/nowhere"], 3, "not a directory"),
        (["--cc", "gcc", "--toolchain", "zig"], 2, "--cc: is for"),
        (["--arch", "riscv64"], 2, "riscv64"),
    ],
)
def test_what_cannot_be_staged_is_refused_in_words(
    tmp_path: Path, given: list[str], status: int, says: str
) -> None:
    done = belljar("stage", "/opt/x", *given, BELLJAR_HOME=str(tmp_path))
    assert done.returncode == status, done.stderr
    assert done.stdout in ("", "false\n")
    assert says in done.stderr


def test_a_stage_that_fails_fails_the_eval_too(tmp_path: Path) -> None:
    done = belljar("stage", "/opt/x", "--glibc", "2.16", "--zig", str(zig()), BELLJAR_HOME=str(tmp_path))
    ended = subprocess.run(["/bin/sh", "-c", 'eval "$1" && exit 0; exit 9', "sh", done.stdout], check=False)
    assert ended.returncode == 9


def test_a_prefix_that_is_no_text_arrives_byte_for_byte(tmp_path: Path) -> None:
    prefix = os.fsdecode(b"/opt/\xff\xe9")
    stage = staged(tmp_path, prefix)
    write(stage)
    assert b"prefix='/opt/\xff\xe9'\n" in (stage.bin / "x86_64-linux-gnu-cc").read_bytes()
    done = belljar("stage", prefix, "--zig", str(zig()), BELLJAR_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_checking_where_nothing_was_installed_proves_nothing_and_says_so(tmp_path: Path) -> None:
    done = belljar("stage", str(tmp_path), "--check", BELLJAR_HOME=str(tmp_path))
    assert done.returncode == 3
    assert "holds no program or library" in done.stderr


def test_without_a_compiler_the_message_says_what_to_install(tmp_path: Path) -> None:
    from belljar.stage import compiler

    place = tmp_path / "bin"
    place.mkdir()
    with pytest.raises(BelljarError) as caught:
        compiler.find(str(place / "gcc"), Arch.X86_64, avoid=tmp_path)
    assert "--toolchain zig" in str(caught.value.hint)
