/* x86-64: system calls and the two ways in. psABI 3.4.1: %rdx holds a function to be called at exit.
 * 2 KiB below the stack are left free: what it holds may move down. */

enum { MACHINE = 62, FROM = 16 };
enum { NR_read = 0, NR_write = 1, NR_close = 3, NR_mmap = 9, NR_getcwd = 79, NR_exit_group = 231 };
enum { NR_execve = 59, NR_openat = 257, NR_readlinkat = 267 };

extern __attribute__((visibility("hidden"))) void stub_entry(void);

static inline word system_call(word number, word a, word b, word c, word d, word e, word f) {
    word result;
    register word r10 __asm__("r10") = d;
    register word r8 __asm__("r8") = e;
    register word r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define START \
    ".pushsection .text.start,\"ax\"\n.globl stub_start\n.hidden stub_start\n" \
    "stub_start: endbr64; mov %rsp, %rdi; mov %rdx, %rbx; lea -2048(%rsp), %rsp; call stub_main\n" \
    "mov %rdx, %rsp; mov %rbx, %rdx; jmp *%rax\n" \
    ".popsection\n"
/* What comes with a configuration of its own enters at FROM, with its address in %rsi. */
#define START_STUB \
    ".pushsection .text.start,\"ax\"\n.globl stub_start\n.hidden stub_start\n" \
    "stub_start: endbr64; lea config(%rip), %rsi; .balign 16\n" \
    "mov %rsp, %rdi; mov %rdx, %rbx; lea -2048(%rsp), %rsp; call stub_main\n" \
    "mov %rdx, %rsp; mov %rbx, %rdx; jmp *%rax\n" \
    ".popsection\n"
#define START_FIRST \
    ".pushsection .text.start,\"ax\"\n.globl stub_start\n.hidden stub_start\n" \
    "stub_start: endbr64; mov %rdx, %rbx; mov %rsp, %rbp; call first_main\n" \
    "mov %rbp, %rsp; mov %rbx, %rdx; lea config(%rip), %rsi; jmp *%rax\n" \
    ".popsection\n"
#define SHOW \
    ".pushsection .text.start,\"ax\"\n.globl stub_entry\n.hidden stub_entry\n" \
    "stub_entry: endbr64; mov %rsp, %rdi; push %rdx; push %rdx; call stub_show; pop %rdx; pop %rdx; jmp *%rax\n" \
    ".popsection\n"
