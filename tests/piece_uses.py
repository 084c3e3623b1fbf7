"""Programs that use their prefix in many ways, for compilers to split: `@` stands for it.

DESIGN are the uses that the rules were made with, HELD_OUT those that were written afterwards and
counted once. Each is a function of its own, which cannot be inlined or left out.
"""

import random
from collections.abc import Sequence

from belljar.placeholder import PLACEHOLDER, TAIL

P1 = PLACEHOLDER


def other(seed: int = 1) -> str:
    """A location of which all 4-grams differ, so that compilers find nothing in it to merge."""
    letters = random.Random(seed)
    body = "/" + "".join(letters.choice("abcdefghijklmnopqrstuvwxy0123456789") for _ in range(79))
    return body + TAIL


P2 = other()
_C_HEAD = (
    "#include <string.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <wchar.h>\n#include <uchar.h>\n"
)
_SUFFIXES = ("", "/x", "/etc/x.conf", "/share/locale/de")
_LEADS = ("", "a", "-I", "PRE=", "PATH=", "XYZABC", "1234567")
_LONG_LEADS = (
    "123456789",
    "1234567890a",
    "1234567890abc",
    "1234567890abcde",
    "-Wl,-rpath=abcdefghijklmno",
    "X" * 30,
)

DESIGN_C = (
    *(
        f'strcpy(b, "{lead}@{suffix}"); put(b);'
        for lead in (*_LEADS, *_LONG_LEADS)
        for suffix in _SUFFIXES[:2]
    ),
    *(f'char s[] = "{lead}@{_SUFFIXES[2]}"; put(s);' for lead in (*_LEADS, *_LONG_LEADS)),
    'char s[300] = "@/pad"; put(s);',
    'struct { int a; char p[120]; int b; } s = {7, "@", 9}; put(s.p); out += s.a + s.b;',
    'struct { char tag[4]; char p[96]; } s = {"tg", "@"}; put(s.p); put(s.tag);',
    'memcpy(b, "@/m", 99); put(b);',
    'strcpy(b, "@"); strcat(b, "/cat"); put(b);',
    'strcat(b, "@/more"); put(b);',
    'char *e = stpcpy(b, "@"); e = stpcpy(e, "/mid/"); stpcpy(e, "@"); put(b);',
    'snprintf(b, 600, "@/%s/%d", a, out); put(b);',
    'snprintf(b, 600, "%s/z", "@"); put(b);',
    'out += !strncmp(a, "@", 96);',
    'out += !strcmp(a, "@/cmp");',
    'out += !memcmp(a, "@", 96);',
    'out += !memcmp(a, "@/etc/passwd", 107);',
    'const char *p = "@/ptr"; put(p);',
    'static char s[] = "@/static"; put(s); s[0] = a[0];',
    'char s[2][120] = {"@/one", "@/two"}; put(s[0]); put(s[1]);',
    'strcpy(b, "@:@/two"); put(b);',
    'strcpy(b, "ab@:@/lib:@/share"); put(b);',
    'wchar_t s[] = L"@/wide"; put((char *)s);',
    'char16_t s[] = u"@/wide"; put((char *)s);',
    'char32_t s[] = U"@/wide"; put((char *)s);',
    'const wchar_t *s = L"@/w"; put((char *)s);',
    'memcpy(b, u"@", 192); put(b);',
    "char s[] = {" + "'$', " * 0 + "%CHARS%, 0}; put(s);",
)
HELD_OUT_C = (
    'mempcpy(mempcpy(b, "@", 96), "/bin", 5); put(b);',
    'char s[128]; memset(s, 0, 128); memcpy(s + 5, "@", 96); put(s);',
    'union { char c[128]; long l[16]; } u = {"@/union"}; put(u.c); out += u.l[3];',
    'struct { char k; char p[100]; short q; } s[3] = {{1, "@/a", 2}, {3, "@/b", 4}, {5, "c@", 6}}; put((char *)s);',
    'strcpy(b, out & 1 ? "@/yes" : "no@/no"); put(b);',
    'for (int i = 0; i < 3; i++) { strcpy(b + i * 130, "@/loop"); } put(b);',
    'strncpy(b, "@/nc", 120); put(b);',
    'strcpy(b, "LD_LIBRARY_PATH=@/lib:@/lib64"); put(b);',
    'strcpy(b, "#!@/bin/sh -e\\n"); put(b);',
    'strcpy(b, "{\\"prefix\\": \\"@\\", \\"n\\": 1}"); put(b);',
    'char s[] = "--prefix=@"; s[out & 7] = 65; put(s);',
    'char s[] = "abc\\0@/afternul"; memcpy(b, s, sizeof s); put(b + 4);',
    'memcpy(b, "@", 97); memcpy(b + 97, "q@", 98); put(b);',
    'out += !memcmp(a, "zz@/etc", 102) + !strcmp(a + 1, "@");',
    'out += !strncmp(a, "file:@/", 102);',
    'switch (out) { case 1: strcpy(b, "@/1"); break; case 2: strcpy(b, "x@/2"); break; default: strcpy(b, "yy@/3"); } put(b);',
    'strcpy(b, "12345678@"); strcpy(b + 200, "1234567890123456@"); put(b);',
    'struct { long n; const char *p; char c[97]; } s = {3, "@/p", "@"}; put((char *)&s); put(s.p);',
    'strcpy(b, "q@/q"); put(b); strcpy(b, "wq@/q"); put(b); strcpy(b, "/w@/w"); put(b);',
    'char s[] = "\\x7f@\\xff"; put(s);',
    'memmove(b + 1, "@/mm", 100); put(b);',
    'bcopy("@/bc", b, 100); put(b);',
    'static const char t[] = "@/table"; memcpy(b, t, sizeof t); put(b);',
)


def c_source(uses: Sequence[str], prefix: str) -> str:
    """One C file with a function for each use."""
    chars = ",".join(f"'{letter}'" for letter in prefix)
    functions = "".join(
        f"__attribute__((noinline)) void use{number}(char *b, const char *a) {{ {use} }}\n"
        for number, use in enumerate(uses)
    ).replace("%CHARS%", chars)
    calls = "".join(f" use{number}(v[2], v[1]);" for number in range(len(uses)))
    text = (
        "#define _GNU_SOURCE\n"
        + _C_HEAD
        + "#include <strings.h>\nint out; extern void put(const char *);\n"
        + functions
        + f"int main(int c, char **v) {{{calls} return out; }}\n"
        + "__attribute__((noinline, noipa)) void put(const char *s) { out += puts(s); }\n".replace(
            ", noipa", ""
        )
    )
    return text.replace("@", prefix)
