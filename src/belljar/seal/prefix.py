"""Sealing in one call, for Python: what an earlier run left is completed, planned anew, done."""

from pathlib import Path

from belljar.seal import doing, venv
from belljar.seal.plan import Options, Sealing, plan
from belljar.types import Progress, quiet


def seal(prefix: Path, options: Options | None = None, *, progress: Progress = quiet) -> Sealing:
    """Make the programs of a prefix start on a loader and libc of their own; return what was done.

    Raises InputError when something cannot be sealed, with every reason; nothing is changed then. HostError
    when the prefix cannot be written.
    """
    prefix = prefix.resolve()
    doing.recover(prefix, progress=progress)
    sealing = plan(prefix, options, progress=progress)
    doing.seal(sealing, progress=progress)
    return sealing


def unseal(prefix: Path, *, progress: Progress = quiet) -> doing.Unsealing:
    """Take a seal back, every byte; return what was done. Raises InputError for a prefix that has none."""
    prefix = prefix.resolve()
    doing.recover(prefix, progress=progress)
    unsealing = doing.unseal_plan(prefix)
    doing.unseal(unsealing, progress=progress)
    return unsealing


def seal_environment(
    environment: Path, output: Path, options: Options | None = None, *, progress: Progress = quiet
) -> venv.Made:
    """Make a sealed copy of a Python virtual environment, which moves and runs elsewhere; see venv.make."""
    return venv.make(venv.read(environment), output, options, progress=progress)
