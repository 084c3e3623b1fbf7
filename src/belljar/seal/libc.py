"""A private glibc: copies of the loader and the libc that read no code or data of the host's glibc.

A loader has paths of its system built in: its cache, the list of libraries to preload, the default
directories; the libc has those of locales, character set modules and messages. With another release's
files behind them programs crash, or load a second libc. No switch of a loader turns all of them off, so in
the copies they are overwritten, at equal length, by paths that lead nowhere: below /dev/null, which is no
directory, or, where that is too long, of bytes that no name has.

Locales and character set modules of one's own are found by the variables that glibc has for it, under other
names (`VARIABLES`): the host's LOCPATH is not obeyed, and what a sealed program sets means nothing to the
programs of the host that it starts. What describes the machine and not its libc stays as it is: /etc/passwd,
resolv.conf, nsswitch.conf (whose modules are looked for beside the program only), the time zones.

Rejected: emptying the strings (a default directory of no length is the root directory); LD_LIBRARY_PATH and
`--inhibit-cache` (children inherit the one, the other needs a wrapper).
"""

import re
from collections.abc import Iterator

from belljar.elf.names import EditRefused
from belljar.elf.private import LIBC, LOADER, VARIABLES, Rule
from belljar.splice import Splice, merged

__all__ = ["VARIABLES", "is_private", "private_libc", "private_loader"]

_DEAD, _NOBODYS = b"/dev/null/", b"\x01"


def private_loader(image: bytes) -> tuple[Splice, ...]:
    """Return the edits that make a glibc's loader (`ld-linux-x86-64.so.2`) private.

    Raises EditRefused when it does not hold the paths that a glibc's loader has.
    """
    return merged(_deadened(image, LOADER, "loader"))


def private_libc(image: bytes) -> tuple[Splice, ...]:
    """Return the edits that make a glibc (`libc.so.6`) private; raises EditRefused for another libc."""
    found = [*_deadened(image, LIBC, "libc")]
    for name, own in VARIABLES.items():
        old = b"\0" + name.encode() + b"\0"
        places = [match.start() for match in re.finditer(re.escape(old), image)]
        if not places:
            raise EditRefused(f"names {name} nowhere: it is no glibc that belljar knows")
        new = b"\0" + own.encode() + b"\0"
        found += [Splice(offset=place, old=old, new=new) for place in places]
    return merged(found)


def is_private(image: bytes) -> bool:
    """Whether a loader or libc is a private copy already."""
    names = [b"\0" + own.encode() + b"\0" for own in VARIABLES.values()]
    return all(name in image for name in names) or b"\0" + _dead(b"/etc/ld.so.cache") + b"\0" in image


def _deadened(image: bytes, rules: tuple[Rule, ...], what: str) -> Iterator[Splice]:
    for rule in rules:
        matches = [*rule.pattern.finditer(image)]
        if rule.is_needed and not matches:
            raise EditRefused(f"is no {what} of a glibc that belljar knows: no {rule.pattern.pattern!r}")
        for match in matches:
            old = match["path"]
            new = b"\0".join(_dead(path) for path in old.split(b"\0"))
            yield Splice(offset=match.start("path"), old=old, new=new)


def _dead(path: bytes) -> bytes:
    """Return a path of the same length that leads nowhere, with the same slash or none at its end."""
    if not path:
        return path
    end = b"/" if path.endswith(b"/") else b""
    start = _DEAD if len(path) > len(_DEAD) + len(end) else b"/"
    middle = len(path) - len(start) - len(end)
    return start + (b"x" if start == _DEAD else _NOBODYS) * middle + end
