"""Where a path inside a sandbox lies on the host: links are followed as the sandbox would follow them."""

import os
from collections import deque

from belljar.sandbox import Bind, Sandbox, Symlink

_LINKS = 40
"""How many links Linux follows in one name (path_resolution(7))."""


def locate(box: Sandbox, path: str) -> tuple[str, str] | None:
    """Return the real path inside and the path on the host of a file that `box` shows, or None."""
    binds = {item.target: item for item in box.operations if isinstance(item, Bind)}
    links = {item.target: item.link for item in box.operations if isinstance(item, Symlink)}
    covered = {item.target for item in box.operations} - set(links)
    rest = deque(part for part in os.path.join(box.cwd, path).split("/") if part)
    place, followed = "", 0
    while rest:
        part = rest.popleft()
        if part in (".", ".."):
            place = os.path.dirname(place).rstrip("/") if part == ".." else place
            continue
        step = f"{place}/{part}"
        host = _host(step, binds, covered)
        link = links.get(step) or (os.readlink(host) if host and os.path.islink(host) else None)
        if link is None:
            place = step
            continue
        followed += 1
        if followed > _LINKS:
            return None
        place = "" if link.startswith("/") else place
        rest.extendleft(reversed([piece for piece in link.split("/") if piece]))
    host = _host(place, binds, covered)
    return (place, host) if host and os.path.isfile(host) else None


def _host(path: str, binds: dict[str, Bind], covered: set[str]) -> str | None:
    top = path
    while top and top not in covered:
        top = os.path.dirname(top).rstrip("/")
    bind = binds.get(top)
    return bind.source + path.removeprefix(top) if bind else None


def search(box: Sandbox, program: str) -> str | None:
    """Return the path inside of a program: as it is when it holds a slash, else looked for in PATH."""
    names = [program] if "/" in program else [f"{top}/{program}" for top in box.env["PATH"].split(":")]
    for name in names:
        found = locate(box, name)
        if found and os.stat(found[1]).st_mode & 0o111:
            return name
    return None
