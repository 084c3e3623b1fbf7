"""Pieces in real programs: without section headers, in archives; where one is lost, reported, not guessed."""

import os
import random
import struct

import compilers
import piece_uses as uses
import pytest
from piece_matrix import KINDS, judge

from belljar.placeholder import PLACEHOLDER
from belljar.references import Encoding, rewritten
from belljar.relocate import rewrite_tree, scan

A, B, C = (place.encode() for place in (uses.P1, uses.other(), uses.other(7)))
PARTS = (
    'out += !memcmp(a, "@", 32) + !memcmp(a + 32, (const char *)"@" + 32, 32)'
    ' + !memcmp(a + 64, (const char *)"@" + 64, 32);'
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Compile all the C uses at A and at B, as programs and as objects, in halves: name -> (at A, at B)."""
    work = tmp_path_factory.mktemp("built")
    commands = []
    for name, flags, some in (
        ("program", "-O1", uses.DESIGN_C),
        ("first.o", "-O2 -c", uses.HELD_OUT_C[::2]),
        ("second.o", "-O0 -c", uses.HELD_OUT_C[1::2]),
    ):
        for side, place in (("A", A), ("B", B)):
            (work / f"{side}-{name}.c").write_text(uses.c_source(some, place.decode()))
            commands.append(
                f"(mkdir -p {side}; cp {side}-{name}.c {side}/s.c; cd {side};"
                f" {KINDS['gcc'].command} {flags} s.c -o {name})"
            )
    compilers.compile_all("gcc", commands, work, jobs=1)
    return {
        name: tuple((work / side / name).read_bytes() for side in "AB")
        for name in ("program", "first.o", "second.o")
    }


def scanned(tmp_path, content):
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "p").write_bytes(content)
    found = scan(tmp_path)
    return found.table.files.get("p", ()), found.unsupported


def moved(content, references, new=B, old=A):
    return rewritten(content, references, old=old, new=new, subject="p")


def archive(*members):
    """The bytes of an ar(5) archive; members of odd size are followed by a byte of padding."""
    found = b"!<arch>\n"
    for number, content in enumerate(members):
        found += f"{number}.o/".ljust(16).encode() + b"0           0     0     644     "
        found += f"{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
    return found


def test_a_program_without_section_headers_has_the_same_references(tmp_path, built):
    at_a, at_b = built["program"]
    references, unsupported = scanned(tmp_path, at_a)
    assert unsupported == ()
    assert sum(not ref.is_whole for ref in references) > 100
    bare = bytearray(at_a)
    struct.pack_into("<Q", bare, 40, 0)
    struct.pack_into("<HHH", bare, 58, 0, 0, 0)
    references, unsupported = scanned(tmp_path, bytes(bare))
    assert unsupported == ()
    assert moved(bytes(bare), references)[64:] == at_b[64:]


def test_pieces_in_the_members_of_an_archive_are_found(tmp_path, built):
    (a, b), (c, d) = built["first.o"], built["second.o"]
    odd = b"odd"
    library = archive(odd, a, odd, c + b"\0")
    references, unsupported = scanned(tmp_path, library)
    assert unsupported == ()
    assert library.replace(A, B) != archive(odd, b, odd, d + b"\0"), "the control: plain replacing"
    assert moved(library, references) == archive(odd, b, odd, d + b"\0")


def stores(width, lead, place):
    """C statements that store text as numbers, one instruction each, behind `lead` other characters."""
    text = (b"abcdefgh"[:lead] + place + b"/x\0\0\0\0\0\0\0")[: (lead + 98) // width * width + width]
    kind = {1: "char", 2: "short", 4: "int"}[width]
    numbers = [int.from_bytes(text[at : at + width], "little") for at in range(0, len(text), width)]
    assignments = " ".join(f"v[{i}] = {number};" for i, number in enumerate(numbers))
    return f"volatile {kind} v[120]; {assignments} put((char *)v);"


@pytest.mark.parametrize("kind", ["gcc", pytest.param("gcc -m32", marks=pytest.mark.extended)])
@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_stores_of_one_two_and_four_bytes_are_references(tmp_path, kind, flags):
    shapes = [
        (1, 0),
        (1, 3),
        (2, 0),
        (2, 1),
        (2, 2),
        (4, 0),
        (4, 1),
        (4, 2),
        (4, 3),
        (4, 5),
    ]
    commands = []
    for side, place in (("A", A), ("B", B)):
        (tmp_path / side).mkdir()
        for number, (width, lead) in enumerate(shapes):
            source = uses.c_source([stores(width, lead, place)], place.decode())
            (tmp_path / side / f"{number}.c").write_text(source)
            commands.append(f"(cd {side}; {KINDS[kind].command} {flags} {number}.c -o {number})")
    compilers.compile_all(KINDS[kind].packages, commands, tmp_path)
    found = scan(tmp_path / "A")
    assert found.unsupported == ()
    for number, shape in enumerate(shapes):
        at_a, at_b = ((tmp_path / side / str(number)).read_bytes() for side in "AB")
        assert at_a.replace(A, B) != at_b, "the control: plain replacing"
        assert moved(at_a, found.table.files.get(str(number), ())) == at_b, shape


@pytest.mark.parametrize("place", [0, 2, 4, 9])
def test_a_piece_that_is_lost_makes_its_neighbours_reported_with_their_section(tmp_path, place):
    (verdict,) = judge("gcc", ["-O1"], [['strcpy(b, "PATH=@/x"); put(b);']], tmp_path / "a")
    assert not verdict.reported
    program = next((tmp_path / "a/0").glob(uses.P1[-40:-17])) / "p"
    references = [ref for ref in scan(program.parent).table.files["p"] if not ref.is_whole]
    victim = sorted(references, key=lambda ref: ref.start)[place]
    damaged = bytearray(program.read_bytes())
    damaged[victim.offset + 1] ^= 1
    left, unsupported = scanned(tmp_path / "b", bytes(damaged))
    assert victim not in left
    assert unsupported
    assert {item.section for item in unsupported} == {".text"}


def test_a_piece_that_is_lost_is_not_hidden_by_the_other_uses_of_the_program(tmp_path, built):
    at_a, _ = built["program"]
    references, unsupported = scanned(tmp_path / "sound", at_a)
    assert unsupported == ()
    pieces = [ref for ref in references if not ref.is_wide and 2 <= ref.start < 72 and ref.length == 8]
    for victim in random.Random(3).sample(pieces, 40):
        damaged = bytearray(at_a)
        damaged[victim.offset + 3] ^= 1
        left, unsupported = scanned(tmp_path / "damaged", bytes(damaged))
        assert victim not in left
        assert unsupported, victim


@pytest.mark.parametrize("flags", ["-O1", "-O2", "-O3 -march=x86-64-v4"])
def test_a_cut_is_reported_beside_uses_that_hold_its_neighbours(tmp_path, flags):
    cuts = [f'memcpy(b, "@/m", {length}); put(b);' for length in (41, 50, 66, 75)]
    programs = [[*uses.DESIGN_C[:30], cut, *uses.DESIGN_C[30:]] for cut in cuts]
    for verdict in judge("gcc", [flags], programs, tmp_path):
        assert verdict.reported


@pytest.mark.parametrize("use", ['memcpy(b, "@/m", 50); put(b);', 'out += !memcmp(a, "@", 20);'])
def test_a_part_of_the_placeholder_is_reported_and_not_rewritten_in_part(tmp_path, use):
    (verdict,) = judge("gcc", ["-O2"], [[use]], tmp_path)
    assert verdict.reported
    assert ".rodata" in verdict.reported[0] or ".text" in verdict.reported[0]


@pytest.mark.parametrize("change", ["s[1] += out", "s[1] ^= 3", "s[40] -= 2"])
def test_a_letter_that_the_compiler_computed_is_reported(tmp_path, change):
    """It is folded into an instruction, and no search finds it: only that something is written over it."""
    (without, verdict) = judge(
        "gcc", ["-O2"], [['char s[] = "@"; put(s);'], [f'char s[] = "@"; {change}; put(s);']], tmp_path
    )
    assert (without.wrong, without.reported) == ((), ())
    assert len(verdict.wrong) == 1
    assert any("a letter of the placeholder is computed" in line for line in verdict.reported)


def test_immediates_of_aarch64_instructions_are_references(tmp_path):
    (verdict,) = judge("gcc aarch64", ["-O2"], [[PARTS]], tmp_path / "a")
    assert verdict.plain_is_wrong
    assert not verdict.wrong
    assert not verdict.reported
    references = scan(next((tmp_path / "a/0").glob(f"{uses.P1[-40:-17]}"))).table.files["p"]
    assert {ref.encoding for ref in references} >= {Encoding.IMM16}


def test_a_tree_with_pieces_goes_there_and_back(tmp_path, built):
    for name, (at_a, _) in built.items():
        (tmp_path / name).write_bytes(at_a)
    found = scan(tmp_path)
    assert found.is_relocatable, found.unsupported
    before = {name: at_a for name, (at_a, _) in built.items()}
    rewrite_tree(tmp_path, found.table, old=A, new=C)
    rewrite_tree(tmp_path, found.table, old=C, new=B)
    assert {name: (tmp_path / name).read_bytes() for name in built} == {
        name: at_b for name, (_, at_b) in built.items()
    }
    rewrite_tree(tmp_path, found.table, old=B, new=A)
    assert {name: (tmp_path / name).read_bytes() for name in built} == before


def test_damaged_programs_are_scanned_to_their_end(tmp_path, built):
    choose = random.Random(5)
    at_a, _ = built["program"]
    for number in range(60):
        content = bytearray(at_a)
        tables = choose.choice([(0, 64), (64, 800), (len(content) - 1900, len(content))])
        for _ in range(choose.randrange(1, 12)):
            content[choose.randrange(*tables)] = choose.choice([0, 1, 0x7F, 0xFF, choose.randrange(256)])
        cut = len(content) if number % 3 else choose.randrange(len(content))
        references, _ = scanned(tmp_path, bytes(content[:cut]))
        assert all(ref.end <= cut for ref in references)


def test_real_programs_and_libraries_hold_nothing_that_looks_like_a_piece(tmp_path):
    root = compilers.environment("gcc").path
    number = 0
    for top, _, names in os.walk(root / "usr"):
        for name in names:
            path = os.path.join(top, name)
            if not os.path.islink(path) and number < 600:
                with open(path, "rb") as file:
                    head = file.read(8)
                if head.startswith(b"\x7fELF") or head == b"!<arch>\n":
                    os.link(path, tmp_path / f"{number}-{name}")
                    number += 1
    assert number > 200
    found = scan(tmp_path)
    assert len(found.table) == 0
    assert found.unsupported == ()


def test_the_compilers_know_the_placeholder_that_is_in_force():
    assert PLACEHOLDER.encode() == A
    assert len(A) == len(B) == len(C)
