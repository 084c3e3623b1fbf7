"""Every figure of the docs: `make bench`, or parts of it: `make bench ARGS="sandbox relocate=2048"`.

What stands behind `=` are the part's own arguments, with commas between them.
"""

import subprocess
import sys
from pathlib import Path

PARTS = (
    "startup",
    "sandbox",
    "relocation",
    "audit",
    "closure",
    "isa",
    "edit",
    "relocate",
    "hermetic",
    "seal",
    "supervisor",
)
LONG = ("oracle", "pieces", "pilots")
"""Parts that take half an hour: run only when they are named."""


def main() -> int:
    """Run the parts that are named, or all, and return 0 when each of them could measure."""
    wanted = [word.partition("=") for word in sys.argv[1:] or PARTS]
    unknown = sorted({part for part, _, _ in wanted} - {*PARTS, *LONG})
    if unknown:
        sys.exit(f"bench: unknown part {', '.join(unknown)}; there are {', '.join((*PARTS, *LONG))}")
    statuses = []
    for part, _, given in wanted:
        print(f"== {part}", flush=True)
        command = [sys.executable, Path(__file__).with_name(f"{part}.py"), *filter(None, given.split(","))]
        statuses.append(subprocess.run(command, check=False).returncode)
        print(flush=True)
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
