"""The pilots of docs/sealing.md: programs sealed, moved, run on five roots: `make bench ARGS=pilots`.

All of tests/pilot_scripts.py, or those that are named: ten minutes, half a gigabyte of downloads at first.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import pilots
from pilot_scripts import FAST, LONG

from belljar.home import Home


def main(names: list[str]) -> int:
    """Print a row a pilot; return how many fared otherwise than at home."""
    kept = Path(tempfile.gettempdir()) / f"belljar-tests-roots-{os.getuid()}"
    places = pilots.obtained(Home(data=kept, cache=kept / "cache"))
    heads = (*(place.name for place in places), "programs", "bundled", "seconds")
    print("| pilot | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1))
    every = FAST | LONG
    bad = 0
    for name in names or every:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="belljar-bench") as scratch:
            os.chmod(scratch, 0o755)
            row = pilots.run(name, every[name], Path(scratch), places)
        faults = row.faults()
        wrong = {fault.partition(": ")[0] for fault in faults}
        marks = ["differs" if place.name in wrong else "same" for place in places]
        seconds = f"{time.perf_counter() - started:.0f}"
        print(f"| {name} | {' | '.join((*marks, str(row.sealed), str(row.bundled), seconds))} |", flush=True)
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)
        bad += bool(faults)
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
