"""What supervision costs: a build with gcc, the start of a program, reading the clock; taken in turns."""

import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from belljar import proc
from belljar.build.virtual import policy_of
from belljar.sandbox import Bind, Devices, Policy, Proc, Sandbox, Symlink, Tmpfs, Trace, run

EPOCH = 1_500_000_000
POLICIES: dict[str, Policy | None] = {
    "plain": None,
    "build": policy_of(real_clock=False),
    "opened": Policy(trace=Trace.OPENED),
    "opened, clock": Policy(trace=Trace.OPENED, epoch=EPOCH, seed="x"),
    "asked, clock": Policy(trace=Trace.ASKED, epoch=EPOCH, seed="x"),
    "all, clock": Policy(trace=Trace.ALL, epoch=EPOCH, seed="x"),
}
WANTED = {1: 1.25, 2: 1.4}
JUDGED = "opened, clock"
LINKER = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER"
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
        met = [build(rounds, jobs, Path(scratch), project) for project in projects() for jobs in WANTED]
    return 0 if all(met) else 1


@dataclass(frozen=True, kw_only=True)
class Project:
    """What is built: how its files are written, the command (the number of jobs comes last), what it sees."""

    name: str
    write: Callable[[Path], None]
    command: tuple[str, ...]
    binds: tuple[Bind, ...] = ()


def projects() -> list[Project]:
    """Return the projects; cargo's where there is one."""
    found = [Project(name=f"{FILES} files with gcc", write=sources, command=("/usr/bin/make", "-s", "-j"))]
    rustc = shutil.which("rustc")
    if rustc is None:
        print("supervisor: no rustc here, so no build with cargo")
        return found
    said = proc.run([rustc, "--print", "sysroot"]).stdout
    rust = Bind(source=os.path.realpath(said.strip()), target="/rust")
    words = ("/rust/bin/cargo", "build", "--offline", "-q", "-j")
    return [*found, Project(name="5 crates with cargo", write=crates, command=words, binds=(rust,))]


def box(*more: Bind) -> Sandbox:
    """Return a root of the host's /usr."""
    links = [Symlink(target=f"/{name}", link=f"usr/{name}") for name in ("bin", "lib", "lib64")]
    there = [link for link in links if os.path.islink(link.target)]
    operations = (Bind(source="/usr", target="/usr"), *there, Proc(), Devices(), Tmpfs(target="/tmp"), *more)
    env = {"PATH": "/rust/bin:/usr/bin", "HOME": "/tmp", "CARGO_HOME": "/tmp/cargo", LINKER: "gcc"}
    return Sandbox(operations=operations, env=env, cwd="/w" if more else "/")


def turns(
    rounds: int, action: Callable[[Policy | None], float]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the seconds of each policy on the wall and of CPU, in turns: a busy machine is fair to all."""
    wall: dict[str, list[float]] = {name: [] for name in POLICIES}
    busy: dict[str, list[float]] = {name: [] for name in POLICIES}
    for _ in range(rounds):
        for name, policy in POLICIES.items():
            before = spent()
            wall[name].append(action(policy))
            busy[name].append(spent() - before)
    return wall, busy


def spent() -> float:
    """Return the CPU seconds of what has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ratio(taken: dict[str, list[float]], name: str) -> float:
    """Return the median of the ratios to "plain", each to that of its own turn."""
    return statistics.median(one / plain for one, plain in zip(taken[name], taken["plain"], strict=True))


def starts(rounds: int) -> None:
    """Print how long /bin/true takes."""
    found, _ = turns(rounds, lambda policy: started(policy, ["/usr/bin/true"], box()))
    text = ", ".join(f"{name} {statistics.median(taken) * 1e3:.1f}" for name, taken in found.items())
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
    for name in ("plain", "build"):
        with (scratch / "out").open("wb") as file:
            run(box(), ["/usr/bin/python3", "-c", TIMED], stdout=file.fileno(), policy=POLICIES[name])
        each = float((scratch / "out").read_text()) / READINGS
        print(f"supervisor, a reading of the clock, {name}: {each * 1e6:.2f} microseconds")


def build(rounds: int, jobs: int, scratch: Path, project: Project) -> bool:
    """Print how long a build of many files takes; True when the judged policy is fast enough."""
    work = scratch / "w"

    def action(policy: Policy | None) -> float:
        shutil.rmtree(work, ignore_errors=True)
        project.write(work)
        sandbox = box(Bind(source=str(work), target="/w", writable=True), *project.binds)
        return started(policy, [*project.command, str(jobs)], sandbox)

    wall, busy = turns(rounds, action)
    names = [name for name in POLICIES if name != "plain"]
    text = ", ".join(f"{name} x{ratio(wall, name):.2f} (CPU x{ratio(busy, name):.2f})" for name in names)
    base, met = statistics.median(wall["plain"]), ratio(wall, JUDGED) <= WANTED[jobs]
    print(f"supervisor, {project.name}, -j{jobs}: plain {base:.2f} s, {text} (medians of {rounds})")
    print(f"  {JUDGED!r} wanted <= x{WANTED[jobs]}: {'met' if met else 'NOT MET'}", flush=True)
    return met


def crates(work: Path) -> None:
    """Write a program and four libraries of Rust."""
    names = [f"part{number}" for number in range(4)]
    needs = "".join(f'{name} = {{ path = "{name}" }}\n' for name in names)
    lines = "".join(f'm.insert({n}u64, format!("{{}}", x * {n}));' for n in range(40))
    body = f"let mut m = std::collections::HashMap::new(); {lines} m.len() as u64"
    library = f"pub fn f(x: u64) -> u64 {{ {body} }}\n"
    calls = " + ".join(f"{name}::f(3)" for name in names)
    for name, more, text in (
        ("", f"[workspace]\n[dependencies]\n{needs}", f'fn main() {{ println!("{{}}", {calls}); }}\n'),
        *((name, "", library) for name in names),
    ):
        (work / name / "src").mkdir(parents=True)
        head = f'[package]\nname = "{name or "whole"}"\nversion = "1.0.0"\nedition = "2021"\n'
        (work / name / "Cargo.toml").write_text(head + more)
        (work / name / "src" / ("lib.rs" if name else "main.rs")).write_text(text)


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
