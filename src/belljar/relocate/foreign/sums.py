"""What depends on the content of other files: byte code's headers, RECORD, checksums, signatures.

When all edits are known, whatever names a changed file by its size or hash gets the new one: the header of
a `.pyc` (PEP 552), a wheel's RECORD, `FILE.sha256` and the like, the hashes in `conda-meta`. Hashes are taken
over the edited content, streamed. A signature, or a hash with a key, cannot be made anew: refused.
"""

import base64
import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from belljar.fsys import CHUNK, Entry
from belljar.relocate.change import FileChange, LinkChange, NewFile, Refusal
from belljar.splice import Splice, merged

Changes = dict[str, FileChange | LinkChange | NewFile]

RECORD = re.compile(rb"^(\"?)([^\r\n]*?)\1,sha256=([\w-]{43})=*,(\d+)(?=\r?$)", re.M)
"""A line of RECORD: quote, path, hash, size."""
_SUMS = {".sha256": "sha256", ".sha512": "sha512", ".sha1": "sha1", ".md5": "md5", ".sha256sum": "sha256"}
_HEX = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_SIGNATURES = (".asc", ".sig", ".minisig", ".p7s")
_LIMIT = 64 << 20  # bytes of a file of checksums that is read


def follow(tree: Path, entries: Sequence[Entry], changes: Changes, refusals: list[Refusal]) -> None:
    """Add the edits of files that depend on others, and the refusals of what cannot be made anew."""
    changed = {path: item for path, item in changes.items() if isinstance(item, FileChange)}
    for item in changed.values():
        for path in (item.path, *item.aliases):
            _follow_bytecode(tree, path, item, changes)
            _follow_companions(tree, path, item, changes, refusals)
    by_name = {path: item for item in changed.values() for path in (item.path, *item.aliases)}
    for entry in entries:
        if entry.is_file and entry.path.endswith(".dist-info/RECORD"):
            _add(
                changes,
                entry.path,
                "RECORD: the hashes of changed files",
                _records(tree, entry.path, by_name),
            )
    metadata = [item.path for item in entries if item.is_file and item.path.startswith("conda-meta/")]
    if metadata and changed:
        _follow_conda(tree, [path for path in metadata if path.endswith(".json")], changed, changes)


def edited(tree: Path, change: FileChange) -> Iterator[bytes]:
    """Yield a file's content with its edits made, in chunks."""
    with open(os.path.join(tree, change.path), "rb") as file:
        for splice in change.splices:
            yield from _until(file.read, splice.offset - file.tell())
            yield splice.new
            file.seek(splice.end)
        yield from iter(lambda: file.read(CHUNK), b"")


def _until(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := read(min(size, CHUNK))):
        size -= len(chunk)
        yield chunk


def _hash(chunks: Iterable[bytes], kind: str) -> tuple["hashlib._Hash", int]:
    digest, size = hashlib.new(kind, usedforsecurity=False), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return digest, size


def _original(tree: Path, path: str) -> Iterator[bytes]:
    with open(os.path.join(tree, path), "rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


def _add(changes: Changes, path: str, reason: str, splices: Sequence[Splice]) -> None:
    """Add edits to what a file has already."""
    if not splices:
        return
    known = changes.get(path)
    if not isinstance(known, FileChange):
        known = FileChange(path=path, kind="sums")
    taken = [item for item in splices if not any(_touch(item, other) for other in known.splices)]
    changes[path] = replace(known, splices=merged([*known.splices, *taken]), reasons=(*known.reasons, reason))


def _touch(one: Splice, other: Splice) -> bool:
    return one.offset < other.end and other.offset < one.end


def _follow_bytecode(tree: Path, path: str, change: FileChange, changes: Changes) -> None:
    """Give byte code the new size, or hash, of its source; its time stays."""
    growth = sum(item.growth for item in change.splices)
    if not path.endswith(".py"):
        return
    directory, name = os.path.split(path)
    pattern = os.path.join(glob.escape(os.path.join(tree, directory, "__pycache__", name[:-3])) + ".*.pyc")
    for found in sorted(glob.glob(pattern)):
        with open(found, "rb") as file:
            header = file.read(16)
        inside = os.path.relpath(found, tree)
        known = changes.get(inside)
        if len(header) < 16 or header[2:4] != b"\r\n":
            continue
        if isinstance(known, FileChange) and known.splices[0].offset == 0:
            continue  # made stale
        if header[4] & 1:
            new = _source_hash(b"".join(edited(tree, change)))
            splice = Splice(offset=8, old=header[8:16], new=new)
        else:
            size = int.from_bytes(header[12:16], "little") + growth & 0xFFFFFFFF
            splice = Splice(offset=12, old=header[12:16], new=size.to_bytes(4, "little"))
        if splice.old != splice.new:
            _add(changes, inside, "the header says which source it comes from", [splice])


def _source_hash(source: bytes) -> bytes:
    import importlib.util

    return importlib.util.source_hash(source)


def _records(tree: Path, path: str, changed: dict[str, FileChange]) -> list[Splice]:
    """Return the edits of a RECORD: paths in it are relative to the directory that holds its own."""
    top = os.path.dirname(os.path.dirname(path))
    with open(os.path.join(tree, path), "rb") as file:
        content = file.read(_LIMIT)
    found = []
    for match in RECORD.finditer(content):
        change = changed.get(os.path.normpath(os.path.join(top, os.fsdecode(match[2]))))
        if change is None:
            continue
        digest, size = _hash(edited(tree, change), "sha256")
        coded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=")
        if coded != match[3]:
            found.append(Splice(offset=match.start(3), old=match[3], new=coded))
        if str(size).encode() != match[4]:
            found.append(Splice(offset=match.start(4), old=match[4], new=str(size).encode()))
    return found


def _follow_companions(
    tree: Path, path: str, change: FileChange, changes: Changes, refusals: list[Refusal]
) -> None:
    directory, name = os.path.split(path)
    for suffix, kind in _SUMS.items():
        companion = path + suffix
        if os.path.isfile(tree / companion) and os.path.getsize(tree / companion) < 4096:
            old, new = (
                _hash(chunks, kind)[0] for chunks in (_original(tree, change.path), edited(tree, change))
            )
            content = (tree / companion).read_bytes()
            at = content.find(old.hexdigest().encode())
            if at >= 0:
                edit = Splice(offset=at, old=old.hexdigest().encode(), new=new.hexdigest().encode())
                _add(changes, companion, f"the hash of {path}", [edit])
    for companion in (os.path.join(directory, f".{name}.hmac"), *(path + suffix for suffix in _SIGNATURES)):
        if os.path.isfile(tree / companion):
            refusals.append(
                Refusal(path=path, reason=f"would change, but {companion} signs it; leave it, or sign anew")
            )


def _follow_conda(tree: Path, metadata: list[str], changed: dict[str, FileChange], changes: Changes) -> None:
    """Put new hashes where conda recorded those of changed files."""
    hashes = {_hash(_original(tree, path), "sha256")[0].hexdigest().encode(): path for path in changed}
    for path in metadata:
        with open(os.path.join(tree, path), "rb") as file:
            content = file.read(_LIMIT)
        splices = [
            Splice(
                offset=match.start(),
                old=match[0],
                new=_hash(edited(tree, changed[hashes[match[0]]]), "sha256")[0].hexdigest().encode(),
            )
            for match in _HEX.finditer(content)
            if match[0] in hashes
        ]
        _add(changes, path, "conda's hashes of changed files", splices)
