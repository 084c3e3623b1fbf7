"""What machine a command finds: /proc's account of the kernel, the same everywhere, as files of this room.

Build scripts look there for the CPU's model, its number of cores, free memory, the kernel's version and what
it was started with; each would differ from machine to machine. `machine_files/` holds what they find instead,
a dot in a name standing for a slash; what nobody needs to build is empty. Processes of the sandbox itself
(/proc/self and the like), the kernel's own filesystems and limits stay real.

Rejected: a /proc without all this (`subset=pid`). JVMs and Node fail in odd ways where /proc/meminfo and
/proc/cpuinfo are missing.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from belljar.sandbox.operations import Bind, Tmpfs

CLOCK = 2_114_380_800
"""Where a fixed clock begins: 2037-01-01.

Later than any time that a file can get: files are stamped by the kernel with the real one, and make, meson
and tar take files from the future for an error (meson ends, make warns of an incomplete build). Later still,
and programs that count in 32 bits would be lost in 2038. Programs that honour SOURCE_DATE_EPOCH write that.
"""
RELEASE, PROCESSORS, MEMORY = "6.1.0", 2, 8 << 30
"""A kernel's version, a number of CPUs, bytes of memory: as those files have them."""
_ROOM = Path(__file__).parent / "machine_files"
_CPUINFO = "cpuinfo."
_DIRECTORIES = ("acpi", "asound", "bus", "driver", "fs", "irq", "pressure", "scsi")
"""Of devices, filesystems and load: nothing is in them."""
_EMPTY = (
    *("buddyinfo", "config.gz", "consoles", "crypto", "devices", "diskstats", "interrupts", "iomem"),
    *("ioports", "kallsyms", "key-users", "keys", "locks", "misc", "modules", "pagetypeinfo", "partitions"),
    *("schedstat", "slabinfo", "softirqs", "swaps", "timer_list", "vmallocinfo", "vmstat", "zoneinfo"),
)


def covers() -> Iterator[Bind | Tmpfs]:
    """Yield what lies over the kernel's files and directories, as far as this kernel has them."""
    for name in _DIRECTORIES:
        if os.path.isdir(f"/proc/{name}"):
            yield Tmpfs(target=f"/proc/{name}", mode=0o555)
    names = {
        path.name: path.name for path in _ROOM.iterdir() if not path.name.startswith((_CPUINFO, "empty"))
    }
    names |= {"cpuinfo": _CPUINFO + os.uname().machine} | dict.fromkeys(_EMPTY, "empty")
    for name, file in sorted(names.items()):
        target = f"/proc/{name if name in _EMPTY else name.replace('.', '/')}"
        if (_ROOM / file).is_file() and os.path.exists(target):
            yield Bind(source=str(_ROOM / file), target=target)
