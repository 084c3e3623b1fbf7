/* aarch64: system calls and the two ways in. x0 holds a function to be called at exit. The landing pads
 * are for programs marked for branch target identification, whose mark the kernel applies to all segments.
 * 2 KiB below the stack are left free: what it holds may move down. */

enum { MACHINE = 183, FROM = 16 };
enum { NR_getcwd = 17, NR_openat = 56, NR_close = 57, NR_read = 63, NR_write = 64, NR_readlinkat = 78 };
enum { NR_execve = 221, NR_exit_group = 94, NR_mmap = 222 };

extern __attribute__((visibility("hidden"))) void stub_entry(void);

static inline word system_call(word number, word a, word b, word c, word d, word e, word f) {
    register word x8 __asm__("x8") = number;
    register word x0 __asm__("x0") = a;
    register word x1 __asm__("x1") = b;
    register word x2 __asm__("x2") = c;
    register word x3 __asm__("x3") = d;
    register word x4 __asm__("x4") = e;
    register word x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

#define START \
    ".pushsection .text.start,\"ax\"\n.globl stub_start\n.hidden stub_start\n" \
    "stub_start: hint 38; mov x19, x0; mov x0, sp; sub sp, sp, #2048; bl stub_main\n" \
    "mov sp, x1; mov x16, x0; mov x0, x19; br x16\n" \
    ".popsection\n"
/* What comes with a configuration of its own enters at FROM, with its address in x1. */
#define START_STUB \
    ".pushsection .text.start,\"ax\"\n.globl stub_start\n.hidden stub_start\n" \
    "stub_start: hint 38; adr x1, config; .balign 16\n" \
    "mov x19, x0; mov x0, sp; sub sp, sp, #2048; bl stub_main\n" \
    "mov sp, x1; mov x16, x0; mov x0, x19; br x16\n" \
    ".popsection\n"
#define START_FIRST \
    ".pushsection .text.start,\"ax\"\n.globl stub_start\n.hidden stub_start\n" \
    "stub_start: hint 38; mov x19, x0; mov x20, sp; bl first_main\n" \
    "mov sp, x20; mov x16, x0; mov x0, x19; adr x1, config; br x16\n" \
    ".popsection\n"
#define SHOW \
    ".pushsection .text.start,\"ax\"\n.globl stub_entry\n.hidden stub_entry\n" \
    "stub_entry: hint 38; mov x19, x0; mov x0, sp; bl stub_show; mov x16, x0; mov x0, x19; br x16\n" \
    ".popsection\n"
