"""What takes a tie out of a file, by where it stands."""

from belljar.audit.ties.places import Where
from belljar.audit.ties.scan import Tie

_MAP = "map it away: -ffile-prefix-map=DIR=. (C, C++), --remap-path-prefix (Rust), -trimpath (Go)"
_REMEDIES = {
    Where.RPATH: "link with paths relative to $ORIGIN",
    Where.RUNPATH: "link with paths relative to $ORIGIN",
    Where.SHEBANG: "#!/usr/bin/env NAME, or a launcher that finds its own directory",
    Where.LINK: "make the link relative",
    Where.PKG_CONFIG: "prefix=${pcfiledir}/../..",
    Where.LIBTOOL: "leave .la files out: pkg-config files do their work",
    Where.CMAKE: "use ${CMAKE_CURRENT_LIST_DIR}, or install(EXPORT) with relative destinations",
    Where.BYTE_CODE: "compile it where it is installed, or with python -m compileall -s DIR",
    Where.LOADED: _MAP,
    Where.DEBUG: _MAP,
}


def remedy_of(tie: Tie) -> str | None:
    """Say what takes a tie out; None where no rule is known."""
    return _REMEDIES.get(tie.where)
