"""Typed reads from a TOML file, which collect every problem and report them together.

A `Document` hands out `Table`s; a table's accessors return a value of the asked type or note an
issue and return an empty one, so that reading goes on; `Document.finish` adds the keys that nobody
asked for and raises all issues at once. Nothing that was read may be used before `finish` returned.

`tomllib` does not say where a value stands, so `locate` finds the lines with a scanner of its own.
It runs only when there is something to report: reading a good file costs nothing more.
"""

import contextlib
import datetime
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from belljar.errors import InputError

Key = tuple[str | int, ...]
"""Where a value stands: names of tables and keys, indexes of arrays."""

_KINDS = {str: "a string", bool: "true or false", int: "a number", float: "a number", list: "an array"}
_KINDS |= {datetime.date: "a date like 2030-12-31"}
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Issue(NamedTuple):
    """One problem: the dotted key it is about, its line in the file (from 1, where known), what is wrong."""

    key: str
    line: int | None
    message: str


class SchemaError(InputError):
    """A file is not what it should be; `issues` are all its problems, in the order of their lines."""

    def __init__(self, file: str, issues: Iterable[Issue], *, hint: str | None = None) -> None:
        self.issues = tuple(sorted(issues, key=lambda issue: (issue.line or 0, issue.key)))
        if len(self.issues) == 1:
            message = _show(self.issues[0], file)
        else:
            lines = [f"  {_show(issue, 'line')}" for issue in self.issues]
            message = "\n".join([f"{file}: {len(lines)} problems", *lines])
        super().__init__(message, hint=hint)


def _show(issue: Issue, prefix: str) -> str:
    where = f"{prefix}{' ' if prefix == 'line' else ':'}{issue.line}: " if issue.line else f"{prefix}: "
    return where + (f"{issue.key}: " if issue.key else "") + issue.message


def dotted(key: Key) -> str:
    """Write a key as TOML does, with indexes in brackets: `environment.links."/usr/bin/awk"`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = (
                part if _BARE.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            )
            text += f".{name}" if text else name
    return text


class Document:
    """A TOML file that is being read, and what was found wrong with it so far."""

    __slots__ = ("_problems", "_tables", "_text", "file", "root")

    def __init__(self, text: str, file: str) -> None:
        """Parse `text`, which messages call `file`. Raises SchemaError with the line of a syntax error."""
        self.file = file
        self._text = text
        self._problems: list[tuple[Key, str]] = []
        self._tables: list[Table] = []
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SchemaError(file, [_syntax_issue(str(error), text)]) from None
        except (RecursionError, ValueError) as error:
            what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise SchemaError(file, [Issue(key="", line=None, message=what)]) from None
        self.root = self.table(data, ())

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read a file. Raises InputError when it cannot be read, SchemaError when it is not TOML in UTF-8."""
        try:
            if path.is_fifo():  # it could be waited for for ever
                raise InputError(f"{path}: is a named pipe, not a file")
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        try:
            return cls(data.decode("utf-8"), str(path))
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            issue = Issue(key="", line=line, message=f"not UTF-8 (byte 0x{data[error.start]:02x})")
            raise SchemaError(str(path), [issue]) from None

    def table(self, data: Mapping[str, Any], key: Key) -> "Table":
        """Return a reader of `data`, which stands at `key`."""
        table = Table(self, data, key)
        self._tables.append(table)
        return table

    def complain(self, key: Key, message: str) -> None:
        """Note a problem of the value at `key`."""
        self._problems.append((key, message))

    def finish(self) -> None:
        """Raise SchemaError with all problems, unknown keys included; return if there are none."""
        for table in self._tables:
            self._problems.extend(table.unknown())
        if self._problems:
            raise self.error(self._problems)

    def error(self, problems: Iterable[tuple[Key, str]]) -> SchemaError:
        """Return the error for problems (key, message), with the lines that the keys stand on."""
        lines = locate(self._text)
        issues = [Issue(key=dotted(key), line=_line_of(key, lines), message=what) for key, what in problems]
        return SchemaError(self.file, issues)


class Table:
    """One table of a document: typed reads by key, each of which is remembered as known."""

    __slots__ = ("_asked", "_data", "_document", "_offered", "key")

    def __init__(self, document: Document, data: Mapping[str, Any], key: Key) -> None:
        self.key = key
        self._document = document
        self._data = data
        self._asked: dict[str, None] = {}
        self._offered: dict[str, None] = {}  # what was looked for, and would have been read

    def __contains__(self, name: str) -> bool:
        self._offered[name] = None
        return name in self._data

    def names(self) -> tuple[str, ...]:
        """Return the keys of the table, in the file's order."""
        return tuple(self._data)

    def complain(self, name: str, message: str) -> None:
        """Note a problem of the value at `name`."""
        self.complain_of((name,), message)

    def complain_of(self, key: Key, message: str) -> None:
        """Note a problem of a value further down, at `key` below this table."""
        self._document.complain((*self.key, *key), message)

    def text(self, name: str, default: str | None = None, *, match: str | None = None, want: str = "") -> str:
        """Return a string, required unless it has a default; one that does not match whole is not `want`."""
        value = self._get(name, str, required=default is None)
        if value is None:
            return default or ""
        if match is not None and not re.fullmatch(match, value):
            self.complain(name, f"{value!r} is not {want}")
        return str(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._get(name, bool, required=False)
        return default if value is None else bool(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return an array of strings; empty where the key is missing."""
        values = self._get(name, list, required=False) or []
        for index, value in enumerate(values):
            if not isinstance(value, str):
                self.complain_of((name, index), f"should be a string, is {_kind(value)}")
        return tuple(value if isinstance(value, str) else "" for value in values)

    def table(self, name: str, *, required: bool = False) -> "Table":
        """Return a table; an empty one where the key is missing."""
        value = self._get(name, dict, required=required)
        return self._document.table(value or {}, (*self.key, name))

    def tables(self, name: str) -> "tuple[Table, ...]":
        """Return an array of tables; empty where the key is missing."""
        values = self._get(name, list, required=False) or []
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                self.complain_of((name, index), f"should be a table, is {_kind(value)}")
        return tuple(
            self._document.table(value, (*self.key, name, index))
            for index, value in enumerate(values)
            if isinstance(value, dict)
        )

    def date(self, name: str) -> datetime.date | None:
        """Return a date; None where the key is missing."""
        value: datetime.date | None = self._get(name, datetime.date, required=False)
        return value

    def text_values(self, name: str) -> dict[str, str]:
        """Return a table whose values are all strings, whatever its keys; empty where the key is missing."""
        table = self.table(name)
        return {key: table.text(key) for key in table.names()}

    def text_or_table(self, name: str) -> "str | Table":
        """Return what stands at `name`: a string, or a table to read on."""
        value = self._data.get(name)
        return self.table(name) if isinstance(value, dict) else self.text(name)

    def unknown(self) -> list[tuple[Key, str]]:
        """Return a problem for each key that was not asked for, with those that may have been meant."""
        return [
            ((*self.key, name), "unknown key" + (nearest(name, self._asked) or self._known()))
            for name in self._data
            if name not in self._asked
        ]

    def _known(self) -> str:
        known = sorted({**self._asked, **self._offered})
        return f"; known are {', '.join(known)}" if known else ""

    def _get(self, name: str, kind: type, *, required: bool) -> Any:
        self._asked[name] = None
        value = self._data.get(name)
        if value is None:
            if required:
                self.complain(name, "missing")
            return None
        if type(value) is not kind:
            self.complain(name, f"should be {_KINDS.get(kind, 'a table')}, is {_kind(value)}")
            return None
        return value


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known word nearest to `word`, or nothing."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _kind(value: object) -> str:
    return "a table" if isinstance(value, dict) else _KINDS.get(type(value), "a date or time")


def _syntax_issue(message: str, text: str) -> Issue:
    """Read the line out of the words of tomllib: `Invalid value (at line 3, column 5)`."""
    what, _, where = message.rpartition(" (at ")
    found = re.match(r"line (\d+), column (\d+)\)", where)
    line = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
    column = f" (column {found[2]})" if found else " (at the end)"
    return Issue(key="", line=line, message=(what or message) + column)


def _line_of(key: Key, lines: Mapping[Key, int]) -> int | None:
    """Return the line of a key, or of the nearest table around it that stands in the file."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key)


def locate(text: str) -> dict[Key, int]:
    """Return the line, from 1, of every key and array element of a valid TOML text.

    A table that several headers open has the line of the first one.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    # Of a text that is not valid TOML, what was found is enough.
    with contextlib.suppress(IndexError, ValueError, RecursionError):
        scanner.document()
    return scanner.lines


class _Scanner:
    """Walks over valid TOML (spec 1.0) and notes where keys begin; values are skipped, not understood."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Key, int] = {}
        self._text = text + "\n"
        self._at = 0
        self._counted = (0, 1)
        self._sizes: dict[Key, int] = {}

    def document(self) -> None:
        table: Key = ()
        while self._skip(" \t\n") < len(self._text):
            line = self._line()
            if self._text[self._at] == "[":
                table = self._header(line)
            else:
                self._pair(table)

    def _header(self, line: int) -> Key:
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        *outer, last = self._dotted()
        self._at += 2 if is_array else 1
        key = self._inside((), outer, line)
        if is_array:
            size = self._sizes.get((*key, last), 0)
            self._sizes[(*key, last)] = size + 1
            self._note((*key, last), line)
            key = (*key, last, size)
            self._note(key, line)
            return key
        return self._inside(key, [last], line)

    def _inside(self, key: Key, names: Iterable[str], line: int) -> Key:
        """Go down from `key` by `names`: a name that is an array of tables means its last one."""
        for name in names:
            key = (*key, name)
            self._note(key, line)
            if key in self._sizes:
                key = (*key, self._sizes[key] - 1)
        return key

    def _pair(self, table: Key) -> None:
        line = self._line()
        for name in self._dotted():
            table = (*table, name)
            self._note(table, line)
        self._at += 1  # the equals sign
        self._skip(" \t")
        self._value(table)

    def _dotted(self) -> list[str]:
        """Read a key, `a."b c".d`, up to what follows it."""
        names = []
        while True:
            self._skip(" \t")
            start = self._at
            if self._text[start] in "\"'":
                self._string()
                names.append(_unquote(self._text[start : self._at]))
            else:
                found = _BARE.match(self._text, start)
                if found is None:
                    raise IndexError
                self._at = found.end()
                names.append(found[0])
            self._skip(" \t")
            if self._text[self._at] != ".":
                return names
            self._at += 1

    def _value(self, key: Key) -> None:
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._array(key)
        elif first == "{":
            self._inline_table(key)
        else:
            start = self._at
            while self._text[self._at] not in ",]}#\n":
                self._at += 1
            if self._at == start:  # no value: it is not TOML, and an array would find it for ever
                raise IndexError

    def _array(self, key: Key) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip(" \t\n,")] != "]":
            self._note((*key, index), self._line())
            self._value((*key, index))
            index += 1
        self._at += 1

    def _inline_table(self, key: Key) -> None:
        self._at += 1
        while self._text[self._skip(" \t\n,")] != "}":
            self._pair(key)
        self._at += 1

    def _string(self) -> None:
        quote = self._text[self._at]
        mark = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        self._at += len(mark)
        while not self._text.startswith(mark, self._at):
            if self._text[self._at] == "\\" and quote == '"':
                self._at += 1
            self._at += 1
        self._at += len(mark)
        if len(mark) == 3:  # up to two quotes may stand before the closing mark
            while self._text[self._at] == quote:
                self._at += 1

    def _skip(self, blanks: str) -> int:
        """Go past blanks and, where lines may end, comments."""
        while self._at < len(self._text):
            if self._text[self._at] in blanks:
                self._at += 1
            elif self._text[self._at] == "#" and "\n" in blanks:
                self._at = self._text.index("\n", self._at)
            else:
                break
        return self._at

    def _line(self) -> int:
        start, line = self._counted
        self._counted = (self._at, line + self._text.count("\n", start, self._at))
        return self._counted[1]

    def _note(self, key: Key, line: int) -> None:
        self.lines.setdefault(key, line)


def _unquote(text: str) -> str:
    """Return what a quoted key says."""
    return str(next(iter(tomllib.loads(f"{text}=0"))))
