"""A sandbox where user namespaces are forbidden: Landlock, the filter and the supervisor. A weaker promise.

The host's files stay where they are. What operations show may be read at its own path, what they show
writable may be written to, an empty directory (Tmpfs) is a private one that is removed afterwards; nothing
else can be opened. Paths of the sandbox in the command, its variables and its directory are translated.
There is no network, no socket at all but pairs, no System V IPC, no looking into other processes. When the
command ends whatever it left is killed.

Less than a sandbox of namespaces (docs/sandbox.md): files made for it (File, the machine's face in /proc),
links and read-only covers are not there; user, host's processes and what exists (stat) are seen; without
Landlock 6 (Linux 6.12) other processes of the user can be signalled; what a killed supervisor leaves runs on
without most system calls. Modes, owners and times, of which Landlock knows nothing, the supervisor changes
itself, in the outputs only (belljar.sandbox.stamps).

Rejected: chroot and bind mounts by root alone (a container's root has neither), ptrace of every call (slow).
"""

import contextlib
import os
import re
import signal
import socket
import time
from typing import NoReturn

from belljar.sandbox import kernel, landlock, notify
from belljar.sandbox.diagnosis import Step
from belljar.sandbox.inside import PIPE, Ends, Job, become, limit, report_failure, wait_for
from belljar.sandbox.operations import Bind, Devices, Proc, Sandbox, Tmpfs
from belljar.sandbox.policy import Policy, Trace
from belljar.sandbox.signals import pass_on
from belljar.sandbox.supervisor import ALL_CHILDREN, Supervisor, program_of
from belljar.sandbox.values import replace, value

DENIED = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise"),
    *("shmget", "shmat", "shmctl", "semget", "semop", "semctl", "semtimedop", "msgget", "msgsnd", "msgrcv"),
    *("msgctl", "mq_open", "mq_unlink", "prlimit64", "setpriority", "inotify_add_watch", "clone3"),
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat", "ioctl"),
    *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
)
"""What reaches others where there is no process or IPC namespace, might make a user namespace, or changes
what no mount protects: attributes and flags of files (of ioctl, those that set flags).

A watch tells the names of what is in a directory that may not be listed, and when it is used.
"""
_NODES = ("null", "zero", "full", "random", "urandom", "tty")


@value
class View:
    """A sandbox translated to the host's paths: what may be read, written to and used."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    use: tuple[str, ...]
    plain: tuple[str, ...]
    """Those of them on the way to which no link is followed."""
    places: tuple[tuple[str, str], ...]
    """(path inside, path on the host), the longest first."""
    private: str

    def translate(self, text: str) -> str:
        """Replace paths of the sandbox in a text by the host's."""
        names = "|".join(re.escape(inside) for inside, _ in self.places)
        known = dict(self.places)
        return re.sub(rf"(?<![\w./-])({names})(?![\w.-])", lambda found: known[found[1]], text)


def view_of(sandbox: Sandbox, private: str) -> View:
    """Return what of the host a sandbox shows; `private` is to hold its empty directories."""
    binds = [item for item in sandbox.operations if isinstance(item, Bind)]
    shown = [item for item in binds if not item.target.startswith("/proc/")]
    empty = [item for item in sandbox.operations if isinstance(item, Tmpfs)]
    places = {item.target: item.source for item in shown}
    places |= {item.target: f"{private}/{number}" for number, item in enumerate(empty)}
    kinds = {type(item) for item in sandbox.operations}
    return View(
        read=(*(item.source for item in shown if not item.writable), *(["/proc"] if Proc in kinds else [])),
        write=(*(item.source for item in shown if item.writable), private),
        use=tuple(f"/dev/{name}" for name in _NODES) if Devices in kinds else (),
        plain=tuple(item.source for item in shown if not item.links),
        places=tuple(sorted(places.items(), key=lambda pair: len(pair[0]), reverse=True)),
        private=private,
    )


def possible() -> str | None:
    """Return why this machine cannot do even that, or None."""
    found = landlock.version()
    if found < landlock.LEAST:
        return f"Landlock {found or 'is not there'}: version {landlock.LEAST} is needed, of Linux 6.2"
    return None


def keep(job: Job, caller: int, ends: Ends) -> NoReturn:
    """Be the keeper: start the command with nothing but its view, supervise it, and kill what it leaves."""
    with Step("weaker"):
        reason = possible()
        if reason is not None:
            raise ValueError(reason)
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() != caller:
            os._exit(125)
        kernel.adopt_orphans()
        kernel.leave_keyring()
        view = view_of(job.sandbox, _private())
    try:
        for number in range(len(view.places)):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{view.private}/{number}", 0o700)
        status = _supervise(job, view, ends)
        _kill_all()
    finally:
        _remove(view.private)
    if status is not None:
        os.write(PIPE, b"ended\0%d" % status)
    os._exit(0)


def _private() -> str:
    path = f"{os.environ.get('TMPDIR') or '/tmp'}/belljar-{os.urandom(8).hex()}"
    os.mkdir(path, 0o700)
    return os.path.realpath(path)


def _remove(top: str) -> None:
    """Remove a directory, whatever is in it: what lies deeper is moved up before it is emptied.

    So no path grows and nothing recurses. What cannot be removed is left.
    """
    pending = [top]
    while pending:
        place = pending.pop()
        with contextlib.suppress(OSError):
            os.chmod(place, 0o700)
            for entry in list(os.scandir(place)):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)  # or it could not be moved
                    pending.append(f"{top}/{os.urandom(16).hex()}")
                    os.rename(entry.path, pending[-1])
                else:
                    os.unlink(entry.path)
            if place != top:
                os.rmdir(place)
    with contextlib.suppress(OSError):
        os.rmdir(top)


def _supervise(job: Job, view: View, ends: Ends) -> int | None:
    """Run the command to its end; return its status, None where it could not be started and has said why."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ours, theirs = socket.socketpair()
    with Step("start"):
        command = kernel.fork_alone()
    if command == 0:
        ours.close()
        _begin(job, view, theirs, ends.word)
    theirs.close()
    with ours:
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not fds:
            os.waitpid(command, 0)
            return None
        names = job.sandbox.hostname, job.sandbox.domain
        policy = _policy(job, view)
        keeper = Supervisor(
            policy, names, nested=False, own=False, listener=fds[0], proc=proc, events=ends.events
        )
        ours.send(b"!")
        keeper.guard(command, pass_on=lambda number: pass_on(-command, number))
        return None if ours.recv(1) else keeper.status


def _begin(job: Job, view: View, line: socket.socket, word: int | None) -> NoReturn:
    """Be the command: give up what is not in the view, have the supervisor listen, and execute."""
    try:
        if not job.interactive:
            os.setsid()
        kernel.die_with_parent(signal.SIGKILL)
        _give_up(job, view)
        with Step("supervisor"):
            listener = notify.install(program_of(_policy(job, view), nested=False))
            socket.send_fds(line, [b"!"], [listener])
            os.close(listener)
            line.recv(1)
        wait_for(word)
        argv = tuple(map(view.translate, job.argv))
        env = {name: view.translate(text) for name, text in job.sandbox.env.items()}
        with Step(f"start {job.argv[0]}"):
            become(argv, env)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's to hear
        report_failure(PIPE, error)
        line.send(b"!")
    os._exit(125)


def _give_up(job: Job, view: View) -> None:
    limit(job.sandbox)
    with contextlib.suppress(OSError):  # Docker's filter
        kernel.fix_addresses(fixed=job.sandbox.fixed_addresses)
    with Step("capabilities"):
        kernel.give_up_rights(own=False)
        kernel.allow_supervision()
    with Step("landlock"):
        landlock.restrict(
            read=view.read, write=view.write, use=view.use, plain=view.plain, network=job.sandbox.network
        )
    with Step(f"working directory {job.sandbox.cwd}"):
        os.chdir(view.translate(job.sandbox.cwd))


def _policy(job: Job, view: View) -> Policy:
    """Return the policy with what is denied besides; the same for the filter and for the supervisor."""
    denied = (*DENIED, *(() if job.sandbox.network else ("socket",)))
    policy = job.policy or Policy(trace=Trace.NOTHING)
    return replace(policy, denied=(*policy.denied, *denied), fence=view.write)


def _kill_all() -> None:
    """Kill whatever is left: orphans become this process's children, one generation after the other."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG | ALL_CHILDREN)[0]:
                pass
        except ChildProcessError:
            return
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            left = file.read().split()
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        time.sleep(0.001)
