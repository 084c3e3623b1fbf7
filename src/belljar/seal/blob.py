"""Machine code that sealed programs start with: compiled from `stub/*.c` by `tools/stub.py`."""

from collections.abc import Mapping
from pathlib import Path

from belljar.elf.const import Machine

PAGES: Mapping[int, int] = {Machine.X86_64: 0x1000, Machine.AARCH64: 0x10000}
"""The machines that there is code for, and the size of their largest pages in bytes."""
_NAMES: Mapping[int, str] = {Machine.X86_64: "x86_64", Machine.AARCH64: "aarch64"}
_ROOM = Path(__file__).parent / "stub"


def code_of(source: str, machine: int) -> bytes:
    """Return what `stub/SOURCE.c` is on one of these machines."""
    # Not importlib.resources: its import takes longer than sealing a program.
    return (_ROOM / f"{source}.{_NAMES[machine]}.bin").read_bytes()
