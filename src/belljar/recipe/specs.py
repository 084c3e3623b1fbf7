"""What a recipe may ask for: one value per kind of source, and the short form that names it.

    deb:NAME[=VERSION]    a Debian package, with its dependencies
    deb-src:NAME=VERSION  the upstream tarball of a Debian source package
    pypi:NAME==VERSION    a wheel that needs no particular Python
    npm:NAME@VERSION      a package's tarball, without its dependencies

`request` is that short form (of a path or URL, one like it): a lock records what it was made from.
Names are checked here, so that none of them can be taken for an option or a pattern by a client.
"""

import re
from dataclasses import dataclass

from belljar.types import Digest

_NAME = r"[a-z0-9][a-z0-9+.-]*"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9.+~:-]*"
_NPM = r"[A-Za-z0-9][A-Za-z0-9._~-]*"
_FORMS = {
    "deb": (rf"({_NAME})(?:=({_VERSION}))?", "deb:NAME or deb:NAME=VERSION"),
    "deb-src": (rf"({_NAME})=({_VERSION})", "deb-src:NAME=VERSION"),
    "pypi": (
        r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)",
        "pypi:NAME==VERSION",
    ),
    "npm": (
        rf"((?:@{_NPM}/)?{_NPM})@(\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?)",
        "npm:NAME@VERSION (all three numbers)",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSource:
    """A directory or file beside the recipe; `path` is relative to the recipe's directory."""

    path: str

    @property
    def request(self) -> str:
        """The short form."""
        return f"path:{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSource:
    """A file at a URL, with the hash that it must have."""

    url: str
    sha256: Digest

    @property
    def request(self) -> str:
        """The short form."""
        return f"url:{self.url}#sha256={self.sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DebPackage:
    """A Debian package with its dependencies; without a version, the suite's newest."""

    name: str
    version: str | None

    @property
    def request(self) -> str:
        """The short form."""
        return f"deb:{self.name}" + (f"={self.version}" if self.version else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebSource:
    """The upstream tarball of a Debian source package; `version` is Debian's or upstream's."""

    name: str
    version: str

    @property
    def request(self) -> str:
        """The short form."""
        return f"deb-src:{self.name}={self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PypiPackage:
    """A wheel of one version of a Python package."""

    name: str
    version: str

    @property
    def request(self) -> str:
        """The short form."""
        return f"pypi:{self.name}=={self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmPackage:
    """The tarball of one version of an npm package."""

    name: str
    version: str

    @property
    def request(self) -> str:
        """The short form."""
        return f"npm:{self.name}@{self.version}"


Tool = DebPackage | PypiPackage | NpmPackage
"""What an environment may consist of."""
Source = PathSource | UrlSource | DebSource | PypiPackage | NpmPackage
"""What a build may start from."""

TOOL_KINDS = ("deb", "pypi", "npm")
SOURCE_KINDS = ("deb-src", "pypi", "npm")


def parse(text: str, kinds: tuple[str, ...]) -> DebPackage | DebSource | PypiPackage | NpmPackage:
    """Read the short form of one of `kinds`. Raises ValueError with what is wrong with it."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in kinds:
        known = ", ".join(f"{name}:" for name in kinds)
        raise ValueError(f"{text!r} does not begin with a known kind ({known})")
    pattern, form = _FORMS[kind]
    found = re.fullmatch(pattern, rest)
    if found is None:
        raise ValueError(f"{text!r} is not of the form {form}")
    name, version = found[1], found[2]
    match kind:
        case "deb":
            return DebPackage(name=name, version=version)
        case "deb-src":
            return DebSource(name=name, version=version)
        case "pypi":
            return PypiPackage(name=re.sub(r"[-_.]+", "-", name).lower(), version=version)
        case _:
            return NpmPackage(name=name, version=version)
