"""The rules: each a pure function from one file's facts and the policy to findings, in one table."""

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from belljar.audit.facts import FileFacts, Kind, Known, VersionUse
from belljar.audit.floors.glibc import MARKERS, PRIVATE, GlibcVersion
from belljar.audit.floors.series import FLOORS, dotted, gcc_of, split
from belljar.audit.floors.symbols import NONSHARED, Origin, origins
from belljar.audit.isa import Tier
from belljar.audit.machines import is_musl, level, loaders
from belljar.audit.policy import InterpreterRule, Libc, Policy


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
    detail: tuple[str, ...] = ()
    """More lines, for who asks why."""
    waived: str | None = None
    """Why it does not count, where an exception covers it."""


Check = Callable[[FileFacts, Policy], Iterator[Finding]]
TreeCheck = Callable[[FileFacts, Policy, frozenset[str]], Iterator[Finding]]

_SHOWN = 5
_RUN = (Kind.EXECUTABLE, Kind.STATIC, Kind.SHARED)


def check(facts: FileFacts, policy: Policy, inside: frozenset[str] = frozenset()) -> tuple[Finding, ...]:
    """Return what all rules find in a file of a tree that has the libraries `inside`."""
    alone = (finding for rule in CHECKS.values() for finding in rule(facts, policy))
    among = (finding for rule in TREE_CHECKS.values() for finding in rule(facts, policy, inside))
    return (*alone, *among)


def check_floor(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Refuse needs of a glibc newer than the declared one; weak needs are noted."""
    declared = _declared_glibc(facts, policy)
    for use in facts.asks:
        if declared is None or use.glibc is None or use.glibc <= declared:
            continue
        yield Finding(
            rule="glibc-floor",
            severity=Severity.ERROR if use.required else Severity.NOTE,
            path=facts.path,
            message=describe_need(use) + f"; declared is {declared}",
            hint=remedy(use, facts.arch, declared) if use.required else None,
            symbols=use.symbols,
            version=use.version,
            library=use.library or None,
        )


def _declared_glibc(facts: FileFacts, policy: Policy) -> GlibcVersion | None:
    limit = policy.limit("GLIBC", facts.arch)
    if limit is None or policy.glibc is None:
        return policy.glibc
    return max(policy.glibc, GlibcVersion.parse(dotted(limit)))


def check_limits(facts: FileFacts, policy: Policy, inside: frozenset[str]) -> Iterator[Finding]:
    """Refuse versions above the policy's, of libstdc++, libgcc and others, that the tree does not bring."""
    for use in facts.versions:
        found = split(use.version)
        if use.library in inside or use.glibc or use.version == PRIVATE or found is None:
            continue
        limit = policy.limit(found[0], facts.arch)
        if limit is None or found[1] <= limit:
            continue
        gcc = gcc_of(use.version)
        since = f" (GCC {gcc})" if gcc else ""
        yield Finding(
            rule=f"{found[0].lower()}-floor" if found[0].lower() in FLOORS else "version-floor",
            severity=Severity.ERROR if use.required else Severity.NOTE,
            path=facts.path,
            message=f"{describe_need(use)}{since}; declared is {found[0]}_{dotted(limit)}",
            hint=_lower_gcc(use) if gcc else None,
            symbols=use.symbols,
            version=use.version,
            library=use.library,
        )


def _lower_gcc(use: VersionUse) -> str:
    own = "-static-libstdc++" if use.library.startswith("libstdc++") else "-static-libgcc"
    return f"build with an older GCC, bring {use.library} along, or link with {own}"


def check_names(facts: FileFacts, policy: Policy, inside: frozenset[str]) -> Iterator[Finding]:
    """Refuse versions without a number that the policy does not name."""
    series = {item.series for item in policy.limits} | {"GLIBC"}
    for use in facts.versions:
        is_known = policy.names is None or use.version in policy.names or use.version == PRIVATE
        is_numbered = use.glibc is not None or split(use.version) is not None
        if is_known or is_numbered or use.library in inside or use.version.partition("_")[0] not in series:
            continue
        yield Finding(
            rule="version-floor",
            severity=Severity.ERROR if use.required else Severity.NOTE,
            path=facts.path,
            message=f"{describe_need(use)}: not in {_name(policy)}",
            symbols=use.symbols,
            version=use.version,
            library=use.library,
        )


def check_libraries(facts: FileFacts, policy: Policy, inside: frozenset[str]) -> Iterator[Finding]:
    """Refuse libraries that neither the tree nor every system of the policy has."""
    for name in facts.needed:
        is_loader = name.startswith(("ld-linux", "ld64.so.", "ld-musl-", "libc.musl-", "ld.so."))
        if policy.libraries is None or name in policy.libraries or name in inside or is_loader:
            continue
        yield Finding(
            rule="external-library",
            severity=Severity.ERROR,
            path=facts.path,
            message=f"needs {name}, which neither the tree has nor {_name(policy)} allows",
            hint=f"bring {PurePath(name).name} along in the tree, or link it statically",
            library=name,
        )


def _name(policy: Policy) -> str:
    return policy.name or "the policy"


def check_symbols(facts: FileFacts, policy: Policy, inside: frozenset[str]) -> Iterator[Finding]:
    """Refuse symbols that libraries got without a version to tell them by."""
    if not policy.forbidden:
        return
    used = facts.unversioned.union(*(use.symbols for use in facts.versions if use.required))
    for library, symbols in policy.forbidden:
        is_needed = library in facts.needed or (library == "libc.so" and facts.is_for_musl)
        found = tuple(sorted(used.intersection(symbols)))
        if found and is_needed and library not in inside:
            yield Finding(
                rule="forbidden-symbol",
                severity=Severity.ERROR,
                path=facts.path,
                message=f"uses {_some(found)}, which {library} has only since later than {_name(policy)}",
                hint=f"build against an older {library}, or bring it along",
                symbols=found,
                library=library,
            )


def describe_need(use: VersionUse) -> str:
    """Say what a file needs: version, library, symbols."""
    if use.known is Known.SYMBOL:
        of = f" of {use.library}" if use.library else ""
        return f"refers to {_some(use.symbols)}{of}, first in {use.glibc}"
    needs = f"needs {use.version}" if use.required else f"would use {use.version}, but runs without,"
    library = f" of {use.library}" if use.library else " (it has DT_RELR relocations)"
    return needs + library + (f" for {_some(use.symbols)}" if use.symbols else "")


def _some(names: Iterable[str]) -> str:
    """Name the first few and count the others."""
    every = list(names)
    more = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def remedy(use: VersionUse, arch: str, declared: GlibcVersion | None = None) -> str:
    """Say what lowers a glibc floor."""
    if use.version == "GLIBC_ABI_DT_RELR":
        return "link without packed relative relocations (-Wl,-z,nopack-relative-relocs)"
    build = f"build against glibc {declared}" if declared else "build against an older glibc"
    if declared is not None and arch in ("x86_64", "aarch64"):
        build += f": zig cc -target {arch}-linux-gnu.{declared}"
    why = next((words for words in (_why(name, use, arch) for name in _telling(use.symbols)) if words), "")
    return f"{why}; {build}" if why else build


def _telling(symbols: Iterable[str]) -> list[str]:
    """Return symbols, those first that explain most."""
    return sorted(symbols, key=lambda name: (not name.startswith("__isoc23_"), name == "__libc_start_main"))


def _why(name: str, use: VersionUse, arch: str) -> str:
    """Explain why a symbol needs that release: it is new, it moved, or it changed its shape."""
    if name == "__libc_start_main":
        return f"{name} is the start-up code of the glibc that was linked against"
    known = [origin for origin in origins(name, arch) if use.glibc and origin.release <= use.glibc]
    if not known or use.glibc is None:
        return ""
    oldest = known[0]
    if name.startswith("__isoc23_") and oldest.release == use.glibc:
        return f"{name} exists since 2.38: the headers of a newer toolchain chose it (C23)"
    if oldest.release == use.glibc:
        before = ", until then in libc_nonshared.a" if name in NONSHARED else ""
        return f"{name} is first in {use.glibc}{before}"
    if oldest.library != use.library and Origin(use.glibc, use.library) in known:
        return f"{name} moved from {oldest.library} to {use.library} in {use.glibc}"
    return f"{name} exists since {oldest.release} and got a new version in {use.glibc}"


def check_private(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Leave glibc's private symbols to its own files: they change with every build of it."""
    for use in facts.asks:
        if use.version == PRIVATE and not facts.defines_glibc:
            yield Finding(
                rule="glibc-private",
                severity=Severity.NOTE if policy.glibc is None or not use.required else Severity.ERROR,
                path=facts.path,
                message=f"{describe_need(use)}: bound to one build of glibc",
                hint="use public interfaces, or take the file from the tree if it is part of glibc",
                symbols=use.symbols,
                version=use.version,
                library=use.library,
            )


def check_markers(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Point out markers that the table lacks: they come from a glibc newer than belljar."""
    for use in facts.asks:
        if use.version.startswith("GLIBC_ABI_") and use.version not in MARKERS:
            yield Finding(
                rule="glibc-marker",
                severity=Severity.NOTE if policy.glibc is None or not use.required else Severity.ERROR,
                path=facts.path,
                message=f"{describe_need(use)}: belljar does not know which glibc has it",
                version=use.version,
                library=use.library,
            )


def check_libc(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Refuse programs for musl where glibc is declared, and programs that musl cannot run where musl is."""
    if facts.sealed is not None:
        return
    is_glibc = policy.glibc is not None or policy.libc is Libc.GLIBC
    if is_glibc and facts.is_for_musl:
        yield Finding(
            rule="libc",
            severity=Severity.ERROR,
            path=facts.path,
            message=f"is linked against musl; declared is glibc {policy.glibc or ''}".rstrip(),
            hint="build it against glibc, or statically",
        )
    if policy.libc is Libc.MUSL and (facts.floor or facts.musl or facts.defines_glibc):
        why = "; ".join(facts.musl)
        yield Finding(
            rule="libc",
            severity=Severity.ERROR,
            path=facts.path,
            message="is linked against glibc; declared is musl" + (f" ({why})" if why else ""),
            hint="build it against musl, or statically",
        )


def check_arch(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Require of what runs the architecture of the declared CPU level."""
    if policy.arch is not None and facts.arch != policy.arch and facts.kind in _RUN:
        yield Finding(
            rule="arch",
            severity=Severity.ERROR,
            path=facts.path,
            message=f"is for {facts.arch}; declared is {policy.isa}",
        )


def check_isa(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Refuse a need of a CPU above the declared level, where it is proven."""
    isa = facts.isa
    if policy.isa is None or isa is None or not isa.is_proven:
        return
    beyond = [item.name for item in isa.extensions if item.tier in (Tier.CERTAIN, Tier.FIRM)]
    if level(isa.needs) <= level(policy.isa) and not (beyond and level(policy.isa) == 1):
        return
    needs = " and ".join([isa.needs] * (level(isa.needs) > 1) + [", ".join(beyond)] * bool(beyond))
    yield Finding(
        rule="isa",
        severity=Severity.ERROR,
        path=facts.path,
        message=f"needs {needs} ({isa.tier}); declared is {policy.isa}",
        hint="compile it for the declared level (-march=...), or choose the code at run time",
        detail=tuple(map(str, isa.evidence)),
    )


def check_interpreter(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Require of programs the loader that every system of their architecture has."""
    wanted = loaders(facts.arch)
    if policy.interpreter is InterpreterRule.ANY or facts.interpreter is None or not wanted:
        return
    # A library that can be run (libc.so.6) is mapped by whatever loader the program named.
    if facts.kind is not Kind.EXECUTABLE or facts.interpreter in wanted or is_musl(facts.interpreter):
        return
    if facts.sealed is not None:  # a launcher starts another loader
        return
    yield Finding(
        rule="interpreter",
        severity=Severity.ERROR,
        path=facts.path,
        message=f"asks for the loader {facts.interpreter}, which other systems have not got",
        hint=f"link with -Wl,--dynamic-linker={wanted[0]}",
    )


def check_search_path(facts: FileFacts, policy: Policy) -> Iterator[Finding]:
    """Refuse to look for libraries in the working directory, or, where declared, in places of the host."""
    if facts.sealed is not None and facts.sealed.is_program:
        return  # what starts it gives the loader another search path
    for name, entries in (("RPATH", facts.rpath), ("RUNPATH", facts.runpath)):
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
                severity=Severity.NOTE if policy.host_paths else Severity.ERROR,
                path=facts.path,
                message=f"{name} looks for libraries in {_some(absolute)}",
                hint=None if policy.host_paths else "name directories of the tree, by $ORIGIN",
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


CHECKS: dict[str, Check] = {
    "glibc-floor": check_floor,
    "glibc-private": check_private,
    "glibc-marker": check_markers,
    "libc": check_libc,
    "arch": check_arch,
    "isa": check_isa,
    "interpreter": check_interpreter,
    "search-path": check_search_path,
    "build-path": check_build_paths,
}
TREE_CHECKS: dict[str, TreeCheck] = {
    "version-floor": check_limits,
    "version-name": check_names,
    "external-library": check_libraries,
    "forbidden-symbol": check_symbols,
}
RULES = (
    *CHECKS,
    *TREE_CHECKS,
    *("glibcxx-floor", "cxxabi-floor", "gcc-floor"),
    *("unsealed", "seal", "glibc-family", "shebang", "trace"),
    *("missing-library", "unresolved-symbol", "closure", "probe"),
    *("tie", "exec-stack", "text-relocations", "writable-code", "set-id", "world-writable"),
    *("unreadable", "not-elf"),
)
"""The names of all rules, for exceptions to name."""
