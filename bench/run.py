"""Every figure of the docs: `make bench`, or one part of it: `make bench ARGS=sandbox`."""

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
)
LONG = ("oracle", "pieces", "pilots")
"""Parts that take half an hour: run only when they are named."""


def main() -> int:
    """Run the parts that are named, or all, and return 0 when each of them could measure."""
    wanted = sys.argv[1:] or list(PARTS)
    unknown = sorted(set(wanted) - {*PARTS, *LONG})
    if unknown:
        sys.exit(f"bench: unknown part {', '.join(unknown)}; there are {', '.join((*PARTS, *LONG))}")
    statuses = []
    for part in wanted:
        print(f"== {part}", flush=True)
        statuses.append(
            subprocess.run([sys.executable, Path(__file__).with_name(f"{part}.py")], check=False).returncode
        )
        print(flush=True)
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
