"""Opening: a container encoded once more, its references raw and all else compressed.

It happens once, when an artifact is made; afterwards a compressor is never needed again and nothing depends
on one. What cannot be opened stays as it is, and a scan reports it. That the result holds the same content
is not believed but compared.

For a tree that nobody else sees yet. A new file takes the place of the old one by rename; a crash leaves each
file old or new, and at most a hidden one beside it.
"""

import hashlib
import os
import stat
from pathlib import Path

from belljar import checksums
from belljar.fsys import Entry, explained, walk
from belljar.placeholder import PLACEHOLDER
from belljar.relocate import digests
from belljar.relocate.containers import hiding
from belljar.relocate.containers.container import LIMIT, Closed, Damaged, Format
from belljar.relocate.containers.formats import FORMATS, kind_of
from belljar.relocate.containers.survey import obstacle, ranges, refuse_headers
from belljar.types import Event, Progress, quiet

_PLACEHOLDER = PLACEHOLDER.encode()


def open_tree(tree: Path, *, location: bytes = _PLACEHOLDER, progress: Progress = quiet) -> tuple[str, ...]:
    """Open every container below `tree` that holds `location`; return their paths.

    Hashes of those in other files are put right (belljar.relocate.digests). Modes, times and hard links are
    kept. Raises HostError when a file cannot be read or written.
    """
    try:
        entries = [entry for entry in walk(tree) if entry.is_file]
        old = _open_all(tree, entries, location, progress)
        digests.renew(tree, entries, old)
    except OSError as error:
        raise explained(error, tree) from error
    return tuple(old)


def _open_all(
    tree: Path, entries: list[Entry], location: bytes, progress: Progress
) -> dict[str, tuple[digests.Values, int]]:
    """Open files; return the hashes and sizes that those had which are new."""
    done: dict[tuple[int, int], str | None] = {}
    old: dict[str, tuple[digests.Values, int]] = {}
    for entry in entries:
        inode = (entry.info.st_dev, entry.info.st_ino)
        if inode in done:
            if (first := done[inode]) is not None:
                _link(tree / first, tree / entry.path)
            continue
        if values := _open_file(tree / entry.path, entry, location):
            old[entry.path] = values, entry.info.st_size
            progress(Event(stage="open", subject=entry.path))
        if entry.info.st_nlink > 1:
            done[inode] = entry.path if values else None
    return old


def opened(data: bytes | memoryview, form: Format, location: bytes = _PLACEHOLDER) -> bytes | None:
    """Return a file's bytes with `location` raw wherever it holds it; None when it stays as it is."""
    view = memoryview(data)
    try:
        streams = [
            (part, stream)
            for part in form.parts(view)
            if (content := part.decode(view[part.begin : part.end])) is not None
            and (wanted := _wanted(content, location))
            and part.decode is not bytes
            and (stream := form.encode(part, content, wanted)) != view[part.begin : part.end]
        ]
        if not streams:
            return None
        new = form.assemble(view, streams)
        return new if new != data and _contents(form, view) == _contents(form, memoryview(new)) else None
    except (Damaged, Closed):
        return None


def _wanted(content: bytes, location: bytes) -> tuple[tuple[int, int], ...]:
    """Return the ranges of a part's content that are to stand raw; raises Closed where they must not."""
    obstacle(content)
    wanted = ranges(content, location)
    refuse_headers(content, [(offset, offset + size) for offset, size in wanted])
    return wanted


def _contents(form: Format, data: memoryview) -> list[tuple[str, bytes]]:
    return sorted(
        (part.name, hashlib.sha256(part.decode(data[part.begin : part.end])).digest())
        for part in form.parts(data)
    )


def _open_file(path: Path, entry: Entry, location: bytes) -> digests.Values | None:
    """Open one file; return the hashes that it had when there is a new one in its place."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        kind = kind_of(fd)
        if kind not in FORMATS or entry.info.st_size > LIMIT:
            return None
        try:
            if kind not in ("elf", "ar") and location == _PLACEHOLDER and not hiding.search(file, kind):
                return None
        except OverflowError:
            return None
        file.seek(0)
        new = opened(file.read(LIMIT), FORMATS[kind], location)
    if new is None:
        return None
    values = checksums.digests(path)
    _replace(path, new, entry.info)
    return values


def _replace(path: Path, content: bytes, info: os.stat_result) -> None:
    temporary = path.with_name(f".{os.urandom(8).hex()}")
    parent = path.parent.stat()
    try:
        with temporary.open("xb") as file:
            file.write(content)
            os.fchmod(file.fileno(), stat.S_IMODE(info.st_mode))
        os.utime(temporary, ns=(info.st_atime_ns, info.st_mtime_ns))
        temporary.replace(path)
        os.utime(path.parent, ns=(parent.st_atime_ns, parent.st_mtime_ns))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _link(first: Path, path: Path) -> None:
    temporary, parent = path.with_name(f".{os.urandom(8).hex()}"), path.parent.stat()
    os.link(first, temporary)
    temporary.replace(path)
    os.utime(path.parent, ns=(parent.st_atime_ns, parent.st_mtime_ns))
