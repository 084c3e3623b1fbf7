"""A foreign prefix that a compiler split becomes what the compiler makes at the new place, or is refused.

Each use is compiled at two places of equal length, with every length that changes how a compiler splits.
CHANGED are uses in which a letter of the prefix is used apart from it, or may be: only a refusal is right.
"""

import subprocess

import piece_uses as uses
import pytest
from compilers import compile_all

from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.plan import plan
from belljar.splice import spliced

WORDS = (b"/vendor/lib/node/tools/base/x86", b"/tenant/bin/data/jumbo/main/pro")
USES = (
    'strcpy(b, "@"); put(b);',
    'strcpy(b, "@/x"); put(b);',
    'strcpy(b, "PRE=@"); put(b);',
    'strcpy(b, "XYZABC@/x"); put(b);',
    'strcpy(b, "1234567890abcde@"); put(b);',
    'char s[] = "@/etc/x.conf"; put(s);',
    'char s[] = "@/etc"; s[out] = b[2]; put(s);',
    'strcpy(b, "LD_LIBRARY_PATH=@/lib:@/lib64"); put(b);',
    'out += !memcmp(a, "@/bin", sizeof("@")); put("@/w");',
    'puts("@");',
    'strcpy(b, out ? "@/yes" : "@/no"); put(b);',
    'switch (out) { case 1: strcpy(b, "@/1"); break; case 2: strcpy(b, "@:@/2"); break; } put(b);',
    'struct { int a; char p[120]; int b; } s = {7, "@", 9}; put(s.p); out += s.a + s.b;',
    'char s[2][64] = {"@", "@/b"}; put(s[0]); put(s[1]); strcpy(b, "--with=@"); put(b);',
)
CHANGED = (
    'char s[] = "@"; s[1] += out; put(s);',
    'char s[] = "@/q"; put(s); s[4] += 2; put(s);',
    'strcpy(b, "./@/x"); put(b); strcpy(b, "@"); put(b);',
    'strcpy(b, "@.bak/x"); put(b); strcpy(b, "@"); put(b);',
    'strcpy(b, "@2"); put(b); strcpy(b, "@"); put(b);',
)
DOUBTFUL = ("XYZABC@", "abcde@", "s[out]")  # behind other letters, or written over
LENGTHS = (7, 9, 14, 16, 30)


def places(length):
    return [word[:length].decode().rstrip("/").ljust(length, "x") for word in WORDS]


GCC, FAST, CLANG = ("gcc", "gcc -O2"), ("gcc", "gcc -O3 -march=x86-64-v3"), ("clang", "clang-14 -O2")


def build(work, kind, command, programs, lengths=LENGTHS):
    """Compile each program with each length at both places."""
    commands = []
    for length in lengths:
        for side, place in enumerate(places(length)):
            for number, use in enumerate(programs):
                here = work / f"{length}-{number}" / str(side)
                here.mkdir(parents=True)
                (here / "s.c").write_text(uses.c_source([use], place))
                inside = here.relative_to(work)
                commands.append(f"(cd {inside} && {command} -w -Wl,--build-id=none -o p s.c && rm s.c)")
    compile_all(kind, commands, work)


def moved(directory, length):
    """Return a program as it is moved; None where that is refused."""
    found = plan(directory, Moves.of([tuple(places(length))]))
    splices = [one for change in found.changes for one in change.splices]
    return None if found.refusals else spliced((directory / "p").read_bytes(), splices, subject="p")


@pytest.mark.parametrize(("kind", "command"), [GCC, FAST, CLANG])
def test_what_a_compiler_split_is_what_it_makes_at_the_new_place(tmp_path, kind, command):
    build(tmp_path, kind, command, USES)
    refused, plain = [], 0
    for length in LENGTHS:
        old, new = places(length)
        for number, use in enumerate(USES):
            here = tmp_path / f"{length}-{number}"
            built, there = (here / "0/p").read_bytes(), (here / "1/p").read_bytes()
            plain += built.replace(old.encode(), new.encode()) != there
            if (made := moved(here / "0", length)) is None:
                refused.append(use)
            else:
                assert made == there, (length, use)
    doubtful = [use for use in USES if any(word in use for word in DOUBTFUL)]
    more = [use for use in refused if use not in doubtful]
    assert 10 * len(more) <= (len(USES) - len(doubtful)) * len(LENGTHS), more
    assert plain > len(LENGTHS), "the control: what plain replacing does"


@pytest.mark.parametrize(("kind", "command"), [GCC, CLANG])
def test_what_a_compiler_split_and_changed_or_put_into_other_words_is_refused(tmp_path, kind, command):
    build(tmp_path, kind, command, CHANGED, lengths=(9, 16, 30))
    for length in (9, 16, 30):
        for number, use in enumerate(CHANGED):
            assert moved(tmp_path / f"{length}-{number}" / "0", length) is None, (length, use)


def test_a_shorter_prefix_is_filled_in_the_pieces_too(tmp_path):
    build(tmp_path, "gcc", "gcc -O2", ['strcpy(b, "@/x"); puts(b);'], lengths=(30,))
    old, directory = places(30)[0], tmp_path / "30-0/0"
    found = plan(directory, Moves.of([(old, "/srv/short")]))
    splices = [one for change in found.changes for one in change.splices]
    assert not found.refusals
    program = directory / "p"
    program.write_bytes(spliced(program.read_bytes(), splices, subject="p"))
    done = subprocess.run([program, "x" * 64, "y" * 64], capture_output=True, text=True, check=False)
    assert done.stdout == f"/srv/short{'/' * 20}/x\n"
