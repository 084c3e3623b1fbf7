"""What a loader knows of the processor: it decides which subdirectories are searched first.

glibc 2.33 brought `glibc-hwcaps/x86-64-v3` and the like; up to 2.36 the older directories (`tls`,
the platform, single features) were searched as well (glibc's NEWS for 2.33 and 2.37).
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from belljar.elf.const import Machine

_PLATFORMS = {
    Machine.X86_64: "x86_64",
    Machine.I386: "i686",
    Machine.AARCH64: "aarch64",
    Machine.ARM: "v7l",
}
# x86-64 psABI, table 3.1, in the words of /proc/cpuinfo.
_LEVELS = {
    "x86-64-v2": {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
    "x86-64-v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
_HASWELL = {"avx2", "bmi1", "bmi2", "abm", "movbe", "popcnt", "fma"}
_XEON_PHI = {"avx512cd", "avx512er", "avx512pf"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """A processor: its platform as the kernel names it (AT_PLATFORM), its levels, best first.

    `model` is what glibc 2.26 to 2.36 put in the place of the platform on Intel processors,
    `features` the names of its older subdirectories beside platform and `tls`.
    """

    platform: str | None
    levels: tuple[str, ...] = ()
    model: str | None = None
    features: tuple[str, ...] = ()


def baseline(machine: int) -> Cpu:
    """Return the least processor of a machine (e_machine)."""
    is_x86 = machine == Machine.X86_64
    return Cpu(
        platform=_PLATFORMS.get(Machine(machine)) if machine in _PLATFORMS else None,
        features=("x86_64",) if is_x86 else (),
    )


@functools.cache
def host_cpu(machine: int) -> Cpu:
    """Return this machine's processor as loaders for `machine` see it; the least one where it is another."""
    least = baseline(machine)
    if machine != Machine.X86_64 or os.uname().machine != "x86_64":
        return least
    words = _read_cpuinfo()
    flags = set(words.get("flags", "").split())
    levels: list[str] = []
    for level, wanted in _LEVELS.items():
        if not wanted <= flags:
            break
        levels.insert(0, level)
    is_intel = words.get("vendor_id") == "GenuineIntel"
    model = "xeon_phi" if flags >= _XEON_PHI else "haswell" if flags >= _HASWELL else None
    has_avx512 = is_intel and flags >= _LEVELS["x86-64-v4"]
    return Cpu(
        platform=least.platform,
        levels=tuple(levels),
        model=model if is_intel else None,
        features=("avx512_1", "x86_64") if has_avx512 else ("x86_64",),
    )


def _read_cpuinfo() -> dict[str, str]:
    """Return the words of the first processor; none where the kernel does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first = text.partition("\n\n")[0]
    return {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())
    }
