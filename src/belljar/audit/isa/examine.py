"""From a file to its verdict: cheap proofs first, all code only where that is asked for.

1. What certainly runs when the file is loaded is followed until it can be said what it needs.
2. All functions are decoded; no instruction above the baseline anywhere: certain, the other way.
3. Else who calls what, and who asks the CPU first, decides between a firm need and doubt.
"""

import mmap
import re

from belljar.audit.isa.code import Machine
from belljar.audit.isa.facts import By, Effort, Extension, IsaFacts, Tier
from belljar.audit.isa.image import Image
from belljar.audit.isa.load import LoadProof, prove_load
from belljar.audit.isa.source import Source, source_of
from belljar.audit.isa.survey import survey
from belljar.audit.machines import arch_of
from belljar.elf import Elf
from belljar.elf.const import Type

_VARIANT = re.compile(
    r"glibc-hwcaps/|/(haswell|avx512_1|x86_64)/(?=[^/]*$)|(?<![a-z0-9])(x86[-_]64[-_]?v[234]|sse4|sse42|ssse3|avx|avx2|avx512\w*"
    r"|fma|haswell|skylakex?|sandybridge|icelake|sapphirerapids|alderlake|zen\d|znver\d|cascadelake|cooperlake"
    r"|sve2?|neon|armv[89]\w*|lse|atomics)(?![a-z0-9])"
)


def examine(data: Source | mmap.mmap, elf: Elf, *, name: str = "", effort: Effort = Effort.FULL) -> IsaFacts:
    """Say which CPU the file with these bytes needs; `name` is its path, which may tell a variant.

    Never raises on damaged files: what cannot be read is not proven, and the note says so.
    """
    arch = arch_of(elf.header)
    machine = machine_of(data, elf)
    if machine is None:
        return IsaFacts(arch=arch, needs=arch, tier=Tier.UNDECIDED, note="code of this kind is not decoded")
    loaded = prove_load(machine.image, machine)
    facts = _proven(arch, machine, loaded, is_variant=_VARIANT.search(name.lower()) is not None)
    return survey(machine.image, machine, facts, loaded) if effort == Effort.FULL else facts


def machine_of(data: Source | mmap.mmap, elf: Elf) -> Machine | None:
    """Return who decodes a file's code; None where nobody does."""
    if elf.header.type not in (Type.EXEC, Type.DYN):
        return None
    source = source_of(data) if isinstance(data, mmap.mmap) else data
    match arch_of(elf.header):
        case "x86_64":
            from belljar.audit.isa.x86 import X86

            return X86(Image(source, elf))
        case "aarch64":
            from belljar.audit.isa.aarch64 import Aarch64

            return Aarch64(Image(source, elf))
        case _:
            return None


def _proven(arch: str, machine: Machine, loaded: LoadProof, *, is_variant: bool) -> IsaFacts:
    """Return what the load roots alone have shown."""
    is_needed = bool(loaded.level or loaded.extensions)
    return IsaFacts(
        arch=arch,
        needs=loaded.level or machine.baseline,
        by=By.LOAD if is_needed else By.NONE,
        tier=Tier.CERTAIN if is_needed else Tier.UNDECIDED,
        extensions=tuple(Extension(name=item, tier=Tier.CERTAIN) for item in loaded.extensions),
        evidence=loaded.evidence,
        variant=is_variant,
        note=loaded.note,
    )
