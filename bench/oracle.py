"""Seven real packages: built under two prefixes, moved, and tested where they are with the old place empty.

Takes about half an hour on two CPUs, so it runs only when it is named: `make bench ARGS=oracle`, or
`.venv/bin/python bench/oracle.py lua jq` for some of them. Exit status 1 when a proof or a use fails.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import packages

from belljar.errors import BelljarError
from belljar.home import Home


def main() -> int:
    """Measure the packages that are named, or all, and return 0 when all are proved and work."""
    names = sys.argv[1:] or list(packages.USES)
    with tempfile.TemporaryDirectory(prefix="bj", dir="/tmp", ignore_cleanup_errors=True) as place:
        scratch = Path(place)
        home = Home(data=scratch / "home", cache=Path(tempfile.gettempdir()) / "belljar-bench-cache")
        results = [_measure(name, home, scratch) for name in names]  # all of them, whatever the first gives
        return 0 if all(results) else 1


def _measure(name: str, home: Home, scratch: Path) -> bool:
    started = time.monotonic()
    try:
        artifact = packages.proved(name, home, scratch)
    except BelljarError as error:
        print(f"{name}: {error.message}", *getattr(error, "unsupported", ()), sep="\n  ", flush=True)
        return False
    proof = artifact.record.proof or {}
    built = time.monotonic() - started
    kinds = Counter(item["kind"] for item in proof["findings"])
    what = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing"
    print(
        f"{name}: {proof['verdict']}: {proof['files']:,} files, {proof['references']:,} references;"
        f" differs besides: {what} ({built:.0f} s)",
        flush=True,
    )
    old, new = scratch / f"{name}-a", scratch / f"{name}-b"
    entry = packages.moved(artifact, home, old, new)
    started = time.monotonic()
    use = packages.used(name, entry, home, scratch, old, new)
    print(
        f"  used at B: exit status {use.status}, {use.below_new:,} look-ups below B,"
        f" {len(use.below_old)} paths below A ({time.monotonic() - started:.0f} s)",
        flush=True,
    )
    print(*(f"    {line}" for line in use.said.splitlines()[-24:]), sep="\n", flush=True)
    return proof["verdict"] in {"exact", "derived"} and use.status == 0 and not use.below_old


if __name__ == "__main__":
    sys.exit(main())
