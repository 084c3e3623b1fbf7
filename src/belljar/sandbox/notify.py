"""The kernel's side of supervision: the listener of a filter, the memory of a process, its start.

Sources: seccomp_unotify(2), ptrace(2), pidfd_getfd(2), signalfd(2), time_namespaces(7).

A process that waits for an answer stands still, so that its memory can be read and written; its other threads
do not: what is read here may be changed before the kernel reads it again. Nothing here is a boundary.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import struct

_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
# Before Linux 5.16 a filter slows programs down against speculation, unless told that it keeps no secrets.
_SPEC_ALLOW = 1 << 2
_SET_MODE_FILTER = 1
_RECEIVE, _SEND, _ADD_FD = 0xC0502100, 0xC0182101, 0x40182103
_SET_FLAGS, _SYNC_WAKE_UP = 0x40082104, 1
_CONTINUE = 1
_ADDFD_FLAG_SEND = 1 << 1
_REQUEST = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_PIDFD_GETFD, _OPENAT2 = 438, 437
_NO_MAGICLINKS = 0x02
_SECCOMP, _SIGNALFD, _GETDENTS = {"x86_64": (317, 289, 217), "aarch64": (277, 74, 61)}.get(
    os.uname().machine, (-1, -1, -1)
)
_PTRACE_INTERRUPT = 0x4207
_PTRACE_SEIZE, _PTRACE_DETACH, _PTRACE_GETREGSET, _PTRACE_O_TRACEEXEC = 0x4206, 17, 0x4204, 0x10
_NT_PRSTATUS = 1
_STACK_POINTER = {"x86_64": 19, "aarch64": 31}.get(os.uname().machine, 0)  # the word in the registers
_SFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
_PAGE = 4096
_SHORT = 256

Request = tuple[int, ...]
"""id, task, flags, number, architecture, instruction pointer and six arguments: `struct seccomp_notif`."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
# Calls that never wait: it costs more to let go of the interpreter's lock than to make them.
_held = ctypes.PyDLL(None, use_errno=True)
_held.syscall.restype = ctypes.c_long
_syscall = _held.syscall
_readv, _writev = _held.process_vm_readv, _held.process_vm_writev
_readv.restype = _writev.restype = ctypes.c_ssize_t
_readv.argtypes = _writev.argtypes = (
    *(ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong),
)


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def install(program: bytes) -> int:
    """Put this process and all that it starts under a filter; return the listener's descriptor.

    Raises OSError: EBUSY where a supervisor listens already.
    """
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    flags = _NEW_LISTENER | _SPEC_ALLOW
    fd: int = _syscall(_SECCOMP, _SET_MODE_FILTER, flags | _WAIT_KILLABLE, header)
    if fd < 0 and ctypes.get_errno() == errno.EINVAL:  # before Linux 5.19
        fd = _syscall(_SECCOMP, _SET_MODE_FILTER, flags, header)
    return _check(fd, "seccomp")


def fetch(process: int, fd: int) -> int:
    """Return a copy of another process's descriptor."""
    pidfd = os.pidfd_open(process)
    try:
        return _check(_syscall(_PIDFD_GETFD, pidfd, fd, 0), "pidfd_getfd")
    finally:
        os.close(pidfd)


def find(directory: int, path: bytes, flags: int) -> int:
    """Open what a path leads to from a directory, but for links of /proc into processes; raises OSError."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _NO_MAGICLINKS)
    return _check(_syscall(_OPENAT2, directory, path, how, len(how)), "openat2")


def was_refused() -> bool:
    """Tell whether the last call failed because a process may not be looked into."""
    return ctypes.get_errno() == errno.EPERM


def entries(directory: int) -> bytes:
    """Return what a directory's descriptor lists, from where it stands: `struct linux_dirent64`, many."""
    buffer = ctypes.create_string_buffer(1 << 16)
    parts = []
    while size := _check(_syscall(_GETDENTS, directory, buffer, len(buffer)), "getdents64"):
        parts.append(buffer.raw[:size])
    return b"".join(parts)


def signals(numbers: frozenset[signal.Signals]) -> int:
    """Return a descriptor that can be read when one of the (blocked) signals has come."""
    mask = sum(1 << (number - 1) for number in numbers)
    return _check(_syscall(_SIGNALFD, -1, struct.pack("=Q", mask), 8, _SFD_FLAGS), "signalfd")


class Listener:
    """Where the calls that a filter tells of arrive, and are answered."""

    __slots__ = ("_blank", "_buffer", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # To wake another CPU costs several times what a call does: stay on the caller's (Linux 6.6).
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)
        self._buffer = bytearray(_REQUEST.size)
        self._blank = bytes(_REQUEST.size)

    def receive(self) -> Request | None:
        """Return the next call that waits; None where the process is gone by now."""
        self._buffer[:] = self._blank
        try:
            fcntl.ioctl(self.fd, _RECEIVE, self._buffer)
        except OSError:
            return None
        return _REQUEST.unpack(self._buffer)

    def go_on(self, request: Request) -> None:
        """Have the kernel carry the call out."""
        try:
            fcntl.ioctl(self.fd, _SEND, _RESPONSE.pack(request[0], 0, 0, _CONTINUE))
        except OSError:
            return  # killed meanwhile

    def answer(self, request: Request, value: int, number: int = 0) -> None:
        """Have the call return `value`, or fail with errno `number`."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.fd, _SEND, _RESPONSE.pack(request[0], value, -number, 0))

    def hand(self, request: Request, fd: int, flags: int) -> None:
        """Have the call return a new descriptor of what `fd` is; it fails with EMFILE where it cannot."""
        try:
            words = struct.pack("=QIIII", request[0], _ADDFD_FLAG_SEND, fd, 0, flags & os.O_CLOEXEC)
            fcntl.ioctl(self.fd, _ADD_FD, words)
        except OSError:
            self.answer(request, 0, errno.EMFILE)


class Memory:
    """Reads and writes the memory of processes."""

    __slots__ = ("_address", "_buffer", "_here", "_short", "_string", "_there", "_view")

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(_PAGE)
        self._view = memoryview(self._buffer).cast("B")
        self._address = ctypes.addressof(self._buffer)
        self._here = (ctypes.c_uint64 * 2)()
        self._there = (ctypes.c_uint64 * 2)()
        self._short = (ctypes.c_uint64 * 2)(self._address, _SHORT)
        self._string = (ctypes.c_uint64 * 2)(0, _SHORT)

    def _read(self, task: int, address: int, size: int) -> int:
        self._here[0], self._here[1] = self._address, size
        self._there[0], self._there[1] = address, size
        done: int = _readv(task, self._here, 1, self._there, 1, 0)
        return done

    def string(self, task: int, address: int) -> bytes | None:
        """Return the string at an address, without its NUL; None where there is none (at most 4096 bytes)."""
        self._string[0] = address
        done = _readv(task, self._short, 1, self._string, 1, 0)
        text = self._buffer.value  # up to the first NUL, which may be of a string from before
        if len(text) < done:
            return text
        text = b""
        while len(text) < _PAGE:
            done = self._read(task, address + len(text), _PAGE - (address + len(text)) % _PAGE)
            if done <= 0:
                return None
            text += self._buffer.raw[:done]
            end = text.find(b"\0")
            if end >= 0:
                return text[:end]
        return None

    def read(self, task: int, address: int, size: int) -> bytes:
        """Return up to `size` bytes (at most 4096 at a time), fewer where the memory ends."""
        done = self._read(task, address, min(size, _PAGE))
        return bytes(self._view[: max(done, 0)])

    def write(self, task: int, address: int, data: bytes) -> int:
        """Write all of `data`; return 0, or the errno."""
        buffer = ctypes.create_string_buffer(data, len(data))
        here = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), len(data))
        there = (ctypes.c_uint64 * 2)(address, len(data))
        if _writev(task, here, 1, there, 1, 0) == len(data):
            return 0
        return ctypes.get_errno() or errno.EFAULT


def seize(task: int) -> None:
    """Have a process stop when it has executed a program, and not before; raises OSError."""
    _check(_libc.ptrace(_PTRACE_SEIZE, task, None, _PTRACE_O_TRACEEXEC), "ptrace")


def interrupt(task: int) -> None:
    """Have a thread that was seized stop, once it gets to that."""
    _libc.ptrace(_PTRACE_INTERRUPT, task, None, None)


def release(task: int, signal_number: int) -> None:
    """Let a process that has stopped go, with a signal that was on its way to it (0: none)."""
    _libc.ptrace(_PTRACE_DETACH, task, None, signal_number)


def stack_pointer(task: int) -> int | None:
    """Return where the stack of a process that has stopped ends; None for one of another ABI."""
    registers = (ctypes.c_uint64 * 64)()
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(registers), ctypes.sizeof(registers))
    if _libc.ptrace(_PTRACE_GETREGSET, task, _NT_PRSTATUS, ctypes.addressof(vector)) < 0:
        return None
    return None if vector[1] < 8 * (_STACK_POINTER + 1) else registers[_STACK_POINTER]
