"""Ties: paths of the machine that built a file, left over in it.

A path that the kernel or the loader reads (interpreter, search paths, a `#!` line) breaks the program
elsewhere. One in loaded data may (a default directory, a plug-in path) or may not (`__FILE__` in an
assertion). One in debug information tells where it was built. All are found by one pass over the bytes,
whatever the file is; what is known of its format says where they stand and how much that means.

A hit in the middle of a longer path (`/srv/home/me`, `../build/x` for `/build`) is not one, unless its
row says so. Not found: paths in other encodings than UTF-8, and in other compressed data than DWARF's.
"""

import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from belljar.audit.isa.source import Source, source_of, windows
from belljar.audit.ties.patterns import STANDARD, Certainty, Kind, Row, Table, table_of
from belljar.audit.ties.places import (
    STRING_LIMIT,
    Place,
    Places,
    Where,
    inflated,
    loader_strings,
    read_sections,
    section_places,
)
from belljar.elf import Elf

TIES_LIMIT = 1000
"""How many different ties of one file are kept."""
_TEXT_LIMIT = 512
_LOOK_BACK = 256
_MARGIN = 4096
"""What lies around a path, and the path: no more than this is looked at on either side."""
_HEAD_LIMIT = 1 << 20
_MARSHALLED_LIMIT = 1 << 20
_TEXT = re.compile(rb"[^\x00-\x20\x7f\"'`<>|;:,()*?\\{}$]*")
_GOES_BACK = re.compile(rb"[\w.+~@%/-]*\Z")
_RUST = re.compile(rb"\.rs(?=[^.\-/]|/)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """A path as it stands, at `offset` for the first of `count` times.

    `root` is the part that tells (`/home/me/`); paths with one root in one section are one tie. `path` is
    the file; `section` is empty outside ELF files. In a compressed section (`packed`), `offset` is the
    section's.
    """

    path: str
    kind: Kind
    where: Where
    section: str
    offset: int
    text: str
    root: str
    certainty: Certainty
    count: int = 1
    packed: bool = False


@dataclass(frozen=True, slots=True)
class _Hit:
    row: Row
    offset: int
    text: bytes
    root: bytes


class Scanner:
    """Looks for ties: those that any builder leaves, and the given paths and names.

    With `host`, paths that every system has (`/etc/x`) are found too, as Kind.HOST.
    """

    def __init__(
        self, *, prefixes: Iterable[str] = (), names: Iterable[str] = (), host: bool = False
    ) -> None:
        self._table = table_of(prefixes, host=host)
        self._host = host
        words = [re.escape(name.encode("utf-8", "surrogateescape")) for name in names if name]
        self._names = re.compile(rb"(?<![\w-])(?:" + b"|".join(words) + rb")(?![\w-])") if words else None

    def ties_of(self, path: str, data: bytes | mmap.mmap, elf: Elf | None = None) -> tuple[Tie, ...]:
        """Return the ties of a file with these bytes, in the order of their offsets."""
        found, source = _Found(path), source_of(data)
        if elf is None:
            where = where_of(path, source[:_LOOK_BACK])
            self._add_head(source, found, where)
            self._collect(source, found, Places(()), where, is_byte_code=where is Where.BYTE_CODE)
        else:
            self._collect_elf(source, elf, found)
        return found.ties

    def ties_of_link(self, path: str, target: str) -> tuple[Tie, ...]:
        """Return the tie that a symbolic link is; none for a relative one."""
        found = _Found(path)
        place = Place(0, 0, Where.LINK)
        self._add_fixed(found, target.encode("utf-8", "surrogateescape"), 0, place)
        return found.ties

    def _collect(
        self,
        source: Source,
        found: "_Found",
        places: Places,
        default: Where,
        *,
        is_byte_code: bool = False,
    ) -> None:
        otherwise = Place(0, 0, default)
        for hit in _hits(source, self._table, is_byte_code=is_byte_code):
            found.add(hit, places.at(hit.offset) or otherwise)
        for hit in self._named(source) if self._names else ():
            found.add(hit, places.at(hit.offset) or otherwise)

    def _named(self, source: Source) -> Iterator[_Hit]:
        """Yield the given names in some bytes."""
        row = Row(kind=Kind.NAME, certainty=Certainty.LIKELY, pattern=b"")
        for offset, data, start, end in windows(source, _MARGIN):
            for match in self._names.finditer(data, start) if self._names else ():
                if match.start() >= end:
                    break
                yield _Hit(row, offset + match.start(), match[0], match[0])

    def _collect_elf(self, data: Source, elf: Elf, found: "_Found") -> None:
        strings = loader_strings(data, elf)
        sections = read_sections(data, elf)
        for place in strings:
            if place.where in (Where.INTERPRETER, Where.RPATH, Where.RUNPATH):
                self._add_search_path(data, found, place)
        # The loader's strings come last: where one starts with its section, it is what is meant.
        self._collect(data, found, Places((*section_places(elf, sections), *strings)), Where.UNLOADED)
        for section in sections:
            chunks = inflated(data, elf, section)
            place = Place(section.offset, section.offset, Where.DEBUG, section.name)
            for hit in _hits_in_chunks(chunks, self._table) if chunks is not None else ():
                found.add(replace(hit, offset=section.offset), place)

    def _add_search_path(self, data: Source, found: "_Found", place: Place) -> None:
        """Add what is absolute in a search path."""
        at = place.start
        end = min(place.end, place.start + STRING_LIMIT)
        for entry in data[place.start : end].rstrip(b"\0").split(b":"):
            self._add_fixed(found, entry, at, place)
            at += len(entry) + 1

    def _add_head(self, data: Source, found: "_Found", where: Where) -> None:
        """Add what binds a text to a directory: its `#!` line, its prefix."""
        if data[:2] == b"#!":
            line = data[:4096].partition(b"\n")[0]
            start = len(line) - len(line[2:].lstrip())
            words = line[start:].split()
            if words:
                self._add_fixed(found, words[0], start, Place(0, 0, Where.SHEBANG))
        elif where in _ASSIGNMENTS:
            for match in _ASSIGNMENTS[where].finditer(data[:_HEAD_LIMIT]):
                self._add_fixed(found, match[1], match.start(1), Place(0, 0, where))

    def _add_fixed(self, found: "_Found", text: bytes, offset: int, place: Place) -> None:
        """Add an absolute path that binds a file to a directory, whatever it looks like."""
        if not text.startswith(b"/"):
            return
        row = _classify(text, 0, self._table)
        if row is None or row.kind is Kind.HOST or (row.kind is Kind.TEMPORARY and place.where is Where.LINK):
            kind = Kind.HOST if STANDARD.match(text) else Kind.LOCATION
            if kind is Kind.HOST and not self._host:
                return
            row = Row(kind=kind, certainty=Certainty.CERTAIN, pattern=b"")
        root = text if row.pattern == b"" else _root(text, 0, row, self._table)
        found.add_fixed(_Hit(row, offset, text[:_TEXT_LIMIT], root), place)


_ASSIGNMENTS = {
    Where.PKG_CONFIG: re.compile(rb"^[\w.]+[ \t]*=[ \t]*(/[^\s$]+)", re.MULTILINE),
    Where.LIBTOOL: re.compile(rb"^libdir='(/[^']+)'", re.MULTILINE),
}


class _Found:
    """The ties of one file, by what makes them one."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._ties: dict[tuple[Where, str, Kind, bytes], Tie] = {}
        self._counts: dict[tuple[Where, str, Kind, bytes], int] = {}
        self._fixed: set[int] = set()

    def add_fixed(self, hit: _Hit, place: Place) -> None:
        """Count what binds the file to a directory; what is found at its offset later is the same."""
        if hit.offset not in self._fixed:
            self._fixed.add(hit.offset)
            self._count(hit, place)

    def add(self, hit: _Hit, place: Place) -> None:
        """Count a hit, unless it was counted as what binds the file to a directory."""
        if hit.offset not in self._fixed:
            self._count(hit, place)

    def _count(self, hit: _Hit, place: Place) -> None:
        where = place.where
        key = (where, place.section, hit.row.kind, hit.root)
        if key in self._ties:
            self._counts[key] += 1
        elif len(self._ties) < TIES_LIMIT:
            self._counts[key] = 1
            self._ties[key] = self._tie(hit, place, where)

    def _tie(self, hit: _Hit, place: Place, where: Where) -> Tie:
        return Tie(
            path=self._path,
            kind=hit.row.kind,
            where=where,
            section=place.section,
            offset=hit.offset,
            text=hit.text.decode("utf-8", "surrogateescape"),
            root=hit.root.decode("utf-8", "surrogateescape"),
            certainty=_certainty(hit, where, self._path),
            packed=place.where is Where.DEBUG and place.start == place.end,
        )

    @property
    def ties(self) -> tuple[Tie, ...]:
        """What was found, in the order of first offsets."""
        counted = (replace(tie, count=self._counts[key]) for key, tie in self._ties.items())
        return tuple(sorted(counted, key=lambda tie: tie.offset))


def _certainty(hit: _Hit, where: Where, path: str) -> Certainty:
    """Return what a row says, more where no program would name a path of the machine that it runs on."""
    kind, certainty = hit.row.kind, hit.row.certainty
    if kind is Kind.HOST:
        return certainty
    if where.is_read_by_loader or where is Where.DEBUG:
        return Certainty.CERTAIN
    # Prose and comments have examples in them, and help texts in programs too: /home/guido/data.txt.
    if where is Where.TEXT and kind in (Kind.HOME, Kind.TEMPORARY) and path.endswith(_PROSE):
        return Certainty.POSSIBLE
    if kind is Kind.HOME and where in _HELPFUL and not _SOURCE.search(hit.text):
        return min(certainty, Certainty.LIKELY)
    return certainty


_HELPFUL = (Where.LOADED, Where.DATA, Where.BYTE_CODE)
_SOURCE = re.compile(rb"\.(?:[ch]|cc|cpp|cxx|hh|hpp|rs|go|pyx?|[sS]|o|f90|java)\b|/(?:src|build|work)/|/\.")
_PROSE = (
    ".py",
    ".pyi",
    ".md",
    ".rst",
    ".txt",
    ".html",
    ".h",
    ".hpp",
    ".c",
    ".js",
    ".ts",
    ".pod",
    ".pm",
    ".rb",
)


def _hits(source: Source, table: Table, *, is_byte_code: bool = False) -> Iterator[_Hit]:
    """Yield the paths in some bytes."""
    done = 0
    for offset, data, start, end in windows(source, _MARGIN):
        # A match may reach beyond the window; none is missed, since each is looked for from its first byte.
        for match in table.search.finditer(data, start, end + _TEXT_LIMIT):
            at = match.start()
            if offset + at < done or at >= end:
                continue
            hit = _hit(data, at, table, is_byte_code=is_byte_code)
            if hit is not None:
                done = offset + hit.offset + len(hit.text)
                yield replace(hit, offset=offset + hit.offset) if offset else hit


def _hits_in_chunks(chunks: Iterable[bytes], table: Table) -> Iterator[_Hit]:
    """Yield the paths in a stream; each chunk begins with the last text of the one before."""
    kept, searched = b"", 0
    for chunk in chunks:
        data = kept + chunk
        # What begins in the last bytes may go on in the next chunk.
        end = max(len(data) - _TEXT_LIMIT, searched)
        yield from (hit for hit in _hits(data, table) if searched <= hit.offset < end)
        searched = min(end, _LOOK_BACK)
        kept = data[end - searched :]
    yield from (hit for hit in _hits(kept, table) if hit.offset >= searched)


def _hit(data: bytes, at: int, table: Table, *, is_byte_code: bool) -> _Hit | None:
    row = _classify(data, at, table)
    if row is None:
        return None
    start, end = at, at + _TEXT_LIMIT
    counted = _counted(data, at) if is_byte_code else None
    if counted is not None:
        end = min(end, at + counted)
    else:
        lead = _GOES_BACK.search(data[max(0, at - _LOOK_BACK) : at])
        before = lead[0] if lead and not lead[0].endswith(b".rs") else b""
        if row.inner:
            start = at - (len(before) - before.find(b"/") if b"/" in before else 0)
        elif b"/" in before or before.endswith((b".", b"..")) or (before and _is_weak(row)):
            return None
    match = _TEXT.match(data, start, end)
    text = match[0] if match else b""
    if rust := _RUST.search(text, at - start):
        text = text[: rust.start() + 3]
    if _is_weak(row) and (inner := table.inner.search(text)):
        return _Hit(table.inner_row, start, text, text[: inner.start()])
    return _Hit(row, start, text, _root(data, at, row, table) if start == at else text[: at - start])


def _is_weak(row: Row) -> bool:
    """Whether a word in front makes it the end of a relative path: `src/tmp/x`."""
    return row.certainty is not Certainty.CERTAIN


def _classify(data: bytes, at: int, table: Table) -> Row | None:
    return next((row for row, pattern in table.rows if pattern.match(data, at)), None)


def _root(data: bytes, at: int, row: Row, table: Table) -> bytes:
    """Return the part of a path that its row matches, or the whole path without one."""
    for known, pattern in table.rows:
        if known is row and (match := pattern.match(data, at)):
            return match[0].rstrip(b"/")
    return b""


def _counted(data: bytes, at: int) -> int | None:
    """Return the length of the marshalled string that starts at an offset (CPython's marshal.c)."""
    if at >= 2 and data[at - 2] & 0x7F in b"zZ":
        return data[at - 1]
    if at >= 5 and data[at - 5] & 0x7F in b"uaAst":
        length = int.from_bytes(data[at - 4 : at], "little")
        return length if length < _MARSHALLED_LIMIT else None
    return None


_BY_SUFFIX = {
    ".pc": Where.PKG_CONFIG,
    ".la": Where.LIBTOOL,
    ".cmake": Where.CMAKE,
    ".pyc": Where.BYTE_CODE,
    ".packlist": Where.RECORD,
}
_BY_NAME = {
    "RECORD": Where.RECORD,
    "direct_url.json": Where.RECORD,
    "installed-files.txt": Where.RECORD,
    "__config__.py": Where.PYTHON_CONFIG,
    "CMakeCache.txt": Where.CMAKE,
    "pyvenv.cfg": Where.PYTHON_CONFIG,
}


def where_of(path: str, head: bytes) -> Where:
    """Return what a file that is not ELF is, by its name and first bytes."""
    name = path.rpartition("/")[2].rpartition("!")[2]
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("_sysconfigdata") and name.endswith(".py"):
        return Where.PYTHON_CONFIG
    suffix = name[name.rfind(".") :] if "." in name else ""
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    return Where.DATA if b"\0" in head else Where.TEXT
