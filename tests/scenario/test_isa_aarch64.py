"""What the assembler knows as a feature is what the masks tell, and nothing else is."""

import time

import pytest

from belljar.audit.isa import Tier, examine
from belljar.elf import read

ARM = "aarch64-linux-musl"
BASE = (
    *("mov x0, x1", "ldr q0, [x1]", "add v0.4s, v1.4s, v2.4s", "fadd s0, s1, s2", "fmul d0, d1, d2"),
    *("fcvt s0, h1", "fcvt d0, h1", "fcvt h0, s1", "fcvtl v0.4s, v1.4h", "fmov d0, x1", "ldaxr w0, [x1]"),
    *("stlxr w0, w1, [x2]", "ldxp x0, x1, [x2]", "stxp w0, x1, x2, [x3]", "ldar w0, [x1]", "stlr w0, [x1]"),
    *("pmull v0.8h, v1.8b, v2.8b", "pmul v0.16b, v1.16b, v2.16b", "tbl v0.16b, {v1.16b}, v2.16b"),
    *("uzp1 v0.4s, v1.4s, v2.4s", "zip2 v0.8h, v1.8h, v2.8h", "ext v0.16b, v1.16b, v2.16b, #3"),
    *(
        "dup v0.4s, w1",
        "ins v0.s[1], w2",
        "umov w0, v1.s[1]",
        "sqdmulh v0.4s, v1.4s, v2.4s",
        "mla v0.4s, v1.4s, v2.s[1]",
    ),
    *(
        "fmla v0.4s, v1.4s, v2.4s",
        "fmla v0.2d, v1.2d, v2.d[1]",
        "umull v0.8h, v1.8b, v2.8b",
        "addp d0, v1.2d",
    ),
    *(
        "paciasp",
        "autiasp",
        "bti c",
        "hint #7",
        "nop",
        "dmb ish",
        "isb",
        "prfm pldl1keep, [x0]",
        "udiv x0, x1, x2",
    ),
    *(
        "mrs x0, tpidr_el0",
        "mrs x0, fpcr",
        "mrs x0, dczid_el0",
        "dc zva, x0",
        "svc #0",
        "rev x0, x1",
        "clz x0, x1",
    ),
    *(
        "lslv x0, x1, x2",
        "csel x0, x1, x2, ne",
        "ccmp x0, x1, #0, eq",
        "movi v0.2d, #0",
        "ldur w0, [x1, #-3]",
    ),
    *("ldtr w0, [x1]", "ld1 {v0.16b}, [x0]", "st4 {v0.4s, v1.4s, v2.4s, v3.4s}, [x0]", "ldp q0, q1, [x2]"),
    *(
        "fcvtzs x0, d1",
        "scvtf d0, x1",
        "frintn d0, d1",
        "fsqrt s0, s1",
        "fmadd d0, d1, d2, d3",
        "fccmp d0, d1, #0, eq",
    ),
    *(
        "ldrsw x0, [x1, x2]",
        "ldr w0, [x1, w2, sxtw]",
        "str x0, [x1], #8",
        "ldrb w0, [x1, #5]!",
        "extr x0, x1, x2, #3",
    ),
    *(
        "addv b0, v1.16b",
        "cnt v0.8b, v1.8b",
        "sqrdmulh v0.4s, v1.4s, v2.4s",
        "fabd s0, s1, s2",
        "faddp s0, v1.2s",
    ),
)
FEATURES = {
    "LSE": ("ldadd w0, w1, [x2]", "ldaddal x0, x1, [x2]", "swp w0, w1, [x2]", "cas w0, w1, [x2]",
            "casal x0, x1, [x2]", "casp x0, x1, x2, x3, [x4]", "stadd w0, [x1]", "ldsetb w0, w1, [x2]"),
    "RCPC": ("ldapr w0, [x1]", "ldaprb w0, [x1]", "ldapr x0, [x1]"),
    "RCPC2": ("ldapur w0, [x1, #4]", "stlur x0, [x1, #-4]"),
    "RDM": ("sqrdmlah v0.4s, v1.4s, v2.4s", "sqrdmlsh v0.8h, v1.8h, v2.8h"),
    "CRC32": ("crc32b w0, w1, w2", "crc32cx w0, w1, x2"),
    "DOTPROD": ("udot v0.4s, v1.16b, v2.16b", "sdot v0.2s, v1.8b, v2.8b", "udot v0.4s, v1.16b, v2.4b[1]"),
    "I8MM": ("smmla v0.4s, v1.16b, v2.16b", "usdot v0.4s, v1.16b, v2.16b"),
    "BF16": ("bfdot v0.4s, v1.8h, v2.8h", "bfmmla v0.4s, v1.8h, v2.8h", "bfcvt h0, s1"),
    "FP16": ("fadd h0, h1, h2", "fmadd h0, h1, h2, h3", "fadd v0.8h, v1.8h, v2.8h", "fabs v0.8h, v1.8h",
             "fcvtzs w0, h1", "scvtf h0, x1", "fmla v0.8h, v1.8h, v2.8h"),
    "AES": ("aese v0.16b, v1.16b", "aesimc v0.16b, v1.16b"),
    "PMULL": ("pmull v0.1q, v1.1d, v2.1d", "pmull2 v0.1q, v1.2d, v2.2d"),
    "SHA": ("sha1c q0, s1, v2.4s", "sha256h q0, q1, v2.4s", "sha256su0 v0.4s, v1.4s", "sha1h s0, s1"),
    "SHA3": ("eor3 v0.16b, v1.16b, v2.16b, v3.16b", "sha512h q0, q1, v2.2d", "rax1 v0.2d, v1.2d, v2.2d"),
    "JSCVT": ("fjcvtzs w0, d1",),
    "FCMA": ("fcmla v0.4s, v1.4s, v2.4s, #90", "fcadd v0.4s, v1.4s, v2.4s, #90"),
    "PAUTH": ("retaa", "braa x0, x1", "blraaz x0", "pacia x0, x1", "ldraa x0, [x1]"),
    "SVE": ("ptrue p0.b", "ld1w {z0.s}, p0/z, [x0]", "whilelo p0.s, w0, w1", "fmla z0.s, p0/m, z1.s, z2.s"),
    "SME": ("zero {za}",),
}  # fmt: skip
FUNCTION = '__asm__(".arch armv9.2-a+sme+sha3+bf16+i8mm+sm4+crypto+memtag\\n.text\\n{body}");'


def needed(zig_cc, instructions):
    """Return the features of code, one function for each instruction: a jump in it ends none but itself."""
    body = "".join(
        f".globl f{number}\\n.type f{number},%function\\nf{number}:\\n.cfi_startproc\\n{text}\\nret\\n"
        f".cfi_endproc\\n.size f{number},.-f{number}\\n"
        for number, text in enumerate(instructions)
    )
    data = zig_cc(FUNCTION.format(body=body), "-shared", "-nostdlib", "-fPIC", target=ARM).read_bytes()
    return examine(data, read(data))


def test_code_for_every_cpu_needs_nothing(zig_cc):
    facts = needed(zig_cc, BASE)
    assert facts.extensions == ()
    assert facts.tier == Tier.BASELINE


@pytest.mark.parametrize("name", FEATURES)
def test_each_instruction_of_a_feature_is_recognised(zig_cc, name):
    facts = needed(zig_cc, FEATURES[name])
    assert [(item.name, item.functions) for item in facts.extensions] == [(name, len(FEATURES[name]))]


def test_asking_the_identification_registers_is_detection(zig_cc):
    facts = needed(zig_cc, ["mrs x0, id_aa64isar0_el1", "ldadd w0, w1, [x2]"])
    assert facts.tier not in (Tier.FIRM, Tier.CERTAIN)
    assert needed(zig_cc, ["ldadd w0, w1, [x2]"]).tier == Tier.FIRM


def test_calls_into_endless_starts_of_stubs_take_time_by_their_number_only(zig_cc):
    """Each word begins as a PLT entry does, none ends as one, and each is called."""
    count = 6000
    calls = "\n".join(f"bl f+{4 * number}" for number in range(1, count))
    code = f"""
        .arch armv8.1-a
        .text
        f: .cfi_startproc
        .rept {count}
        adrp x16, f
        .endr
        ret
        .cfi_endproc
        .globl g
        .type g,%function
        g: .cfi_startproc
        ldadd w0, w1, [x2]
        {calls}
        ret
        .cfi_endproc"""
    lines = " ".join(f'"{line.strip()}\\n"' for line in code.splitlines())
    data = zig_cc(f"__asm__({lines});", "-shared", "-nostdlib", "-fPIC", target=ARM).read_bytes()
    begin = time.process_time()
    facts = examine(data, read(data))
    assert [item.name for item in facts.extensions] == ["LSE"]
    assert time.process_time() - begin < 5
