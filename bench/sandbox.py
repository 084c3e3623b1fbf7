"""How long a sandbox takes to start and end, against bwrap with the same mounts, in one run."""

import os
import statistics
import sys
import time
from collections.abc import Callable

from belljar import proc
from belljar.sandbox import Bind, Devices, Proc, Sandbox, Symlink, Tmpfs, run

RUNS = 100
WANTED = {0: 2.0, 100: 2.0, 800: 0.1}
"""How many times as long as bwrap it may take, by how many more binds there are than the one of /usr."""
MANY = 800
LINKS = ("bin", "lib", "lib64")


def main(argv: list[str]) -> int:
    """Print both medians and their ratio; 1 when the ratio is above what is wanted."""
    runs = int(argv[0]) if argv else RUNS
    found = proc.find("bwrap")
    bwrap = [str(found)] if found else fetched_bwrap()
    met = True
    for extra, wanted in WANTED.items():
        times = runs if extra < MANY else max(runs // 5, 3)
        ours, theirs = measure(times, box(extra), [*bwrap, *arguments(extra), "/bin/true"])
        met = met and ours <= wanted * theirs
        print(
            f"sandbox start, {extra + 1:3} binds: belljar {ours * 1e3:5.1f} ms, bwrap {theirs * 1e3:5.1f} ms,"
            f" ratio {ours / theirs:.2f} (wanted <= {wanted:g}; medians of {times})"
        )
    return 0 if met else 1


def fetched_bwrap() -> list[str]:
    """Return how to start Debian's bwrap from a private directory, with its own loader and libraries."""
    # Not above: what is loaded here is copied by each fork, and would be measured with it.
    from belljar.build.environment import materialise
    from belljar.home import Home
    from belljar.recipe.fetch import fetch
    from belljar.recipe.lock import Lock, machine_arch
    from belljar.recipe.sources import kind_named
    from belljar.recipe.sources.base import Context, Wanted
    from belljar.recipe.specs import DebPackage
    from belljar.types import quiet

    spec = DebPackage(name="bubblewrap", version=None)
    home, arch = Home.from_environment(), machine_arch()
    context = Context(home=home, arch=arch, suite="bookworm", progress=quiet)
    packages = kind_named("deb").resolve([Wanted(key=("bubblewrap",), spec=spec)], context)
    lock = Lock(arch=arch, requests={"environment.suite": "bookworm"}, environment=packages)
    root = materialise(packages, {}, fetch(lock, home), home=home).path
    libraries = next((root / "usr/lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux-*"))
    return [str(loader), "--library-path", str(libraries), str(root / "usr/bin/bwrap")]


def box(extra: int) -> Sandbox:
    """Return the host's /usr, the usual filesystems, and `extra` binds."""
    operations = [Bind(source="/usr", target="/usr"), Proc(), Devices(), Tmpfs(target="/tmp")]
    operations += [
        Symlink(target=f"/{name}", link=f"usr/{name}") for name in LINKS if os.path.islink(f"/{name}")
    ]
    operations += [
        Bind(source=f"/{name}", target=f"/{name}") for name in LINKS if not os.path.islink(f"/{name}")
    ]
    operations += [Bind(source="/usr/lib", target=f"/inputs/{number}") for number in range(extra)]
    return Sandbox(operations=tuple(operations), env={"PATH": "/bin"})


def arguments(extra: int) -> list[str]:
    """Return what makes bwrap do the same."""
    words = ["--unshare-all", "--die-with-parent", "--new-session", "--hostname", "localhost"]
    words += ["--uid", "1000", "--gid", "100", "--clearenv", "--setenv", "PATH", "/bin"]
    words += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for name in LINKS:
        link = os.path.islink(f"/{name}")
        words += ["--symlink", f"usr/{name}", f"/{name}"] if link else ["--ro-bind", f"/{name}", f"/{name}"]
    for number in range(extra):
        words += ["--ro-bind", "/usr/lib", f"/inputs/{number}"]
    return words


def measure(runs: int, sandbox: Sandbox, command: list[str]) -> tuple[float, float]:
    """Return the median seconds of both, run in turns so that a busy machine is fair to both."""
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(timed(lambda: run(sandbox, ["/bin/true"]).status))
        theirs.append(timed(lambda: spawn(command)))
    return statistics.median(ours), statistics.median(theirs)


def spawn(command: list[str]) -> int:
    """Run a program in the cheapest way there is and return its exit status."""
    pid = os.posix_spawn(command[0], command, {})
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def timed(action: Callable[[], int]) -> float:
    """Return the seconds that an action takes; it must succeed."""
    started = time.perf_counter()
    status = action()
    seconds = time.perf_counter() - started
    if status != 0:
        raise SystemExit(f"error: benchmark: a command ended with {status}")
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
