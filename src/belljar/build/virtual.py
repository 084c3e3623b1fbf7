"""What a build finds where it looks past its inputs: the time, random numbers, the machine.

All of that is the same at each build, so that it cannot show in the output; `--real-clock` leaves the time to
the machine, for a script that checks certificates, say. The time is later than any that a file can get: files
are stamped by the kernel with the real one, and make, meson and tar take files from the future for an error
(meson ends, make warns of an incomplete build). Programs that honour SOURCE_DATE_EPOCH write that.

Rejected: the time of SOURCE_DATE_EPOCH, for that reason; a number of CPUs that follows the machine's, since
it can be told from outputs: what a script may use of a machine is in JOBS.
"""

from belljar.sandbox import SORTED, Policy, Trace, machine

CLOCK = 2_114_380_800
"""Where the clock begins: 2037-01-01. Later, and programs that count in 32 bits would be lost in 2038."""
SEED = "belljar"


def policy_of(*, real_clock: bool) -> Policy:
    """Return what the supervisor of a build does."""
    return Policy(
        trace=Trace.NOTHING,
        epoch=None if real_clock else CLOCK,
        seed=SEED,
        release=machine.RELEASE,
        processors=machine.PROCESSORS,
        memory=machine.MEMORY,
        listing=SORTED,
    )
