"""What the paths of builders look like, as one table.

Each row is a regular expression for the beginning of an absolute path, the kind of place it is, and
how certain it is that a path which begins so belongs to a builder and not to the program's own
work. All rows are joined into one expression that begins with `/`, so that a search runs at the speed
of memchr(3) (1.4 GB/s here); only what it finds is looked at row by row.

Sources: the documentation of the services and packagers named, and the paths found in their binaries.
Not here: `/rustc/<commit>/`, which rustc puts in place of its builder's directory.
"""

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """What sort of place a path names."""

    GIVEN = "given path"
    """Below a path that the caller named."""
    HOME = "home directory"
    TEMPORARY = "temporary directory"
    CI = "CI workspace"
    STORE = "package store"
    PACKAGER = "packager's directory"
    LOCATION = "fixed location"
    """Absolute where it binds the file to a directory: a search path, a loader, a `#!` line."""
    HOST = "host path"
    """Below /usr, /etc, /proc and the like: a tie to systems in general, not to one."""
    NAME = "given name"
    """A user or host name that the caller gave."""


class Certainty(enum.IntEnum):
    """How certain it is that the path comes from the builder's machine and means nothing elsewhere."""

    POSSIBLE = 1
    """A program may mean the path of the machine it runs on: `/tmp/x`."""
    LIKELY = 2
    CERTAIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One beginning of paths; `inner` ones may stand behind other directories (`.cargo/registry`)."""

    kind: Kind
    certainty: Certainty
    pattern: bytes
    inner: bool = False


_NAME = rb"[\w][\w.+@-]*"
_C, _L, _P = Certainty.CERTAIN, Certainty.LIKELY, Certainty.POSSIBLE


def _rows(kind: Kind, certainty: Certainty, *patterns: bytes, inner: bool = False) -> tuple[Row, ...]:
    return tuple(Row(kind=kind, certainty=certainty, pattern=item, inner=inner) for item in patterns)


ROWS: tuple[Row, ...] = (
    *_rows(
        Kind.CI,
        _C,
        rb"/home/(?:runner|circleci|vsts|travis|appveyor|semaphore|jenkins)/",
        rb"/__w/" + _NAME,
        rb"/github/(?:workspace|home)\b",
        rb"/builds/" + _NAME + rb"/" + _NAME,
        rb"/opt/hostedtoolcache/",
        rb"/var/(?:lib/jenkins|jenkins_home|lib/buildkite-agent)/",
        rb"/codebuild/output/",
        rb"/bitbucket/pipelines/",
        rb"/drone/src\b",
        rb"/tmpfs/src/",
        rb"/Users/(?:runner|distiller)/",
    ),
    # Java's packages begin with /io/ too, and cloud resources with /project/.
    *_rows(
        Kind.CI,
        _L,
        rb"/workspaces?/" + _NAME,
        rb"/(?:project|io)/(?:src|build|dist|python|wheelhouse|third_party|vendor|target|\.?venv)/",
    ),
    *_rows(
        Kind.PACKAGER,
        _C,
        rb"/(?:home/[^/\0]+/)?feedstock_root/",
        rb"/croot/" + _NAME,
        rb"/opt/_internal/",
        rb"/opt/python/(?:cp|pp)\d",
        rb"/opt/rh/",
        rb"/builddir/build/",
        rb"/build/reproducible-path/",
        rb"/build/" + _NAME + rb"-[A-Za-z0-9]{6}/",
        rb"/home/(?:buildozer|linuxbrew|builder|mockbuild|abuild)/",
        rb"/var/tmp/portage/",
        rb"/opt/homebrew/",
        rb"/mnt/storage/buildroot/",
    ),
    *_rows(
        Kind.PACKAGER,
        _C,
        rb"/_h_env_placehold",
        rb"/(?:\.cargo|cargo)/(?:registry|git)/",
        rb"/(?:\.rustup|rustup)/toolchains/",
        rb"/go/pkg/mod/",
        rb"/spack-stage[-/]",
        rb"/(?:_bazel_\w+|bazel-out)/",
        rb"/\.conan2?/",
        rb"/vcpkg/(?:buildtrees|packages)/",
        rb"/pip-(?:build-env|install|req-build|wheel)-\w+/",
        inner=True,
    ),
    *_rows(
        Kind.PACKAGER, _L, rb"/opt/(?:conda|spack|miniconda3?)/", rb"/build/" + _NAME, rb"/usr/src/debug/"
    ),
    *_rows(Kind.STORE, _C, rb"/nix/store/[a-z0-9]{32}-", rb"/gnu/store/[a-z0-9]{32}-"),
    *_rows(
        Kind.HOME, _P, rb"/(?:home|Users)/(?:user|username|me|you|foo|bar|joe|john|jdoe|alice|bob|xxx|name)\b"
    ),
    *_rows(Kind.HOME, _C, rb"/(?:home|Users)/" + _NAME + rb"/", rb"/root/\.?" + _NAME + rb"/"),
    *_rows(Kind.HOME, _L, rb"/home/" + _NAME, rb"/Users/" + _NAME, rb"/root/(?=[.\w])"),
    *_rows(
        Kind.TEMPORARY,
        _C,
        # What is random is looked at, but no part of the root: a compiler's temporary files are one tie.
        rb"/(?:var/)?tmp/(?:tmp(?=[a-z0-9_]{8}/)|tmp\.(?=\w{6,})|cc(?=\w{6}\.)|(?:build|pip)-(?=[a-z-]+-\w{8}))",
        rb"/private/var/folders/",
    ),
    *_rows(Kind.TEMPORARY, _P, rb"/tmp/(?=[.\w])", rb"/var/tmp/(?=[.\w])"),
)
"""The rows, the most telling first: the first that matches decides."""

HOST = (
    rb"/(?:usr|etc|proc|dev|sys|run|var|bin|sbin|lib|lib32|lib64|libx32|opt|srv|mnt|media|boot)"
    rb"(?=/[\w.]|[^\w./+~@%-]|$)"
)
"""The beginnings of paths that every system has."""

STANDARD = re.compile(
    rb"/(?:usr/(?:local/)?)?(?:bin|sbin|lib|lib32|lib64|libx32|libexec|share|include|games)(?:/|$)"
    rb"|/(?:usr|usr/local|etc|proc|dev|sys|run|var|)(?:/|$)"
)
"""Directories that the Filesystem Hierarchy Standard gives every system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows for one audit: the given paths first, host paths last if they are wanted; the inner ones."""

    search: re.Pattern[bytes]
    inner: re.Pattern[bytes]
    inner_row: Row
    rows: tuple[tuple[Row, re.Pattern[bytes]], ...]


def table_of(prefixes: Iterable[str] = (), *, host: bool = False) -> Table:
    """Return the table for the given paths; each must be absolute and not `/`."""
    given = sorted({item.rstrip("/").encode("utf-8", "surrogateescape") for item in prefixes}, key=len)
    rows = [
        Row(kind=Kind.GIVEN, certainty=_C, pattern=re.escape(item) + rb"(?![\w.+~@%-])")
        for item in reversed(given)
        if item.startswith(b"/")
    ]
    rows += ROWS
    if host:
        rows.append(Row(kind=Kind.HOST, certainty=_P, pattern=HOST))
    # Python's engine finds a literal first byte with memchr, but only outside of the alternatives.
    search = re.compile(b"/(?:" + b"|".join(row.pattern.removeprefix(b"/") for row in rows) + b")")
    inner = [row for row in ROWS if row.inner]
    return Table(
        search=search,
        inner=re.compile(b"|".join(row.pattern for row in inner)),
        inner_row=inner[0],
        rows=tuple((row, re.compile(row.pattern)) for row in rows),
    )
