"""Law 2: whatever a compiler makes of a path, the relocated program is the one built at its new place.

Each row compiles uses of the prefix at two places. `one` is a program for each use, so that none can borrow
the neighbours of another; `all` is one program with every use, where constants are shared and mixed.
The wider matrix, all flags with a program for each use, is `make bench ARGS=pieces`.
"""

import piece_uses as uses
import pytest
from piece_matrix import judge

from belljar.references import rewritten
from belljar.relocate import scan

V3, V4 = "-O2 -march=x86-64-v3", "-O3 -march=x86-64-v4"
ALL_C = (*uses.DESIGN_C, *uses.HELD_OUT_C)
ALL_CPP = (*uses.DESIGN_CPP, *uses.HELD_OUT_CPP)
ALL_RUST = (*uses.DESIGN_RUST, *uses.HELD_OUT_RUST)
# Apart: go sorts strings of equal length by a hash.
GO = [uses.DESIGN_GO, uses.HELD_OUT_GO]


def one(every):
    return [[use] for use in every]


ROWS = [
    ("gcc", ["-O2"], one(ALL_C), True),
    ("gcc", ["-O0", "-O1", "-Os", V3, V4], [ALL_C], True),
    ("gcc", ["-O1 -mgeneral-regs-only", "-O2 -flto", "-O2 -c"], [ALL_C], True),
    ("g++", ["-O1", V4], [ALL_CPP], True),
    ("gcc -m32", ["-O0", "-O2"], [ALL_C], True),
    ("gcc aarch64", ["-O0", "-O2"], [ALL_C], True),
    ("g++ aarch64", ["-O2"], [ALL_CPP], False),
    ("gcc arm", ["-O0", "-O2"], [ALL_C], True),
    # In these two "/w" ends a block of 16 bytes, as a constant with the placeholder's beginning would.
    ("gcc arm", ["-O0", "-O2 -mcpu=cortex-a72"], one([use for use in ALL_C if "/w@/w" in use]), False),
    ("tcc", [""], [[use for use in ALL_C if 'u"' not in use.lower()]], True),
    ("clang-19", ["-O2", V4], [ALL_C], True),
    ("clang", ["-O0", "-O2", V4], [ALL_C], True),
    ("clang++", ["-O2"], [ALL_CPP], False),
    ("rustc", ["-O"], [ALL_RUST], False),
    ("go", ["-gcflags=-N", "-gcflags=-l"], GO, True),
    ("go 386", ["-gcflags=-l"], GO, True),
    ("go arm64", ["-gcflags=-l"], GO, False),
]
# Objects have no addresses yet by which code would say which constants it loads.
REPORTED = ("char16_t s[]",)


# The other compilers are 4 GB unpacked.
EXTENDED = [pytest.param(*row, marks=pytest.mark.extended) for row in ROWS if row[0] not in ("gcc", "g++")]
USUAL = [row for row in ROWS if row[0] in ("gcc", "g++")]


@pytest.mark.parametrize(
    ("kind", "flags", "programs", "is_split"), [*USUAL, *EXTENDED], ids=lambda item: str(item)[:20]
)
def test_a_relocated_program_is_the_one_built_there(tmp_path, kind, flags, programs, is_split):
    verdicts = judge(kind, flags, programs, tmp_path)
    wrong = [(item.flags, item.uses, item.wrong[:8]) for item in verdicts if item.wrong and not item.reported]
    assert wrong == []
    reported = [
        (item.flags, item.uses, item.reported)
        for item in verdicts
        if item.reported and not any(word in use for word in REPORTED for use in item.uses)
    ]
    assert reported == []
    assert any(item.plain_is_wrong for item in verdicts) >= is_split, "the control: what plain replacing does"
    assert any(item.shift_is_wrong for item in verdicts) >= is_split, "the control: what a NUL shift does"


OBJECTS = [
    ("x86_64-linux-gnu.2.17", ["-O2"]),
    ("x86_64-linux-gnu.2.17", ["-O3", "-march=x86_64_v4"]),
    ("aarch64-linux-musl", ["-O2"]),
    ("aarch64-linux-musl", ["-Os"]),
    ("arm-linux-musleabihf", ["-O2"]),
    ("riscv64-linux-musl", ["-O2"]),
]


@pytest.mark.parametrize(("target", "flags"), OBJECTS, ids=str)
def test_an_object_of_zig_relocated_is_the_one_built_there(tmp_path, zig_cc, target, flags):
    """Of an object: lld orders the strings of a program by a hash of their content."""
    a, b = uses.P1, uses.other()
    compiled = [
        zig_cc(uses.c_source(ALL_C, place), "-w", "-c", "-g0", *flags, target=target) for place in (a, b)
    ]
    (tmp_path / "p").write_bytes(compiled[0].read_bytes())
    found = scan(tmp_path)
    assert found.unsupported == ()
    moved = rewritten(
        (tmp_path / "p").read_bytes(), found.table.files["p"], old=a.encode(), new=b.encode(), subject="p"
    )
    assert moved == compiled[1].read_bytes()


@pytest.mark.parametrize("code", ["-marm", "-mthumb"])
@pytest.mark.parametrize("before", [0, 2], ids=["in the lower half", "in the upper half"])
def test_a_number_in_arm_code_is_reported_not_left(tmp_path, zig_cc, code, before):
    at = uses.P1.index("qz", 10) - before
    number = int.from_bytes(uses.P1[at : at + 4].encode(), "little")
    for value, count in ((number, 1), (number ^ 0x100, 0)):  # the control: another number
        source = f"unsigned get(void) {{ return {value}u; }}"
        (tmp_path / "p").write_bytes(
            zig_cc(source, "-c", "-g0", code, target="arm-linux-musleabihf").read_bytes()
        )
        found = scan(tmp_path).unsupported
        assert [item.section for item in found] == [".text"] * count
