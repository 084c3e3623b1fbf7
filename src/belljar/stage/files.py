"""Files that tell CMake and Meson of a toolchain."""

from collections.abc import Sequence

from belljar.types import Arch

_HEAD = "# Made by `belljar stage`; see docs/stage.md.\n"


def cmake(triple: str, arch: Arch, paths: Sequence[str], *, is_native: bool) -> str:
    """Return a CMake toolchain file, to lie beside the directories `bin` and `cmake`; `paths`: $ORIGIN/...

    A native build gets no CMAKE_SYSTEM_NAME: setting it would make it a cross build, in which CMake
    runs nothing. The search path is CMake's own here: where it finds one that it did not set, it leaves
    an empty entry beside it at installation, which means the working directory.
    """
    system = "" if is_native else f"set(CMAKE_SYSTEM_NAME Linux)\nset(CMAKE_SYSTEM_PROCESSOR {arch})\n"
    programs = {
        "C_COMPILER": "cmake/{}-cc",
        "CXX_COMPILER": "cmake/{}-c++",
        "ASM_COMPILER": "cmake/{}-cc",
        "AR": "bin/{}-ar",
        "RANLIB": "bin/{}-ranlib",
    }
    lines = "".join(
        f'set(CMAKE_{name} "${{CMAKE_CURRENT_LIST_DIR}}/{program.format(triple)}")\n'
        for name, program in programs.items()
    )
    search = ";".join(paths).replace("$", "\\$")
    return f'{_HEAD}{system}{lines}set(CMAKE_INSTALL_RPATH "{search}")\n'


def meson(directory: str, triple: str, arch: Arch) -> str:
    """Return a Meson machine file, for --native-file or --cross-file."""
    programs = {"c": "cc", "cpp": "c++", "ar": "ar", "ranlib": "ranlib"}
    lines = "".join(f"{name} = '{directory}/bin/{triple}-{program}'\n" for name, program in programs.items())
    return f"""\
{_HEAD}[binaries]
{lines}pkg-config = 'pkg-config'

[built-in options]
libdir = 'lib'

[host_machine]
system = 'linux'
cpu_family = '{arch}'
cpu = '{arch}'
endian = 'little'
"""
