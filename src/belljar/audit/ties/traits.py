"""What hardened systems refuse or watch: executable stacks, code that is written to, set-user-ID."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from belljar.elf import Elf
from belljar.elf.const import Machine, SegmentType, Tag, Type


class Trait(enum.StrEnum):
    """A property of a file that some systems do not take."""

    EXECUTABLE_STACK = "exec-stack"
    TEXT_RELOCATIONS = "text-relocations"
    WRITABLE_CODE = "writable-code"
    SET_ID = "set-id"
    WORLD_WRITABLE = "world-writable"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitFound:
    """A trait, and what shows it."""

    trait: Trait
    evidence: str
    hint: str


_GNU_STACK = 0x6474E551
_EXECUTE, _WRITE = 1, 2
_DF_TEXTREL = 4
_DT_TEXTREL = 22
# Where a file without PT_GNU_STACK gets an executable stack: glibc's stackinfo.h, DEFAULT_STACK_PERMS.
_EXECUTABLE_BY_DEFAULT = (Machine.X86_64, Machine.I386, Machine.ARM, Machine.PPC, Machine.S390, Machine.MIPS)


def traits_of(elf: Elf | None, mode: int = 0) -> tuple[TraitFound, ...]:
    """Return the traits of a file with that mode (chmod(2)); `elf` is None for what is not ELF."""
    is_run = elf is not None or bool(mode & 0o111)
    return (*(_of_elf(elf) if elf is not None else ()), *_of_mode(mode, is_run=is_run))


def _of_elf(elf: Elf) -> Iterator[TraitFound]:
    if elf.header.type not in (Type.EXEC, Type.DYN):
        return
    yield from _of_stack(elf)
    dynamic = elf.dynamic
    if dynamic and (dynamic.flags & _DF_TEXTREL or dynamic.first(_DT_TEXTREL)):
        yield TraitFound(
            trait=Trait.TEXT_RELOCATIONS,
            evidence="DT_TEXTREL" if dynamic.first(_DT_TEXTREL) else "DF_TEXTREL",
            hint="compile all of it with -fPIC; SELinux and musl refuse relocations in code",
        )
    for segment in elf.segments:
        if segment.type == SegmentType.LOAD and segment.flags & _EXECUTE and segment.flags & _WRITE:
            yield TraitFound(
                trait=Trait.WRITABLE_CODE,
                evidence=f"the segment at {segment.address:#x} is writable and executable",
                hint="link without -N and --omagic; keep code and data in segments of their own",
            )


def _of_stack(elf: Elf) -> Iterator[TraitFound]:
    stack = next((item for item in elf.segments if item.type == _GNU_STACK), None)
    hint = 'mark the assembly that asks for it: .section .note.GNU-stack,"",@progbits; or -Wl,-z,noexecstack'
    if stack is not None and stack.flags & _EXECUTE:
        evidence = "PT_GNU_STACK is executable: glibc 2.41 and SELinux do not load such a library"
        yield TraitFound(trait=Trait.EXECUTABLE_STACK, evidence=evidence, hint=hint)
    elif (
        stack is None
        and elf.header.machine in _EXECUTABLE_BY_DEFAULT
        and (elf.dynamic is not None and elf.dynamic.first(Tag.STRTAB))
    ):
        evidence = "without PT_GNU_STACK glibc takes it that the stack is to be executable"
        yield TraitFound(trait=Trait.EXECUTABLE_STACK, evidence=evidence, hint=hint)


def _of_mode(mode: int, *, is_run: bool) -> Iterator[TraitFound]:
    if mode & 0o6000:
        which = " and ".join(name for bit, name in ((0o4000, "user"), (0o2000, "group")) if mode & bit)
        yield TraitFound(
            trait=Trait.SET_ID,
            evidence=f"mode {mode:04o} sets the {which} ID",
            hint="packages and containers drop it; the loader ignores $ORIGIN and LD_LIBRARY_PATH for it",
        )
    # Archives made for other systems give every data file mode 0666.
    if mode & 0o002 and is_run:
        yield TraitFound(
            trait=Trait.WORLD_WRITABLE, evidence=f"mode {mode:04o}: anybody may write to it", hint="chmod o-w"
        )
