"""Numbers of the ELF format that belljar has a use for.

Source: System V gABI (chapters 4 and 5), glibc's elf.h, LSB Core 10.7 (symbol versions). A file may
hold any number where one of these is expected: records carry plain `int`, compare it with these.
"""

from enum import IntEnum, IntFlag

MAGIC = b"\x7fELF"


class Class(IntEnum):
    """EI_CLASS: the width of addresses."""

    ELF32 = 1
    ELF64 = 2


class Data(IntEnum):
    """EI_DATA: the byte order."""

    LITTLE = 1
    BIG = 2


class Type(IntEnum):
    """e_type: what kind of file."""

    REL = 1
    EXEC = 2
    DYN = 3
    CORE = 4


class Machine(IntEnum):
    """e_machine: for which processor."""

    SPARC = 2
    I386 = 3
    M68K = 4
    MIPS = 8
    PPC = 20
    PPC64 = 21
    S390 = 22
    ARM = 40
    SPARCV9 = 43
    X86_64 = 62
    AARCH64 = 183
    RISCV = 243
    LOONGARCH = 258
    ALPHA = 0x9026


class SegmentType(IntEnum):
    """p_type: what a program header describes."""

    LOAD = 1
    DYNAMIC = 2
    INTERP = 3
    NOTE = 4


class Tag(IntEnum):
    """d_tag: what an entry of the dynamic segment means."""

    NULL = 0
    NEEDED = 1
    HASH = 4
    STRTAB = 5
    SYMTAB = 6
    RELA = 7
    RELASZ = 8
    STRSZ = 10
    SONAME = 14
    RPATH = 15
    REL = 17
    RELSZ = 18
    PLTREL = 20
    JMPREL = 23
    PLTRELSZ = 2
    RUNPATH = 29
    FLAGS = 30
    RELRSZ = 35
    RELR = 36
    GNU_HASH = 0x6FFFFEF5
    VERSYM = 0x6FFFFFF0
    FLAGS_1 = 0x6FFFFFFB
    VERDEF = 0x6FFFFFFC
    VERDEFNUM = 0x6FFFFFFD
    VERNEED = 0x6FFFFFFE
    VERNEEDNUM = 0x6FFFFFFF
    MIPS_SYMTABNO = 0x70000011


class Flag1(IntFlag):
    """DT_FLAGS_1: how the file wants to be loaded."""

    NODEFLIB = 0x0800
    PIE = 0x08000000


class Binding(IntEnum):
    """The upper half of st_info: how far a symbol is seen."""

    LOCAL = 0
    GLOBAL = 1
    WEAK = 2
    GNU_UNIQUE = 10


class VersionFlag(IntFlag):
    """vna_flags and vd_flags."""

    BASE = 1
    WEAK = 2


class NoteType(IntEnum):
    """n_type of the notes whose owner is `GNU`."""

    ABI_TAG = 1
    BUILD_ID = 3


HIDDEN = 0x8000
"""The bit of a symbol's version index that keeps it from being linked against by default."""
PN_XNUM = 0xFFFF
"""In e_phnum: the true number of program headers stands in sh_info of section 0."""
