"""Machine code that sealed programs start with: compiled from `stub/*.c` by `tools/stub.py`."""

from pathlib import Path

_ROOM = Path(__file__).parent / "stub"


def code_of(source: str, machine: str) -> bytes:
    """Return what `stub/SOURCE.c` is on a machine (`x86_64`, ...)."""
    # Not importlib.resources: its import takes longer than sealing a program.
    return (_ROOM / f"{source}.{machine}.bin").read_bytes()
