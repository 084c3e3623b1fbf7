"""The file that a call means: opened as the kernel would find it for the program that makes the call.

What is then looked at and what is changed is one file: no other thread can put another in its place between
the two. A descriptor with O_PATH is enough for that, and gives no right to the content.

With a *fence*, directories of the host, only what lies below one of them is given: where a sandbox has no
mounts of its own (belljar.sandbox.weaker), that is what a read-only mount would say.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from belljar.sandbox import notify
from belljar.sandbox.lookups import HERE
from belljar.sandbox.processes import Processes

NO_FOLLOW, EMPTY_PATH = 0x100, 0x1000
"""AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH."""
_OWN = (b"/proc/self/fd/", b"/proc/thread-self/fd/", b"/dev/fd/")


class Targets:
    """Finds files for calls."""

    def __init__(
        self, processes: Processes, memory: notify.Memory, fence: tuple[str, ...] | None = None
    ) -> None:
        self._processes = processes
        self._memory = memory
        self._fence = None if fence is None else tuple(map(os.path.realpath, fence))

    @contextlib.contextmanager
    def named(self, request: notify.Request, directory: int, address: int, flags: int = 0) -> Iterator[int]:
        """Open what a path at an address means from a directory; flags are AT_*. Raises OSError."""
        path = self._memory.string(request[1], address)
        if path is None:
            raise OSError(errno.EFAULT, "path")
        if flags & ~(NO_FOLLOW | EMPTY_PATH):
            raise OSError(errno.EINVAL, "flags")
        if not path and not flags & EMPTY_PATH:
            raise OSError(errno.ENOENT, "path")
        base = "root" if path[:1] == b"/" else "cwd" if directory == HERE else f"fd/{directory}"
        for own in _OWN:  # "self" is the one who asks
            if path.startswith(own) and path.removeprefix(own).isdigit():
                base, path = f"fd/{path.removeprefix(own).decode()}", b""
        with self._opened(request[1], base, path.lstrip(b"/"), flags) as file:
            yield file

    @contextlib.contextmanager
    def held(self, request: notify.Request, descriptor: int) -> Iterator[int]:
        """Open what a descriptor of the program is. Raises OSError."""
        with self._opened(request[1], f"fd/{descriptor & 0xFFFFFFFF}", b"", 0) as file:
            yield file

    @contextlib.contextmanager
    def _opened(self, task: int, base: str, path: bytes, flags: int) -> Iterator[int]:
        try:
            file = self._processes.open(task, base)
        except FileNotFoundError as error:
            raise OSError(errno.EBADF, base) from error
        try:
            if path:
                below, file = file, -1
                try:
                    file = notify.find(below, path, os.O_PATH | (os.O_NOFOLLOW if flags & NO_FOLLOW else 0))
                finally:
                    os.close(below)
            if not self._within(file):
                raise OSError(errno.EROFS, "outside")
            yield file
        finally:
            if file >= 0:
                os.close(file)

    def _within(self, file: int) -> bool:
        """Tell whether a file lies within the fence, or has no place at all: a pipe, or what is removed."""
        if self._fence is None:
            return True
        info, path = os.fstat(file), self._processes.path_of(file)
        if not path.startswith("/") or (info.st_nlink == 0 and not stat.S_ISDIR(info.st_mode)):
            return path != "..."
        return any(path == top or path.startswith(f"{top}/") for top in self._fence)
