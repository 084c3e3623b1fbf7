"""qemu's log, as qemu 7.2 writes it, and what is read from it."""

from belljar.audit.probe import SCRUBBED, parse

# Recorded: an import of a Python module that is compiled for x86-64-v3, on `-cpu Nehalem`; shortened.
MODULE = """\
22487 close(3) = 0
22487 openat(-100,"/opt/_duckdb.so",O_RDONLY|O_CLOEXEC) = 3
22487 read(3,0x2804258,832) = 832
22487 newfstatat(3,"",0x00000040028040f0,0x1000) = 0
22487 mmap(NULL,69775469,PROT_READ,MAP_PRIVATE|MAP_DENYWRITE,3,0) = 0x000000400328c000
22487 mmap(0x00000040040a7000,52158464,PROT_EXEC|PROT_READ,MAP_PRIVATE|MAP_DENYWRITE|MAP_FIXED,3,0xe1a000) = 0x00000040040a7000
22487 mmap(0x0000004007306000,2166893,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED,-1,0) = 0x0000004007306000
22487 close(3) = 0
22487 openat(-100,"/etc/ld.so.preload",O_RDONLY|O_CLOEXEC) = -1 errno=2 (No such file or directory)
22487 openat(-100,"/etc/ld.so.cache",O_RDONLY|O_CLOEXEC) = 3
22487 mmap(NULL,38759,PROT_READ,MAP_PRIVATE,3,0) = 0x0000004007518000
22487 close(3) = 0
22487 futex(0x000000400774373c,FUTEX_PRIVATE_FLAG|FUTEX_WAKE,2147483647,NULL,0x80000008,-2147483640) = 0
--- SIGILL {si_signo=SIGILL, si_code=2, si_addr=0x0000004006badeac} ---
"""  # noqa: E501 - recorded
# Recorded with `-d page`: the program itself, which no system call has mapped.
PROGRAM = """\
guest_base  0x0
start            end              size             prot
0000004000000000-0000004000001000 0000000000001000 r--
start_brk   0x0000000000000000
end_code    0x000000400000162e
start_code  0x00000040000014c0
entry       0x0000004002825e10
--- SIGILL {si_signo=SIGILL, si_code=2, si_addr=0x00000040000015a4} ---
"""


def test_the_file_at_the_address_is_the_one_that_was_mapped_there():
    trace = parse(MODULE)
    assert trace.stopped_at == 0x4006BADEAC
    held = trace.holding(trace.stopped_at)
    assert held is not None
    assert held.path == "/opt/_duckdb.so"
    assert trace.stopped_at - held.start + held.offset == 0x3920EAC


def test_a_later_mapping_hides_an_earlier_one():
    trace = parse(MODULE)
    assert [item.path for item in trace.maps] == ["/opt/_duckdb.so", "/opt/_duckdb.so", "/etc/ld.so.cache"]
    assert trace.holding(0x4007518010).path == "/etc/ld.so.cache"
    assert trace.holding(0x4000000000) is None


def test_the_program_lies_where_qemu_says():
    trace = parse(PROGRAM)
    assert (trace.stopped_at, trace.code_at, trace.maps) == (0x40000015A4, 0x40000014C0, ())


def test_a_run_that_ends_well_has_no_crash():
    assert parse("1 write(1,0x1,3) = 3\n1 exit_group(0)\n").stopped_at is None
    assert parse("").stopped_at is None


def test_text_that_a_program_writes_is_no_trace():
    assert parse('1 write(1,"--- SIGILL si_addr=0x1",3) = 3\n').stopped_at is None


def test_variables_that_choose_code_in_place_of_the_cpu_are_known():
    assert {"OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "OPENSSL_ia32cap", "GLIBC_TUNABLES"} <= set(
        SCRUBBED
    )
