"""`build --prove-relocation` on real compilers: what a scan cannot see, a second build shows."""

import json
import tempfile
from pathlib import Path

import pytest
from test_build_support import GCC, belljar, home, home_of, leftovers, recipe

from belljar.build import GuaranteeError, Options, build
from belljar.errors import BuildError
from belljar.placeholder import PLACEHOLDER
from belljar.relocate.install import install, plan
from belljar.store import Store

ZIG = '[environment.links]\n"/usr/bin/zig" = "/opt/ziglang/ziglang/zig"\n'
CC = """
mkdir -p "$PREFIX/bin"
export ZIG_GLOBAL_CACHE_DIR=/tmp/zig ZIG_LOCAL_CACHE_DIR=/tmp/zig
cc() { "$@" -DPREFIX="\\"$PREFIX\\"" /build/tiny/p.c -o "$PREFIX/bin/p"; }
"""
HONEST = """
#include <stdio.h>
#include <string.h>
static const char *const places[] = { PREFIX "/etc", PREFIX "/share/locale", "/share/locale", PREFIX };
int main(int argc, char **argv) {
    char copy[200]; strcpy(copy, PREFIX "/lib"); copy[0] += argc - 1;
    puts(copy); puts(places[argc]); puts(places[argc + 1]);
    return argc > 1 && strcmp(argv[1], PREFIX "/bin") == 0;
}
"""
# One letter of the prefix is an operand of an instruction; the whole prefix stands nowhere.
FOLDED = """
#include <stdio.h>
int main(int argc, char **argv) {
    const char b[] = PREFIX;
    putchar(b[20] + argc); putchar('\\n');
    return 0;
}
"""
DERIVED = {"build id", "order of strings", "DWARF checksum of a source"}


@pytest.fixture(scope="module")
def kitchen():
    with tempfile.TemporaryDirectory() as scratch:
        yield home_of(home(Path(scratch) / "home"))


def program(directory: Path, source: str, compiler: str, **more: str) -> Path:
    done = recipe(directory, f"{CC}\ncc {compiler}", packages=GCC, more=ZIG, **more)
    (done / "src/p.c").write_text(source)
    return done


def proved(directory: Path, kitchen):
    return build(directory, home=kitchen, options=Options(prove=True))


def stored(kitchen) -> list[str]:
    return [str(name) for name in Store(directory=kitchen.store).names()]


COMPILERS = ("gcc -O0", "gcc -O2", "gcc -O2 -g", "gcc -Os", "gcc -O2 -static", "zig cc -O2 -g")


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_compiled_program_is_proved_up_to_derived_values(compiler, tmp_path, kitchen):
    artifact = proved(program(tmp_path / "r", HONEST, compiler), kitchen)
    proof = artifact.record.proof
    assert proof["verdict"] in {"exact", "derived"}
    assert proof["references"] == artifact.record.references > 0
    assert {item["kind"] for item in proof["findings"]} <= DERIVED
    table = Store(directory=kitchen.store).table(artifact.name)
    pieces = [item for items in table.files.values() for item in items if not item.is_whole]
    assert bool(pieces) == (compiler in {"gcc -O0", "gcc -O2", "gcc -O2 -g", "gcc -O2 -static"})


# Sources lie below the prefix: debug information holds many of its paths, placed by their hashes.
INSIDE = """
cp /build/tiny/p.c "$PREFIX/p.c"
for i in 1 2 3 4 5 6 7 8 9; do
    mkdir -p "$PREFIX/include$i"
    echo "static const char *p$i = PREFIX \\"/$i\\";" > "$PREFIX/include$i/h$i.h"
    echo "#include \\"$PREFIX/include$i/h$i.h\\"" >> "$PREFIX/p.c"
done
cd "$PREFIX"
"""
INSIDES = [
    ("gcc -Os -g -o bin/p", HONEST),
    ("gcc -Os -g -o bin/p", FOLDED),
    ("zig cc -g -c -o bin/p", HONEST),
    ("zig cc -O1 -g -c -o bin/p", FOLDED),
]


@pytest.mark.parametrize(("compiler", "source"), INSIDES)
def test_strings_in_another_order_are_told_from_missed_references(compiler, source, tmp_path, kitchen):
    """Whether an order changes is chance (tests/unit/test_prove_values.py has it for certain)."""
    script = f"""{CC}\n{INSIDE}\n{compiler} -DPREFIX="\\"$PREFIX\\"" "$PREFIX/p.c\""""
    directory = recipe(tmp_path / "r", script, packages=GCC, more=ZIG, portability="")
    (directory / "src/p.c").write_text(source)
    proof = proved(directory, kitchen).record.proof
    kinds = {item["kind"] for item in proof["findings"]}
    if source == HONEST:
        assert kinds <= DERIVED, proof
    else:
        assert (proof["verdict"], "missed reference" in kinds) == ("refuted", True)


@pytest.mark.parametrize("compiler", ["gcc -O1", "gcc -O2"])
def test_a_letter_folded_into_an_instruction_is_caught_where_a_scan_sees_nothing(compiler, tmp_path, kitchen):
    directory = program(tmp_path / "r", FOLDED, compiler)
    assert build(directory, home=kitchen).record.relocatable  # negative control: the scan alone
    with pytest.raises(GuaranteeError) as caught:
        proved(directory, kitchen)
    (line,) = caught.value.unsupported
    assert line.startswith("bin/p: .text: missed reference: offset ")
    assert "moved" in line
    assert "built there" in line


HIDDEN = {
    "base64": 'printf %s "$PREFIX" | base64 -w0 > "$PREFIX/f"',
    "rot13": """printf %s "$PREFIX" | tr a-z n-za-m > "$PREFIX/f\"""",
    "a letter": 'printf %s "$PREFIX" | cut -c21 > "$PREFIX/f"',
    "a hash": 'printf %s "$PREFIX" | sha256sum | cut -c1-64 > "$PREFIX/f"',
    "a name": 'echo x > "$PREFIX/$(printf %s "$PREFIX" | sha256sum | cut -c1-32)"',
    "a link": 'ln -s "$(printf %s "$PREFIX" | cut -c30-32)" "$PREFIX/f"',
    "a choice": """case $PREFIX in (/[a-t]*) echo a ;; (*) echo b ;; esac > "$PREFIX/f\"""",
}


@pytest.mark.parametrize("way", HIDDEN)
def test_a_prefix_hidden_by_the_script_is_caught_and_nothing_is_stored(way, tmp_path, kitchen):
    directory = recipe(tmp_path / "r", f'echo "$PREFIX" > "$PREFIX/whole"\n{HIDDEN[way]}')
    before = stored(kitchen)
    assert build(directory, home=kitchen).record.relocatable
    with pytest.raises(GuaranteeError, match="cannot be moved") as caught:
        proved(directory, kitchen)
    assert any("missed reference" in line for line in caught.value.unsupported)
    assert stored(kitchen) == before  # nor is what was stored before, on the word of the scan
    assert leftovers(kitchen.data) == []


def test_where_nothing_is_promised_it_is_stored_as_not_relocatable_with_the_reason(tmp_path, kitchen):
    directory = recipe(tmp_path / "r", HIDDEN["base64"], portability="")
    done = belljar("build", "--no-link", "--prove-relocation", directory, home=kitchen.data)
    assert done.returncode == 1
    assert "cannot be moved: f: missed reference" in done.stdout
    assert "refuted" in done.stdout
    artifact = build(directory, home=kitchen)
    assert (artifact.cached, artifact.record.relocatable) == (True, False)
    assert PLACEHOLDER not in (artifact.path / "f").read_text()


def test_what_differs_at_every_build_is_named_and_is_no_proof(tmp_path, kitchen):
    script = ': > now; stat -c %y now > "$PREFIX/id"; echo "$PREFIX" > "$PREFIX/whole"'
    directory = recipe(tmp_path / "r", script)
    words = ("build", "--no-link", "--prove-relocation", "--format", "json", directory)
    done = belljar(*words, home=kitchen.data)
    assert done.returncode == 1, done.stderr
    proof = json.loads(done.stdout)["artifact"]["proof"]
    assert (proof["verdict"], proof["builds"]) == ("undecided", 3)
    assert [(item["path"], item["kind"]) for item in proof["findings"]] == [("id", "differs at every build")]


def test_a_proof_is_recorded_once_and_what_was_proved_can_be_installed(tmp_path, kitchen):
    directory = recipe(tmp_path / "r")
    assert build(directory, home=kitchen).record.proof is None
    first, again = proved(directory, kitchen), proved(directory, kitchen)
    assert (first.cached, again.cached) == (False, True)
    assert first.record.proof["verdict"] == again.record.proof["verdict"] == "exact"
    done = belljar("build", "--no-link", "--prove-relocation", directory, home=kitchen.data)
    assert done.returncode == 0
    assert "proof       proved" in done.stdout
    assert f"{first.name}  exact" in belljar("store", "list", home=kitchen.data).stdout
    store = Store(directory=kitchen.store)
    assert store.verify(first.name) == ()
    install(plan(store, first.name, tmp_path / "there"))


def test_a_script_that_fails_under_another_prefix_is_a_clear_message(tmp_path, kitchen):
    directory = recipe(
        tmp_path / "r", f'echo x > "$PREFIX/f"; case $PREFIX in ({PLACEHOLDER}/*) ;; (*) exit 3 ;; esac'
    )
    with pytest.raises(BuildError, match="exit status 3, when it was run again to prove"):
        proved(directory, kitchen)
    assert leftovers(kitchen.data) == []
