"""Why a host cannot run a sandbox: from the call that failed to the setting to change.

Sources: user_namespaces(7); Documentation/admin-guide/sysctl/user.rst; Ubuntu's restriction of
unprivileged user namespaces by AppArmor (bubblewrap#632); Docker's default seccomp profile, which
forbids unshare and mount (bubblewrap#505).
"""

import errno
import os
from types import TracebackType

_SETTINGS = (
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that allows userns",
    ),
)
_TRACING = (
    ("/proc/sys/kernel/yama/ptrace_scope", "3", "a start of the machine without it; it cannot be lowered"),
)
_FORBIDDEN = {errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS}
_EXHAUSTED = {
    errno.EMFILE: "too many open files: raise `ulimit -n`",
    errno.ENFILE: "the machine has too many open files: raise the sysctl fs.file-max",
    errno.EAGAIN: "too many processes: raise `ulimit -u`, or the pids.max of the control group",
    errno.ENOMEM: "the machine is out of memory",
}


class SandboxError(Exception):
    """The sandbox could not be set up; nothing was run. `step` is what failed, `hint` what may help."""

    def __init__(self, step: str, reason: str, *, hint: str | None = None, number: int = 0) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason
        self.hint = hint or remedy(step, number)
        self.number = number

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes: pickle would call the constructor with the message alone."""
        return _again, (self.step, self.reason, self.hint, self.number)


def _again(step: str, reason: str, hint: str | None, number: int) -> SandboxError:
    return SandboxError(step, reason, hint=hint, number=number)


class Step:
    """Names what is being done: an OSError or ValueError in its `with` block becomes a SandboxError."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Turn what can be explained into words."""
        if isinstance(error, OSError):
            where = f": {error.filename}" if error.filename else ""
            number = error.errno or 0
            raise SandboxError(self.name, f"{error.strerror}{where}", number=number) from error
        if isinstance(error, ValueError):
            raise SandboxError(self.name, str(error)) from error


def remedy(step: str, number: int) -> str | None:
    """Say what may help when a step failed with errno `number`, or None."""
    if number in _EXHAUSTED:
        return _EXHAUSTED[number]
    if step == "supervisor" and number == errno.EBUSY:
        return (
            "a supervisor listens already: this is inside a sandbox that is supervised, and only one can be"
        )
    if step == "supervisor" and number == errno.EPERM:
        return _blocking_setting(_TRACING) or (
            "a container's seccomp profile or a security module forbids to look into processes"
            " (pidfd_getfd, ptrace)"
        )
    if number == errno.ENOSYS:
        return f"the sandbox needs Linux 5.12 or newer; this is {os.uname().release}"
    if step in {"namespaces", "identity"} and number in _FORBIDDEN:
        return _blocking_setting(_SETTINGS) or (
            "a container's seccomp profile, a security module or a chroot forbids user namespaces;"
            " for Docker: --security-opt seccomp=unconfined"
        )
    if (step.startswith("proc ") and number == errno.EPERM) or step == "nesting":
        return (
            "the host hides or protects parts of /proc (a container does);"
            " for Docker: --security-opt systempaths=unconfined"
        )
    if number == errno.EROFS:
        return "what is to be mounted on must exist where a read-only directory is shown"
    return None


def is_forbidden(error: SandboxError) -> bool:
    """Tell whether the host forbids what namespaces need, rather than that it lacks something for once."""
    return error.step in {"namespaces", "identity", "nesting", "root"} or error.step.startswith("proc ")


def _blocking_setting(settings: tuple[tuple[str, str, str], ...]) -> str | None:
    for path, blocking, remedy in settings:
        try:
            # In bytes: a codec may have to be imported, where Python's library is out of sight.
            with open(path, "rb") as file:
                value = file.read().strip().decode()
        except OSError:
            continue
        if value == blocking:
            setting = path.removeprefix("/proc/sys/").replace("/", ".")
            return f"{setting} is {value}; an administrator can allow it with: {remedy}"
    return None
