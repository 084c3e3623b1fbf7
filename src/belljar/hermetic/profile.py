"""Profiles: what one build tool needs to work hermetically, as data.

Built-in ones are the TOML files of `profiles/`; a user's, in $XDG_CONFIG_HOME/belljar/profiles, have the
same keys and come first. A profile says how a project is recognised, what must be locked, what may be
written, which variables the tool has a use for and where its configuration lies (to tell what was
hidden).

docs/hermetic.md has the keys. Rejected: profiles as code. Every difference between tools that we met is a
list of names, and a list can be read, compared and corrected by somebody who knows the tool and not
belljar.
"""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from belljar.errors import InputError, UsageError
from belljar.sandbox import value

if TYPE_CHECKING:
    from belljar.schema import Table

NONE = "none"
"""The name that asks for no profile."""
_ROOM = Path(__file__).parent / "profiles"
_MARKER_LIMIT = 1 << 20
_PATH = r"\.|(?!/)(?!.*(^|/)\.\.?(/|$)).+"
_WORD = re.compile(r'"([^"/]*)["/]')
"""A string of a built-in profile, and the first part of a path: a marker is one."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@value
class Cache:
    """A directory that the fetch step fills and the build step reads.

    On the host it is `host` below the tool's home (the variable `variable`, else `home` below $HOME);
    inside, `inside`.
    """

    variable: str
    home: str
    host: str
    inside: str

    def place(self, env: Mapping[str, str]) -> Path:
        """Return where it is on the host."""
        top = env.get(self.variable) or os.path.join(env.get("HOME") or "/nonexistent", self.home)
        return Path(os.path.normpath(os.path.join(os.path.abspath(top), self.host)))


@value
class Profile:
    """What one build tool needs; paths of `outputs` and `locks` are relative to the project.

    `locks`: one of them must be there, where `lock_when` is empty or found in a marker file.
    `locked` is inserted after the first word of `locked_commands` in a command of `programs`.
    `offline`: variables of a step that has no network, which tell the tool so.
    Only the fetch step sees the files `fetch_sees`, gets `fetch_variables`, has `fetch_env` (empty: unset).
    `direct_linkers`: patterns of linkers that are no C compiler, where the tool would call one.
    `hidden`: configuration outside the project, `~/` below the home directory, `../` in every parent.
    """

    name: str = NONE
    title: str = ""
    markers: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    lock_when: str = ""
    locked: str = ""
    locked_commands: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()
    fetch_writes: tuple[str, ...] = ()
    fetch_sees: tuple[str, ...] = ()
    fetch_variables: tuple[str, ...] = ()
    fetch_env: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = (".",)
    caches: tuple[Cache, ...] = ()
    host: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    identity: tuple[tuple[str, ...], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    offline: tuple[tuple[str, str], ...] = ()
    remap: tuple[tuple[str, str], ...] = ()
    linker: tuple[tuple[str, str], ...] = ()
    direct_linkers: tuple[str, ...] = ()


def available(config: Path | None, *, project: Path | None = None) -> dict[str, Profile]:
    """Return all profiles by name; those in `config` take the place of built-in ones of their name.

    With a `project`, of the built-in ones only those that have a word for a file there: reading all takes
    as long as starting a sandbox. Raises SchemaError with all that is wrong in a user's file.
    """
    own = _files(_ROOM)
    there = None if project is None else _names(project)
    if there is not None:
        own = [path for path in own if not there.isdisjoint(_WORD.findall(path.read_text("utf-8")))]
    return {path.stem: _load(path) for path in (*own, *_users(config))}


def _users(config: Path | None) -> list[Path]:
    try:
        return _files(config) if config is not None and config.is_dir() else []
    except PermissionError as error:
        hint = "is HOME somebody else's? set it, or XDG_CONFIG_HOME; or --profile none"
        raise InputError(f"{config}: {error.strerror}", hint=hint) from error


def _files(directory: Path) -> list[Path]:
    return [directory / name for name in sorted(os.listdir(directory)) if name.endswith(".toml")]


def _names(project: Path) -> set[str] | None:
    """Return what is in a project; None for one that may not be listed."""
    with contextlib.suppress(OSError):
        return set(os.listdir(project))
    return None


def choose(
    profiles: Mapping[str, Profile], name: str | None, project: Path, command: Sequence[str]
) -> Profile:
    """Return the profile of that name, or the one that fits project and command; without any, an empty one.

    Where several fit by their marker files, the command's program decides; UsageError when it does not.
    """
    if name == NONE:
        return Profile()
    if name is not None:
        if name not in profiles:
            from belljar.schema import nearest

            hint = f"there are {', '.join(profiles)} and {NONE}"
            raise UsageError(f"--profile {name}: not known{nearest(name, profiles)}", hint=hint)
        return profiles[name]
    fitting = [item for item in profiles.values() if any((project / mark).is_file() for mark in item.markers)]
    program = os.path.basename(command[0])
    chosen = [item for item in fitting if program in item.programs] or fitting
    if len(chosen) > 1:
        names = ", ".join(item.name for item in chosen)
        hint = f"say which: --profile {' or '.join(item.name for item in chosen)}, or {NONE}"
        raise UsageError(f"{project}: more than one profile fits: {names}", hint=hint)
    return chosen[0] if chosen else Profile()


def require_lock(profile: Profile, project: Path) -> str:
    """Return the name of the lock file; empty where none is needed. Raises InputError when it is missing."""
    there = next((name for name in profile.locks if (project / name).is_file()), "")
    if there or not profile.locks or not _needs_lock(profile, project):
        return there
    raise InputError(
        f"{project}: no {' or '.join(profile.locks)}, so what is built is not fixed",
        hint=_where_lock(profile, project),
    )


def _where_lock(profile: Profile, project: Path) -> str:
    """Say how to get a lock file: a part of a project may have it above."""
    above = next(
        (top for top in project.parents if any((top / name).is_file() for name in profile.locks)), None
    )
    if above is not None:
        return f"{above} has one: if this is a part of that, run it there, or with --project {above}"
    write = "" if "." in profile.outputs else "; with --rw . the tool can write it then"
    return f"write the lock file with the tool itself, or say --unlocked{write}"


def _needs_lock(profile: Profile, project: Path) -> bool:
    if not profile.lock_when:
        return True
    files = [project / marker for marker in profile.markers if (project / marker).is_file()]
    return any(re.search(profile.lock_when, _start_of(path)) for path in files)


def _start_of(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MARKER_LIMIT)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def locked_command(profile: Profile, command: Sequence[str]) -> tuple[str, ...]:
    """Return the command with the tool's own word for "do not change the lock file", where it has one."""
    words = tuple(command)
    if not profile.locked or os.path.basename(words[0]) not in profile.programs:
        return words
    place = next((n for n, word in enumerate(words) if word in profile.locked_commands and n > 0), None)
    if place is None or {profile.locked, "--frozen"} & set(words):
        return words
    return (*words[: place + 1], profile.locked, *words[place + 1 :])


def _load(path: Path) -> Profile:
    from belljar.schema import Document

    document = Document.read(path)
    root = document.root
    lock, fetch = root.table("lock"), root.table("fetch")
    profile = Profile(
        name=path.stem,
        title=root.text("title", ""),
        markers=_paths(root, "markers"),
        programs=root.texts("programs"),
        locks=_paths(lock, "files"),
        lock_when=_pattern(lock, "when"),
        locked=lock.text("option", ""),
        locked_commands=lock.texts("commands"),
        fetch=fetch.texts("command"),
        fetch_writes=_paths(fetch, "writes"),
        fetch_sees=_begin(fetch, "sees", ("~/", "/")),
        fetch_variables=fetch.texts("variables"),
        fetch_env=_variables(fetch, "env"),
        outputs=_paths(root, "outputs") or (".",),
        caches=tuple(map(_cache, root.tables("caches"))),
        host=_absolute(root, "host"),
        variables=root.texts("variables"),
        hidden=_begin(root, "hidden", ("~/", "../", "/")),
        identity=tuple(tuple(text.split()) for text in root.texts("identity") if text.split()),
        env=_variables(root, "env"),
        offline=_variables(root, "offline"),
        remap=_variables(root, "remap"),
        linker=_variables(root, "linker"),
        direct_linkers=root.texts("direct_linkers"),
    )
    document.finish()
    return profile


def _cache(table: "Table") -> Cache:
    return Cache(
        variable=table.text("variable", ""),
        home=table.text("home", match=_PATH, want="a path below the home directory"),
        host=table.text("host", ".", match=_PATH, want="a relative path without `..`"),
        inside=table.text("inside", match=r"(/[^/]+)+", want="an absolute path"),
    )


def _paths(table: "Table", name: str) -> tuple[str, ...]:
    values = table.texts(name)
    for word in values:
        if not re.fullmatch(_PATH, word) or os.path.normpath(word or "/") != word:
            table.complain(name, f"{word!r} is not a normal path below the project")
    return values


def _absolute(table: "Table", name: str) -> tuple[str, ...]:
    values = table.texts(name)
    for word in values:
        if not word.startswith("/") or os.path.normpath(word) != word:
            table.complain(name, f"{word!r} is not an absolute, normal path")
    return values


def _begin(table: "Table", name: str, starts: tuple[str, ...]) -> tuple[str, ...]:
    values = table.texts(name)
    for word in values:
        if not word.startswith(starts):
            table.complain(name, f"{word!r} does not begin with {' or '.join(starts)}")
    return values


def _pattern(table: "Table", name: str) -> str:
    text = table.text(name, "")
    try:
        re.compile(text)
    except re.error as error:
        table.complain(name, f"not a regular expression: {error}")
    return text


def _variables(table: "Table", name: str) -> tuple[tuple[str, str], ...]:
    values = table.text_values(name)
    for key in values:
        if not _VARIABLE.fullmatch(key):
            table.complain_of((name, key), "cannot be a variable")
    return tuple(sorted(values.items()))
