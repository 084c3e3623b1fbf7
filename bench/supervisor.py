"""What supervision costs: a build with gcc, the start of a program, reading the clock; taken in turns."""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from belljar.sandbox import Bind, Devices, Policy, Proc, Sandbox, Symlink, Tmpfs, Trace, run

EPOCH = 1_500_000_000
POLICIES: dict[str, Policy | None] = {
    "plain": None,
    "clock": Policy(trace=Trace.NOTHING, epoch=EPOCH, seed="x"),
    "opened": Policy(trace=Trace.OPENED),
    "opened, clock": Policy(trace=Trace.OPENED, epoch=EPOCH, seed="x"),
    "asked, clock": Policy(trace=Trace.ASKED, epoch=EPOCH, seed="x"),
    "all, clock": Policy(trace=Trace.ALL, epoch=EPOCH, seed="x"),
}
WANTED = {1: 1.25, 2: 1.4}
JUDGED = "opened, clock"
ROUNDS = 5
FILES = 30
READINGS = 20_000
TIMED = f"""import time; t = time.monotonic(); [time.time() for _ in range({READINGS})]
print(time.monotonic() - t)"""
MAKEFILE = """\
O=$(patsubst %.c,%.o,$(wildcard *.c))
prog: $(O)
\tgcc -o $@ $(O)
%.o: %.c
\tgcc -O1 -c $< -o $@
"""


def main(argv: list[str]) -> int:
    """Print the medians and their ratios to the sandbox without supervision."""
    rounds = int(argv[0]) if argv else ROUNDS
    with tempfile.TemporaryDirectory() as scratch:
        starts(max(rounds * 4, 20))
        clock(Path(scratch))
        met = [build(rounds, jobs, Path(scratch)) for jobs in WANTED]
    return 0 if all(met) else 1


def box(*more: Bind) -> Sandbox:
    """Return a root of the host's /usr."""
    links = [Symlink(target=f"/{name}", link=f"usr/{name}") for name in ("bin", "lib", "lib64")]
    there = [link for link in links if os.path.islink(link.target)]
    operations = (Bind(source="/usr", target="/usr"), *there, Proc(), Devices(), Tmpfs(target="/tmp"), *more)
    return Sandbox(operations=operations, env={"PATH": "/usr/bin"}, cwd="/w" if more else "/")


def turns(rounds: int, action: Callable[[Policy | None], float]) -> dict[str, float]:
    """Return the median of each policy, taken in turns so that a busy machine is fair to all."""
    taken: dict[str, list[float]] = {name: [] for name in POLICIES}
    for _ in range(rounds):
        for name, policy in POLICIES.items():
            taken[name].append(action(policy))
    return {name: statistics.median(values) for name, values in taken.items()}


def starts(rounds: int) -> None:
    """Print how long /bin/true takes."""
    found = turns(rounds, lambda policy: started(policy, ["/usr/bin/true"], box()))
    text = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in found.items())
    print(f"supervisor, start to end of true, ms: {text} (medians of {rounds})")


def started(policy: Policy | None, command: list[str], sandbox: Sandbox) -> float:
    """Return the seconds that a command takes; it must succeed."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    events: list[object] = []
    begun = time.perf_counter()
    tell = None if policy is None else events.append
    outcome = run(sandbox, command, stderr=devnull, policy=policy, on_event=tell)
    seconds = time.perf_counter() - begun
    os.close(devnull)
    if outcome.status != 0:
        raise SystemExit(f"error: benchmark: {command[0]} ended with {outcome.status}")
    return seconds


def clock(scratch: Path) -> None:
    """Print what one reading of the time of day costs."""
    for name in ("plain", "clock"):
        with (scratch / "out").open("wb") as file:
            run(box(), ["/usr/bin/python3", "-c", TIMED], stdout=file.fileno(), policy=POLICIES[name])
        each = float((scratch / "out").read_text()) / READINGS
        print(f"supervisor, a reading of the clock, {name}: {each * 1e6:.2f} microseconds")


def build(rounds: int, jobs: int, scratch: Path) -> bool:
    """Print how long a build of many files takes; True when the judged policy is fast enough."""
    work = scratch / "w"

    def action(policy: Policy | None) -> float:
        shutil.rmtree(work, ignore_errors=True)
        sources(work)
        sandbox = box(Bind(source=str(work), target="/w", writable=True))
        return started(policy, ["/usr/bin/make", "-s", f"-j{jobs}"], sandbox)

    found = turns(rounds, action)
    base = found["plain"]
    text = ", ".join(f"{name} x{seconds / base:.2f}" for name, seconds in found.items() if name != "plain")
    print(
        f"supervisor, {FILES} files with gcc, make -j{jobs}: plain {base:.2f} s, {text} (medians of {rounds})"
    )
    met = found[JUDGED] <= WANTED[jobs] * base
    print(f"supervisor, -j{jobs}: {JUDGED!r} wanted <= x{WANTED[jobs]}: {'met' if met else 'NOT MET'}")
    return met


def sources(work: Path) -> None:
    """Write C files that take about as long as real ones."""
    work.mkdir()
    (work / "Makefile").write_text(MAKEFILE)
    (work / "main.c").write_text("int main(void) { return 0; }\n")
    headers = "".join(f"#include <{name}.h>\n" for name in ("stdio", "stdlib", "string", "unistd", "time"))
    for number in range(FILES):
        functions = "".join(
            f"static int g{n}(int x) {{ int s = 0; while (x--) s += x * {n} ^ s; return s; }}\n"
            for n in range(60)
        )
        calls = " + ".join(f"g{n}(x)" for n in range(60))
        text = f"{headers}{functions}int f{number}(int x) {{ return {calls}; }}\n"
        (work / f"f{number}.c").write_text(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
