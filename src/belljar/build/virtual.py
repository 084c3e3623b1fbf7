"""What a build finds where it looks past its inputs: the time, random numbers, the machine.

All of that is the same at each build, so that it cannot show in the output; `--real-clock` leaves the time
to the machine, for a script that checks certificates, say.

Rejected: the time of SOURCE_DATE_EPOCH (files would be from the future: belljar.sandbox.machine); a number
of CPUs that follows the machine's, since it can be told from outputs: what a script may use is in JOBS.
"""

from belljar.sandbox import SORTED, Policy, Trace, machine

SEED = "belljar"


def policy_of(*, real_clock: bool) -> Policy:
    """Return what the supervisor of a build does."""
    return Policy(
        trace=Trace.NOTHING,
        epoch=None if real_clock else machine.CLOCK,
        seed=SEED,
        release=machine.RELEASE,
        processors=machine.PROCESSORS,
        memory=machine.MEMORY,
        listing=SORTED,
    )
