"""Build src/belljar/seal/stub/*.bin from stub.c, the entry of sealed programs, launcher.c, and show.c.

    .venv/bin/python tools/stub.py [DIRECTORY]

The compiler is zig's clang, from the PyPI package `ziglang` (a requirement of the tests). Its release decides
the bytes: VERSION made those that are there. tests/scenario/test_seal_stub.py builds them again.
"""

import subprocess
import sys
from pathlib import Path

VERSION = "0.17.0"
# What is compiled, and how far into a page it lies.
SOURCES = {"stub": 0, "launcher": 0xB0, "first": 0}
LIBRARY = "show"
"""What becomes a library: one of no needs and no symbols, with an initialiser."""
SOURCE = Path(__file__).parent.parent / "src" / "belljar" / "seal" / "stub"
FLAGS = (
    "-Os -fPIC -ffreestanding -nostdlib -fomit-frame-pointer -fno-stack-protector -fno-sanitize=all"
    " -fno-unwind-tables -fno-asynchronous-unwind-tables -fno-jump-tables -Wall -Wextra -Werror"
)
# The registers of floating point are the program's: nothing of them is touched.
MACHINES = {
    "x86_64": "-mno-sse -mno-mmx -mno-red-zone -fcf-protection=none",
    "aarch64": "-mgeneral-regs-only -mcmodel=tiny",
}
AS_STUB = "-e stub_start --build-id=none -static"
AS_LIBRARY = "-shared -soname libbelljar.so -init=stub_start --build-id=none --strip-all -z noseparate-code"


def build(machine: str, into: Path, source: str = "stub") -> bytes:
    """Compile a source for a machine, with all that is left over in `into`; return its bytes."""
    zig = [sys.executable, "-m", "ziglang"]
    target = ["-target", f"{machine}-freestanding-none", f'-DARCHITECTURE="{machine}.h"']
    flags = [*target, *FLAGS.split(), *MACHINES[machine].split()]
    made, linked, raw = (into / f"{source}.{machine}.{end}" for end in ("o", "elf", "bin"))
    _run([*zig, "cc", *flags, "-c", SOURCE / f"{source}.c", "-o", made])
    if source == LIBRARY:
        _run([*zig, "ld.lld", *AS_LIBRARY.split(), "-o", raw, made])
        return raw.read_bytes()
    script = ["-T", SOURCE / "stub.ld", f"--defsym=start={SOURCES[source]}", *AS_STUB.split()]
    _run([*zig, "ld.lld", *script, "-o", linked, made])
    _run([*zig, "objcopy", "-O", "binary", linked, raw])
    return raw.read_bytes()


def _run(command: list[str | Path]) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    import tempfile

    for machine in MACHINES:
        for kind in (*SOURCES, LIBRARY):
            with tempfile.TemporaryDirectory() as scratch:
                (directory / f"{kind}.{machine}.bin").write_bytes(build(machine, Path(scratch), kind))
