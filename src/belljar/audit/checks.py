"""The rules: each a pure function from one file's facts and the policy to findings, in one table."""

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from belljar.audit.facts import FileFacts, Kind, VersionUse
from belljar.audit.glibc import MARKERS, PRIVATE, GlibcVersion
from belljar.audit.machines import is_musl, loaders
from belljar.audit.policy import InterpreterRule, Policy


class Severity(enum.StrEnum):
    """What a finding does to the verdict."""

    ERROR = "error"
    """The tree does not meet the policy."""
    NOTE = "note"
    """Worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule has to say about a file; fields that do not apply are empty or None."""

    rule: str
    severity: Severity
    path: str
    message: str
    hint: str | None = None
    symbols: tuple[str, ...] = ()
    version: str | None = None
    library: str | None = None
    offset: int | None = None


Check = Callable[[FileFacts, Policy], Iterator[Finding]]

_SHOWN = 5


def check(facts: FileFacts, policy: Policy) -> tuple[Finding, ...]:
    """Return what all rules find in a file."""
    return tuple(finding for rule in CHECKS for finding in rule(facts, policy))


def check_floor(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Refuse needs of a glibc newer than the declared one; weak needs are noted."""
    for use in facts.versions:
        if policy.glibc is None or use.glibc is None or use.glibc <= policy.glibc:
            continue
        yield Finding(
            rule="glibc-floor",
            severity=Severity.ERROR if use.required else Severity.NOTE,
            path=facts.path,
            message=_describe_need(use) + f"; declared is {policy.glibc}",
            hint=_lower(use, policy.glibc, facts.arch) if use.required else None,
            symbols=use.symbols,
            version=use.version,
            library=use.library or None,
        )


def _describe_need(use: VersionUse) -> str:
    needs = f"needs {use.version}" if use.required else f"would use {use.version}, but runs without,"
    library = f" of {use.library}" if use.library else " (it has DT_RELR relocations)"
    return needs + library + (f" for {_some(use.symbols)}" if use.symbols else "")


def _some(names: Iterable[str]) -> str:
    """Name the first few and count the others."""
    every = list(names)
    more = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _lower(use: VersionUse, declared: GlibcVersion, arch: str) -> str:
    """Say what lowers a floor."""
    remedy = f"build against glibc {declared}"
    if arch in ("x86_64", "aarch64"):
        remedy += f": zig cc -target {arch}-linux-gnu.{declared}"
    first = use.symbols[0] if use.symbols else ""
    if use.version == "GLIBC_ABI_DT_RELR":
        return "link without packed relative relocations (-Wl,-z,nopack-relative-relocs)"
    if any(symbol.startswith("__isoc23_") for symbol in use.symbols):
        first = next(symbol for symbol in use.symbols if symbol.startswith("__isoc23_"))
        return f"{first} exists since 2.38: the headers of a newer toolchain chose it; {remedy}"
    if "__libc_start_main" in use.symbols:
        return f"__libc_start_main is the start-up code of the glibc that was linked against; {remedy}"
    return (f"{first} has this version since glibc {use.glibc}; " if first else "") + remedy


def check_private(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Leave glibc's private symbols to its own files: they change with every build of it."""
    for use in facts.versions:
        if use.version == PRIVATE and not facts.defines_glibc:
            yield Finding(
                rule="glibc-private",
                severity=Severity.NOTE if policy.glibc is None or not use.required else Severity.ERROR,
                path=facts.path,
                message=f"{_describe_need(use)}: bound to one build of glibc",
                hint="use public interfaces, or take the file from the tree if it is part of glibc",
                symbols=use.symbols,
                version=use.version,
                library=use.library,
            )


def check_markers(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Point out markers that the table lacks: they come from a glibc newer than belljar."""
    for use in facts.versions:
        if use.version.startswith("GLIBC_ABI_") and use.version not in MARKERS:
            yield Finding(
                rule="glibc-marker",
                severity=Severity.NOTE if policy.glibc is None or not use.required else Severity.ERROR,
                path=facts.path,
                message=f"{_describe_need(use)}: belljar does not know which glibc has it",
                version=use.version,
                library=use.library,
            )


def check_libc(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Refuse programs for musl where glibc is declared."""
    is_for_musl = is_musl(facts.interpreter or "") or any(
        name.startswith("libc.musl-") for name in facts.needed
    )
    if policy.glibc is not None and is_for_musl:
        yield Finding(
            rule="libc",
            severity=Severity.ERROR,
            path=facts.path,
            message=f"is linked against musl; declared is glibc {policy.glibc}",
            hint="build it against glibc, or statically",
        )


def check_arch(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Require of what runs the architecture of the declared CPU level."""
    is_run = facts.kind in (Kind.EXECUTABLE, Kind.STATIC, Kind.SHARED)
    if policy.arch is not None and facts.arch != policy.arch and is_run:
        yield Finding(
            rule="arch",
            severity=Severity.ERROR,
            path=facts.path,
            message=f"is for {facts.arch}; declared is {policy.isa}",
        )


def check_interpreter(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Require of programs the loader that every system of their architecture has."""
    wanted = loaders(facts.arch)
    if policy.interpreter is InterpreterRule.ANY or facts.interpreter is None or not wanted:
        return
    # A library that can be run (libc.so.6) is mapped by whatever loader the program named.
    if facts.kind is not Kind.EXECUTABLE or facts.interpreter in wanted or is_musl(facts.interpreter):
        return
    yield Finding(
        rule="interpreter",
        severity=Severity.ERROR,
        path=facts.path,
        message=f"asks for the loader {facts.interpreter}, which other systems have not got",
        hint=f"link with -Wl,--dynamic-linker={wanted[0]}",
    )


def check_search_path(facts: FileFacts, policy: Policy) -> Iterator[Finding]:  # noqa: ARG001 - the table's shape
    """Refuse to look for libraries in the working directory; absolute search paths are noted."""
    for name, value in (("RPATH", facts.rpath), ("RUNPATH", facts.runpath)):
        entries = value.split(":") if value else []
        relative = [entry for entry in entries if not entry.startswith(("$", "/"))]
        absolute = [entry for entry in entries if entry.startswith("/")]
        if relative:
            yield Finding(
                rule="search-path",
                severity=Severity.ERROR,
                path=facts.path,
                message=f"{name} searches the working directory for libraries: {_some(map(repr, relative))}",
                hint="begin every entry with $ORIGIN",
            )
        if absolute:
            yield Finding(
                rule="search-path",
                severity=Severity.NOTE,
                path=facts.path,
                message=f"{name} looks for libraries in {_some(absolute)}",
            )


def check_build_paths(facts: FileFacts, policy: Policy) -> Iterator[Finding]:  # noqa: ARG001 - the table's shape
    """Keep the loader away from the builder's directories; their names elsewhere are noted."""
    for where in dict.fromkeys(leak.where for leak in facts.leaks):
        leaks = [leak for leak in facts.leaks if leak.where is where]
        total = sum(leak.count for leak in leaks)
        yield Finding(
            rule="build-path",
            severity=Severity.ERROR if where.is_read_by_loader else Severity.NOTE,
            path=facts.path,
            message=f"names a build path in {where} ({total}x): {leaks[0].text}",
            hint="link with paths relative to $ORIGIN" if where.is_read_by_loader else None,
            offset=leaks[0].offset,
        )


CHECKS: tuple[Check, ...] = (
    check_floor,
    check_private,
    check_markers,
    check_libc,
    check_arch,
    check_interpreter,
    check_search_path,
    check_build_paths,
)
