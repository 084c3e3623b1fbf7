"""Why a host cannot run a sandbox: from the call that failed to the setting to change.

Sources: user_namespaces(7); Documentation/admin-guide/sysctl/user.rst; Ubuntu's restriction of
unprivileged user namespaces by AppArmor (bubblewrap#632); Docker's default seccomp profile, which
forbids unshare and mount (bubblewrap#505).
"""

import errno
import os

_SETTINGS = (
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that allows userns",
    ),
)


class SandboxError(Exception):
    """The sandbox could not be set up; nothing was run. `step` is what failed, `hint` what may help."""

    def __init__(self, step: str, reason: str, *, hint: str | None = None, number: int = 0) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason
        self.hint = hint
        self.number = number


def explain(step: str, number: int, reason: str) -> SandboxError:
    """Return the error for a step that failed with errno `number`, with the setting to change where known."""
    if number == errno.ENOSYS:
        hint = f"the sandbox needs Linux 5.12 or newer; this is {os.uname().release}"
    elif step in {"namespaces", "identity"} and number in {
        errno.EPERM,
        errno.EACCES,
        errno.ENOSPC,
        errno.EUSERS,
    }:
        hint = _blocking_setting() or (
            "a container's seccomp profile or security module forbids user namespaces;"
            " for Docker: --security-opt seccomp=unconfined"
        )
    elif step == "proc" and number == errno.EPERM:
        hint = "the host hides parts of /proc (a container does); for Docker: --security-opt systempaths=unconfined"
    else:
        hint = None
    return SandboxError(step, reason, hint=hint, number=number)


def _blocking_setting() -> str | None:
    for path, blocking, remedy in _SETTINGS:
        try:
            with open(path, encoding="ascii") as file:
                value = file.read().strip()
        except OSError:
            continue
        if value == blocking:
            setting = path.removeprefix("/proc/sys/").replace("/", ".")
            return f"{setting} is {value}; an administrator can allow it with: {remedy}"
    return None
