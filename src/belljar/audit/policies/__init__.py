"""Policies as data: the built-in ones, and those of users, from TOML.

A file holds one table for each policy, or, without a name, one policy: a user's file. A policy that
`extends` another one has all that this one has: its limits are raised, its libraries added to, its
forbidden symbols `allowed`; so policies nest by the way they are written, and a test compares them.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from belljar.audit.checks import RULES
from belljar.audit.floors.glibc import GlibcVersion
from belljar.audit.floors.series import number
from belljar.audit.policy import InterpreterRule, Libc, Limit, Policy, Waiver
from belljar.errors import InputError
from belljar.schema import Document, Table, nearest

_FILES = ("manylinux", "musllinux", "portable", "sealed")
Word = TypeVar("Word", Libc, InterpreterRule)
_NUMBER = r"[0-9]+(\.[0-9]+)+"


@functools.cache
def builtin() -> Mapping[str, Policy]:
    """Return the built-in policies by name, in each family the strictest first."""
    found: dict[str, Policy] = {}
    room = Path(__file__).parent
    for name in _FILES:
        document = Document((room / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")
        for key in document.root.names():
            found[key] = _policy(document.root.table(key), key, found)
        document.finish()
    return found


def find(word: str) -> Policy:
    """Return the policy of that name or alias, or the one in that file (a path with a dot or a slash).

    Raises InputError when there is none, SchemaError when the file is not what it should be.
    """
    for policy in builtin().values():
        if word == policy.name or word in policy.aliases:
            return policy
    if "/" in word or word.endswith(".toml"):
        return load(Path(word))
    hint = f"there are {', '.join(builtin())}, or give a file: ./policy.toml"
    raise InputError(f"policy {word!r}: not known{nearest(word, builtin())}", hint=hint)


def load(path: Path) -> Policy:
    """Read a user's policy. Raises SchemaError with all that is wrong in the file."""
    document = Document.read(path)
    policy = _policy(document.root, "", builtin())
    document.finish()
    return replace(policy, name=policy.name or path.stem)


def _policy(table: Table, name: str, known: Mapping[str, Policy]) -> Policy:
    base = _base(table, known)
    policy = replace(
        base,
        name=name or table.text("name", ""),
        title=table.text("title", ""),
        aliases=table.texts("aliases"),
        libc=_word(table, "libc", Libc, base.libc),
        glibc=_glibc(table, base.glibc),
        interpreter=_word(table, "interpreter", InterpreterRule, base.interpreter) or base.interpreter,
        host_paths=table.flag("host-paths", default=base.host_paths),
        limits=_limits(table, base.limits),
        names=_united(table, "versions", base.names),
        libraries=_united(table, "libraries", base.libraries),
        forbidden=_forbidden(table, base.forbidden),
        waivers=base.waivers + tuple(map(_waiver, table.tables("exceptions"))),
        sealed=table.flag("sealed", default=base.sealed),
        host_files=base.host_files + table.texts("host-files"),
    )
    isa, build_paths = table.text("isa", base.isa or "") or None, table.texts("build-paths")
    try:
        return replace(policy, isa=isa, build_paths=base.build_paths + build_paths)
    except InputError as error:
        table.complain("isa" if error.message.startswith("isa") else "build-paths", error.message)
        return policy


def _base(table: Table, known: Mapping[str, Policy]) -> Policy:
    name = table.text("extends", "")
    if name and name not in known:
        table.complain("extends", f"no policy {name!r}{nearest(name, known)}")
    return known.get(name, Policy())


def _word(table: Table, key: str, words: type[Word], default: Word | None) -> Word | None:
    text = (
        table.text(key, "", match="|".join(words), want=f"one of {', '.join(words)}") if key in table else ""
    )
    return words(text) if text in tuple(words) else default


def _glibc(table: Table, default: GlibcVersion | None) -> GlibcVersion | None:
    text = (
        table.text("glibc", "", match=_NUMBER, want="a release of glibc like 2.17")
        if "glibc" in table
        else ""
    )
    return GlibcVersion.parse(text) if re.fullmatch(_NUMBER, text) else default


def _limits(table: Table, base: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Read `[limits]`, series to number; what is a table there is for one architecture."""
    found = {(item.arch, item.series): item for item in base}
    limits = table.table("limits")
    for name in limits.names():
        arch, source = (None, limits) if name.isupper() else (name, limits.table(name))
        for series in source.names() if arch else [name]:
            text = source.text(series, match=_NUMBER, want="a number like 3.4.19")
            if re.fullmatch(_NUMBER, text):
                found[arch, series] = Limit(series=series, number=number(text), arch=arch)
    return tuple(found.values())


def _united(table: Table, key: str, base: frozenset[str] | None) -> frozenset[str] | None:
    return frozenset(table.texts(key)) | (base or frozenset()) if key in table else base


def _forbidden(
    table: Table, base: tuple[tuple[str, tuple[str, ...]], ...]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read `[forbidden]`, library to symbols; `allowed` are those of the base that no longer are."""
    forbidden, allowed = table.table("forbidden"), set(table.texts("allowed"))
    found = {name: [symbol for symbol in symbols if symbol not in allowed] for name, symbols in base}
    for name in forbidden.names():
        found.setdefault(name, []).extend(forbidden.texts(name))
    return tuple((name, tuple(symbols)) for name, symbols in found.items() if symbols)


def _waiver(table: Table) -> Waiver:
    rule, reason = table.text("rule"), table.text("reason", match=r"\s*\S[\s\S]*", want="a reason")
    if rule and rule not in RULES:
        table.complain("rule", f"no rule {rule!r}{nearest(rule, RULES)}")
    return Waiver(rule=rule, path=table.text("path"), reason=reason, expires=table.date("expires"))
