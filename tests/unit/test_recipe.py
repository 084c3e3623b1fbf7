"""Reading belljar.toml: every value parsed, every problem named with its key and line."""

import pytest

from belljar.errors import InputError
from belljar.recipe.recipe import FILE, load
from belljar.recipe.specs import (
    SOURCE_KINDS,
    TOOL_KINDS,
    DebPackage,
    DebSource,
    NpmPackage,
    PathSource,
    PypiPackage,
    UrlSource,
    parse,
)
from belljar.schema import SchemaError

SHA = "a" * 64
NAME = "a name: at most 64 of a-z 0-9 . _ + -, the first a letter or digit"
KIND = "a known kind (deb-src:, pypi:, npm:), and is no table with url and sha256, or path"
GOOD = f"""\
[package]
name = "hello"
version = "2.10"
[sources]
hello = "deb-src:hello=2.10-3"
data = {{ url = "https://example.org/d.tar.gz", sha256 = "{SHA}" }}
here = {{ path = "src" }}
[environment]
suite = "bookworm"
packages = ["deb:bash", "deb:libc6=1:2.36-9+deb12u4", "pypi:Zig_Lang==0.17.0", "npm:@a/b@1.2.3-rc.1"]
[environment.links]
"/usr/bin/awk" = "gawk"
[build]
in = "hello"
script = "make"
[build.env]
LANG = "C"
[portability]
glibc = "2.17"
isa = "x86-64"
relocatable = true
[verify]
on = ["debian:bullseye"]
run = ["bin/hello", "--version"]
"""
SMALLEST = """\
[package]
name = "p"
version = "1"
[environment]
packages = ["pypi:six==1.16.0"]
[build]
script = "true"
"""


@pytest.fixture
def read(tmp_path):
    def attempt(text):
        (tmp_path / FILE).write_text(text)
        return load(tmp_path)

    return attempt


def problems(read, text):
    with pytest.raises(SchemaError) as caught:
        read(text)
    return [(issue.line, issue.key, issue.message) for issue in caught.value.issues]


def test_a_whole_recipe_reads_as_it_is_written(read):
    recipe = read(GOOD)
    assert (recipe.package.name, recipe.package.version) == ("hello", "2.10")
    assert recipe.sources == {
        "hello": DebSource(name="hello", version="2.10-3"),
        "data": UrlSource(url="https://example.org/d.tar.gz", sha256=SHA),
        "here": PathSource(path="src"),
    }
    assert recipe.environment.suite == "bookworm"
    assert recipe.environment.packages == (
        DebPackage(name="bash", version=None),
        DebPackage(name="libc6", version="1:2.36-9+deb12u4"),
        PypiPackage(name="zig-lang", version="0.17.0"),
        NpmPackage(name="@a/b", version="1.2.3-rc.1"),
    )
    assert recipe.environment.links == {"/usr/bin/awk": "gawk"}
    assert (recipe.build.script, recipe.build.directory, recipe.build.env) == ("make", "hello", {"LANG": "C"})
    assert (recipe.portability.glibc, recipe.portability.isa) == ("2.17", "x86-64")
    assert recipe.portability.relocatable
    assert recipe.verify.on == ("debian:bullseye",)
    assert recipe.verify.run == ("bin/hello", "--version")


def test_what_is_optional_may_be_left_out(read):
    recipe = read(SMALLEST)
    assert (recipe.sources, recipe.verify, recipe.environment.suite) == ({}, None, None)
    assert (recipe.build.directory, recipe.build.env) == ("", {})
    assert (recipe.portability.glibc, recipe.portability.relocatable) == (None, False)


def test_the_script_starts_in_the_only_source(read):
    assert read(SMALLEST + '[sources]\ns = { path = "." }\n').build.directory == "s"
    assert read(SMALLEST + '[sources]\ns = { path = "." }\nt = { path = "x" }\n').build.directory == ""


def test_all_problems_are_named_at_once_with_key_and_line(read):
    text = """\
[package]
name = "Hello World"
[sources]
a = "dep:x=1"
b = { url = "ftp://x", sha256 = "12" }
c = { sha = "x" }
d = 3
"bad name" = { path = "/abs" }
[enviroment]
[environment]
packages = ["deb:bash", "deb:BASH", "pypi:six>=1", "npm:x@1", 7]
[environment.links]
"usr/bin/x" = ""
[build]
in = "z"
scirpt = "x"
[build.env]
PREFIX = "/usr"
BELLJAR_X = "1"
"A-B" = "1"
[portability]
glibc = 2.17
isa = "X"
[verify]
on = []
"""
    assert problems(read, text) == [
        (1, "package.version", "missing"),
        (2, "package.name", f"'Hello World' is not {NAME}"),
        (4, "sources.a", f"'dep:x=1' does not begin with {KIND}"),
        (5, "sources.b.sha256", "'12' is not a SHA-256: 64 of 0-9 a-f"),
        (5, "sources.b.url", "'ftp://x' is not an http, https or file URL"),
        (6, "sources.c", "has neither url with sha256 nor path"),
        (6, "sources.c.sha", "unknown key; did you mean 'sha256'?"),
        (7, "sources.d", "should be a string, is a number"),
        (8, 'sources."bad name"', f"is not {NAME}"),
        (8, 'sources."bad name".path', "'/abs' is not a path relative to the recipe's directory"),
        (9, "enviroment", "unknown key; did you mean 'environment'?"),
        (10, "environment.suite", "missing, and Debian packages are named"),
        (11, "environment.packages[1]", "'deb:BASH' is not of the form deb:NAME or deb:NAME=VERSION"),
        (11, "environment.packages[2]", "'pypi:six>=1' is not of the form pypi:NAME==VERSION"),
        (11, "environment.packages[3]", "'npm:x@1' is not of the form npm:NAME@VERSION (all three numbers)"),
        (11, "environment.packages[4]", "should be a string, is a number"),
        (13, 'environment.links."usr/bin/x"', "is not an absolute path without . and .."),
        (13, 'environment.links."usr/bin/x"', "has no target that a link could hold"),
        (14, "build.script", "missing"),
        (15, "build.in", "'z' is not one of the sources"),
        (16, "build.scirpt", "unknown key; did you mean 'script'?"),
        (18, "build.env.PREFIX", "is set by belljar itself"),
        (19, "build.env.BELLJAR_X", "is set by belljar itself"),
        (20, "build.env.A-B", "is not the name of a variable"),
        (22, "portability.glibc", "should be a string, is a number"),
        (23, "portability.isa", "'X' is not a CPU level, such as \"x86-64\""),
        (24, "verify.run", "missing"),
        (25, "verify.on", "missing"),
    ]  # fmt: skip


def test_an_empty_file_names_what_must_be_there(read):
    keys = [key for _, key, _ in problems(read, "")]
    assert keys == [
        "build",
        "build.script",
        "environment",
        "environment.packages",
        "package",
        "package.name",
        "package.version",
    ]


@pytest.mark.parametrize(
    "text",
    [
        'script = "a\\u0000b"',
        'script = "  "',
        'script = "x"\nenv.A = "\\u0000"',
        'script = "x"\nenv = 3',
        'script = ["x"]',
    ],
)
def test_what_no_shell_could_run_is_refused(read, text):
    start, _, _ = SMALLEST.partition("script")
    assert all(key.startswith("build") for _, key, _ in problems(read, start + text))


@pytest.mark.parametrize("path", ["/", "/a/../b", "/a//b", "/./a", "a", "/a/", ""])
def test_links_stand_at_absolute_normal_paths(read, path):
    assert problems(read, SMALLEST + f'[environment.links]\n"{path}" = "x"\n')


def test_a_directory_without_a_recipe_is_explained(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        load(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no belljar\.toml"):
        load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not a directory"):
        load(tmp_path / "file")
    (tmp_path / FILE).mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "deb:-y",
        "deb:a*",
        "deb:a-;b",
        "deb:",
        "deb:a=",
        "deb:a=-o",
        "deb:../a",
        "deb-src:a",
        "pypi:-r==1",
        "pypi:a==--x",
        "npm:--x@1.0.0",
        "npm:a@latest",
        "npm:@a@1.0.0",
        "npm:@a/../b@1.0.0",
        "bash",
        "",
    ],
)
def test_a_name_that_a_client_could_take_for_something_else_is_refused(text):
    with pytest.raises(ValueError, match=r"is not of the form|does not begin"):
        parse(text, (*TOOL_KINDS, *SOURCE_KINDS))


@pytest.mark.parametrize(
    "text", ["deb:g++", "deb:a=1:2~3+b4", "deb-src:a=1", "pypi:a==1!2.0", "npm:@a/b@1.0.0"]
)
def test_a_request_is_what_it_was_parsed_from(text):
    assert parse(text, (*TOOL_KINDS, *SOURCE_KINDS)).request == text
