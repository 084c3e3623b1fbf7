"""In which order a directory lists its entries: sorted by name, or shuffled, whatever the filesystem does.

getdents64(2) is answered from a list that is taken when a program begins to read a directory; the position in
the caller's descriptor, which rewinddir(3) and seekdir(3) set, is the number of the next entry. So a program
that goes on reading while it removes entries sees each one once.

Not ordered: what a program lists by the old getdents(2), which no libc has used since 1999; what a thread
lists that does not share its process's descriptors.
"""

import errno
import hashlib
import os
import struct
from collections import OrderedDict
from collections.abc import Callable

from belljar.sandbox import notify
from belljar.sandbox.policy import SORTED, Unseen
from belljar.sandbox.processes import Processes

_ENTRY = struct.Struct("=QqHB")  # struct linux_dirent64 without its name: inode, offset, length, type
_MANY = 256


class Listing:
    """Answers who lists a directory; `order` is SORTED, or a word that a shuffled order follows from."""

    def __init__(
        self, order: str, processes: Processes, memory: notify.Memory, tell: Callable[[Unseen], None]
    ) -> None:
        self._order = order
        self._processes = processes
        self._memory = memory
        self._tell = tell
        self._lists: OrderedDict[tuple[int, int], tuple[bytes, ...]] = OrderedDict()

    def answer(self, request: notify.Request) -> int | None:
        """Return how many bytes of entries were written, minus an errno, or None: the kernel is to answer."""
        try:
            fd = notify.fetch(self._processes.of(request[1]).outside, request[6])
        except OSError as error:
            if error.errno in {errno.EPERM, errno.ENOSYS}:  # a container's filter
                program = self._processes.of(request[1]).program
                self._tell(Unseen(what="the order of a directory's entries", program=program))
            return None
        try:
            return self._list(request, fd)
        except OSError:
            return None
        finally:
            os.close(fd)

    def _list(self, request: notify.Request, fd: int) -> int | None:
        at, info = os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd)
        key = info.st_dev, info.st_ino
        if at == 0 or key not in self._lists:  # forgotten: positions are numbers of ours, not the kernel's
            self._lists[key] = self._ordered(notify.entries(fd))
            if len(self._lists) > _MANY:
                self._lists.popitem(last=False)
        found = self._lists[key]
        data, end = _packed(found, at, request[8] & 0xFFFFFFFF)
        if not data and end < len(found):
            value = -errno.EINVAL
        else:
            value = -self._memory.write(request[1], request[7], data) if data else 0
        os.lseek(fd, at if value else end, os.SEEK_SET)
        return value or len(data)

    def _ordered(self, data: bytes) -> tuple[bytes, ...]:
        """Return the entries, `.` and `..` first."""
        found, at = [], 0
        while at + _ENTRY.size <= len(data):
            length = _ENTRY.unpack_from(data, at)[2]
            found.append(data[at : at + length])
            at += length
        return tuple(sorted(found, key=self._place))

    def _place(self, entry: bytes) -> tuple[bool, bytes]:
        name = entry[_ENTRY.size :].split(b"\0", 1)[0]
        if self._order != SORTED and name not in (b".", b".."):
            return True, hashlib.sha256(self._order.encode() + name).digest()
        return name not in (b".", b".."), name


def _packed(found: tuple[bytes, ...], at: int, room: int) -> tuple[bytes, int]:
    """Return as many entries from number `at` on as there is room for, and the number of the next."""
    data = bytearray()
    while at < len(found) and len(data) + len(found[at]) <= room:
        inode, _, length, kind = _ENTRY.unpack_from(found[at])
        at += 1
        data += _ENTRY.pack(inode, at, length, kind) + found[at - 1][_ENTRY.size :]
    return bytes(data), at
