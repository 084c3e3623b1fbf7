"""A namespace sandbox that stands alone: it imports nothing of belljar, only the standard library.

    from belljar.sandbox import Bind, Devices, Proc, Sandbox, Tmpfs, run
    box = Sandbox(operations=(Bind(source="/usr", target="/usr"), Proc(), Devices(), Tmpfs(target="/tmp")))
    outcome = run(box, ["/usr/bin/env"])

`operations` are the values that a sandbox consists of, `kernel` is the door to the system calls,
`enter` is the caller's side of running, `inside` the sandbox's, `diagnosis` says why a host cannot, `weaker`
is what can be done there. `supervisor` answers and reports the calls of what runs inside.
`tracing` watches which files a command opens; it needs no sandbox.
"""

from belljar.sandbox.diagnosis import SandboxError, is_forbidden
from belljar.sandbox.enter import Outcome, run
from belljar.sandbox.operations import (
    Bind,
    Devices,
    Directory,
    File,
    Operation,
    Proc,
    Sandbox,
    Symlink,
    Tmpfs,
)
from belljar.sandbox.policy import SORTED, Blocked, Disarmed, Event, How, Lookup, Policy, Trace, Unseen
from belljar.sandbox.values import replace, value

__all__ = [
    "SORTED",
    "Bind",
    "Blocked",
    "Devices",
    "Directory",
    "Disarmed",
    "Event",
    "File",
    "How",
    "Lookup",
    "Operation",
    "Outcome",
    "Policy",
    "Proc",
    "Sandbox",
    "SandboxError",
    "Symlink",
    "Tmpfs",
    "Trace",
    "Unseen",
    "is_forbidden",
    "replace",
    "run",
    "value",
]
