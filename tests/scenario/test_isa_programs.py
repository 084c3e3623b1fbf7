"""Programs and libraries compiled on the spot, and the CPU that their code needs."""

import itertools
import struct

import pytest

from belljar.audit.isa import By, Effort, Tier, examine
from belljar.elf import read

LIBRARY = ("-shared", "-fPIC", "-nostdlib")
ARM = "aarch64-linux-musl"

SUM = "int sum(const int *p, int n) { int s = 0; for (int i = 0; i < n; i++) s += p[i] * 3; return s; }\n"
WORK = """
float buffer[64];
__attribute__((noinline)) float work(float x) {
    for (int i = 0; i < 64; i++) buffer[i] = buffer[i] * x + 2;
    return buffer[3];
}
"""
# What libgcc and compiler-rt link into whatever uses __builtin_cpu_supports; zig's runtime lacks it.
RUNTIME = """
#include <cpuid.h>
__attribute__((visibility("hidden"))) struct { unsigned vendor, type, subtype, features[1]; } __cpu_model;
__attribute__((visibility("hidden"))) unsigned __cpu_features2[4];
__attribute__((visibility("hidden"), constructor(101))) int __cpu_indicator_init(void) {
    unsigned a, b, c, d;
    if (__cpu_model.vendor) return 0;
    __cpu_model.vendor = 1;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2)) __cpu_model.features[0] |= 1 << 10;
    return 0;
}
"""
GUARDED = (
    RUNTIME
    + """
__attribute__((target("avx2"), noinline)) static void fast(float *p) {
    for (int i = 0; i < 64; i++) p[i] *= 3;
}
__attribute__((noinline)) static void slow(float *p) { for (int i = 0; i < 64; i++) p[i] *= 3; }
"""
)


@pytest.fixture
def examined(zig_cc):
    """Compile, then examine; keywords go to the compiler."""

    def examine_(source, *flags, effort=Effort.FULL, name="", **keywords):
        data = zig_cc(source, *flags, **keywords).read_bytes()
        return examine(data, read(data), name=name, effort=effort)

    return examine_


def proven(facts):
    return facts.tier in (Tier.CERTAIN, Tier.FIRM)


@pytest.mark.parametrize("strip", ["-s", "-g0"])
@pytest.mark.parametrize(
    ("mcpu", "level"),
    [
        ("x86_64", "x86-64"),
        ("x86_64_v2", "x86-64-v2"),
        ("x86_64_v3", "x86-64-v3"),
    ],
)
def test_a_library_without_detection_needs_what_it_was_compiled_for(examined, mcpu, level, strip):
    source = SUM + "int bits(unsigned long x) { return __builtin_popcountl(x); }"
    facts = examined(source, *LIBRARY, f"-mcpu={mcpu}", strip)
    assert facts.needs == level
    assert facts.tier == (Tier.BASELINE if level == "x86-64" else Tier.FIRM)
    assert facts.by == (By.NONE if level == "x86-64" else By.NO_DETECTION)
    assert facts.is_proven == (level != "x86-64")
    assert bool(facts.evidence) == facts.is_proven


@pytest.mark.parametrize("effort", list(Effort))
def test_what_main_must_run_is_certain_and_shown(examined, effort):
    source = WORK + "int main(int argc, char **argv) { return (int)work(argc); }"
    facts = examined(source, "-mcpu=x86_64_v3", effort=effort)
    assert (facts.needs, facts.tier, facts.by) == ("x86-64-v3", Tier.CERTAIN, By.LOAD)
    shown = facts.evidence[0]
    assert shown.need == "x86-64-v3"
    assert shown.instruction.startswith("v")
    assert shown.root in ("main", "entry")
    base = examined(source, effort=effort)
    assert base.needs == "x86-64"
    assert not proven(base)


def test_a_module_that_python_loads_is_followed_from_its_init_function(examined):
    source = WORK + "void *PyInit_some(void) { work(2); return buffer; }"
    facts = examined(source, *LIBRARY, "-mcpu=x86_64_v3", effort=Effort.LOAD)
    assert facts.tier == Tier.CERTAIN
    assert facts.evidence[0].root == "PyInit_some"
    assert facts.evidence[0].address


def test_a_constructor_that_must_run_the_code_is_proof(examined):
    source = WORK + "__attribute__((constructor)) static void start(void) { work(3); }"
    facts = examined(source, *LIBRARY, "-mcpu=x86_64_v3", effort=Effort.LOAD)
    assert facts.tier == Tier.CERTAIN
    assert facts.evidence[0].root.startswith("init_array")


SUPPORTS = (
    GUARDED
    + """
void run(float *p) { if (__builtin_cpu_supports("avx2")) fast(p); else slow(p); }
int main(void) { static float b[64]; run(b); return (int)b[0]; }
"""
)
TABLE = (
    GUARDED
    + """
static void (*table[1])(float *) = {slow};
__attribute__((constructor)) static void choose(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) table[0] = fast;
}
int main(void) { static float b[64]; table[0](b); return (int)b[0]; }
"""
)
STRUCTURE = (
    GUARDED
    + """
struct context { int wide; float data[64]; };
void setup(struct context *c) { c->wide = __builtin_cpu_supports("avx2"); }
void run(struct context *c) { if (c->wide) fast(c->data); else slow(c->data); }
int main(void) { static struct context c; setup(&c); run(&c); return (int)c.data[0]; }
"""
)
ENDS_FIRST = (
    GUARDED
    + """
#include <stdlib.h>
int main(void) {
    static float b[64];
    if (!__builtin_cpu_supports("avx2")) { slow(b); exit((int)b[1]); }
    fast(b);
    return (int)b[0];
}
"""
)
CLONES = (
    RUNTIME
    + """
__attribute__((target_clones("avx2", "default"))) int sum(const int *p, int n) {
    int s = 0;
    for (int i = 0; i < n; i++) s += p[i] * 3;
    return s;
}
int main(int argc, char **argv) { int n[99] = {argc}; return sum(n, 99); }
"""
)


@pytest.mark.parametrize(
    "source",
    [SUPPORTS, TABLE, STRUCTURE, ENDS_FIRST, CLONES],
    ids=["cpu_supports", "constructor and table", "flag in a structure", "ends first", "target_clones"],
)
@pytest.mark.parametrize("strip", ["-s", "-g0"])
def test_code_behind_a_check_is_never_called_a_need(examined, source, strip):
    for flags in ((strip,), (strip, "-shared", "-fPIC")):
        facts = examined(source, *flags)
        assert facts.needs == "x86-64"
        assert not proven(facts), facts.evidence
        assert facts.dispatched or facts.suspected == "x86-64-v3"


def test_a_leaked_inline_function_is_named_beside_a_dispatcher(examined):
    source = SUPPORTS.replace(
        "int main",
        '__attribute__((target("avx2"))) __attribute__((weak)) void '
        "leaked(float *p) { for (int i = 0; i < 64; i++) p[i] += 1; }\n"
        "void use(float *p) { leaked(p); }\nint main",
    )
    facts = examined(source, "-shared", "-fPIC")
    assert (facts.tier, facts.suspected) == (Tier.POSSIBLE, "x86-64-v3")
    assert "leaked" in facts.functions


def test_a_weak_function_proves_nothing_where_another_copy_may_be_bound(examined):
    source = """
    typedef float wide __attribute__((vector_size(32)));
    __attribute__((noinline, weak)) void work(wide *p) { *p += *p; }
    __attribute__((constructor)) static void start(void) { static wide w; __asm__ volatile(""); work(&w); }
    """
    flags = ("-mcpu=x86_64_v3", "-fno-plt", "-O1")
    library = examined(source, *LIBRARY, *flags, effort=Effort.LOAD)
    assert library.tier == Tier.UNDECIDED, library.evidence
    program = examined(source + "int main(void) { return 0; }", *flags, effort=Effort.LOAD)
    assert program.tier == Tier.CERTAIN


ASSEMBLY = """
__asm__(".text\\n.globl PyInit_x\\n.type PyInit_x,@function\\nPyInit_x:\\n.cfi_startproc\\n{body}\\n"
        ".cfi_endproc\\n.size PyInit_x,.-PyInit_x\\n"
        ".type after,@function\\nafter:\\n.cfi_startproc\\n{after}\\n.cfi_endproc\\n.size after,.-after\\n");
"""


@pytest.mark.parametrize(
    ("body", "after", "tier"),
    [
        ("vmovaps %ymm0,%ymm1\\nret", "ret", Tier.CERTAIN),
        # A branch to a function's end is a tail jump into the next.
        ("test %edi,%edi\\njnz after\\nvzeroupper\\nret", "xor %eax,%eax\\nret", Tier.UNDECIDED),
        ("test %edi,%edi\\njnz after\\nvzeroupper\\nret", "vzeroupper\\nret", Tier.CERTAIN),
        # What follows a call at a function's end is not reached.
        ("vzeroupper\\ncall after", "ret", Tier.CERTAIN),
        ("test %edi,%edi\\njz 1f\\nvzeroupper\\nret\\n1: call after", "2: jmp 2b", Tier.CERTAIN),
        # A table among the code is no code.
        ("jmp 1f\\n.byte 0xc5,0xf8,0x77\\n1: xor %eax,%eax\\nret", "ret", Tier.UNDECIDED),
        # Nobody knows where an indirect jump goes.
        ("test %edi,%edi\\njz 1f\\njmp *%rax\\n1: vzeroupper\\nret", "ret", Tier.UNDECIDED),
        # Older CPUs run tzcnt as rep bsf; baseline compilers emit it.
        ("tzcnt %edi,%eax\\nret", "ret", Tier.UNDECIDED),
        ("lzcnt %edi,%eax\\nret", "ret", Tier.CERTAIN),
        # Hints that older CPUs skip, and detection itself.
        ("endbr64\\nrdsspq %rax\\npause\\nxor %ecx,%ecx\\nxgetbv\\ncpuid\\nret", "ret", Tier.UNDECIDED),
        ("aesenc %xmm0,%xmm1\\nret", "ret", Tier.CERTAIN),
        ("ud2", "ret", Tier.UNDECIDED),
        ("1: call after\\njmp 1b", "jmp PyInit_x", Tier.UNDECIDED),
    ],
)
def test_proofs_follow_the_flow(examined, body, after, tier):
    facts = examined(ASSEMBLY.format(body=body, after=after), *LIBRARY, effort=Effort.LOAD)
    assert facts.tier == tier


@pytest.mark.parametrize(
    ("instruction", "level"),
    [
        ("vaddps %zmm0,%zmm1,%zmm2", "x86-64-v4"),
        ("vaddps %ymm0,%ymm1,%ymm2", "x86-64-v3"),
        ("movbe (%rdi),%eax", "x86-64-v3"),
        ("popcnt %edi,%eax", "x86-64-v2"),
        ("lock cmpxchg16b (%rdi)", "x86-64-v2"),
        ("addps %xmm0,%xmm1", "x86-64"),
    ],
)
@pytest.mark.parametrize("effort", list(Effort))
def test_a_level_is_that_of_its_highest_instruction(examined, instruction, level, effort):
    facts = examined(ASSEMBLY.format(body=f"{instruction}\\nret", after="ret"), *LIBRARY, effort=effort)
    assert facts.needs == level


def test_features_outside_the_levels_are_listed(examined):
    facts = examined(ASSEMBLY.format(body="aesenc %xmm0,%xmm1\\nret", after="ret"), *LIBRARY)
    assert [(item.name, item.tier) for item in facts.extensions] == [("AES", Tier.CERTAIN)]
    assert facts.needs == "x86-64"


def test_tzcnt_alone_leaves_the_baseline_certain(examined):
    facts = examined(ASSEMBLY.format(body="tzcnt %edi,%eax\\nret", after="ret"), *LIBRARY)
    assert facts.tier == Tier.BASELINE


def test_code_reached_only_through_a_table_is_not_called_a_need(examined):
    source = WORK.replace("float work", "static float work") + "float (*table[])(float) = {work};"
    facts = examined(source, *LIBRARY, "-mcpu=x86_64_v3")
    assert (facts.tier, facts.suspected) == (Tier.UNDECIDED, "x86-64-v3")


@pytest.mark.parametrize(
    ("name", "is_variant"),
    [
        ("lib/libx.so", False),
        ("lib/libx_avx2.so", True),
        ("lib/glibc-hwcaps/x86-64-v3/libx.so", True),
        ("lib/libggml-cpu-haswell.so", True),
        ("lib/libraven.so", False),
    ],
)
def test_a_file_that_is_one_variant_of_several_fails_no_gate(examined, name, is_variant):
    facts = examined(SUM, *LIBRARY, "-mcpu=x86_64_v3", name=name)
    assert facts.tier == Tier.FIRM
    assert facts.variant == is_variant
    assert facts.is_proven != is_variant


ATOMIC = "int n; void *PyInit_x(void) { __atomic_fetch_add(&n, 2, __ATOMIC_SEQ_CST); return &n; }"


@pytest.mark.parametrize(
    ("flags", "tier"),
    [(("-mcpu=generic",), Tier.UNDECIDED), (("-mcpu=generic+lse",), Tier.CERTAIN)],
)
def test_aarch64_atomics_need_lse_only_where_nothing_chooses(examined, flags, tier):
    facts = examined(ATOMIC, *LIBRARY, *flags, target=ARM, effort=Effort.LOAD)
    assert (facts.arch, facts.needs, facts.tier) == ("aarch64", "armv8-a", tier)
    assert [item.name for item in facts.extensions] == (["LSE"] if tier == Tier.CERTAIN else [])


def test_aarch64_helpers_that_choose_their_atomics_need_nothing(examined):
    helper = """
    __attribute__((visibility("hidden"))) char __aarch64_have_lse_atomics;
    int n;
    __asm__(".text\\n.globl swap\\n.type swap,%function\\nswap:\\n.cfi_startproc\\n"
            "adrp x16, __aarch64_have_lse_atomics\\n"
            "ldrb w16, [x16, :lo12:__aarch64_have_lse_atomics]\\n"
            "cbz w16, 1f\\n.inst 0xb8e08020\\nret\\n"
            "1: ldaxr w0, [x1]\\nstlxr w17, w2, [x1]\\ncbnz w17, 1b\\n"
            "ret\\n.cfi_endproc\\n.size swap,.-swap");
    int swap(int, int *, int);
    int use(int v) { return swap(v, &n, v); }
    """
    facts = examined(helper, *LIBRARY, target=ARM)
    assert facts.tier == Tier.DISPATCHED
    assert [(item.name, item.tier) for item in facts.extensions] == [("LSE", Tier.DISPATCHED)]


def test_aarch64_vectors_of_unknown_length_are_a_firm_need(examined):
    source = (
        "void add(float *restrict a, const float *b, int n) { for (int i = 0; i < n; i++) a[i] += b[i]; }"
    )
    facts = examined(source, *LIBRARY, "-mcpu=generic+sve", "-O3", target=ARM)
    assert facts.tier == Tier.FIRM
    assert [item.name for item in facts.extensions] == ["SVE"]
    assert examined(source, *LIBRARY, "-mcpu=generic", "-O3", target=ARM).tier == Tier.BASELINE


def test_damaged_files_are_undecided_and_never_an_exception(zig_cc):
    good = zig_cc(SUPPORTS, "-s").read_bytes()
    elf = read(good)
    for effort, step in itertools.product(Effort, (211, 499)):
        bad = bytearray(good)
        for at in range(64, len(bad), step):
            bad[at] ^= 0x5A
        assert examine(bytes(bad), elf, effort=effort).arch == "x86_64"
    for cut in range(64, len(good), len(good) // 40):
        assert examine(good[:cut], elf).arch == "x86_64"


def test_a_flag_that_picks_between_twins_acquits(examined):
    """As in zstd: who set the flag cannot be seen, but a condition picks one of two functions."""
    source = (
        RUNTIME
        + """
    struct context { int wide; float data[64]; };
    __attribute__((target("avx2"), noinline)) static float fast(float *p, float x) {
        for (int i = 0; i < 64; i++) p[i] *= x;
        return p[5];
    }
    __attribute__((noinline)) static float slow(float *p, float x) {
        for (int i = 0; i < 64; i++) p[i] *= x;
        return p[5];
    }
    float run(struct context *c) { return c->wide ? fast(c->data, 3) : slow(c->data, 3); }
    float always(struct context *c) { return %s(c->data, 2); }
    int have(void) { return __builtin_cpu_supports("avx2"); }
    """
    )
    flags = ("-shared", "-fPIC", "-g0")
    acquitted = examined(source % "slow", *flags)
    assert acquitted.tier == Tier.DISPATCHED
    accused = examined(source % "fast", *flags)
    assert (accused.tier, accused.suspected, accused.functions) == (Tier.POSSIBLE, "x86-64-v3", ("fast",))


def test_a_call_through_the_library_s_own_plt_is_followed(examined):
    source = """
    typedef float wide __attribute__((vector_size(32)));
    wide w = {1};
    __attribute__((noinline)) void work(wide *p) { *p += *p; }
    __attribute__((constructor)) static void start(void) { __asm__ volatile(""); work(&w); work(&w); }
    """
    for flags in ((), ("-fno-plt",)):
        facts = examined(source, *LIBRARY, "-mcpu=x86_64_v3", "-O1", *flags, effort=Effort.LOAD)
        assert (facts.tier, facts.needs) == (Tier.CERTAIN, "x86-64-v3")
        assert "work" in facts.evidence[0].chain


@pytest.mark.parametrize(("callers", "tier"), [(20, Tier.DISPATCHED), (250, Tier.POSSIBLE)])
def test_a_getter_that_everybody_calls_guards_nobody(examined, callers, tier):
    """An allocator asks the CPU and is called from everywhere; that makes not everything a dispatcher."""
    source = (
        RUNTIME
        + """
    __attribute__((noinline)) static int have(void) { return __cpu_model.features[0] >> 10 & 1; }
    __attribute__((target("avx2"), noinline)) static float fast(float *p, float x) {
        for (int i = 0; i < 64; i++) p[i] *= x;
        return p[5];
    }
    """
        + "".join(f"float f{n}(float *p) {{ return fast(p, {n}) + have(); }}\n" for n in range(callers))
    )
    assert examined(source, "-shared", "-fPIC", "-g0").tier == tier


def test_a_function_said_to_be_huge_ends_with_its_segment(zig_cc):
    """Two gigabytes of code in a file of some kilobytes: found by fuzzing, took minutes."""
    data = bytearray(zig_cc(SUPPORTS, "-s").read_bytes())
    elf = read(bytes(data))
    table = next(item for item in elf.segments if item.type == 0x6474E550)
    (count,) = struct.unpack_from("<I", data, table.offset + 8)
    for number in range(count):
        (entry,) = struct.unpack_from("<i", data, table.offset + 12 + 8 * number + 4)
        struct.pack_into("<I", data, elf.offset_of(table.address + entry) + 12, 0x7FFFFFFF)
    assert examine(bytes(data), elf).coverage.decoded <= len(data)


@pytest.mark.parametrize("effort", Effort)
@pytest.mark.parametrize("below", [1, 0x400, 0x1000])
def test_a_segment_at_the_end_of_all_addresses_has_an_end(zig_cc, below, effort):
    """Found by fuzzing: its end needs more than 64 bits, and the search for gaps never came there."""
    data = bytearray(zig_cc(SUPPORTS, "-s").read_bytes())
    table, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
    for at in range(table, table + size * count, size):
        kind, flags = struct.unpack_from("<II", data, at)
        if kind == 1 and flags & 1:
            struct.pack_into("<Q", data, at + 16, (1 << 64) - below)
    data[40:48] = bytes(8)  # no section headers: the whole segment is code
    assert examine(bytes(data), read(bytes(data)), effort=effort).arch == "x86_64"
