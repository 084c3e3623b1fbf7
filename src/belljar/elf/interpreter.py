"""Where an ELF file names its interpreter, read from its first bytes alone, as the kernel does.

Apart from the reader, which reads everything and is loaded in 30 ms: `belljar run` asks this of each program.
Sources: gABI chapter 5, PT_INTERP; load_elf_binary in linux/fs/binfmt_elf.c, which follows the first one,
of 2 bytes at least and a path at most, and takes no table of more than 64 KiB.
"""

import struct

HEAD = 1 << 16
"""How many first bytes of a file hold its program headers, in any file that is not made to be odd."""
_PATH_MAX = 4096
_FARTHEST = 1 << 63
_INTERP = 3
# By EI_CLASS: where e_phoff, e_phentsize and e_phnum stand; the size of a row, its p_offset and p_filesz.
_FORMS = {1: ((28, "I"), 42, (32, 4, 16)), 2: ((32, "Q"), 54, (56, 8, 32))}


def interpreter_extent(head: bytes) -> tuple[int, int] | None:
    """Return offset and size of the path in the file, its NUL included; None where none is named.

    `head` are the file's first bytes. What makes no sense names none: the kernel does not execute it.
    """
    form = _FORMS.get(head[4]) if head[:4] == b"\x7fELF" and len(head) > 64 else None
    order = {1: "<", 2: ">"}.get(head[5]) if form else None
    if form is None or order is None:
        return None
    (at, word), counts, (row_size, offset_at, size_at) = form
    (start,) = struct.unpack_from(order + word, head, at)
    size, count = struct.unpack_from(f"{order}HH", head, counts)
    if size != row_size:
        return None
    for place in range(start, min(start + size * count, len(head) - size + 1), size):
        (kind,) = struct.unpack_from(f"{order}I", head, place)
        if kind == _INTERP:
            (offset,) = struct.unpack_from(order + word, head, place + offset_at)
            (length,) = struct.unpack_from(order + word, head, place + size_at)
            return (offset, length) if 2 <= length <= _PATH_MAX and offset < _FARTHEST else None
    return None
