# ruff: noqa: E501, ISC004 - the uses are programs, one a line
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
    'union { char c[128]; long l[16]; } u = {"@/union"}; put(u.c); u.l[3] = out; put(u.c);',
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


DESIGN_CPP = (
    'std::string s("@/ctor"); put(s.c_str());',
    'std::string s = "@"; s += "/more"; put(s.c_str());',
    'std::string s = std::string(a) + ":@/plus"; put(s.c_str());',
    'std::string s; s.append("@/append").assign("-I@/assign"); put(s.c_str());',
    'std::vector<std::string> v{"@/one", "x@/two", "PATH=@/three"}; for (auto &s : v) put(s.c_str());',
    'std::map<std::string, int> m{{"@/k", 1}, {"ab@/k", 2}}; out += m[a];',
    'std::ostringstream s; s << "@/os" << out; put(s.str().c_str());',
    'std::string_view v = a; out += v == "@/view";',
    'std::string_view v = a; out += v.compare("@/compare") + v.rfind("@");',
    'std::string v = a; out += v == "@" || v.compare(0, 96, "@") == 0;',
    'constexpr std::array<char, 97> c = [] { std::array<char, 97> r{}; const char t[] = "@";'
    " for (int i = 0; i < 97; i++) r[i] = t[i]; return r; }(); auto d = c; put(d.data());",
    'char s[] = "@/char"; put(s);',
    'std::string s = "1234567@/seven"; put(s.c_str());',
    'std::filesystem::path p("@/share"); put((p / "x").c_str());',
)
HELD_OUT_CPP = (
    'std::string s(100, 0); std::copy_n("@", 96, s.begin()); put(s.c_str());',
    'std::array<std::string, 2> s{"--with=@", "@@"}; put(s[out & 1].c_str());',
    'constexpr std::array<char, 99> c = [] { std::array<char, 99> r{"ab"}; const char t[] = "@";'
    " for (int i = 0; i < 97; i++) r[i + 2] = t[i]; return r; }(); auto d = c; put(d.data());",
    'std::string s; s.insert(0, "abc@/insert"); s.replace(0, 3, "@"); put(s.c_str());',
    'std::u16string s = u"@/u16"; put((const char *)s.data());',
    'std::wstring s(L"@/w"); s += L"ab@"; put((const char *)s.data());',
    'using namespace std::string_literals; auto s = "q@\\0@"s; put(s.c_str());',
    'struct T { char p[97]; int n; }; T t{"@", out}; std::vector<T> v(3, t); put(v[1].p);',
    'std::initializer_list<const char *> l{"@/a", "b@/b"}; for (auto i : l) put(i);',
    'if (std::string_view(a).substr(0, 96) == "@") put("yes");',
    'static const std::string s = "static@/s"; put(s.c_str());',
    'auto f = [](std::string s) { return s + "@/lambda"; }; put(f(a).c_str());',
)
_CPP_HEAD = "".join(
    f"#include <{name}>\n"
    for name in (
        *("algorithm", "array", "cstring", "filesystem", "initializer_list", "map", "sstream", "string"),
        *("string_view", "vector"),
    )
)


def cpp_source(uses: Sequence[str], prefix: str) -> str:
    """One C++ file with a function for each use."""
    functions = "".join(
        f"__attribute__((noinline)) void use{number}(char *b, const char *a) {{ {use} }}\n"
        for number, use in enumerate(uses)
    )
    calls = "".join(f" use{number}(v[2], v[1]);" for number in range(len(uses)))
    text = (
        f"{_CPP_HEAD}int out; __attribute__((noinline)) void put(const char *s) {{ out += puts(s); }}\n"
        f"{functions}int main(int c, char **v) {{{calls} return out; }}\n"
    )
    return text.replace("@", prefix)


DESIGN_RUST = (
    'put("@/x".to_string());',
    'put(String::from("ab@/y"));',
    'put(format!("@/{}/z", a));',
    'put(concat!("PATH=@", "/bin").to_string());',
    'let mut s = a.to_string(); s.push_str("@/push"); put(s);',
    'put(std::path::PathBuf::from("@").join("lib").display().to_string());',
    'put((a == "@").to_string());',
    'put(a.starts_with("@").to_string());',
    'put(match a { "@/1" => "one", "x@/2" => "two", _ => "none" }.to_string());',
    'put(a.strip_prefix("@").unwrap_or("no").to_string());',
    'let b: [u8; 96] = *b"@"; put(format!("{:?}", b));',
    'let b: [u8; 99] = *b"abc@"; put(format!("{:?}", b));',
)
HELD_OUT_RUST = (
    'let v = vec!["@/a", "b@/b", "cc@/c"]; put(v.join(":"));',
    'put(a.replace("@", "/elsewhere"));',
    'let mut b = [0u8; 200]; b[7..103].copy_from_slice(b"@"); put(format!("{:?}", b));',
    'const C: &[u8; 101] = b"12345@"; let mut d = *C; d[0] = a.len() as u8; put(format!("{:?}", d));',
    'put((a.as_bytes().ends_with(b"/etc@")).to_string());',
    'put(std::ffi::CString::new("@/c").unwrap().into_string().unwrap());',
    'put(a.split("@/sep").count().to_string());',
    'put((a == "12@34" || a == "@@").to_string());',
)


def rust_source(uses: Sequence[str], prefix: str) -> str:
    """One Rust file with a function for each use."""
    functions = "".join(
        f"#[inline(never)] fn use{number}(a: &str) {{ {use} }}\n" for number, use in enumerate(uses)
    )
    calls = " ".join(f"use{number}(&a);" for number in range(len(uses)))
    text = (
        '#![allow(warnings)]\n#[inline(never)] fn put(s: String) { println!("{}", s); }\n'
        f"{functions}fn main() {{ let a = std::env::args().nth(1).unwrap(); {calls} }}\n"
    )
    return text.replace("@", prefix)


DESIGN_GO = (
    'println("@/x" + a)',
    "const c = `ab@/y`; println(c + a)",
    'println(strings.HasPrefix(a, "@"), a == "@/eq")',
    'switch a { case "@/1": println(1); case "x@/2": println(2) }',
    'b := []byte("@/bytes"); b[1] += a[0]; println(string(b))',
    'var b [96]byte; copy(b[:], "@"); b[1] += a[0]; println(string(b[:]))',
    'println(strings.Join([]string{a, "@/join"}, ":"), strings.TrimPrefix(a, "@"))',
    'println(bytes.Equal([]byte(a), []byte("@")))',
    'b := []byte("abc@/lead"); b[0] += a[0]; println(string(b))',
)
HELD_OUT_GO = (
    'b := append([]byte(a), "q@/append"...); println(string(b))',
    'm := map[string]int{"@/a": 1, "b@/b": 2}; println(m[a])',
    'b := []byte("PATH=@:@/bin"); b[2] += a[0]; println(string(b))',
    'type t struct { p [100]byte; n int }; v := t{n: len(a)}; copy(v.p[2:], "@"); println(string(v.p[:]), v.n)',
    'println(strings.Replace(a, "@", "/x", -1), strings.Contains(a, "zz@"))',
    'b := []byte("12@"); c := []byte("123456@"); b[0] += a[0]; c[0] += a[0]; println(string(b), string(c))',
    'println(bytes.HasPrefix([]byte(a), []byte("-L@")), a > "@")',
)


def go_source(uses: Sequence[str], prefix: str) -> str:
    """One Go file with a function for each use."""
    functions = "".join(
        f"//go:noinline\nfunc use{number}(a string) {{ {use} }}\n" for number, use in enumerate(uses)
    )
    calls = "; ".join(f"use{number}(a)" for number in range(len(uses)))
    text = (
        'package main\nimport ("bytes"; "os"; "strings")\nvar _ = bytes.Equal\nvar _ = strings.Join\n'
        f"{functions}func main() {{ a := os.Args[1]; {calls} }}\n"
    )
    return text.replace("@", prefix)
