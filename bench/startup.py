"""Whole processes: `belljar --version` and a build that has nothing to do, against `python -c pass`.

The recipe is examples/hello: it is locked, fetched and built first (in a cached home), then built
again and again: recipe and lock are read, the inputs hashed, the store asked, the link made.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
BELLJAR = str(Path(PYTHON).parent / "belljar")
ROUNDS = 25


def seconds(argv: list[str], env: dict[str, str]) -> float:
    """Run a program once and return how long it took."""
    started = time.perf_counter()
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    """Print medians and ratios."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "belljar-demo"
    env = os.environ | {"BELLJAR_HOME": str(home)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as place:
        recipe = Path(place) / "hello"
        shutil.copytree(TOP / "examples" / "hello", recipe)
        build = [BELLJAR, "build", str(recipe), "--out-link", f"{place}/result"]
        subprocess.run(build, env=env, check=True, stdout=subprocess.DEVNULL)
        cases = {
            "python -c pass": [PYTHON, "-c", "pass"],
            "belljar --version": [BELLJAR, "--version"],
            "import click": [PYTHON, "-c", "import click"],
            "import iced_x86": [PYTHON, "-c", "import iced_x86"],
            "belljar build, nothing to do": build,
        }
        # Taken in turns, so that whatever else the machine does meets all of them alike.
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, argv in cases.items():
                times[name].append(seconds(argv, env))
    base = statistics.median(times["python -c pass"])
    print(f"start-up, median of {ROUNDS}, whole processes")
    for name, found in times.items():
        median = statistics.median(found)
        print(f"  {name:<32} {median * 1000:7.1f} ms   {median / base:5.1f} times")
    return 0


if __name__ == "__main__":
    sys.exit(main())
