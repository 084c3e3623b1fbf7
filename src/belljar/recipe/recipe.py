"""A recipe: what `belljar.toml` says, read once into values that the rest can trust.

Nothing is looked up here, neither in the file system nor on the network: a recipe that loads is
well formed, no more. All problems are reported together, each with its key and line.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from belljar.errors import InputError
from belljar.recipe.specs import (
    SOURCE_KINDS,
    TOOL_KINDS,
    DebPackage,
    DebSource,
    PathSource,
    PypiPackage,
    Source,
    Tool,
    UrlSource,
    parse,
)
from belljar.schema import Document, Key, SchemaError, Table
from belljar.types import Digest

FILE = "belljar.toml"

ZIG = "0.17.0"
"""The release of zig that compiles under [toolchain], unless the recipe names one."""
GLIBC = "2.17"
"""What it compiles for, likewise."""

RESERVED = ("PREFIX", "JOBS", "HOME", "TMPDIR")
"""Variables that the build sets itself, as it does all that begin with BELLJAR_."""

_NAME = r"[a-z0-9][a-z0-9._+-]{0,63}"
_NAME_WORDS = "a name: at most 64 of a-z 0-9 . _ + -, the first a letter or digit"
# No "-": it parts the version from the name in the name of a store entry.
_VERSION = r"[A-Za-z0-9][A-Za-z0-9._+~]{0,63}"
_VERSION_WORDS = "a version: at most 64 of A-Z a-z 0-9 . _ + ~, as in 1.0~rc1, the first a letter or digit"
_GLIBC, _GLIBC_WORDS = r"2\.[0-9]{1,3}", 'a version of glibc, such as "2.17"'
_ZIG = "ziglang"
_SHA256 = r"[0-9a-f]{64}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What is built: its name and version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The tools of the build: packages, the Debian suite they come from, links into the sandbox root."""

    suite: str | None
    packages: tuple[Tool, ...]
    links: Mapping[str, str]
    """Absolute path in the sandbox root -> target of the link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How to build: a shell script, where it starts, and its own variables."""

    script: str
    directory: str
    """The source in whose directory the script starts; empty: the directory that holds the sources."""
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A compiler for a chosen glibc under the usual names; `seal`: the output gets a libc of its own."""

    glibc: str
    zig: str
    seal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Portability:
    """What the output guarantees; None or False: nothing."""

    glibc: str | None = None
    isa: str | None = None
    relocatable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """On which roots to run the output, and which command, relative to it."""

    on: tuple[str, ...]
    run: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole recipe. `directory` holds its file; sources are in the file's order."""

    directory: Path
    package: Package
    sources: Mapping[str, Source]
    environment: Environment
    build: Build
    portability: Portability
    verify: Verify | None
    toolchain: Toolchain | None = None

    @property
    def path(self) -> Path:
        """Where the recipe's file is."""
        return self.directory / FILE

    def error(self, problems: Iterable[tuple[Key, str]]) -> SchemaError:
        """Return the error for problems (key, message) that showed up later, with their lines."""
        return Document.read(self.path).error(problems)


def load(directory: Path) -> Recipe:
    """Read `belljar.toml` in `directory`.

    Raises InputError when there is none or it cannot be read, SchemaError with all its problems.
    """
    path = directory / FILE
    if not path.exists():
        what = "no such directory" if not directory.exists() else f"holds no {FILE}"
        if directory.exists() and not directory.is_dir():
            what = "not a directory"
        raise InputError(f"{directory}: {what}", hint=f"name the directory of a {FILE}")
    document = Document.read(path)
    recipe = _recipe(document, directory)
    document.finish()
    return recipe


def _recipe(document: Document, directory: Path) -> Recipe:
    root = document.root
    sources = _sources(root.table("sources"))
    environment = _environment(root.table("environment", required=True))
    if environment.suite is None and _needs_suite(sources, environment):
        document.complain(("environment", "suite"), "missing, and Debian packages are named")
    toolchain = _toolchain(root.table("toolchain"), environment) if "toolchain" in root else None
    portability = _portability(root.table("portability"))
    if toolchain is not None:
        environment = _with_zig(environment, toolchain.zig)
        portability = replace(portability, glibc=portability.glibc or toolchain.glibc)
    return Recipe(
        directory=directory,
        package=_package(root.table("package", required=True)),
        sources=sources,
        environment=environment,
        build=_build(root.table("build", required=True), sources),
        portability=portability,
        verify=_verify(root.table("verify")) if "verify" in root else None,
        toolchain=toolchain,
    )


def _package(table: Table) -> Package:
    return Package(
        name=table.text("name", match=_NAME, want=_NAME_WORDS),
        version=table.text("version", match=_VERSION, want=_VERSION_WORDS),
    )


def _needs_suite(sources: Mapping[str, Source], environment: Environment) -> bool:
    return any(
        isinstance(spec, DebPackage | DebSource) for spec in (*sources.values(), *environment.packages)
    )


def _sources(table: Table) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for name in table.names():
        if not re.fullmatch(_NAME, name):
            table.complain(name, f"is not {_NAME_WORDS}")
        if (spec := _source(table, name)) is not None:
            found[name] = spec
    return found


def _source(table: Table, name: str) -> Source | None:
    value = table.text_or_table(name)
    if isinstance(value, str):
        return _short_form(table, name, value)
    return _long_form(table, name, value)


def _short_form(table: Table, name: str, value: str) -> Source | None:
    if not value:
        return None
    try:
        spec = parse(value, SOURCE_KINDS)
    except ValueError as error:
        table.complain(name, f"{error}, and is no table with url and sha256, or path")
        return None
    return None if isinstance(spec, DebPackage) else spec


def _long_form(sources: Table, name: str, table: Table) -> Source | None:
    if "url" in table and "path" in table:
        sources.complain(name, "has both url and path")
    if "path" in table:
        path = table.text("path", match=r"(?!/)[^\x00]+", want="a path relative to the recipe's directory")
        return PathSource(path=path)
    if "url" in table or "sha256" in table:
        url = table.text("url", match=r"(https?|file)://[!-~]+", want="an http, https or file URL")
        sha256 = table.text("sha256", match=_SHA256, want="a SHA-256: 64 of 0-9 a-f")
        return UrlSource(url=url, sha256=Digest(sha256))
    sources.complain(name, "has neither url with sha256 nor path")
    for known in ("url", "sha256", "path"):
        table.text(known, "")
    return None


def _environment(table: Table) -> Environment:
    suite = table.text("suite", "", match=r"[a-z]+|", want="the name of a suite, such as bookworm")
    texts = table.texts("packages")
    packages: list[Tool] = []
    for index, text in enumerate(texts):
        try:
            spec = parse(text, TOOL_KINDS)
        except ValueError as error:
            if text:
                table.complain_of(("packages", index), str(error))
            continue
        if not isinstance(spec, DebSource):
            packages.append(spec)
    if not texts:
        table.complain("packages", "names no package, but a build needs at least a shell")
    return Environment(suite=suite or None, packages=tuple(packages), links=_links(table))


def _links(table: Table) -> dict[str, str]:
    links = table.text_values("links")
    for path, target in links.items():
        if not re.fullmatch(r"(/[^/\x00]+)+", path) or {".", ".."} & set(path.split("/")):
            table.complain_of(("links", path), "is not an absolute path without . and ..")
        if not target or "\0" in target:
            table.complain_of(("links", path), "has no target that a link could hold")
    return links


def _build(table: Table, sources: Mapping[str, Source]) -> Build:
    script = table.text("script", match=r"[^\x00]*[^\x00\s][^\x00]*", want="a script")
    start = table.text("in", "")
    if start and start not in sources:
        table.complain("in", f"{start!r} is not one of the sources")
    env = table.text_values("env")
    for name, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            table.complain_of(("env", name), "is not the name of a variable")
        if name in RESERVED or name.startswith("BELLJAR_"):
            table.complain_of(("env", name), "is set by belljar itself")
        if "\0" in value:
            table.complain_of(("env", name), "holds a NUL")
    only = next(iter(sources)) if len(sources) == 1 else ""
    return Build(script=script, directory=start or only, env=env)


def _toolchain(table: Table, environment: Environment) -> Toolchain | None:
    """Read [toolchain]; what is not enabled is None. A zig among the packages is the one that counts."""
    named = [spec for spec in environment.packages if isinstance(spec, PypiPackage) and spec.name == _ZIG]
    zig = table.text(
        "zig", "", match=r"\d+\.\d+\.\d+(\.post\d+)?|", want='a release of zig, such as "0.17.0"'
    )
    if named and zig and named[0].version != zig:
        table.complain("zig", f"is {zig}, and environment.packages names {named[0].request}")
    found = Toolchain(
        glibc=table.text("glibc", GLIBC, match=_GLIBC, want=_GLIBC_WORDS),
        zig=named[0].version if named else zig or ZIG,
        seal=table.flag("seal", default=False),
    )
    return found if table.flag("enabled", default=True) else None


def _with_zig(environment: Environment, version: str) -> Environment:
    spec = PypiPackage(name=_ZIG, version=version)
    if spec in environment.packages:
        return environment
    return replace(environment, packages=(*environment.packages, spec))


def _portability(table: Table) -> Portability:
    glibc = table.text("glibc", "", match=rf"{_GLIBC}|", want=_GLIBC_WORDS)
    isa = table.text("isa", "", match=r"[a-z0-9][a-z0-9._+-]*|", want='a CPU level, such as "x86-64"')
    return Portability(
        glibc=glibc or None, isa=isa or None, relocatable=table.flag("relocatable", default=False)
    )


def _verify(table: Table) -> Verify:
    return Verify(on=_words(table, "on"), run=_words(table, "run"))


def _words(table: Table, name: str) -> tuple[str, ...]:
    words = table.texts(name)
    if not words:
        table.complain(name, "missing")
    if any("\0" in word for word in words):
        table.complain(name, "holds a NUL")
    return words
