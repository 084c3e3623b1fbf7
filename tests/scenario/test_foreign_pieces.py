"""A foreign prefix that a compiler split is refused, or becomes what the compiler makes at the new place.

Each use is compiled at two places of equal length, with every length that changes how a compiler splits.
"""

import piece_uses as uses
import pytest
from compilers import compile_all

from belljar.relocate.foreign import Moves, plan
from belljar.splice import spliced

WORDS = (b"/vendor/lib/node/tools/base/x86", b"/tenant/bin/data/jumbo/main/pro")
USES = (
    'strcpy(b, "@"); put(b);',
    'strcpy(b, "@/x"); put(b);',
    'strcpy(b, "PRE=@"); put(b);',
    'strcpy(b, "XYZABC@/x"); put(b);',
    'strcpy(b, "1234567890abcde@"); put(b);',
    'char s[] = "@/etc/x.conf"; put(s);',
    'char s[] = "@"; s[1] += out; put(s);',
    'char s[] = "@/etc"; s[out] = b[2]; put(s);',
    'strcpy(b, "LD_LIBRARY_PATH=@/lib:@/lib64"); put(b);',
    'out += !memcmp(a, "@/bin", sizeof("@")); put("@/w");',
    'puts("@");',
)
LENGTHS = (7, 9, 14, 16, 30)


def places(length):
    return [word[:length].decode().rstrip("/").ljust(length, "x") for word in WORDS]


@pytest.mark.parametrize(
    ("kind", "command"),
    [("gcc", "gcc -O2"), ("gcc", "gcc -O3 -march=x86-64-v3"), ("clang", "clang-14 -O2")],
)
def test_what_a_compiler_split_is_refused_or_right(tmp_path, kind, command):
    commands, exact, plain = [], 0, 0
    for length in LENGTHS:
        for side, place in enumerate(places(length)):
            for number, use in enumerate(USES):
                here = tmp_path / f"{length}-{number}" / str(side)
                here.mkdir(parents=True)
                (here / "s.c").write_text(uses.c_source([use], place))
                inside = here.relative_to(tmp_path)
                commands.append(f"(cd {inside} && {command} -w -Wl,--build-id=none -o p s.c && rm s.c)")
    compile_all(kind, commands, tmp_path)
    for length in LENGTHS:
        old, new = places(length)
        for number, use in enumerate(USES):
            here = tmp_path / f"{length}-{number}"
            built, there = (here / "0/p").read_bytes(), (here / "1/p").read_bytes()
            plain += built.replace(old.encode(), new.encode()) != there
            found = plan(here / "0", Moves.of([(old, new)]))
            if not found.refusals:
                splices = [one for change in found.changes for one in change.splices]
                assert spliced(built, splices, subject="p") == there, (length, use)
                exact += 1
    assert exact >= len(LENGTHS), "not all is refused"
    assert plain, "the control: what plain replacing does"
