"""The conftest of a virtual machine: there is no compiler, programs come ready made from outside."""

from pathlib import Path

import kernels
import pytest


@pytest.fixture(scope="session")
def zig_cc():
    """Find what was compiled from a source with these flags, for whatever machine this is."""

    def found(source: str, *flags: str, target: str) -> Path:
        return Path("/programs") / kernels.program_name(source, flags, target)

    return found
