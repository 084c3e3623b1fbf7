"""What was read of one root, kept for all files that are resolved in it.

A library is read and taken apart once, whoever needs it; so are the loaders, `/etc/ld.so.cache` and the
lists of directories. The tree must not change while a cache is in use.
"""

import errno
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from belljar.elf import ElfError, Header, read
from belljar.elf.const import MAGIC
from belljar.errors import BelljarError, InputError
from belljar.ldso import ldcache, loader
from belljar.ldso.binary import Binary, digest
from belljar.ldso.image import image_of, read_all, windows
from belljar.ldso.ldcache import LdCache
from belljar.ldso.loader import Loader
from belljar.ldso.root import Place, Root

_LD_CACHE = "/etc/ld.so.cache"
_LD_PRELOAD = "/etc/ld.so.preload"
_TEXT_LIMIT = 1 << 20


class Cache:
    """The parsed files of one root, and of a directory `shown` in it; makes no use of what lies outside.

    With `libraries_only` closures tell which files are loaded, not whether their symbols are found, in half
    the time.
    """

    def __init__(
        self, root: Path = Path("/"), *, shown: Path | None = None, libraries_only: bool = False
    ) -> None:
        self.root = Root(root, shown=shown)
        self._libraries_only = libraries_only
        self._binaries: dict[tuple[int, int], Binary | BelljarError] = {}
        self._idents: dict[tuple[int, int], bytes] = {}
        self._loaders: dict[tuple[str, int, int], Loader] = {}
        self._caches: dict[int, LdCache] = {}
        self.lists: dict[tuple[object, ...], tuple[tuple[str, str], ...]] = {}
        self.providers: dict[tuple[int, int], frozenset[tuple[int, int]]] = {}

    def binary(self, place: Place) -> Binary:
        """Return what is in a file; raises ElfError for damaged or other bytes, InputError for no file."""
        known = self._binaries.get(place.identity)
        if known is None:
            known = self._binaries[place.identity] = self._read(place)
        if isinstance(known, BelljarError):
            # Without what led to it before, which would be kept, and grow.
            raise known.with_traceback(None)
        return known

    def ident(self, place: Place) -> bytes:
        """Return the first 20 bytes of a file that is damaged further on: for which machine it was."""
        return self._idents.get(place.identity, b"")

    def loader(self, name: str, header: Header) -> Loader:
        """Return the loader of that name; what upstream's would be where the root has none."""
        key = (name, header.machine, header.elf_class)
        if key not in self._loaders:
            self._loaders[key] = self._inspect(name, header)
        return self._loaders[key]

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        try:
            return self.root.locate(path).is_file
        except OSError:
            return False

    def ld_cache(self, header: Header) -> LdCache:
        """Return the root's /etc/ld.so.cache; an empty one where there is none that can be used."""
        if header.data not in self._caches:
            self._caches[header.data] = ldcache.parse(self.content(_LD_CACHE), byte_order=header.data)
        return self._caches[header.data]

    def preloads(self) -> tuple[str, ...]:
        """Return the names in /etc/ld.so.preload, without its comments."""
        lines = self.content(_LD_PRELOAD)[:_TEXT_LIMIT].decode("utf-8", "surrogateescape").splitlines()
        return tuple(name for line in lines for name in line.partition("#")[0].replace(":", " ").split())

    def content(self, path: str) -> bytes:
        """Return a file's bytes; none where it is not there or may not be read."""
        try:
            place = self.root.locate(path)
            return _bytes(place)
        except OSError:
            return b""

    def _inspect(self, name: str, header: Header) -> Loader:
        data = self.content(name) if name.startswith("/") else b""
        return loader.inspect(name, data, header) if data.startswith(MAGIC) else loader.absent(name, header)

    def _read(self, place: Place) -> Binary | BelljarError:
        try:
            with _opened(place) as descriptor:
                return self._digest(place, descriptor)
        except OSError as error:
            return InputError(f"{place.path}: {error.strerror}")

    def _digest(self, place: Place, descriptor: int) -> Binary | BelljarError:
        image = image_of(descriptor, os.fstat(descriptor).st_size)
        try:
            elf = read(memoryview(image), exports=not self._libraries_only)
            pieces = functools.partial(windows, descriptor)
            return digest(elf, pieces, libraries_only=self._libraries_only)
        except ElfError as error:
            self._idents[place.identity] = image[:20]
            return error.with_traceback(None)


def _bytes(place: Place) -> bytes:
    """Return a file's bytes; raises OSError."""
    with _opened(place) as descriptor:
        return read_all(descriptor, os.fstat(descriptor).st_size)


@contextmanager
def _opened(place: Place) -> Iterator[int]:
    """Open a file; raises OSError. A pipe or device, which might never end, is not opened."""
    if not place.is_file:
        raise OSError(errno.EISDIR, "not a regular file", place.path)
    descriptor = os.open(place.host, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
