"""The oldest Linux that a file accepts.

Programs and libraries carry it as a note (NT_GNU_ABI_TAG), which loaders before glibc 2.38 compare
with the running kernel. The loader of such a glibc also has it built in: it ends with "FATAL: kernel
too old" below the release that glibc was configured for. That number, one comparison in its code,
may be higher than its note says, and is what a sealed program meets first.
"""

import mmap
import re

from belljar.elf import Elf
from belljar.elf.const import Machine, SegmentType

_MESSAGE = b"kernel too old"
_EXECUTABLE = 1
# cmp eax, imm32 (3d), then a conditional jump, short (7x) or long (0f 8x): below it or not (2, 3; signed
# c, d), or past it or not (6, 7; e, f).
_COMPARE = re.compile(
    rb"\x3d([\s\S]{2}[\x02-\x06]\x00)(?:([\x72\x73\x76\x77\x7c-\x7f])|\x0f([\x82\x83\x86\x87\x8c-\x8f]))"
)
_PAST = (0x6, 0x7, 0xE, 0xF)


def kernel_of(elf: Elf, data: bytes | mmap.mmap) -> tuple[int, int, int] | None:
    """Return the oldest Linux that a file accepts, as release numbers; None when it does not say."""
    return max((item for item in (elf.kernel, _built_in(elf, data)) if item), default=None)


def _built_in(elf: Elf, data: bytes | mmap.mmap) -> tuple[int, int, int] | None:
    """Return the release that an x86-64 loader compares with; None where there is not exactly one."""
    name = (elf.dynamic.soname or "") if elf.dynamic else ""
    if elf.header.machine != Machine.X86_64 or not name.startswith("ld-linux"):
        return None
    if data.find(_MESSAGE) < 0:
        return None
    found = set()
    for segment in elf.segments:
        if segment.type == SegmentType.LOAD and segment.flags & _EXECUTABLE:
            code = data[segment.offset : segment.offset + segment.file_size]
            for match in _COMPARE.finditer(code):
                limit = int.from_bytes(match[1], "little") + ((match[2] or match[3])[0] & 15 in _PAST)
                found.add((limit >> 16, limit >> 8 & 255, limit & 255))
    return found.pop() if len(found) == 1 else None
